"""When transcripts are copied and put back.

Rule 1: every end of a session of ours is copied, whenever the daemon comes to it: what is still to be copied is a
question to the rows, so no crash forgets one.
Rule 2: a copy that holds more than there is now is kept.
Rule 3: nobody goes on with a session before its last end was copied, or could not be, and that is told.
Rule 4: an older copy takes the place of what has gone only with a word about it.
"""

import asyncio
import logging
import os
import time
from collections.abc import Mapping
from contextlib import suppress
from datetime import timedelta
from pathlib import Path

from stratavore import archive
from stratavore.agents import account_home, home_setting, resolve
from stratavore.archive import Subject
from stratavore.clock import iso
from stratavore.context import Context
from stratavore.errors import NotFound, StorageFailed, StratavoreError
from stratavore.resumable import transcript_of
from stratavore.runner_files import read_environment
from stratavore.store import archives, events, session_views, sessions
from stratavore.store.database import Tx
from stratavore.store.session_views import SessionRow
from stratavore.wording import local_time

log = logging.getLogger(__name__)

_ACTOR = "daemon"
_AT_ONCE = 20
_LOOK_SECONDS = 30.0
_BETWEEN_SECONDS = 0.1
_AGAIN_SECONDS = 2.0
"""After so long it is looked at once more: what its agent left behind may still write for a moment."""
_PATIENCE_SECONDS = 20.0
"""For so long who wants to go on with a session waits for the copy of it."""
_LONGEST_COPY = timedelta(hours=1)


class Archiving:
    """Copies the transcripts of sessions that ended."""

    def __init__(self, context: Context) -> None:
        self._context = context
        self._failed: set[archives.Due] = set()
        self._fresh: dict[int, float] = {}

    async def run(self) -> None:
        """Copy at each end, until cancelled."""
        if not self._context.config.transcripts.archive:
            return
        while True:
            news = self._context.news.count
            try:
                while await self.copy_due():
                    pass
                await self.copy_again(before=time.monotonic() - _AGAIN_SECONDS)
            except StratavoreError as error:
                log.warning("transcripts wait to be copied", extra={"why": error.message})
            await asyncio.sleep(_BETWEEN_SECONDS)
            if self._context.news.count == news:
                await self._context.news.wait(_AGAIN_SECONDS if self._fresh else _LOOK_SECONDS)

    async def copy_due(self) -> int:
        """Copy some of what is due; returns how many were looked at."""
        found = archives.list_due(self._context.rows, limit=_AT_ONCE + len(self._failed))
        due = [each for each in found if each not in self._failed][:_AT_ONCE]
        for each in due:
            try:
                await _copy_end(self._context, each)
            except (OSError, StratavoreError) as problem:
                log.warning("a transcript could not be copied", extra={"session": each.number, "why": str(problem)})
                self._failed.add(each)
            except Exception:
                log.exception("a transcript could not be copied", extra={"session": each.number})
                self._failed.add(each)
            else:
                self._fresh[each.number] = time.monotonic()
        return len(due)

    async def copy_again(self, *, before: float) -> None:
        """Copy those once more that were copied before that moment, and have grown since."""
        for number in [number for number, at in self._fresh.items() if at <= before]:
            del self._fresh[number]
            row = session_views.get_row(self._context.rows, number)
            with suppress(OSError):
                if await asyncio.to_thread(_has_grown, row):
                    await copy(self._context, row, actor=_ACTOR)


async def _copy_end(context: Context, due: archives.Due) -> None:
    """Copy what there is at the end of a run, unless somebody did. Raises OSError."""
    async with context.copying.of(due.number):
        row = session_views.get_row(context.rows, due.number)
        if row.is_copy_due:
            await _copy(context, row, actor=_ACTOR)
        await context.write(lambda tx: archives.note_examined(tx, due.number, due.ended_at))


async def copy(context: Context, row: SessionRow, *, actor: str) -> bool:
    """Copy a session now; returns whether there was anything to copy. Raises OSError."""
    async with context.copying.of(row.number):
        return await _copy(context, session_views.get_row(context.rows, row.number), actor=actor)


