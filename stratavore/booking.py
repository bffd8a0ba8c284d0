"""What the supervisor learned, written down: each function is one transaction's work.

Rule 1: whoever saw something books it; if it was booked already, nothing happens. So all of these may run twice.
Rule 2: the end of a run and what follows from it (a retry, or the slot given back) are one transaction.
Rule 3: an exit that nobody saw is `lost`; no code is ever made up.
"""

from datetime import datetime
from typing import Any, NamedTuple

import msgspec

from stratavore.clock import from_unix_ms, iso
from stratavore.errors import NotFound
from stratavore.lifecycle import FINAL, Cause, State
from stratavore.model import Desired, EndReason, OnQuota, ShimId
from stratavore.process import Identity
from stratavore.restart import Again, Over, Pace, after_end
from stratavore.shim.client import ExitRecord
from stratavore.store import events, projects, runners, runs, supervision
from stratavore.store.database import Tx
from stratavore.store.runs import RunRow

ACTOR = "supervisor"


class Moment(NamedTuple):
    """When something is booked: wall time for people, boot clock and boot id for waiting, chance for spreading."""

    now: datetime
    boottime: float
    boot_id: str
    chance: float


class End(NamedTuple):
    """An exit record, and what the daemon found out about it before the transaction."""

    record: ExitRecord
    good: bool
    """Whether the agent calls this exit a success."""
    out_of_memory: bool
    last_line: str | None
    session_id: str | None = None
    """The conversation that the run turned out to have been in."""


class Label(msgspec.Struct, frozen=True):
    """What a shim keeps of a runner, so that a database that does not know it can take it in again."""

    id: str
    name: str
    project: str
    project_path: str
    run: int
    shim: str
    columns: dict[str, Any]

    @classmethod
    def read(cls, text: str) -> "Label":
        """What `write` wrote."""
        return msgspec.json.decode(text, type=cls)

    def write(self) -> str:
        """The label as a shim keeps it."""
        return msgspec.json.encode(self).decode()

    @classmethod
    def of(cls, recipe: supervision.Recipe, shim: ShimId) -> "Label":
        kept = (
            "agent restart_policy max_restarts tty terminal_rows terminal_columns extra_argv cwd umask prompt"
            " session_id stop_grace_seconds max_seconds"
        ).split()
        columns = {name: getattr(recipe, name) for name in kept}
        return cls(recipe.id, recipe.name, recipe.project, recipe.project_path, recipe.run, shim, columns)


def book_spawned(tx: Tx, key: str, who: Identity, argv: list[str], moment: Moment) -> None:
    """The run has a process."""
    run = runs.get(tx, key)
    if run.pid is None and run.state not in FINAL:
        _spawned(tx, run, who, moment.now, argv=argv)


def book_not_started(tx: Tx, key: str, why: str, moment: Moment, pace: Pace) -> None:
    """The run will never have a process, and `why`."""
    run = runs.get(tx, key)
    if run.state in FINAL:
        return
    facts: dict[str, Any] = {"end_reason": run.stop_reason or EndReason.NOT_STARTED, "end_detail": why}
    _finish(tx, run, Cause.SPAWN_FAILED, moment, pace, lasted_seconds=0.0, **facts)


def book_end(tx: Tx, end: End, moment: Moment, pace: Pace) -> bool:
    """The shim saw the run end. A run that the database does not know is taken in first.

    Returns whether another run follows.
    """
    record = end.record
    who = Identity(record.boot_id, record.pid, record.start_time)
    run = runs.find(tx, record.key)
    if run is None:
        adopt(tx, record.label, who, moment)
        run = runs.get(tx, record.key)
    if run.state in FINAL:
        return False
    if run.pid is None:
        run = _spawned(tx, run, who, from_unix_ms(record.started_at))
    if record.stop_by is not None and run.state is not State.STOPPING:
        run = _asked_of_the_shim(tx, run, record.stop_by, moment.now)
    if end.session_id is not None:
        runners.set_session(tx, run.runner_id, end.session_id)
    reason, detail = _why(run, end)
    return _finish(
        tx,
        run,
        Cause.SUCCEEDED if end.good else Cause.CRASHED,
        moment,
        pace,
        lasted_seconds=(record.ended_at - record.started_at) / 1000,
        ended_at=from_unix_ms(record.ended_at),
        exit_code=record.exit_code,
        exit_signal=record.exit_signal,
        end_reason=reason,
        end_detail=detail,
        ended_by=run.stop_by or record.stop_by,
        output_bytes=record.output_bytes,
        last_line=end.last_line,
        cpu_seconds=record.utime_seconds + record.stime_seconds,
        max_rss_bytes=record.max_rss_bytes,
    )


def book_lost(tx: Tx, key: str, reason: EndReason, why: str, moment: Moment, pace: Pace) -> None:
    """The run was gone when we looked, and nobody knows how it ended."""
    run = runs.get(tx, key)
    if run.state in FINAL:
        return
    lasted = 0.0 if run.started_at is None else (moment.now - run.started_at).total_seconds()
    _finish(tx, run, Cause.VANISHED, moment, pace, lasted_seconds=lasted, end_reason=reason, end_detail=why)


def book_paused(tx: Tx, key: str, cause: Cause, moment: Moment) -> None:
    """The run's tree was stopped (`cause` PAUSED) or continued (UNPAUSED)."""
    run = runs.get(tx, key)
    expected = State.RUNNING if cause is Cause.PAUSED else State.PAUSED
    if run.state is expected:
        runs.advance(tx, run, cause, actor=ACTOR, now=moment.now)


