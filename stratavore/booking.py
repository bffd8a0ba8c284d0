"""What the supervisor learned, written down: each function is one transaction's work.

Rule 1: whoever saw something books it; if it was booked already, nothing happens. So all of these may run twice.
Rule 2: the end of a run and what follows from it (a retry, or the slot given back) are one transaction.
Rule 3: an exit that nobody saw is `lost`; no code is ever made up.
Rule 4: what a person wished holds against what a limit wishes; a stop that went past the database holds too.
"""

from collections.abc import Collection, Mapping, Sequence
from datetime import datetime, timedelta
from typing import Any, NamedTuple

from stratavore import admission
from stratavore.admission import Wish
from stratavore.clock import from_unix_ms, iso
from stratavore.errors import BudgetExceeded, NotFound
from stratavore.label import Label, Process
from stratavore.lifecycle import FINAL, Cause, State
from stratavore.model import Desired, EndReason, OnQuota, RestartPolicy
from stratavore.restart import Again, Over, Pace, after_end
from stratavore.shim.client import ExitRecord
from stratavore.store import blocks, events, projects, reservations, runners, runs, samples, sessions, supervision
from stratavore.store.database import Tx
from stratavore.store.runs import RunRow
from stratavore.why import why_ended

ACTOR = "supervisor"
_SPREAD = 0.618034
"""Multiples of the golden ratio, modulo 1, lie far apart: those that end together do not come back together."""

_LONGEST_WAIT_SECONDS = 86400.0

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
    conversation: sessions.Conversation | None = None
    """The conversation that the run turned out to have been in."""
    limit_resets_at: datetime | None = None
    """When the provider of its model goes on, if its last words say that."""


def book_spawned(tx: Tx, key: str, process: Process, moment: Moment) -> None:
    """The run has a process."""
    book_all_spawned(tx, {key: process}, moment)


def book_all_spawned(tx: Tx, processes: Mapping[str, Process], moment: Moment) -> None:
    """Each of these runs has a process.

    Raises:
        NotFound: there is no such run.
    """
    known = runs.get_all(tx, processes.keys())
    begun = {run.key: processes[run.key] for run in known if run.pid is None and run.state not in FINAL}
    runs.advance_all(tx, [_begin(run, begun[run.key]) for run in known if run.key in begun], now=moment.now)
    for key, process in begun.items():
        if process.is_paused:
            book_pause_found(tx, key, Cause.PAUSED, moment)


def book_not_started(tx: Tx, key: str, why: str, moment: Moment, pace: Pace) -> None:
    """The run will never have a process, and `why`."""
    run = runs.get(tx, key)
    if run.state in FINAL:
        return
    facts = {"end_reason": run.stop_reason or EndReason.NOT_STARTED, "end_detail": why}
    _finish_all(tx, [_Over(run, Cause.SPAWN_FAILED, 0.0, facts)], moment, pace)


def book_ends(tx: Tx, ends: Sequence[End], moment: Moment, pace: Pace) -> list[str]:
    """The shims saw these runs end. A run that the database does not know is taken in first.

    Returns the ids of the runners of which another run follows.
    """
    told = {end.record.key: end for end in ends}  # one that was told twice ends once
    known = runs.find_all(tx, told.keys())
    over = []
    for key, end in told.items():
        run = _brought_up(tx, end, known.get(key), moment)
        if run is not None:
            over.append(_over(tx, run, end))
    return _finish_all(tx, over, moment, pace)


def book_lost(tx: Tx, key: str, reason: EndReason, why: str, moment: Moment, pace: Pace) -> None:
    """The run was gone when we looked, and nobody knows how it ended."""
    run = runs.get(tx, key)
    if run.state in FINAL:
        return
    facts = {"end_reason": reason, "end_detail": why}
    _finish_all(tx, [_Over(run, Cause.VANISHED, _seen_living_seconds(tx, run), facts)], moment, pace)


def book_pause_found(tx: Tx, key: str, cause: Cause, moment: Moment) -> None:
    """The shim was told to pause (or unpause) the run past the database: whoever did that wants it so."""
    desired = Desired.PAUSED if cause is Cause.PAUSED else Desired.RUNNING
    runners.want_unasked(tx, runs.get(tx, key).runner_id, desired, instead_of=(Desired.RUNNING, Desired.PAUSED))
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
    """Record the wish that the present run ends; see `ask_all_to_stop`."""
    ask_all_to_stop(tx, [runner.key], reason, actor=actor, now=now, grace=grace)


