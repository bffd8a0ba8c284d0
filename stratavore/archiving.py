"""When transcripts are copied and put back.

Rule 1: every end of a session of ours is copied, whenever the daemon comes to it: what is still to be copied is a
question to the rows, so no crash forgets one.
Rule 2: a copy that holds more than there is now is kept.
"""

import asyncio
import logging
import os
from collections.abc import Mapping
from datetime import timedelta
from functools import partial
from pathlib import Path

from stratavore import archive
from stratavore.agents import account_home, home_setting, resolve
from stratavore.archive import Subject
from stratavore.context import Context
from stratavore.errors import NotFound, StorageFailed, StratavoreError
from stratavore.resumable import transcript_of
from stratavore.runner_files import read_environment
from stratavore.store import archives, events, session_views, sessions
from stratavore.store.database import Tx
from stratavore.store.session_views import SessionRow

log = logging.getLogger(__name__)

_ACTOR = "daemon"
_AT_ONCE = 20
_LOOK_SECONDS = 30.0
_REST_SECONDS = 2.0
"""Between two looks; an agent may still write for a moment."""


class Archiving:
    """Copies the transcripts of sessions that ended."""

    def __init__(self, context: Context) -> None:
        self._context = context
        self._failed: set[archives.Due] = set()

    async def run(self) -> None:
        """Copy at each end, until cancelled."""
        if not self._context.config.transcripts.archive:
            return
        while True:
            try:
                while await self.copy_due():
                    pass
            except StratavoreError as error:
                log.warning("transcripts wait to be copied", extra={"why": error.message})
            await self._context.news.wait(_LOOK_SECONDS)
            await asyncio.sleep(_REST_SECONDS)

    async def copy_due(self) -> int:
        """Copy some of what is due; returns how many were looked at."""
        found = archives.list_due(self._context.rows, limit=_AT_ONCE + len(self._failed))
        due = [each for each in found if each not in self._failed][:_AT_ONCE]
        for each in due:
            try:
                await copy(self._context, session_views.get_row(self._context.rows, each.number), actor=_ACTOR)
            except (OSError, StratavoreError) as problem:
                log.warning("a transcript could not be copied", extra={"session": each.number, "why": str(problem)})
                self._failed.add(each)
            else:
                await self._context.write(partial(archives.note_examined, due=each))
        return len(due)


async def copy(context: Context, row: SessionRow, *, actor: str) -> bool:
    """Copy a session now; returns whether there was anything to copy. Raises OSError."""
    subject = _subject(context, row, None)
    at_least = row.transcript_bytes or 0 if row.archive_path is not None else 0
    copied = await asyncio.to_thread(archive.store, context.paths.transcripts, subject, at_least=at_least)
    if copied is None:
        return False
    now = context.clock.now()

    def note(tx: Tx) -> None:
        path, sha256, size = str(copied.path), copied.sha256, copied.transcript_bytes
        archives.note_copy(tx, row.number, path, sha256, size, actor=actor, now=now)

    await context.write(note)
    return True


async def restore_if_gone(context: Context, agent: str, session_id: str, environment: Mapping[str, str]) -> None:
    """Put a session back where its agent expects it, if it has gone and there is a copy.

    Raises:
        StorageFailed: the copy is damaged, or cannot be put back.
    """
    number = sessions.find(context.rows, agent, session_id)
    if number is None:
        return
    row = session_views.get_row(context.rows, number)
    if row.archive_path is None or row.archive_sha256 is None:
        return
    if await asyncio.to_thread(transcript_of, row) is not None:
        return
    subject, copy_path = _subject(context, row, environment), Path(row.archive_path)
    try:
        back = await asyncio.to_thread(archive.restore, copy_path, row.archive_sha256, subject)
    except OSError as problem:
        raise StorageFailed(f"session {row.id} could not be put back: {problem}") from problem
    if back:
        now, told = context.clock.now(), {"agent": agent, "files": len(back)}
        await context.write(lambda tx: events.append(tx, "session.restored", row.id, told, actor=_ACTOR, now=now))


async def prune(context: Context) -> int:
    """Remove the copies that are older than is configured; returns the bytes that were freed."""
    before = context.clock.now() - timedelta(seconds=context.config.transcripts.keep)
    old = archives.list_old(context.rows, before=before)
    if not old:
        return 0
    await context.write(lambda tx: archives.forget(tx, old.keys()))
    return await asyncio.to_thread(lambda: sum(archive.remove(Path(path)) for path in old.values()))


def _subject(context: Context, row: SessionRow, environment: Mapping[str, str] | None) -> Subject:
    """With the environment of its last runner, or else with ours, if none is given."""
    try:
        agent, profile = resolve(row.profile or row.agent, context.config.agents)
    except StratavoreError:
        agent, profile = resolve(row.agent, {})
    env = {**(_environment(context, row) if environment is None else environment), **profile.env}
    if str(account_home(row.agent, env, profile)) != row.home or profile.home:
        env |= home_setting(agent, row.home)
    return Subject(row.agent, row.id, Path(row.home), row.cwd, env, profile.argv or (agent.program,))


def _environment(context: Context, row: SessionRow) -> Mapping[str, str]:
    try:
        if row.last_runner is not None:
            return read_environment(context.paths, row.last_runner)
    except (NotFound, StratavoreError):
        pass
    return os.environ
