"""The verbs that tell how things stand."""

import os
from collections.abc import Iterable
from datetime import datetime

from stratavore import __version__, process
from stratavore.agents import resolve
from stratavore.context import Asker, Context
from stratavore.lifecycle import FINAL
from stratavore.model import (
    DaemonStatus,
    Desired,
    Event,
    Evidence,
    Explanation,
    ProjectStatus,
    RestartPolicy,
    Runner,
    RunnerState,
    Status,
)
from stratavore.protocol import ListEvents, Nothing
from stratavore.runner_files import read_environment
from stratavore.spawning import start_of
from stratavore.store import events, projects, runners, samples
from stratavore.store.database import Condition, Rows
from stratavore.store.runners import Supervised

_EVENTS_TOLD = 5


async def status(context: Context, asker: Asker, request: Nothing) -> Status:
    """The whole house in one line."""
    return house(context.rows, warnings_of(context))


async def daemon_status(context: Context, asker: Asker, request: Nothing) -> DaemonStatus:
    """The supervising process itself."""
    health = context.database.health
    return DaemonStatus(
        pid=os.getpid(),
        version=__version__,
        started_at=context.started_at,
        runners=sum(runners.count_by_state(context.rows).values()),
        shims=len(context.shims.health()),
        database=health.condition if not health.reason else f"{health.condition}: {health.reason}",
        healthy=not warnings_of(context),
        limits=context.limits(),
    )


async def list_events(context: Context, asker: Asker, request: ListEvents) -> list[Event]:
    """Events after a seq; waits for the first one if asked to."""
    deadline = context.clock.boottime() + request.wait_seconds
    while True:
        found = events.list_events(
            context.rows, since=request.since, limit=request.limit, newest=request.newest
        )
        left = deadline - context.clock.boottime()
        if found or left <= 0:
            return found
        await context.news.wait(left)


async def explain_runner(context: Context, asker: Asker, request: Nothing, runner: str) -> Explanation:
    """Why a runner is in the state it is in: every piece of evidence with its age, and what comes next."""
    found = runners.get_runner(context.rows, runner)
    row = runners.get_supervised(context.rows, found.id)
    evidence = [*_from_the_log(context.rows, found), *_from_the_row(found)]
    if row.state not in FINAL:
        evidence += [*_from_the_process(context, row), *_from_the_agent(context, row)]
    return Explanation(runner=found, summary=summary_of(found), evidence=evidence, next=next_of(found))


def house(rows: Rows, warnings: list[str]) -> Status:
    """The counts and sums of everything that lives."""
    by_state = runners.count_by_state(rows)
    use = samples.totals(rows)
    archived = projects.list_projects(rows, ProjectStatus.ARCHIVED)
    return Status(
        runners=sum(by_state.values()),
        by_state=by_state,
        projects=len(projects.list_projects(rows)) + len(archived),
        cpu_percent=use["cpu_percent"],
        rss_bytes=use["rss_bytes"],
        warnings=warnings,
    )


def warnings_of(context: Context) -> list[str]:
    """What is wrong in the house, a line each."""
    found = []
    health = context.database.health
    if health.condition is not Condition.OK:
        found.append(f"the database is {health.condition}: {health.reason}")
    silent = [shim_id for shim_id, state in context.shims.health().items() if state != "ok"]
    found += [f"shim {shim_id} is {context.shims.health()[shim_id]}" for shim_id in silent]
    return found


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
            return f"a new run at {runner.retry_at:%Y-%m-%d %H:%M:%S} UTC" if runner.retry_at else "a new run now"
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
            return f"when it ends, policy {runner.restart_policy} decides (at most {runner.max_restarts} failures in a row)"


def _from_the_log(rows: Rows, runner: Runner) -> Iterable[Evidence]:
    for event in events.list_of_runner(rows, runner.id, limit=_EVENTS_TOLD):
        yield Evidence(source="event", says=f"{event.type} by {event.actor}", observed_at=event.at)


def _from_the_row(runner: Runner) -> Iterable[Evidence]:
    yield Evidence(source="wish", says=f"desired {runner.desired}, restart {runner.restart_policy}", observed_at=None)
    if runner.ended_at is not None:
        yield Evidence(source="exit record", says=runner.end_detail or "unknown", observed_at=runner.ended_at)
    if runner.last_line is not None:
        yield Evidence(source="last line", says=runner.last_line, observed_at=runner.ended_at)
    if runner.seen_at is not None and runner.ended_at is None:
        says = f"holder {runner.health}; cpu {runner.cpu_percent} %, rss {runner.rss_bytes} bytes"
        yield Evidence(source="heartbeat", says=says, observed_at=runner.seen_at)


def _from_the_process(context: Context, row: Supervised) -> Iterable[Evidence]:
    now: datetime = context.clock.now()
    if row.pid is None or row.start_time is None or row.boot_id is None:
        return
    is_alive = process.is_alive(process.Identity(row.boot_id, row.pid, row.start_time))
    yield Evidence(source="process table", says=f"pid {row.pid} {'lives' if is_alive else 'is gone'}", observed_at=now)
    if below := process.describe_tree(row.pid):
        yield Evidence(source="children", says=", ".join(below), observed_at=now)


def _from_the_agent(context: Context, row: Supervised) -> Iterable[Evidence]:
    if row.pid is None:
        return
    agent, _ = resolve(row.agent, context.config.agents)
    directory = context.paths.runner(row.id)
    start = start_of(row, read_environment(directory), directory, context)
    if (live := agent.live(process.tree(row.pid), start)) is not None:
        says = f"{live.activity}: {live.said}"
        yield Evidence(source=f"{agent.name}'s own state file", says=says, observed_at=context.clock.now())
