"""The verbs on sessions, the conversations of agents; to go on with one is a launch."""

import asyncio

from stratavore import archiving, resumable, transcripts
from stratavore.agents import resolve
from stratavore.context import Asker, Context
from stratavore.errors import NotFound, StorageFailed
from stratavore.model import Session, Transcript
from stratavore.protocol import ListSessions, Nothing, ReadTranscript
from stratavore.store import session_views


async def list_sessions(context: Context, asker: Asker, request: ListSessions) -> list[Session]:
    """Conversations, the newest first; of those that no runner ever spoke in, only the living."""
    kind = None if request.agent is None else resolve(request.agent, context.config.agents)[0].name
    return await asyncio.to_thread(
        lambda: resumable.list_all(context.database.reader(), context.config, request, kind=kind)
    )


async def get_session(context: Context, asker: Asker, request: Nothing, session: str) -> Session:
    """One conversation, by its id or a unique prefix of that."""
    row = session_views.resolve(context.rows, session)
    standings = await asyncio.to_thread(resumable.examine, [row], context.config)
    return resumable.list_sessions(context.rows, [row], standings)[0]


async def archive_session(context: Context, asker: Asker, request: Nothing, session: str) -> Session:
    """Copy what is there of it now. Raises NotFound: there is nothing."""
    row = session_views.resolve(context.rows, session)
    try:
        if not await archiving.copy(context, row, actor=str(asker)):
            raise NotFound(f"session {row.id} has nothing to be copied", remedy="look at the files of its agent")
    except OSError as problem:
        raise StorageFailed(f"session {row.id} could not be copied: {problem}") from problem
    return await get_session(context, asker, request, row.id)


async def read_transcript(context: Context, asker: Asker, request: ReadTranscript, session: str) -> Transcript:
    """A part of what was said in it."""
    row = session_views.resolve(context.rows, session)
    return await asyncio.to_thread(transcripts.read, row, request.after)
