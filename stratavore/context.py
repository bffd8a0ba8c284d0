"""What a verb needs of the daemon: built once by the composition root, handed to every verb."""

import asyncio
from collections.abc import Callable, Collection, Sequence
from datetime import datetime, timedelta
from pathlib import Path
from typing import NamedTuple, Protocol, TypeVar

from stratavore.activity import Board
from stratavore.agents import Telemetry
from stratavore.booking import Moment
from stratavore.cgroups import Limits, LimitsByShim
from stratavore.clock import Clock, chance
from stratavore.config import Config
from stratavore.imports import Imports
from stratavore.model import ImportProgress, Reconciled, ShimId
from stratavore.paths import Paths
from stratavore.process import boot_id
from stratavore.restart import Pace
from stratavore.shims import Shims
from stratavore.store.database import Database, Rows, Tx
from stratavore.store.usage import Prices
from stratavore.waiting import Holds, News, Turns

T = TypeVar("T")

_limits = LimitsByShim()


_TURNS_TO_BEGIN = 3
"""Turns of the loop: the supervisor reads the rows, its actions run, what they ask goes out to the shims."""


class Ledger(Protocol):
    """What a verb may ask of the loop that reads the agents' files."""

    def poke(self, runner_id: str) -> None:
        """Look at the files of that runner now."""

    async def bring_in(
        self, found: Sequence[tuple[str, Path]], on_progress: Callable[[ImportProgress], None]
    ) -> ImportProgress:
        """Read these account directories, each with its kind of agent, whole; returns how it ended."""


class House(Protocol):
    """What a verb may ask of the daemon itself."""

    @property
    def ledger(self) -> Ledger: ...
    @property
    def imports(self) -> Imports: ...

    def wake(self, runner_ids: Collection[str]) -> None:
        """Have the supervisor look at these runners soon."""

    async def reconcile(self) -> Reconciled:
        """Compare everything with everything, and act until it agrees."""

    async def settle(self) -> None:
        """Wait until the supervisor has acted on what it knows."""

    def telemetry(self, runner_id: str) -> Telemetry | None:
        """What the agent of a runner needs to export its calls; None if nobody listens."""

    def judge(self) -> None:
        """Have it looked at soon who may go on: a budget changed, or what was used."""

    async def judged(self) -> None:
        """The same, and return once that was done, or after some seconds: what is told then is true."""

    def stop(self, *, leave_mark: bool) -> None:
        """End the daemon soon; with the mark, nothing but a person starts it again."""


class Context(NamedTuple):
    """The parts of a running daemon."""

    config: Config
    paths: Paths
    database: Database
    shims: Shims
    clock: Clock
    news: News
    house: House
    started_at: datetime
    activity: Board
    held: Holds
    copying: Turns
    """Copies of one conversation."""
    price: Prices
    """What a call of a model costs."""

    def wake(self, runner_ids: Collection[str]) -> None:
        """Tell the supervisor that these runners changed."""
        self.house.wake(runner_ids)

    async def wake_and_begin(self, runner_ids: Collection[str]) -> None:
        """The same, and let it begin: to tell of a thousand in an answer takes longer than to act on them."""
        self.wake(runner_ids)
        for _ in range(_TURNS_TO_BEGIN):
            await asyncio.sleep(0)

    @property
    def rows(self) -> Rows:
        """For reading; on the loop's thread only."""
        return self.database.reader()

    def limits_around(self, shim: ShimId) -> Limits | None:
        """The hard limits that can be set where that shim lives; None if there are none."""
        pid = self.shims.pid_of(shim)
        return None if pid is None else _limits.around(shim, pid)

    def limits(self) -> str:
        """Whether memory and CPU quotas are more than watched, in words."""
        around = [self.limits_around(shim) for shim in self.shims.health()]
        found = [limits for limits in around if limits is not None]
        if not around:
            return "unknown: no holder lives yet"
        if len(found) < len(around):
            return "soft: quotas are only watched, for systemd delegated no cgroup to the holders"
        return "hard" if all(limits.holds_cpu for limits in found) else "hard for memory, soft for CPU"

    async def write(self, fn: Callable[[Tx], T]) -> T:
        """Run `fn` in a transaction; returns what it returned once that is durable, and tells the news."""
        result = await self.database.write(fn)
        self.news.tell()
        return result

    @property
    def pace(self) -> Pace:
        """The configured backoff."""
        runners = self.config.runners
        return Pace(runners.backoff_first, runners.backoff_max, runners.backoff_jitter, runners.healthy_after)

    def seen_since(self) -> datetime:
        """A runner that was seen before that moment is not seen now."""
        return self.clock.now() - timedelta(seconds=self.config.supervision.heartbeat_ttl)

    def moment(self) -> Moment:
        """Now, for booking."""
        return Moment(self.clock.now(), self.clock.boottime(), boot_id(), chance())


class Asker(NamedTuple):
    """Who asks: its uid and pid from the socket, and the runner in whose process tree it lives, if any."""

    channel: str
    uid: int
    pid: int
    runner: str | None

    def __str__(self) -> str:
        inside = f" runner={self.runner}" if self.runner else ""
        return f"{self.channel} uid={self.uid} pid={self.pid}{inside}"
