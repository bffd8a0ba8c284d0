"""The verbs that tell how things stand."""

import os
from collections.abc import Iterable
from datetime import datetime

from stratavore import __version__, process
from stratavore.agents import resolve_or_shell
from stratavore.context import Asker, Context
from stratavore.errors import StratavoreError
from stratavore.lifecycle import FINAL
from stratavore.model import (
    DaemonStatus,
    Event,
    Evidence,
    Explanation,
    Status,
)
from stratavore.protocol import ListEvents, Nothing
from stratavore.quotas import exceeded
from stratavore.spawning import start_of
from stratavore.standing import held_back, held_of, next_of, recorded_evidence, summary_of, whole
from stratavore.store import events, runners, supervision
from stratavore.store.database import Condition
from stratavore.store.supervision import Supervised


async def status(context: Context, asker: Asker, request: Nothing) -> Status:
    """The whole house in one line."""
    rows = context.rows
    warnings = [*warnings_of(context), *exceeded(rows, context.seen_since()), *held_back(rows)]
    return whole(context.rows, warnings, seen_since=context.seen_since())


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
        found = events.list_events(context.rows, since=request.since, limit=request.limit, newest=request.newest)
        left = deadline - context.clock.boottime()
        if found or left <= 0:
            return found
        await context.news.wait(left)


async def explain_runner(context: Context, asker: Asker, request: Nothing, runner: str) -> Explanation:
    """Why a runner is in the state it is in: every piece of evidence with its age, and what comes next."""
    found = runners.get_runner(context.rows, runner)
    row = supervision.get_supervised(context.rows, found.id)
    evidence = recorded_evidence(context.rows, found)
    if row.state not in FINAL:
        evidence += [*_from_the_process(context, row), *_from_the_agent(context, row), *_from_the_ledger(context, row)]
    held = held_of(context.rows, found, stop_grace=context.config.budgets.stop_grace)
    return Explanation(runner=found, summary=summary_of(found), evidence=evidence, next=next_of(found, held))


def warnings_of(context: Context) -> list[str]:
    """What is wrong in the house, a line each."""
    found = []
    health = context.database.health
    if health.condition is not Condition.OK:
        found.append(f"the database is {health.condition}: {health.reason}")
    if (problem := context.shims.problem) is not None:
        found.append(f"nothing can be launched: {problem}")
    silent = [shim_id for shim_id, state in context.shims.health().items() if state != "ok"]
    found += [f"holder {shim_id} is {context.shims.health()[shim_id]}" for shim_id in silent]
    return found


def _from_the_process(context: Context, row: Supervised) -> Iterable[Evidence]:
    now: datetime = context.clock.now()
    if row.pid is None or row.start_time is None or row.boot_id is None:
        return
    is_alive = process.is_alive(process.Identity(row.boot_id, row.pid, row.start_time))
    yield Evidence(source="process table", says=f"pid {row.pid} {'lives' if is_alive else 'is gone'}", observed_at=now)
    if below := process.describe_tree(row.pid):
        yield Evidence(source="children", says=", ".join(below), observed_at=now)


def _from_the_agent(context: Context, row: Supervised) -> Iterable[Evidence]:
    """What each source says of what it does; the one that is believed first."""
    for source, found in context.activity.evidence(row.id):
        says = f"{found.activity}: {found.said}" if found.said else found.activity.value
        yield Evidence(source=source, says=says, observed_at=found.at)
    if (limit := context.activity.of(row.id).limit_resets_at) is not None:
        yield Evidence(source="limit", says=f"its provider goes on at {limit:%Y-%m-%d %H:%M:%S} UTC", observed_at=None)
    elif context.activity.is_limited_for_unknown(row.id):
        says = "its provider refused to go on and did not say until when: nobody tells it to continue"
        yield Evidence(source="limit", says=says, observed_at=None)


def _from_the_ledger(context: Context, row: Supervised) -> Iterable[Evidence]:
    """What of its calls cannot be counted."""
    try:
        start = start_of(context, supervision.get_recipe(context.rows, row.id))
    except StratavoreError:
        return
    agent = resolve_or_shell(row.agent, context.config.agents)
    if start.telemetry is not None and (
        name := agent.telemetry_of_others({**start.env, **start.profile.env}, start.telemetry)
    ):
        says = f"{name} is set, so its telemetry is left alone: calls that stand in no transcript are not counted"
        yield Evidence(source="ledger", says=says, observed_at=None)
