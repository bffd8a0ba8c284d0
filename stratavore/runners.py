"""The verbs on runners, once they are launched.

Rule 1: a verb records the wish in one transaction and wakes the supervisor; it signals nobody itself.
Rule 2: when the database cannot take a wish, `stop`, `kill`, `pause` and `unpause` go straight to the shim, whose
record carries who asked.
"""

import asyncio
import logging
from collections.abc import Awaitable, Callable

from stratavore import admission, booking, runner_files
from stratavore.context import Asker, Context
from stratavore.ending import polite_steps
from stratavore.errors import Conflict, Degraded, StorageFailed
from stratavore.model import Desired, EndReason, Run, Runner
from stratavore.protocol import Choose, ListRunners, Nothing, Rename, Restart, Stop, activities_of, states_of
from stratavore.spawning import wish_of
from stratavore.store import events, runners, runs, sessions, supervision
from stratavore.store.database import Condition, Tx
from stratavore.store.supervision import Supervised

log = logging.getLogger(__name__)

_LOOK_AT_DISK_SECONDS = 2.0
_LOOK_AGAIN_SECONDS = 20e-6
"""While many change at once, whoever waits for them all pauses so long for each of them before the next look."""


async def list_runners(context: Context, asker: Asker, request: ListRunners) -> list[Runner]:
    """Runners; with `until`, as soon as all of them are where they are waited for, or the time is up.

    Raises:
        Degraded: they are not, and nothing can be recorded now.
    """
    ids = (
        None
        if request.runner is None
        else runners.resolve_all(context.rows, request.runner, request.project, strict=request.strict)
    )
    if request.until is not None and ids is not None:
        await _wait(context, ids, request)
    return runners.list_runners(
        context.rows,
        ids=ids,
        project=request.project,
        state=request.state,
        all=request.all,
        waiting=request.waiting,
        limit=request.limit,
        offset=request.offset,
    )


async def get_runner(context: Context, asker: Asker, request: Nothing, runner: str) -> Runner:
    """One runner."""
    return runners.get_runner(context.rows, runner)


async def list_runs(context: Context, asker: Asker, request: Nothing, runner: str) -> list[Run]:
    """The runs of one runner, oldest first, with the files of their output."""
    runner_id = runners.resolve(context.rows, runner)
    return runs.list_runs(context.rows, runner_id, context.paths.logs)


async def stop_runners(context: Context, asker: Asker, request: Stop, runner: str) -> list[Runner]:
    """End runners politely. One that is between two runs is not started again."""
    return await _stop(context, asker, runner, request.project, EndReason.STOPPED, request.grace_seconds)


async def kill_runners(context: Context, asker: Asker, request: Choose, runner: str) -> list[Runner]:
    """End runners at once."""
    return await _stop(context, asker, runner, request.project, EndReason.KILLED, None)


async def pause_runners(context: Context, asker: Asker, request: Choose, runner: str) -> list[Runner]:
    """Stop the process trees of runners where they stand."""
    return await _want_paused(context, asker, request, runner, Desired.PAUSED)


async def unpause_runners(context: Context, asker: Asker, request: Choose, runner: str) -> list[Runner]:
    """Let paused runners go on."""
    return await _want_paused(context, asker, request, runner, Desired.RUNNING)


