"""How things stand, told from rows alone: what the daemon says, and what is said in its place when it is down."""

from collections.abc import Iterable
from datetime import datetime

from stratavore.model import Desired, Evidence, RestartPolicy, Runner, RunnerState, Status
from stratavore.store import events, projects, runners, samples
from stratavore.store.query import Rows

_EVENTS_TOLD = 5


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


def recorded_evidence(rows: Rows, runner: Runner) -> list[Evidence]:
    """What the database knows that bears on the runner's state, each with its age."""
    return [*_from_the_log(rows, runner), *_from_the_row(runner)]


def summary_of(runner: Runner) -> str:
    """One sentence on how the runner stands."""
    match runner.state:
        case RunnerState.BACKOFF:
            return f"its last run ended ({runner.end_detail}); it waits before it starts again"
        case RunnerState.TERMINATED | RunnerState.FAILED | RunnerState.LOST:
            return f"it is {runner.state}: {runner.end_reason}, {runner.end_detail}"
        case RunnerState.STARTING:
            return "its start is committed, its process is not there yet"
        case RunnerState.STOPPING:
            return "it was asked to end and has not ended yet"
        case RunnerState.PAUSED:
            return f"process {runner.pid} is stopped where it stood"
        case RunnerState.RUNNING:
            return f"process {runner.pid} is running"


def next_of(runner: Runner) -> str:
    """What happens next, if nobody does anything."""
    match runner.state:
        case RunnerState.BACKOFF:
            return (
                f"a new run at {runner.retry_at:%Y-%m-%d %H:%M:%S} UTC"
                if runner.retry_at
                else "a new run now"
            )
        case RunnerState.STARTING:
            return "the shim starts it"
        case RunnerState.STOPPING:
            return "it is killed when its grace is over"
        case RunnerState.TERMINATED | RunnerState.FAILED | RunnerState.LOST:
            return "nothing; `stratavore restart` starts it again"
        case RunnerState.RUNNING if runner.desired is Desired.PAUSED:
            return "it will be paused"
        case RunnerState.RUNNING | RunnerState.PAUSED:
            if runner.desired is Desired.STOPPED or runner.restart_policy is RestartPolicy.NEVER:
                return "when it ends it stays ended"
            return f"when it ends, {runner.restart_policy} decides; {runner.max_restarts} failures in a row are borne"


def _from_the_log(rows: Rows, runner: Runner) -> Iterable[Evidence]:
    for event in events.list_of_runner(rows, runner.id, limit=_EVENTS_TOLD):
        yield Evidence(source="event", says=f"{event.type} by {event.actor}", observed_at=event.at)


def _from_the_row(runner: Runner) -> Iterable[Evidence]:
    yield Evidence(
        source="wish", says=f"desired {runner.desired}, restart {runner.restart_policy}", observed_at=None
    )
    if runner.ended_at is not None:
        yield Evidence(source="exit record", says=runner.end_detail or "unknown", observed_at=runner.ended_at)
    if runner.last_line is not None:
        yield Evidence(source="last line", says=runner.last_line, observed_at=runner.ended_at)
    if runner.seen_at is not None and runner.ended_at is None:
        says = f"holder {runner.health}; cpu {runner.cpu_percent} %, rss {runner.rss_bytes} bytes"
        yield Evidence(source="heartbeat", says=says, observed_at=runner.seen_at)
