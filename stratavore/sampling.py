"""Heartbeats: measures every runner at each interval, and acts on memory and CPU quotas.

Rule 1: one pass over the process table serves all runners, in a thread of its own.
Rule 2: a sample is no event. That a quota is exceeded is one, told when it begins, not at every look.
Rule 3: over quota, the runner that uses most of it is paused or stopped, one after the other, until it fits again.
Pausing frees no memory, it only ends the growth: for memory one runner is paused, and what then is a person's to say.
"""

import asyncio
import logging
import os
from collections.abc import Mapping, Sequence, Set
from datetime import datetime
from typing import Any, NamedTuple

from stratavore import booking, conversation
from stratavore.context import Context
from stratavore.errors import StratavoreError
from stratavore.model import Desired, EndReason, Health, OnQuota, Runner, RunnerState, ShimId
from stratavore.process import Identity, Sampler, Usage
from stratavore.store import events, runners, samples, supervision
from stratavore.store.database import Row, Tx
from stratavore.store.samples import Living, Sample
from stratavore.store.supervision import Supervised

log = logging.getLogger(__name__)

_RESOURCES = {"rss_bytes": "max_memory_bytes", "cpu_percent": "max_cpu_percent"}


class Look(NamedTuple):
    """What one look at a runner brought."""

    sample: Sample
    new_session_id: str | None
    """The conversation it is in, if that is another than was known."""


class Sampling:
    """The loop that looks at the runners."""

    def __init__(self, context: Context) -> None:
        self._context = context
        self._sampler = Sampler()
        self._exceeded: set[tuple[str, str]] = set()

    async def run(self) -> None:
        """Look at every interval, until cancelled."""
        while True:
            try:
                await self.look()
            except StratavoreError as error:
                log.warning("no samples were stored", extra={"why": error.message})
            except Exception:
                log.exception("a look at the runners failed")
            await asyncio.sleep(self._context.config.supervision.sample_interval)

    async def look(self) -> None:
        """Measure all living runners once, store it, and act on quotas."""
        living = samples.list_living(self._context.rows)
        if not living:
            return
        holders, health = self._context.shims.pids(), self._context.shims.health()
        found = await asyncio.to_thread(self._measure, living, holders, health)

        def store(tx: Tx) -> None:
            samples.store(tx, [look.sample for look in found])
            for look in found:
                if look.new_session_id is not None:
                    runners.set_session(tx, look.sample.runner_id, look.new_session_id)

        await self._context.database.write(store)
        since = self._context.seen_since()
        for row in samples.by_project(self._context.rows, since=since):
            await self._hold_to_quota(row, since)
        await self._look_for_the_silent(since)

    async def _look_for_the_silent(self, since: datetime) -> None:
        """Reconcile if a runner that should live was not seen for as long as a heartbeat counts."""
        if silent := samples.list_silent(self._context.rows, since=since):
            log.warning("runners were not seen", extra={"runners": len(silent)})
            await self._context.house.reconcile()

    def _measure(self, living: Sequence[Living], holders: Set[int], health: Mapping[ShimId, str]) -> list[Look]:
        """One look at each; runs in a thread."""
        now = self._context.clock.now()
        roots = {row.id: Identity(row.boot_id, row.pid, row.start_time) for row in living}
        usage = self._sampler.sample(roots, holders)
        taken = frozenset(row.session_id for row in living if row.session_id is not None)
        return [
            self._look_at(
                row,
                usage[row.id],
                now,
                Health.OK if health.get(row.shim) == "ok" else Health.UNRESPONSIVE,
                taken,
            )
            for row in living
            if row.id in usage
        ]

    def _look_at(self, row: Living, used: Usage, now: datetime, health: Health, taken: frozenset[str]) -> Look:
        said = self._said(row, used, taken)
        sample = Sample(
            runner_id=row.id,
            seen_at=now,
            cpu_percent=used.cpu_percent,
            rss_bytes=used.rss_bytes,
            threads=used.threads,
            children=used.children,
            output_bytes=self._output_bytes(row),
            activity=said.activity,
            health=health,
        )
        return Look(sample, None if said.session_id == row.session_id else said.session_id)

    def _said(self, row: Living, used: Usage, taken: frozenset[str]) -> conversation.Said:
        """What its agent's files say; a bug in reading those of one takes the heartbeat from nobody."""
        try:
            others, started_at = taken - {row.session_id}, datetime.fromisoformat(row.started_at)
            return conversation.look(self._context, row.id, row.agent, started_at, used.members, others)
        except Exception:
            log.exception("the files of an agent could not be looked at", extra={"run": row.key})
            return conversation.Said()

    def _output_bytes(self, row: Living) -> int | None:
        try:
            return os.stat(self._context.paths.run_log(row.shim, row.key)).st_size
        except OSError:
            return None

    async def _hold_to_quota(self, row: Row, since: datetime) -> None:
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
            why = {**culprit.whose(), "resource": resource, **figures, "action": action.value}
            events.append(tx, "runner.held_to_quota", culprit.id, why, actor=booking.ACTOR, now=now)
            running = (Desired.RUNNING,)
            if action is OnQuota.PAUSE:
                runners.want_unasked(tx, culprit.id, Desired.PAUSED, instead_of=running)
                return
            booking.stop_unasked(tx, culprit, EndReason.QUOTA, instead_of=running, now=now)

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
