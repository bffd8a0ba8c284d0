"""How things stand, told from rows alone: what the daemon says, and what is said in its place when it is down."""

import errno
import os
from collections.abc import Iterable, Mapping
from datetime import datetime, timedelta
from typing import NamedTuple

from stratavore.model import Desired, EndReason, Evidence, OnExceeded, RestartPolicy, Runner, RunnerState, Status
from stratavore.store import blocks, budget_rows, events, projects, runners, samples, supervision
from stratavore.store.query import Rows
from stratavore.wording import extending, local_time

_EVENTS_TOLD = 5
_NAMES_TOLD = 8
_ENDS: Mapping[EndReason, str] = {
    EndReason.EXITED: "it ended by itself",
    EndReason.SIGNALED: "a signal ended it",
    EndReason.STOPPED: "it was stopped",
    EndReason.KILLED: "it was killed",
    EndReason.MAX_TIME: "its time was over",
    EndReason.QUOTA: "its project was over quota",
    EndReason.BUDGET: "its budget was used up",
    EndReason.OUT_OF_MEMORY: "it ran out of memory",
    EndReason.NOT_STARTED: "it could not be started",
    EndReason.SHIM_DIED: "its holder died",
    EndReason.REBOOT: "the machine was started anew",
    EndReason.VANISHED: "it was gone when it was looked for",
}
"""tests/test_standing.py has every reason told."""
_NOT_FOUND = (os.strerror(errno.ENOENT), os.strerror(errno.EACCES))
_SHELL_FOUND_NONE = (126, 127)
"""What shells and env(1) exit with where the command cannot be executed, or is not found."""


class Held(NamedTuple):
    """What may let a runner go on that is held back. `extend` is what to type, None where its turns hold it."""

    extend: str | None
    has_periods: bool
    stops_at: datetime | None


def whole(rows: Rows, warnings: list[str], *, seen_since: datetime | None) -> Status:
    """The counts of everything that lives, and the sums of what was measured since then; None: nobody measures."""
    by_state = runners.count_by_state(rows)
    use = {} if seen_since is None else samples.totals(rows, since=seen_since)
    return Status(
        runners=sum(by_state.values()),
        by_state=by_state,
        projects=len(projects.list_projects(rows)),
        cpu_percent=use.get("cpu_percent"),
        rss_bytes=use.get("rss_bytes"),
        warnings=warnings,
    )


def held_back(rows: Rows) -> list[str]:
    """A line on the runners that a budget holds, if there are any."""
    names = sorted(blocks.names_of_held(rows))
    if not names:
        return []
    listed = ", ".join(names[:_NAMES_TOLD]) + (", …" if len(names) > _NAMES_TOLD else "")
    return [f"held back by budgets: {listed}; `stratavore budget` tells by which"]


def held_of(rows: Rows, runner: Runner, *, stop_grace: float) -> Held | None:
    """What holds the runner back; None if nothing does. One that is to be stopped is, so many seconds later."""
    block = blocks.find(rows, runner.id)
    if block is None or runner.blocked is None:
        return None
    budget = None if block.budget_id is None else budget_rows.find(rows, block.budget_id)
    on_exceeded = supervision.get_recipe(rows, runner.id).on_exceeded if budget is None else budget.on_exceeded
    is_to_stop = on_exceeded is OnExceeded.STOP and block.rung == "block"
    return Held(
        extend=None if budget is None else extending(budget.id, budget.unit),
        has_periods=budget is not None and budget.period != "run",
        stops_at=block.since + timedelta(seconds=stop_grace) if is_to_stop else None,
    )


def recorded_evidence(rows: Rows, runner: Runner) -> list[Evidence]:
    """What the database knows that bears on the runner's state, each with its age."""
    return [*_from_the_log(rows, runner), *_from_the_row(runner)]


def summary_of(runner: Runner) -> str:
    """One sentence on how the runner stands."""
    match runner.state:
        case RunnerState.BACKOFF if runner.blocked is not None:
            return "its last run ended, and its budgets have no room for another"
        case RunnerState.BACKOFF:
            how = runner.end_detail or "nobody knows how"
            return f"its last run ended ({how}); it waits before it starts again"
        case RunnerState.TERMINATED | RunnerState.FAILED | RunnerState.LOST:
            how = "it ended" if runner.end_reason is None else _ENDS[runner.end_reason]
            return f"{how} ({runner.end_detail or 'nobody knows how'}){_given_up(runner)}"
        case RunnerState.STARTING:
            return "its start is committed, its process is not there yet"
        case RunnerState.STOPPING:
            return "it was asked to end and has not ended yet"
        case RunnerState.PAUSED:
            return f"process {runner.pid} is stopped where it stood"
        case RunnerState.RUNNING if runner.blocked is not None:
            return f"process {runner.pid} is running, but held back"
        case RunnerState.RUNNING if runner.waiting_for is not None:
            return f"process {runner.pid} is running, and waits: {runner.waiting_for}"
        case RunnerState.RUNNING:
            return f"process {runner.pid} is running"