def ask_all_to_stop(
    tx: Tx, keys: Collection[str], reason: EndReason, *, actor: str, now: datetime, grace: float | None = None
) -> None:
    """Record the wish that these runs end; one that is being stopped already can only end sooner."""
    asked = {"stop_reason": reason, "stop_by": actor, "stop_grace_seconds": grace}
    changes = []
    for run in runs.get_all(tx, keys):
        if run.state is State.STOPPING:
            if reason is EndReason.KILLED or grace is not None:
                runs.hasten(tx, run, reason, grace, actor=actor, now=now)
        elif run.state not in FINAL:
            changes.append(runs.Change(run, Cause.STOP_ASKED, actor, asked))
    runs.advance_all(tx, changes, now=now)


def stop_unasked(
    tx: Tx,
    runner: supervision.Supervised,
    reason: EndReason,
    *,
    instead_of: Collection[Desired],
    now: datetime,
) -> bool:
    """A limit ends the run for good, unless it has ended already, or a person wished otherwise in the meantime.

    Returns whether it does.
    """
    if runs.get(tx, runner.key).state in FINAL:
        return False
    if not runners.want_unasked(tx, runner.id, Desired.STOPPED, instead_of=instead_of):
        return False
    ask_stop(tx, runner, reason, actor=ACTOR, now=now)
    return True


def begin_again(tx: Tx, runner: supervision.Supervised, shim: str, asked: Wish, *, now: datetime) -> bool:
    """Commit the intent of the next run; returns False if somebody was quicker, or it is no longer wanted.

    Nor is it wanted where another runner went on with its conversation in the meantime.

    Raises:
        BudgetExceeded: there is no room for another run of it.
    """
    current = supervision.get_supervised(tx, runner.id)
    if current.run != runner.run or not current.alive or current.desired is Desired.STOPPED:
        return False
    if (other := sessions.rival(tx, runner.id)) is not None:
        told = {**current.whose(), "session_id": current.session_id, "other": other}
        events.append(tx, "runner.session_contested", runner.id, told, actor=ACTOR, now=now)
        runners.call_off_retry(tx, current, actor=ACTOR, now=now)
        return False
    reservations.begin_run_of(tx, runner.id, now=now)
    granted = admission.grant(tx, asked, now=now)
    runners.begin_again(tx, runner.id, by_itself=not current.then_start)
    key = runs.insert(tx, runner.id, runner.run + 1, shim, current.whose(), actor=ACTOR, now=now)
    sessions.enter_again(tx, runner.id, key, now=now)
    reservations.give(tx, granted, [key])
    return True


def wait_for_room(tx: Tx, runner: supervision.Supervised, refusal: BudgetExceeded, moment: Moment) -> None:
    """Its next run finds no room: it waits, in its slot, until there is some, at the latest until the budget resets."""
    current = supervision.get_supervised(tx, runner.id)
    if current.run != runner.run or not current.alive or current.desired is Desired.STOPPED:
        return
    pause = _LONGEST_WAIT_SECONDS
    if refusal.resets_at is not None:
        pause = (datetime.fromisoformat(refusal.resets_at) - moment.now).total_seconds()
    pause = min(max(pause, 1.0), _LONGEST_WAIT_SECONDS)
    runners.put_off(tx, runner.id, at=moment.now + timedelta(seconds=pause), at_boottime=moment.boottime + pause)
    block = blocks.Block(runner.id, refusal.budget, "wait", refusal.message)
    if blocks.put(tx, block, boottime=moment.boottime, boot_id=moment.boot_id, now=moment.now):
        told = {**current.whose(), "code": refusal.code, "why": refusal.message, "budget": refusal.budget}
        events.append(tx, "runner.waits_for_room", runner.id, told, actor=ACTOR, now=moment.now)


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


def _begin(run: RunRow, process: Process) -> runs.Change:
    facts = {
        "pid": process.who.pid,
        "start_time": process.who.start_time,
        "boot_id": process.who.boot_id,
        "started_at": process.started_at,
        "argv": process.argv,
    }
    return runs.Change(run, Cause.SPAWNED, ACTOR, facts)


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
    return runs.advance(tx, asked, Cause.STOP_ASKED, actor=by, now=now, stop_reason=EndReason.STOPPED, stop_by=by)


