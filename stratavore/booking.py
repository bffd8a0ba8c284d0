"""What the supervisor learned, written down: each function is one transaction's work.

Rule 1: whoever saw something books it; if it was booked already, nothing happens. So all of these may run twice.
Rule 2: the end of a run and what follows from it (a retry, or the slot given back) are one transaction.
Rule 3: an exit that nobody saw is `lost`; no code is ever made up.
Rule 4: what a person wished holds against what a limit wishes; a stop that went past the database holds too.
"""

from collections.abc import Collection, Sequence
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
from stratavore.shims import Holding
from stratavore.store import events, projects, runners, runs, samples, supervision
from stratavore.store.database import Tx
from stratavore.store.runs import RunRow

ACTOR = "supervisor"

_PAST = ", past the database"


def past_the_database(by: str) -> str:
    """Who asks a shim to end a run while no row can say so: from its exit record the wish is booked later."""
    return by + _PAST


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
    argv: list[str]
    """What the run was started with."""

    @classmethod
    def read(cls, text: str) -> "Label":
        """What `write` wrote."""
        return msgspec.json.decode(text, type=cls)

    def write(self) -> str:
        """The label as a shim keeps it."""
        return msgspec.json.encode(self).decode()

    @classmethod
    def of(cls, recipe: supervision.Recipe, shim: ShimId, argv: Sequence[str]) -> "Label":
        kept = (
            "agent restart_policy max_restarts tty terminal_rows terminal_columns extra_argv cwd umask prompt"
            " session_id stop_grace_seconds max_seconds"
        ).split()
        columns = {name: getattr(recipe, name) for name in kept}
        whose = (recipe.id, recipe.name, recipe.project, recipe.project_path)
        return cls(*whose, recipe.run, shim, columns, list(argv))


class Process(NamedTuple):
    """The process of a run."""

    who: Identity
    started_at: datetime
    argv: list[str]
    is_paused: bool = False

    @classmethod
    def of(cls, told: Holding | ExitRecord) -> "Process":
        """As its shim tells of it."""
        who = Identity(told.boot_id, told.pid, told.start_time)
        is_paused = isinstance(told, Holding) and told.state == "paused"
        return cls(who, from_unix_ms(told.started_at), Label.read(told.label).argv, is_paused)


def book_spawned(tx: Tx, key: str, process: Process, moment: Moment) -> None:
    """The run has a process."""
    run = runs.get(tx, key)
    if run.pid is None and run.state not in FINAL:
        _spawned(tx, run, process, moment.now)
        if process.is_paused:
            book_pause_found(tx, key, Cause.PAUSED, moment)


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
    run = runs.find(tx, record.key)
    if run is None:
        adopt(tx, record.label, Process.of(record), moment)
        run = runs.get(tx, record.key)
    if run.state in FINAL:
        return False
    if run.pid is None:
        run = _spawned(tx, run, Process.of(record), moment.now)
    if record.stop_by is not None and (run.state is not State.STOPPING or record.stop_by.endswith(_PAST)):
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
        dropped_bytes=record.dropped_bytes,
        last_line=end.last_line,
        cpu_seconds=record.utime_seconds + record.stime_seconds,
        max_rss_bytes=record.max_rss_bytes,
    )


def book_lost(tx: Tx, key: str, reason: EndReason, why: str, moment: Moment, pace: Pace) -> None:
    """The run was gone when we looked, and nobody knows how it ended."""
    run = runs.get(tx, key)
    if run.state in FINAL:
        return
    lasted = _seen_living_seconds(tx, run)
    _finish(tx, run, Cause.VANISHED, moment, pace, lasted_seconds=lasted, end_reason=reason, end_detail=why)


def book_pause_found(tx: Tx, key: str, cause: Cause, moment: Moment) -> None:
    """The shim was told to pause (or unpause) the run past the database: whoever did that wants it so."""
    desired = Desired.PAUSED if cause is Cause.PAUSED else Desired.RUNNING
    runners.want_unasked(
        tx, runs.get(tx, key).runner_id, desired, instead_of=(Desired.RUNNING, Desired.PAUSED)
    )
    book_paused(tx, key, cause, moment)


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


def stop_unasked(
    tx: Tx,
    runner: supervision.Supervised,
    reason: EndReason,
    *,
    instead_of: Collection[Desired],
    now: datetime,
) -> None:
    """A limit ends the run for good, unless it has ended already, or a person wished otherwise in the meantime."""
    if runs.get(tx, runner.key).state in FINAL:
        return
    if runners.want_unasked(tx, runner.id, Desired.STOPPED, instead_of=instead_of):
        ask_stop(tx, runner, reason, actor=ACTOR, now=now)


def begin_again(tx: Tx, runner: supervision.Supervised, shim: str, *, now: datetime) -> bool:
    """Commit the intent of the next run; returns False if somebody was quicker, or it is no longer wanted."""
    current = supervision.get_supervised(tx, runner.id)
    if current.run != runner.run or not current.alive or current.desired is Desired.STOPPED:
        return False
    runners.begin_again(tx, runner.id, by_itself=not current.then_start)
    whose = {"name": current.name, "project": current.project, "agent": current.agent}
    runs.insert(tx, runner.id, runner.run + 1, shim, whose, actor=ACTOR, now=now)
    return True


def adopt(tx: Tx, label: str, process: Process, moment: Moment) -> str | None:
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
    adopted = {"name": told.name, "pid": process.who.pid}
    events.append(tx, "runner.adopted", told.id, adopted, actor=ACTOR, now=now)
    book_spawned(tx, key, process, moment)
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


def _spawned(tx: Tx, run: RunRow, process: Process, now: datetime) -> RunRow:
    return runs.advance(
        tx,
        run,
        Cause.SPAWNED,
        actor=ACTOR,
        now=now,
        pid=process.who.pid,
        start_time=process.who.start_time,
        boot_id=process.who.boot_id,
        started_at=process.started_at,
        argv=process.argv,
    )


def _seen_living_seconds(tx: Tx, run: RunRow) -> float:
    """How long it lived for certain: that nobody looked, or the machine was off, is no life."""
    seen_at = samples.last_seen(tx, run.runner_id)
    if run.started_at is None or seen_at is None:
        return 0.0
    return max(0.0, (seen_at - run.started_at).total_seconds())


def _asked_of_the_shim(tx: Tx, run: RunRow, by: str, now: datetime) -> RunRow:
    """A person had it stopped while the database could not be told: the wish is booked now, and holds."""
    runners.want(tx, run.runner_id, Desired.STOPPED)
    if run.state is State.STOPPING:  # a restart may have been what that was for
        runs.hasten(tx, run, EndReason.STOPPED, None, actor=by, now=now)
        return runs.get(tx, run.key)
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
