"""Memory and CPU quotas of projects: what happens when what was measured is over them.

Rule 1: that a quota is exceeded is an event, told when it begins, not at every look.
Rule 2: over quota, the runner that uses most of it is paused or stopped, one after the other, until it fits again.
Pausing frees no memory, it only ends the growth: for memory one runner is paused, and what then is a person's to say.
Rule 3: what a person wants of a runner holds against this.
"""

import logging
from collections.abc import Iterator
from datetime import datetime
from typing import Any

from stratavore import booking
from stratavore.context import Context
from stratavore.model import Desired, EndReason, OnQuota, Runner, RunnerState
from stratavore.store import events, runners, samples, supervision
from stratavore.store.database import Row, Rows, Tx
from stratavore.store.supervision import Supervised

log = logging.getLogger(__name__)

_RESOURCES = {"rss_bytes": "max_memory_bytes", "cpu_percent": "max_cpu_percent"}
_WORDS = {"rss_bytes": "bytes of memory", "cpu_percent": "% CPU"}


def exceeded(rows: Rows, since: datetime) -> Iterator[str]:
    """A line for each quota that is exceeded by what was measured since then."""
    for row in samples.by_project(rows, since=since):
        for used_name, limit_name in _RESOURCES.items():
            used, limit = row[used_name], row[limit_name]
            if used is not None and limit is not None and used > limit:
                yield f"project {row['name']} is over its quota: {used:.0f} of {limit:.0f} {_WORDS[used_name]}"


class Quotas:
    """Remembers which quotas are exceeded, and acts on them."""

    def __init__(self, context: Context) -> None:
        self._context = context
        self._exceeded: set[tuple[str, str]] = set()

    async def hold(self, since: datetime) -> None:
        """Compare what was measured since then with the quotas, and act as each project wants it."""
        for row in samples.by_project(self._context.rows, since=since):
            await self._hold(row, since)

    async def _hold(self, row: Row, since: datetime) -> None:
        for used_name, limit_name in _RESOURCES.items():
            used, limit = row[used_name], row[limit_name]
            mark = (row["name"], used_name)
            if used is None or limit is None or used <= limit:
                self._exceeded.discard(mark)
                continue
            begins = mark not in self._exceeded
            self._exceeded.add(mark)
            culprit = self._culprit(row["name"], used_name, OnQuota(row["on_quota"]), since)
            await self._act_on_excess(row, used_name, {"used": used, "limit": limit}, culprit, tell=begins)

    async def _act_on_excess(
        self, row: Row, resource: str, figures: dict[str, Any], culprit: Supervised | None, *, tell: bool
    ) -> None:
        action, now = OnQuota(row["on_quota"]), self._context.clock.now()
        told = {"resource": resource, **figures, "action": action.value, "runner": culprit and culprit.name}

        def act(tx: Tx) -> None:
            if tell or culprit is not None:
                events.append(tx, "project.quota_exceeded", row["name"], told, actor=booking.ACTOR, now=now)
            if culprit is None:
                return
            running = (Desired.RUNNING,)
            if action is OnQuota.PAUSE:
                gives_way = runners.want_unasked(tx, culprit.id, Desired.PAUSED, instead_of=running)
            else:
                gives_way = booking.stop_unasked(tx, culprit, EndReason.QUOTA, instead_of=running, now=now)
            if gives_way:
                why = {**culprit.whose(), "resource": resource, **figures, "action": action.value}
                events.append(tx, "runner.held_to_quota", culprit.id, why, actor=booking.ACTOR, now=now)

        if tell or culprit is not None:
            await self._context.write(act)
            log.warning("a quota is exceeded", extra={"project": row["name"], **told})
        if culprit is not None:
            self._context.wake([culprit.id])

    def _culprit(self, project: str, resource: str, action: OnQuota, since: datetime) -> Supervised | None:
        """Who is to be acted on: the one that uses most. Nobody while what was done before takes effect."""
        living = runners.list_runners(self._context.rows, project=project)
        if action is OnQuota.WARN or any(map(_is_giving_way, living)):
            return None
        is_paused = any(runner.state is RunnerState.PAUSED for runner in living)
        if action is OnQuota.PAUSE and resource == "rss_bytes" and is_paused:
            return None
        seen = [runner for runner in living if runner.seen_at is not None and runner.seen_at >= since]
        running = [runner for runner in seen if runner.state is RunnerState.RUNNING]
        ranked = sorted(running, key=lambda runner: getattr(runner, resource) or 0)
        return supervision.get_supervised(self._context.rows, ranked[-1].id) if ranked else None


def _is_giving_way(runner: Runner) -> bool:
    """Whether it is being stopped or paused right now."""
    is_wanted = runner.desired is Desired.RUNNING
    return runner.state is RunnerState.STOPPING or (runner.state is RunnerState.RUNNING and not is_wanted)