class _Over(NamedTuple):
    """A run that is over: how, after how long, and what else is known."""

    run: RunRow
    cause: Cause
    lasted_seconds: float
    facts: dict[str, Any]
    limit_resets_at: datetime | None = None


def _brought_up(tx: Tx, end: End, run: RunRow | None, moment: Moment) -> RunRow | None:
    """The run with everything booked that came before its end; None if its end is booked already."""
    record = end.record
    if run is None:
        adopt(tx, record.label, Process.of(record), moment)
        run = runs.get(tx, record.key)
    if run.state in FINAL:
        return None
    if run.pid is None:
        [run] = runs.advance_all(tx, [_begin(run, Process.of(record))], now=moment.now)
    if record.stop_by is not None and (run.state is not State.STOPPING or record.stop_by.endswith(_PAST)):
        run = _asked_of_the_shim(tx, run, record.stop_by, moment.now)
    if end.conversation is not None:
        sessions.follow(tx, run.key, end.conversation, now=from_unix_ms(record.ended_at))
    return run


def _over(tx: Tx, run: RunRow, end: End) -> _Over:
    record = end.record
    reason, detail = why_ended(tx, run, record, out_of_memory=end.out_of_memory)
    facts = {
        "ended_at": from_unix_ms(record.ended_at),
        "exit_code": record.exit_code,
        "exit_signal": record.exit_signal,
        "end_reason": reason,
        "end_detail": detail,
        "ended_by": run.stop_by or record.stop_by,
        "output_bytes": record.output_bytes,
        "dropped_bytes": record.dropped_bytes,
        "last_line": end.last_line,
        "cpu_seconds": record.utime_seconds + record.stime_seconds,
        "max_rss_bytes": record.max_rss_bytes,
    }
    cause = Cause.SUCCEEDED if end.good else Cause.CRASHED
    return _Over(run, cause, (record.ended_at - record.started_at) / 1000, facts, end.limit_resets_at)


def _finish_all(tx: Tx, over: Sequence[_Over], moment: Moment, pace: Pace) -> list[str]:
    """End the runs and settle what follows; returns the ids of the runners of which another run does."""
    changes = [runs.Change(run, cause, run.stop_by or ACTOR, facts) for run, cause, _, facts, _ in over]
    ended = runs.advance_all(tx, changes, now=moment.now)
    sessions.leave_all(tx, {each.run.key: each.facts.get("ended_at", moment.now) for each in over})
    follows, tired = dict[str, bool](), list[events.Fact]()  # of two runs of one runner the later one decides
    for number, (each, now_ended) in enumerate(zip(over, ended, strict=True)):
        run, chance = each.run, (moment.chance + number * _SPREAD) % 1
        limit, lasted = _limit_seconds(tx, each, moment), each.lasted_seconds
        match after_end(run, now_ended.state, lasted_seconds=lasted, pace=pace, chance=chance, limit_seconds=limit):
            case Over(gave_up):
                follows[run.runner_id] = False
                if gave_up:
                    told = {**run.whose(), "max_restarts": run.max_restarts}
                    tired.append(events.Fact("runner.gave_up", run.runner_id, told, ACTOR))
            case Again(pause, failures, _):
                follows[run.runner_id] = True
                runners.schedule_retry(
                    tx,
                    run.runner_id,
                    run.whose(),
                    at=moment.now + timedelta(seconds=pause),
                    at_boottime=moment.boottime + pause,
                    boot_id=moment.boot_id,
                    failures=failures,
                    now=moment.now,
                )
    reservations.release_all(tx, [run.key for run, *_ in over])
    runners.settle_all(tx, [runner_id for runner_id, another in follows.items() if not another])
    events.append_all(tx, tired, now=moment.now)
    return [runner_id for runner_id, another in follows.items() if another]


def _limit_seconds(tx: Tx, over: _Over, moment: Moment) -> float | None:
    """How long the provider of its model still refuses; None if nobody said so of this run."""
    if over.run.restart_policy is not RestartPolicy.ON_LIMIT_RESET:
        return None
    at = over.limit_resets_at or samples.limit_of(tx, over.run.runner_id, now=moment.now)
    if at is None or at < over.run.created_at:
        return None
    return max(0.0, (at - moment.now).total_seconds())
