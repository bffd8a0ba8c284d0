"""Heartbeats: measures every runner at each interval.

Rule 1: one pass over the process table serves all runners, in a thread of its own.
Rule 2: a sample is no event.
"""

import asyncio
import logging
import os
from collections.abc import Mapping, Sequence, Set
from datetime import datetime
from typing import NamedTuple

from stratavore import conversation
from stratavore.context import Context
from stratavore.errors import StratavoreError
from stratavore.model import Health, ShimId
from stratavore.process import Identity, Sampler, Usage
from stratavore.quotas import Quotas
from stratavore.store import runners, samples
from stratavore.store.database import Tx
from stratavore.store.samples import Living, Sample

log = logging.getLogger(__name__)


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
        self._quotas = Quotas(context)

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
        """Measure all living runners once, store it, and hold the projects to their quotas."""
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
        await self._quotas.hold(since)
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