async def _copy(context: Context, row: SessionRow, *, actor: str) -> bool:
    subject = _subject(context, row, None)
    at_least = row.transcript_bytes or 0 if row.archive_path is not None else 0
    copied = await asyncio.to_thread(archive.store, context.paths.transcripts, subject, at_least=at_least)
    if copied is None:
        return False
    now = context.clock.now()

    def note(tx: Tx) -> None:
        path, sha256, size = str(copied.path), copied.sha256, copied.transcript_bytes
        archives.note_copy(tx, row.number, path, sha256, size, actor=actor, now=now)
        if row.left_at is not None:
            archives.note_examined(tx, row.number, iso(row.left_at))

    await context.write(note)
    if row.archive_path not in (None, str(copied.path)):
        await asyncio.to_thread(archive.remove, Path(row.archive_path or ""))
    return True


async def make_ready(context: Context, agent: str, session_id: str, environment: Mapping[str, str]) -> list[str]:
    """See to a session that somebody goes on with: that its last end is copied, and that it is where its agent looks.

    Returns what a person should know of that.

    Raises:
        StorageFailed: it has gone, and the copy is damaged, or cannot be put back.
    """
    number = sessions.find(context.rows, agent, session_id)
    if number is None:
        return []
    told = [await _keep_last_end(context, number), await _restore_if_gone(context, number, environment)]
    return [line for line in told if line is not None]


async def _keep_last_end(context: Context, number: int) -> str | None:
    """What is done goes on, however long the asker waits: two copies at once would spoil each other."""
    row = session_views.get_row(context.rows, number)
    if not context.config.transcripts.archive or row.left_at is None or not row.is_copy_due:
        return None
    work = asyncio.ensure_future(_copy_end(context, archives.Due(number, iso(row.left_at))))
    try:
        async with asyncio.timeout(_PATIENCE_SECONDS):
            await asyncio.shield(work)
    except (OSError, StratavoreError) as problem:  # TimeoutError is an OSError
        why = str(problem) or f"it takes longer than {_PATIENCE_SECONDS:.0f} s"
        log.warning("a session goes on without a copy of its last end", extra={"session": row.id, "why": why})
        return f"session {row.id} could not be copied before it goes on: {why}"
    return None


async def _restore_if_gone(context: Context, number: int, environment: Mapping[str, str]) -> str | None:
    row = session_views.get_row(context.rows, number)
    if row.archive_path is None or row.archive_sha256 is None or row.archived_at is None:
        return None
    if await asyncio.to_thread(transcript_of, row) is not None:
        return None
    subject, copy_path = _subject(context, row, environment), Path(row.archive_path)
    try:
        back = await asyncio.to_thread(archive.restore, copy_path, row.archive_sha256, subject)
    except OSError as problem:
        raise StorageFailed(f"session {row.id} could not be put back: {problem}") from problem
    if not back:
        return None
    lost = row.last_message_at is not None and row.last_message_at > row.archived_at
    of_copy = {"copied_at": iso(row.archived_at), "bytes": row.transcript_bytes, "is_older": lost}
    now, told = context.clock.now(), {"agent": row.agent, "files": len(back), **of_copy}
    await context.write(lambda tx: events.append(tx, "session.restored", row.id, told, actor=_ACTOR, now=now))
    size = f"{row.transcript_bytes or 0:,} bytes of {local_time(iso(row.archived_at))}"
    missing = "; what was said since is lost" if lost else ""
    return f"the transcript of session {row.id} had gone: the copy of it was put back, {size}{missing}"


async def prune(context: Context) -> int:
    """Remove the copies that are older than is configured, and what crashes left of some; returns the freed bytes."""
    now, kept = context.clock.now(), archives.list_paths(context.rows)
    freed = await asyncio.to_thread(archive.sweep, context.paths.transcripts, kept, before=now - _LONGEST_COPY)
    old = archives.list_old(context.rows, before=now - timedelta(seconds=context.config.transcripts.keep))
    if not old:
        return freed
    await context.write(lambda tx: archives.forget(tx, old.keys()))
    return freed + await asyncio.to_thread(lambda: sum(archive.remove(Path(path)) for path in old.values()))


def _has_grown(row: SessionRow) -> bool:
    """Whether its file is longer than what was copied; of a database nobody can say."""
    path = transcript_of(row)
    return path is not None and path.suffix == ".jsonl" and path.stat().st_size > (row.transcript_bytes or 0)


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
