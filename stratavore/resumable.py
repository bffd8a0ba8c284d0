"""Whether a conversation can be gone on with, and if not, why not: from its row, the disk and the living processes.

Rule 1: whoever is told "no" is told what is in the way, by its name.
Rule 2: nothing is written here.
"""

import os
import shutil
from collections.abc import Collection, Iterator, Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

from stratavore import writers
from stratavore.agents import AGENTS, RECORDS, NamedProfile
from stratavore.agents.records import RecordDatabase
from stratavore.config import Config
from stratavore.model import ModelUsage, Session
from stratavore.money import usd_of
from stratavore.protocol import ListSessions
from stratavore.store import session_views
from stratavore.store.database import Rows
from stratavore.store.session_views import SessionRow

Living = Mapping[tuple[str, str], Sequence[int]]
"""The processes that are in each conversation, by kind of agent and id."""

_PAGE = 500


class Standing(NamedTuple):
    """What was found out about a conversation besides its row."""

    transcript: Path | None
    """The file that holds it, if that is there."""
    pids: Sequence[int]
    """The processes that are in it."""
    is_of_runner: bool
    """One of them belongs to a runner of ours, though that may be known to be in another one."""
    busy: str | None
    """Who is in it."""
    broken: str | None
    """What else is in the way of going on with it."""
    awaits_copy: bool
    """A run has left it, and that end is still to be copied."""

    @property
    def why_not(self) -> str | None:
        """Why it cannot be resumed."""
        return self.busy or self.broken


def examine(found: Collection[SessionRow], config: Config, path: str | None = None) -> dict[int, Standing]:
    """How these stand, by their numbers. Reads files and processes: call it beside the loop.

    Programs are looked for on `path`; None: where this process looks for them.
    """
    living = writers.scan({(row.agent, row.home) for row in found}, {row.id for row in found})
    return {row.number: _examine(row, living, config, path) for row in found}


def other_writer(agent: str, home: str, session_id: str, *, runner_id: str) -> str | None:
    """Who is in that conversation besides the runner, by its name. Reads files: call it beside the loop."""
    pids = writers.scan({(agent, home)}, {session_id}).get((agent, session_id), ())
    others = [pid for pid in pids if writers.who(pid) != runner_id]
    return _name(agent, others[0]) if others else None


def list_all(
    rows: Rows, config: Config, request: ListSessions, *, kind: str | None = None, path: str | None = None
) -> list[Session]:
    """Those in which something was said, or that live, the newest first; or only those that can be resumed now, or are
    not ours. `kind` is that of the agent that the request names. Reads files and processes: call it beside the loop."""
    shown, standings, last = list[SessionRow](), dict[int, Standing](), request.offset + request.limit
    for page in _pages(rows, request, kind):
        known = examine(page, config, path)
        standings |= known
        shown += [row for row in page if _is_wanted(row, known[row.number], request)]
        if len(shown) >= last:
            break
    return list_sessions(rows, shown[request.offset : last], standings)


def list_sessions(rows: Rows, found: Sequence[SessionRow], standings: Mapping[int, Standing]) -> list[Session]:
    """These conversations, as the API tells of them."""
    numbers = [row.number for row in found]
    used, names = session_views.usage_of(rows, numbers), session_views.runners_of(rows, numbers)
    return [_session(row, standings[row.number], used.get(row.number, []), names.get(row.number, [])) for row in found]


def _pages(rows: Rows, request: ListSessions, kind: str | None) -> Iterator[list[SessionRow]]:
    """The rows that the request is about, a part at a time: whether they are shown is found out outside of them."""
    offset = 0
    while page := session_views.list_rows(
        rows,
        project=request.project,
        agent=kind or request.agent,
        since=request.since,
        foreign=True if request.foreign else None,
        limit=_PAGE,
        offset=offset,
    ):
        yield page
        offset += len(page)


def _is_wanted(row: SessionRow, standing: Standing, request: ListSessions) -> bool:
    return (
        was_begun(row, standing)
        and not (request.resumable and standing.why_not is not None)
        and not (request.foreign and standing.is_of_runner)
    )


def was_begun(row: SessionRow, standing: Standing) -> bool:
    """Whether there is anything of it: an agent that ends before its first prompt leaves none."""
    is_live = row.holder is not None or bool(standing.pids)
    return is_live or bool(row.messages) or standing.transcript is not None or row.archive_path is not None


def _examine(row: SessionRow, living: Living, config: Config, path: str | None) -> Standing:
    pids = living.get((row.agent, row.id), ())
    transcript, busy = transcript_of(row), _busy(row, pids)
    awaits_copy = config.transcripts.archive and row.is_copy_due and transcript is not None and busy is None
    is_of_runner = any(writers.who(pid) is not None for pid in pids)
    return Standing(transcript, pids, is_of_runner, busy, _broken(row, transcript, config.agents, path), awaits_copy)


