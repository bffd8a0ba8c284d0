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
from stratavore.ending import read_tail
from stratavore.errors import StratavoreError
from stratavore.model import Health, ShimId
from stratavore.process import Identity, Sampler, Usage
from stratavore.quotas import Quotas
from stratavore.store import samples, sessions
from stratavore.store.database import Tx
from stratavore.store.samples import Living, Sample
from stratavore.store.sessions import Conversation
from stratavore.writers import Neighbours

log = logging.getLogger(__name__)


class Look(NamedTuple):
    """What one look at a runner brought."""

    sample: Sample
    run_key: str
    news: Conversation | str | None
    """The conversation that it is in, if that is another than was known; or why it is not known, if that is new."""


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
        since = min(datetime.fromisoformat(row.started_at) for row in living)
        theirs = sessions.others_since(self._context.rows, since)
        holders, health = self._context.shims.pids(), self._context.shims.health()
        found = await asyncio.to_thread(self._measure, living, holders, health, theirs)

        def store(tx: Tx) -> None:
            samples.store(tx, [look.sample for look in found])
            for look in found:
                if look.news is not None:
                    sessions.follow(tx, look.run_key, look.news, now=look.sample.seen_at)

        await self._context.database.write(store)
        since = self._context.seen_since()
        await self._quotas.hold(since)
        await self._look_for_the_silent(since)

    async def _look_for_the_silent(self, since: datetime) -> None:
        """Reconcile if a runner that should live was not seen for as long as a heartbeat counts."""
        if silent := samples.list_silent(self._context.rows, since=since):
            log.warning("runners were not seen", extra={"runners": len(silent)})
            await self._context.house.reconcile()

    def _measure(
        self,
        living: Sequence[Living],
        holders: Set[int],
        health: Mapping[ShimId, str],
        theirs: Mapping[str, Set[str]],
    ) -> list[Look]:
        """One look at each; runs in a thread."""
        now = self._context.clock.now()
        roots = {row.id: Identity(row.boot_id, row.pid, row.start_time) for row in living}
        usage = self._sampler.sample(roots, holders)
        neighbours = Neighbours()
        return [
            self._look_at(
                row,
                usage[row.id],
                now,
                Health.OK if health.get(row.shim) == "ok" else Health.UNRESPONSIVE,
                frozenset(session_id for session_id, whose in theirs.items() if whose - {row.id}),
                neighbours,
            )
            for row in living
            if row.id in usage
        ]

    def _look_at(
        self,
        row: Living,
        used: Usage,
        now: datetime,
        health: Health,
        taken: frozenset[str],
        neighbours: Neighbours,
    ) -> Look:
        said = self._look_into(row, used, taken, neighbours)
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
        return Look(sample, row.key, _news(row, said))

    def _look_into(
        self, row: Living, used: Usage, taken: frozenset[str], neighbours: Neighbours
    ) -> Conversation | str | None:
        """What its agent's files say; a bug in reading those of one takes the heartbeat from nobody."""
        try:
            started_at, tail = datetime.fromisoformat(row.started_at), self._tail(row)
            return conversation.look(
                self._context, row.id, row.agent, started_at, used.members, taken, tail, neighbours
            )
        except Exception:
            log.exception("the files of an agent could not be looked at", extra={"run": row.key})
            return None

    def _tail(self, row: Living) -> str:
        """What a headless run printed last, while its conversation is not known: it may say it."""
        if row.tty or row.session_id is not None or row.agent == "shell":
            return ""
        return read_tail(self._context.paths.run_log(row.shim, row.key)).decode(errors="replace")

    def _output_bytes(self, row: Living) -> int | None:
        try:
            return os.stat(self._context.paths.run_log(row.shim, row.key)).st_size
        except OSError:
            return None


def _news(row: Living, found: Conversation | str | None) -> Conversation | str | None:
    """What of it is to be written down."""
    if isinstance(found, Conversation):
        return found if found.id != row.session_id or not row.has_lease else None
    return found if row.session_id is None and found != row.session_detail else None