def ask_stop(
    tx: Tx,
    runner: supervision.Supervised,
    reason: EndReason,
    *,
    actor: str,
    now: datetime,
    grace: float | None = None,
) -> None:
    """Record the wish that the present run ends; one that is being stopped already can only end sooner."""
    run = runs.get(tx, runner.key)
    if run.state in FINAL:
        return
    if run.state is State.STOPPING:
        if reason is EndReason.KILLED or grace is not None:
            runs.hasten(tx, run, reason, grace, actor=actor, now=now)
        return
    runs.advance(
        tx,
        run,
        Cause.STOP_ASKED,
        actor=actor,
        now=now,
        stop_reason=reason,
        stop_by=actor,
        stop_grace_seconds=grace,
    )


def begin_again(tx: Tx, runner: supervision.Supervised, shim: str, *, now: datetime) -> None:
    """Commit the intent of the next run; nothing happens if somebody was quicker, or it is no longer wanted."""
    current = supervision.get_supervised(tx, runner.id)
    if current.run != runner.run or not current.alive or current.desired is Desired.STOPPED:
        return
    runners.begin_again(tx, runner.id, by_itself=not current.then_start)
    whose = {"name": current.name, "project": current.project, "agent": current.agent}
    runs.insert(tx, runner.id, runner.run + 1, shim, whose, actor=ACTOR, now=now)


def adopt(tx: Tx, label: str, who: Identity, moment: Moment) -> str | None:
    """Take in a living (or just ended) run that the database does not know, over quota or not.

    Returns the runner's id, or None if the run is known after all.
    """
    told = Label.read(label)
    key = f"{told.id}.{told.run}"
    if runs.exists(tx, key):
        return None
    now = moment.now
    if not runners.exists(tx, told.id):
        project_id = _project_of(tx, told, now)
        projects.book_slot(tx, project_id)
        runners.insert(tx, _adopted_runner(tx, told, project_id, now))
    else:
        runners.lives_after_all(tx, told.id)
    whose = {"name": told.name, "project": told.project, "agent": str(told.columns["agent"])}
    runs.insert(tx, told.id, told.run, told.shim, whose, actor=ACTOR, now=now)
    events.append(tx, "runner.adopted", told.id, {"name": told.name, "pid": who.pid}, actor=ACTOR, now=now)
    _spawned(tx, runs.get(tx, key), who, now)
    return told.id


def _project_of(tx: Tx, told: Label, now: datetime) -> int:
    try:
        return int(projects.get_row(tx, told.project)["id"])
    except NotFound:
        columns = {
            "name": told.project,
            "path": told.project_path,
            "max_runners": 5,
            "on_quota": OnQuota.WARN,
        }
        projects.insert(tx, columns, actor=ACTOR, now=now)
        return int(projects.get_row(tx, told.project)["id"])


def _adopted_runner(tx: Tx, told: Label, project_id: int, now: datetime) -> dict[str, Any]:
    return {
        **told.columns,
        "id": told.id,
        "name": runners.name_to_adopt(tx, told.name, told.id),
        "project_id": project_id,
        "desired": Desired.RUNNING,
        "alive": 1,
        "run": told.run,
        "created_at": iso(now),
    }


def _spawned(tx: Tx, run: RunRow, who: Identity, started_at: datetime, **facts: Any) -> RunRow:
    return runs.advance(
        tx,
        run,
        Cause.SPAWNED,
        actor=ACTOR,
        now=started_at,
        pid=who.pid,
        start_time=who.start_time,
        boot_id=who.boot_id,
        started_at=started_at,
        **facts,
    )


def _asked_of_the_shim(tx: Tx, run: RunRow, by: str, now: datetime) -> RunRow:
    """A person had it stopped while the database could not be told: the wish is booked now, and holds."""
    runners.want(tx, run.runner_id, Desired.STOPPED)
    asked = runs.get(tx, run.key)
    return runs.advance(
        tx, asked, Cause.STOP_ASKED, actor=by, now=now, stop_reason=EndReason.STOPPED, stop_by=by
    )


def _finish(
    tx: Tx, run: RunRow, cause: Cause, moment: Moment, pace: Pace, *, lasted_seconds: float, **facts: Any
) -> bool:
    """End the run and settle what follows; returns whether another run does."""
    ended = runs.advance(tx, run, cause, actor=run.stop_by or ACTOR, now=moment.now, **facts)
    match after_end(run, ended.state, lasted_seconds=lasted_seconds, pace=pace, chance=moment.chance):
        case Over(gave_up):
            runners.settle(tx, run.runner_id)
            if gave_up:
                told = {**run.whose(), "max_restarts": run.max_restarts}
                events.append(tx, "runner.gave_up", run.runner_id, told, actor=ACTOR, now=moment.now)
            return False
        case Again(pause, failures, _):
            runners.schedule_retry(
                tx,
                run.runner_id,
                run.whose(),
                at=datetime.fromtimestamp(moment.now.timestamp() + pause, moment.now.tzinfo),
                at_boottime=moment.boottime + pause,
                boot_id=moment.boot_id,
                failures=failures,
                now=moment.now,
            )
            return True


def _why(run: RunRow, end: End) -> tuple[EndReason, str]:
    """Why the run ended, as a word and as a line for people."""
    record = end.record
    how = f"exit code {record.exit_code}" if record.exit_signal is None else f"signal {record.exit_signal}"
    if run.stop_reason is not None:
        return run.stop_reason, f"{how}; asked by {run.stop_by}"
    if end.out_of_memory:
        return EndReason.OUT_OF_MEMORY, f"{how}: the kernel ran out of memory and killed it"
    if record.exit_signal is not None:
        return EndReason.SIGNALED, f"{how}, sent by nobody we know"
    return EndReason.EXITED, how