def next_of(runner: Runner, held: Held | None = None) -> str:
    """What happens next, if nobody does anything; `held` is what holds it back, if something does."""
    match runner.state:
        case RunnerState.BACKOFF if held is not None:
            return "a new run as soon as there is room" + (f"; {held.extend} makes room now" if held.extend else "")
        case RunnerState.BACKOFF:
            return f"a new run at {local_time(runner.retry_at.isoformat())}" if runner.retry_at else "a new run now"
        case RunnerState.STARTING:
            return "the shim starts it"
        case RunnerState.STOPPING:
            return "it is killed when its grace is over"
        case RunnerState.TERMINATED | RunnerState.FAILED | RunnerState.LOST:
            again = f"`stratavore restart {runner.name}` starts it again"
            if _lacks_its_program(runner):
                return f"nothing; {again} in the environment that it was launched in: for today's PATH, launch it anew"
            return f"nothing; {again}"
        case RunnerState.RUNNING if runner.desired is Desired.PAUSED:
            return "it will be paused"
        case RunnerState.RUNNING if held is not None:
            return _held_until(runner, held)
        case RunnerState.RUNNING | RunnerState.PAUSED:
            return f"when it ends {_after_its_end(runner)}"


def _lacks_its_program(runner: Runner) -> bool:
    """What it runs was not found on its PATH, or could not be executed; or so says the shell that was to run it."""
    if runner.end_reason is EndReason.NOT_STARTED:
        detail = runner.end_detail or ""
        return not detail.startswith(f"{runner.cwd}:") and detail.endswith(_NOT_FOUND)
    return runner.end_reason is EndReason.EXITED and runner.exit_code in _SHELL_FOUND_NONE


def _held_until(runner: Runner, held: Held) -> str:
    """When it goes on or is stopped, and what lets it go on before."""
    lifts = f"{held.extend} lets it go on" if held.extend else f"`stratavore restart {runner.name}` gives it new turns"
    if held.stops_at is not None:
        return f"it is stopped at {local_time(held.stops_at.isoformat())}; {lifts}, if that comes before"
    if held.has_periods:
        return f"it may go on when the budget's next period begins; {lifts} now"
    return f"it stays held back; {lifts}"


def _after_its_end(runner: Runner) -> str:
    wanted = RestartPolicy.NEVER if runner.desired is Desired.STOPPED else runner.restart_policy
    match wanted:
        case RestartPolicy.NEVER:
            return "it stays ended"
        case RestartPolicy.ON_LIMIT_RESET:
            return "it stays ended, unless its provider's limit ended it: then it goes on as soon as that is over"
        case RestartPolicy.ON_FAILURE:
            return f"otherwise than well, it is started again, at most {runner.max_restarts} times in a row"
        case RestartPolicy.ALWAYS:
            return f"it is started again, at most {runner.max_restarts} times in a row"


def _from_the_log(rows: Rows, runner: Runner) -> Iterable[Evidence]:
    for event in events.list_of_runner(rows, runner.id, limit=_EVENTS_TOLD):
        says = f"{event.type} by {event.actor}"
        if "resource" in event.payload:
            says += ": its project uses {used:.0f} of {limit:.0f} ({resource})".format_map(event.payload)
        yield Evidence(source="event", says=says, observed_at=event.at)


def _from_the_row(runner: Runner) -> Iterable[Evidence]:
    yield Evidence(source="wish", says=f"desired {runner.desired}, restart {runner.restart_policy}", observed_at=None)
    if runner.blocked is not None:
        yield Evidence(source="budget", says=runner.blocked, observed_at=None)
    if runner.session_id is not None:
        yield Evidence(source="session", says=runner.session_id, observed_at=None)
    elif runner.session_detail is not None:
        yield Evidence(source="session", says=f"unknown: {runner.session_detail}", observed_at=None)
    if runner.ended_at is not None:
        yield Evidence(source="exit record", says=runner.end_detail or "unknown", observed_at=runner.ended_at)
    if runner.last_line is not None:
        yield Evidence(source="last line", says=runner.last_line, observed_at=runner.ended_at)
    if runner.seen_at is not None and runner.ended_at is None:
        cpu = "unknown" if runner.cpu_percent is None else f"{runner.cpu_percent:.1f} %"
        memory = "unknown" if runner.rss_bytes is None else f"{runner.rss_bytes / 2**20:.1f} MiB"
        says = f"holder {runner.health}; CPU {cpu}, memory {memory}"
        yield Evidence(source="heartbeat", says=says, observed_at=runner.seen_at)


def _given_up(runner: Runner) -> str:
    """Why a runner that should run again will not: only the breaker ends one that nobody stopped."""
    needs_a_failure = runner.restart_policy in (RestartPolicy.ON_FAILURE, RestartPolicy.ON_LIMIT_RESET)
    if (
        runner.desired is Desired.STOPPED
        or runner.restart_policy is RestartPolicy.NEVER
        or (needs_a_failure and runner.state is RunnerState.TERMINATED)
    ):
        return ""
    waits_for_a_limit = runner.restart_policy is RestartPolicy.ON_LIMIT_RESET
    if waits_for_a_limit and runner.limit_resets_at is None and runner.restarts < runner.max_restarts:
        return ", and nothing says until when its provider refuses to go on, so it is not started again"
    return f", and that more often in a row than --max-restarts {runner.max_restarts} allows, so it was given up"
