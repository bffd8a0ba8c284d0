"""The reading questions, answered from the database alone, for when no daemon does.

Rule 1: nothing is written, and no daemon is started.
Rule 2: the answers have the shape that the daemon's have; what only a daemon can know is null.
Rule 3: states are as of the last write. Runners that lived then may have ended since: `provenance` says so.
"""

from collections.abc import Callable, Mapping
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import msgspec

from stratavore import __version__, resumable, standing, transcripts
from stratavore.config import Config
from stratavore.disk import measure
from stratavore.errors import NotFound
from stratavore.model import (
    NO_IMPORT,
    DaemonStatus,
    DiskUse,
    Explanation,
    Session,
    Status,
    Transcript,
    Usage,
    UsageTotal,
)
from stratavore.paths import Paths
from stratavore.protocol import BY_NAME
from stratavore.shim.client import is_locked
from stratavore.store import approvals, budgets, events, projects, runners, runs, session_views
from stratavore.store.database import open_readonly
from stratavore.store.query import Rows
from stratavore.usage import added_up

_NO_IMPORT = msgspec.structs.replace(NO_IMPORT, failed="no daemon is there")

Answer = Callable[[Paths, Rows, Any], Any]


def read(paths: Paths, name: str, fields: Mapping[str, Any]) -> Any:
    """What the route `name` would answer to `fields`, as plain dicts and lists.

    Raises:
        NotFound: no such project or runner, or no database yet and the question is about one thing.
        StratavoreError: the database cannot be read; the class says why.
    """
    known = BY_NAME[name].request.__struct_fields__
    request = msgspec.convert({key: value for key, value in fields.items() if key in known}, BY_NAME[name].request)
    target = fields.get("runner") or fields.get("project") or fields.get("budget") or fields.get("session")
    if not paths.database.exists():
        answer = _NOTHING.get(name)
        if answer is None:
            raise NotFound(f"there is no {target!r}: nothing was ever recorded here", remedy="`stratavore up` begins")
    else:
        rows = open_readonly(paths.database)
        try:
            answer = ANSWERS[name](paths, rows, _Asked(request, target))
        finally:
            rows.close()
    return msgspec.json.decode(msgspec.json.encode(answer))


def provenance(paths: Paths) -> str:
    """Where an answer of `read` came from, as half a sentence for people."""
    written = [file for file in (paths.database, Path(f"{paths.database}-wal")) if file.exists()]
    if not written:
        return "nothing was ever recorded here"
    at = datetime.fromtimestamp(max(file.stat().st_mtime for file in written), UTC).astimezone()
    live = "; runners are alive, their states are of that time" if live_shims(paths, busy=True) else ""
    return f"showing what the database knew at {at:%Y-%m-%d %H:%M:%S}{live}"


def live_shims(paths: Paths, *, busy: bool = False) -> list[str]:
    """The ids of the holders that live now; with `busy` only those that hold a living runner."""
    try:
        found = sorted(paths.shims.iterdir())
    except OSError:
        return []
    return [shim.name for shim in found if is_locked(shim / ("busy" if busy else "lock"))]


class _Asked:
    """A request, and what its path named."""

    def __init__(self, request: Any, target: str | None) -> None:
        self.request = request
        self.target = target or ""


def _status(paths: Paths, rows: Rows, asked: _Asked) -> Status:
    return standing.whole(rows, ["the daemon is not running"], seen_since=None)


def _daemon_status(paths: Paths, rows: Rows, asked: _Asked) -> dict[str, Any]:
    """A DaemonStatus without a daemon: whatever only a living one has is null."""
    return {
        **_NO_DAEMON,
        "runners": sum(runners.count_by_state(rows).values()),
        "shims": len(live_shims(paths)),
    }