async def restart_runners(context: Context, asker: Asker, request: Restart, runner: str) -> list[Runner]:
    """End the present run, if there is one, and start the next: the same name, the same conversation.

    Raises:
        BudgetExceeded: there is no room for the next run of one of them; nothing was done.
    """
    ids = runners.resolve_all(context.rows, runner, request.project, strict=True)
    now, moment = context.clock.now(), context.moment()
    await _refuse_without_room(context, asker, ids)

    if request.only_idle:
        _refuse_the_busy(context, ids)

    def wish(tx: Tx) -> None:
        for row in supervision.list_supervised(tx, ids):
            events.append(tx, "runner.restart_asked", row.id, row.whose(), actor=str(asker), now=now)
            if not row.is_over:
                runners.want(tx, row.id, Desired.RUNNING, then_start=True)
                booking.ask_stop(tx, row, EndReason.STOPPED, actor=str(asker), now=now, grace=request.grace_seconds)
                continue
            if (other := sessions.rival(tx, row.id)) is not None:
                raise Conflict(
                    f"{other} is in the session of {row.name} now",
                    remedy=f"`stratavore stop {other}` first, or `stratavore launch --fork {row.session_id}`",
                )
            if not row.alive:
                runners.revive(tx, row)
            runners.want(tx, row.id, Desired.RUNNING, then_start=True)
            runners.schedule_retry(
                tx,
                row.id,
                row.whose(),
                at=now,
                at_boottime=moment.boottime,
                boot_id=moment.boot_id,
                failures=0,
                now=now,
            )

    await context.write(wish)
    await context.wake_and_begin(ids)
    return runners.list_runners(context.rows, ids=ids)


async def _refuse_without_room(context: Context, asker: Asker, ids: list[str]) -> None:
    now = context.clock.now()
    for row in supervision.list_supervised(context.rows, ids):
        asked = wish_of(context, context.rows, row.id, now=now)
        refusal = admission.find_refusal(context.rows, asked, now=now, beside=row.key)
        if refusal is None:
            continue
        told = {**row.whose(), "code": refusal.code, "why": refusal.message, "budget": refusal.budget}
        await _tell(context, events.Fact("runner.restart_refused", row.id, told, str(asker)))
        raise refusal


async def _tell(context: Context, fact: events.Fact) -> None:
    now = context.clock.now()
    await context.write(lambda tx: events.append_all(tx, [fact], now=now))


async def rename_runner(context: Context, asker: Asker, request: Rename, runner: str) -> Runner:
    """Give a runner another name."""
    runner_id = runners.resolve(context.rows, runner, strict=True)
    now = context.clock.now()
    await context.write(lambda tx: runners.rename(tx, runner_id, request.name, actor=str(asker), now=now))
    return runners.get_runner(context.rows, runner_id)


async def remove_runners(context: Context, asker: Asker, request: Choose, runner: str) -> list[Runner]:
    """Forget ended runners and their output; refused, all of it, if one of them lives."""
    ids = runners.resolve_all(context.rows, runner, request.project, strict=True)
    doomed = runners.list_runners(context.rows, ids=ids)
    await forget(context, ids, actor=str(asker))
    return doomed


async def forget(context: Context, ids: list[str], *, actor: str) -> int:
    """Remove rows, output and files of ended runners; returns the bytes that were freed."""
    now = context.clock.now()
    logs = [run.log for runner_id in ids for run in runs.list_runs(context.rows, runner_id, context.paths.logs)]

    def remove(tx: Tx) -> None:
        for runner_id in ids:
            runners.remove(tx, runner_id, actor=actor, now=now)

    await context.write(remove)
    return await asyncio.to_thread(runner_files.remove_all, context.paths, ids, logs)


async def _wait(context: Context, ids: list[str], request: ListRunners) -> None:
    wanted = [state.value for state in states_of(request.until or "")]
    doing = [activity.value for activity in activities_of(request.until or "")]
    deadline = context.clock.boottime() + request.wait_seconds
    while runners.count_outside(context.rows, ids, wanted, doing):
        left = deadline - context.clock.boottime()
        if left <= 0:
            return
        await context.news.wait(min(left, _LOOK_AT_DISK_SECONDS))
        _refuse_if_nothing_is_booked(context)
        if len(ids) > 1:
            await asyncio.sleep(len(ids) * _LOOK_AGAIN_SECONDS)


def _refuse_the_busy(context: Context, ids: list[str]) -> None:
    for row in supervision.list_supervised(context.rows, ids):
        belief = context.activity.of(row.id)
        if not row.is_over and not belief.is_at_rest:
            raise Conflict(
                f"{row.name} is not idle: {belief.activity}", remedy=f"`stratavore wait {row.name} --until idle`"
            )


