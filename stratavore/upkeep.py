"""The verbs that keep house: compare, measure the disk, throw away what is old."""

import asyncio
import logging
import os
from collections.abc import Iterable
from contextlib import suppress
from datetime import timedelta

from stratavore import archiving, runner_files
from stratavore.context import Asker, Context
from stratavore.disk import measure
from stratavore.model import Acknowledged, DiskUse, Pruned, Reconciled
from stratavore.protocol import Nothing, Prune, Stop, StopDaemon
from stratavore.runners import forget, stop_runners
from stratavore.store import events, installation, runners, runs

log = logging.getLogger(__name__)

_EVENTS_AT_ONCE = 500
_SETTLE_SECONDS = 10.0


async def reconcile(context: Context, asker: Asker, request: Nothing) -> Reconciled:
    """Compare what is recorded with what runs, and act until they agree."""
    return await context.house.reconcile()


async def stop_daemon(context: Context, asker: Asker, request: StopDaemon) -> Acknowledged:
    """End the daemon after this answer; the shims carry out what was asked of the runners."""
    if request.runners:
        await stop_runners(context, asker, Stop(), "*")
        with suppress(TimeoutError):  # who is still busy then waits for a silent shim, which was told already
            async with asyncio.timeout(_SETTLE_SECONDS):
                await context.house.settle()
    context.house.stop(leave_mark=not request.restart)
    return Acknowledged()


async def disk_use(context: Context, asker: Asker, request: Nothing) -> DiskUse:
    """Bytes on disk by kind, and the largest runners."""
    return await asyncio.to_thread(measure, context.paths.state)


async def prune(context: Context, asker: Asker, request: Prune) -> Pruned:
    """Remove what is older than the retention."""
    age = context.config.retention.ended_runners if request.older_than_seconds is None else request.older_than_seconds
    if not request.dry_run:
        return await _prune(context, age, actor=str(asker))
    doomed = runners.list_prunable(context.rows, before=context.clock.now() - timedelta(seconds=age))
    held = (await asyncio.to_thread(measure, context.paths.state)).by_runner
    return Pruned(runners=len(doomed), events=0, bytes=sum(held.get(runner_id, 0) for runner_id in doomed))


async def keep_house(context: Context) -> None:
    """What the daemon does by itself now and then: the retention, and the cap on the output of all runners."""
    await _prune(context, context.config.retention.ended_runners, actor="daemon")
    await sweep(context)
    found = await asyncio.to_thread(measure, context.paths.state)
    if (excess := found.output_bytes - context.config.output.cap_total) > 0:
        await asyncio.to_thread(_shrink, runs.list_ended_logs(context.rows, context.paths.logs), excess)


async def sweep(context: Context) -> int:
    """Remove from the disk what belongs to runners that nobody knows; returns how many files and directories.

    Their launch was cut off before it was committed, or their removal after. Only what is older than this daemon, for
    a launch under way is not known yet; and younger than the database, for a new one may stand beside the output of
    that which was moved away.
    """
    traces = await asyncio.to_thread(runner_files.list_traces, context.paths)
    survey = await context.shims.survey()
    if not survey.answered >= set(os.listdir(context.paths.shims)):
        return 0  # One that is silent, or dead and not booked yet, may tell of a runner to take in.
    known = runners.list_ids(context.rows) | {key.partition(".")[0] for key in survey.held}
    strangers = [trace for trace in traces if runner_files.owner_of(trace) not in known]
    began, until = installation.began_at(context.rows), context.started_at
    removed = await asyncio.to_thread(runner_files.remove_traces, strangers, since=began, until=until)
    if removed:
        log.info("removed what belonged to runners that nobody knows", extra={"paths": removed})
    await asyncio.to_thread(runner_files.remove_empty_logs, context.paths, survey.answered)
    return removed


def _shrink(run_logs: Iterable[str], excess_bytes: int) -> None:
    """Remove output, from the first on, until so much is freed."""
    for run_log in run_logs:
        if excess_bytes <= 0:
            return
        excess_bytes -= runner_files.remove_log(run_log)


async def _prune(context: Context, age_seconds: float, *, actor: str) -> Pruned:
    keep, now = context.config.retention, context.clock.now()
    doomed = runners.list_prunable(context.rows, before=now - timedelta(seconds=age_seconds))
    freed = await forget(context, doomed, actor=actor) if doomed else 0
    removed = 0
    while batch := await context.write(
        lambda tx: events.prune(
            tx,
            before=now - timedelta(seconds=keep.events),
            keep_rows=keep.events_rows,
            at_most=_EVENTS_AT_ONCE,
            now=now,
        )
    ):
        removed += batch
    freed += await archiving.prune(context)
    return Pruned(runners=len(doomed), events=removed, bytes=freed)