def _list_runners(paths: Paths, rows: Rows, asked: _Asked) -> Any:
    request = asked.request
    ids = None if request.runner in (None, "*") else runners.resolve_all(rows, request.runner, request.project)
    return runners.list_runners(
        rows,
        ids=ids,
        project=request.project,
        state=request.state,
        all=request.all,
        waiting=request.waiting,
        limit=request.limit,
        offset=request.offset,
    )


def _explain_runner(paths: Paths, rows: Rows, asked: _Asked) -> Explanation:
    runner = runners.get_runner(rows, asked.target)
    return Explanation(
        runner=runner,
        summary=f"as of the daemon's last write, {standing.summary_of(runner)}",
        evidence=standing.recorded_evidence(rows, runner),
        next="nothing, until a daemon runs: `stratavore daemon start`",
    )


def _disk_use(paths: Paths, rows: Rows, asked: _Asked) -> DiskUse:
    return measure(paths.state)


def _list_sessions(paths: Paths, rows: Rows, asked: _Asked) -> list[Session]:
    return resumable.list_all(rows, Config(), asked.request)


def _get_session(paths: Paths, rows: Rows, asked: _Asked) -> Session:
    row = session_views.resolve(rows, asked.target)
    return resumable.list_sessions(rows, [row], resumable.examine([row], Config()))[0]


def _read_transcript(paths: Paths, rows: Rows, asked: _Asked) -> Transcript:
    return transcripts.read(session_views.resolve(rows, asked.target), asked.request.after)


ANSWERS: Mapping[str, Answer] = {
    "status": _status,
    "daemon_status": _daemon_status,
    "list_projects": lambda paths, rows, asked: projects.list_projects(rows, asked.request.status),
    "get_project": lambda paths, rows, asked: projects.get_project(rows, asked.target),
    "list_runners": _list_runners,
    "get_runner": lambda paths, rows, asked: runners.get_runner(rows, asked.target),
    "list_sessions": _list_sessions,
    "get_session": _get_session,
    "read_transcript": _read_transcript,
    "watch_import": lambda paths, rows, asked: _NO_IMPORT,
    "list_runs": lambda paths, rows, asked: runs.list_runs(rows, runners.resolve(rows, asked.target), paths.logs),
    "explain_runner": _explain_runner,
    "list_budgets": lambda paths, rows, asked: budgets.list_budgets(rows, all=asked.request.all, now=datetime.now(UTC)),
    "get_budget": lambda paths, rows, asked: budgets.get_in_periods(rows, asked.target, now=datetime.now(UTC)),
    "list_budget_history": lambda paths, rows, asked: budgets.list_history(rows, asked.target),
    "usage": lambda paths, rows, asked: added_up(rows, asked.request),
    "list_approvals": lambda paths, rows, asked: approvals.list_approvals(rows, all=asked.request.all),
    "list_events": lambda paths, rows, asked: events.list_events(
        rows, since=asked.request.since, limit=asked.request.limit, newest=asked.request.newest
    ),
    "disk_use": _disk_use,
}

_NO_DAEMON: Mapping[str, Any] = {
    **dict.fromkeys(DaemonStatus.__struct_fields__),
    "version": __version__,
    "runners": 0,
    "shims": 0,
    "database": "unknown: no daemon has it open",
    "healthy": False,
}
_NOTHING: Mapping[str, Any] = {
    "status": Status(
        runners=0,
        by_state={},
        projects=0,
        cpu_percent=None,
        rss_bytes=None,
        warnings=["the daemon is not running"],
    ),
    "daemon_status": _NO_DAEMON,
    "list_projects": [],
    "list_runners": [],
    "list_sessions": [],
    "watch_import": _NO_IMPORT,
    "list_budgets": [],
    "usage": Usage(rows=[], total=UsageTotal(**dict.fromkeys(UsageTotal.__struct_fields__, 0))),
    "list_approvals": [],
    "list_events": [],
    "disk_use": DiskUse(database_bytes=0, output_bytes=0, transcript_bytes=0, other_bytes=0, by_runner={}),
}
