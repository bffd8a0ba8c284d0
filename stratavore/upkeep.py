"""The verbs that keep house: compare, measure the disk, throw away what is old."""

import os
from datetime import timedelta
from pathlib import Path

from stratavore.context import Asker, Context
from stratavore.model import Acknowledged, DiskUse, Pruned, Reconciled
from stratavore.protocol import Nothing, Prune, StopDaemon
from stratavore.runners import forget
from stratavore.store import events, runners

_EVENTS_AT_ONCE = 500


async def reconcile(context: Context, asker: Asker, request: Nothing) -> Reconciled:
    """Compare what is recorded with what runs, and act until they agree."""
    return await context.house.reconcile()


async def stop_daemon(context: Context, asker: Asker, request: StopDaemon) -> Acknowledged:
    """End the daemon after this answer."""
    context.house.stop(leave_mark=not request.restart)
    return Acknowledged()


async def disk_use(context: Context, asker: Asker, request: Nothing) -> DiskUse:
    """Bytes on disk by kind, and the largest runners."""
    return measure(context.paths.state)


async def prune(context: Context, asker: Asker, request: Prune) -> Pruned:
    """Remove what is older than the retention."""
    keep = context.config.retention
    now = context.clock.now()
    age = keep.ended_runners if request.older_than_seconds is None else request.older_than_seconds
    doomed = runners.list_prunable(context.rows, before=now - timedelta(seconds=age))
    if request.dry_run:
        held = measure(context.paths.state).by_runner
        return Pruned(runners=len(doomed), events=0, bytes=sum(held.get(runner_id, 0) for runner_id in doomed))
    freed = await forget(context, doomed, actor=str(asker))
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
    return Pruned(runners=len(doomed), events=removed, bytes=freed)


def measure(state: Path) -> DiskUse:
    """What the state directory holds, in bytes on disk: holes do not count."""
    database = output = other = 0
    by_runner: dict[str, int] = {}
    for directory, _, names in os.walk(state):
        for name in names:
            try:
                size = os.lstat(os.path.join(directory, name)).st_blocks * 512
            except OSError:
                continue
            if directory == str(state) and name.startswith("state.db"):
                database += size
            elif directory.startswith(str(state / "logs")):
                output += size
                runner_id = name.partition(".")[0]
                by_runner[runner_id] = by_runner.get(runner_id, 0) + size
            else:
                other += size
    return DiskUse(database_bytes=database, output_bytes=output, other_bytes=other, by_runner=by_runner)