def transcript_of(row: SessionRow) -> Path | None:
    """The file that holds the conversation, where the agent keeps it; None if it has gone."""
    is_file = not isinstance(RECORDS.get(row.agent), RecordDatabase)  # a database holds others' conversations too
    if is_file and row.transcript_path is not None and os.path.isfile(row.transcript_path):
        return Path(row.transcript_path)  # to look through everything an agent keeps takes milliseconds for each
    agent = AGENTS.get(row.agent)
    return None if agent is None else agent.transcript(Path(row.home), row.id)


def _busy(row: SessionRow, pids: Sequence[int]) -> str | None:
    if row.holder is not None:
        return f"{row.holder} is in it now"
    return f"{_name(row.agent, pids[0])} is in it now" if pids else None


def _broken(
    row: SessionRow, transcript: Path | None, profiles: Mapping[str, NamedProfile], path: str | None
) -> str | None:
    if row.agent not in RECORDS:
        return f"no agent is called {row.agent}"
    if transcript is None and row.archive_path is None:
        if row.messages:
            return "its transcript has gone, and no copy of it was kept"
        return "nothing was said in it yet"
    if transcript is None and not os.path.exists(row.archive_path or ""):
        return "its transcript has gone, and so has the copy of it"
    if row.cwd is None:
        return "nobody knows its directory"
    if not os.path.isdir(row.cwd):
        return f"its directory {row.cwd} " + ("is none any more" if os.path.lexists(row.cwd) else "has gone")
    return _missing_program(row.profile or row.agent, profiles, path)


def _missing_program(name: str, profiles: Mapping[str, NamedProfile], path: str | None) -> str | None:
    """Whether it is installed as far as we see; the environment of a launch has the last word."""
    profile = profiles.get(name)
    agent = AGENTS.get((profile and profile.agent) or name)
    program = (profile.argv[0] if profile and profile.argv else "") or (agent.program if agent else name)
    return None if shutil.which(program, path=path) else f"{program} is not on the PATH"


def _name(kind: str, pid: int) -> str:
    """A process by what it is: of a runner, or somebody else's."""
    runner = writers.who(pid)
    return f"{kind} (pid {pid}, which Stratavore did not start)" if runner is None else f"runner {runner} (pid {pid})"


def _session(row: SessionRow, standing: Standing, used: list[ModelUsage], names: list[str]) -> Session:
    is_live = row.holder is not None or bool(standing.pids)
    is_read = row.messages is not None or bool(used)
    return Session(
        id=row.id,
        agent=row.agent,
        project=row.project,
        cwd=row.cwd,
        runners=names,
        is_foreign=row.is_foreign and not standing.is_of_runner,
        is_live=is_live,
        started_at=row.started_at,
        ended_at=None if is_live else row.ended_at or row.last_message_at,
        last_message_at=row.last_message_at,
        messages=row.messages,
        tokens=sum(_tokens(each) for each in used) if is_read else None,
        cost_usd=_cost(used) if is_read else None,
        unpriced_calls=sum(each.unpriced_calls for each in used),
        unattributed_usd=unattributed(row, used),
        models=used,
        resumed_from=row.parent_id,
        title=row.title,
        transcript_path=None if standing.transcript is None else str(standing.transcript),
        transcript_bytes=_size(standing.transcript, row),
        archived_at=row.archived_at,
        archive_path=row.archive_path,
        archive_sha256=row.archive_sha256,
        copy_pending=standing.awaits_copy,
        resumable=standing.why_not is None,
        why_not=standing.why_not,
    )


def _size(transcript: Path | None, row: SessionRow) -> int | None:
    """Of the transcript, or of the one that was archived; a database holds all of them, so that says nothing."""
    if transcript is not None and transcript.suffix == ".jsonl":
        try:
            return transcript.stat().st_size
        except OSError:
            return None
    return row.transcript_bytes


def _tokens(used: ModelUsage) -> int:
    return (
        used.input_tokens
        + used.output_tokens
        + used.cache_write_5m_tokens
        + used.cache_write_1h_tokens
        + used.cache_read_tokens
    )


def unattributed(row: SessionRow, used: Sequence[ModelUsage]) -> float | None:
    """What its agent said at its exit that it cost, in US dollars, beyond these calls; None if it said nothing."""
    if row.reported_nano_usd is None:
        return None
    return max(0.0, usd_of(row.reported_nano_usd) - (_cost(used) or 0.0))


def _cost(used: Sequence[ModelUsage]) -> float | None:
    """Of the calls that have a price; None where there are only others."""
    priced = [each.cost_usd for each in used if each.cost_usd is not None]
    return None if used and not priced else sum(priced)