def _refuse_if_nothing_is_booked(context: Context) -> None:
    """Raise Degraded while the database takes nothing: what is waited for could not be told."""
    health = context.database.health
    if health.condition is not Condition.OK:
        raise Degraded(
            f"the database is {health.condition}: {health.reason}; what is waited for may have happened,"
            " and is recorded once there is room"
        )


async def _stop(
    context: Context,
    asker: Asker,
    references: str,
    project: str | None,
    reason: EndReason,
    grace: float | None,
) -> list[Runner]:
    ids = runners.resolve_all(context.rows, references, project)
    now = context.clock.now()

    def wish(tx: Tx) -> None:
        found = supervision.list_supervised(tx, ids)
        ended = [row.name for row in found if not row.alive]
        if ended and references != "*":
            raise Conflict(f"{', '.join(ended)} ended already", remedy=f"`stratavore explain {ended[0]}` says how")
        runners.want_all(tx, ids, Desired.STOPPED)
        for row in found:
            if row.is_over:
                runners.call_off_retry(tx, row, actor=str(asker), now=now)
        living = [row.key for row in found if not row.is_over]
        booking.ask_all_to_stop(tx, living, reason, actor=str(asker), now=now, grace=grace)

    try:
        await context.write(wish)
    except (Degraded, StorageFailed) as refusal:
        await _straight_to_the_shim(context, ids, lambda row: _end(context, row, asker, reason, grace), refusal)
    await context.wake_and_begin(ids)
    return runners.list_runners(context.rows, ids=ids)


async def _want_paused(
    context: Context, asker: Asker, request: Choose, references: str, desired: Desired
) -> list[Runner]:
    ids = runners.resolve_all(context.rows, references, request.project)

    now, asked = context.clock.now(), "pause" if desired is Desired.PAUSED else "unpause"

    def wish(tx: Tx) -> None:
        for row in supervision.list_supervised(tx, ids):
            if not row.alive:
                raise Conflict(f"{row.name} ended already", remedy=f"`stratavore explain {row.name}` says how")
            if row.desired not in (desired, Desired.STOPPED):
                runners.want(tx, row.id, desired, then_start=row.then_start)
                events.append(tx, f"runner.{asked}_asked", row.id, row.whose(), actor=str(asker), now=now)

    try:
        await context.write(wish)
    except (Degraded, StorageFailed) as refusal:
        act = context.shims.pause if desired is Desired.PAUSED else context.shims.unpause
        await _straight_to_the_shim(context, ids, lambda row: act(row.key), refusal)
    await context.wake_and_begin(ids)
    return runners.list_runners(context.rows, ids=ids)


async def _end(context: Context, row: Supervised, asker: Asker, reason: EndReason, asked_grace: float | None) -> None:
    by = booking.past_the_database(str(asker))
    grace = row.stop_grace_seconds if asked_grace is None else asked_grace
    if reason is EndReason.KILLED:
        await context.shims.kill(row.key, by=by)
        return
    steps = polite_steps(row.agent, context.config.agents, row.argv, tty=row.tty, grace_seconds=grace)
    await context.shims.stop(row.key, steps, grace, by=by)


async def _straight_to_the_shim(
    context: Context,
    ids: list[str],
    act: Callable[[Supervised], Awaitable[None]],
    refusal: Degraded | StorageFailed,
) -> None:
    """Do it without a row; raises the database's refusal when there is nobody to do it to."""
    living = [row for row in supervision.list_supervised(context.rows, ids) if not row.is_over]
    if not living:
        raise refusal
    log.warning("the database takes no wish; asking the shims", extra={"runners": len(living), "why": str(refusal)})
    results = await asyncio.gather(*map(act, living), return_exceptions=True)
    if any(isinstance(result, BaseException) for result in results):
        raise refusal  # for somebody it is neither stored nor done
