"""A ledger that is kept over a directory of Claude's, without the rest of the daemon."""

import asyncio
import contextlib
import os
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager
from datetime import UTC
from pathlib import Path
from typing import Any, cast

from stratavore.activity import Board
from stratavore.agents.records import Limit, Note
from stratavore.clock import SystemClock
from stratavore.config import Config
from stratavore.context import Context
from stratavore.daemon import Daemon
from stratavore.ledger.ingest import Ingest
from stratavore.ledger.prices import Prices
from stratavore.model import Usage, UsageBy
from stratavore.paths import Paths
from stratavore.shims import Shims
from stratavore.store import installation, usage_report
from stratavore.store.database import Database, Row
from stratavore.waiting import Holds, News, Turns
from tests.books import NOW
from tests.ledger.transcripts import Counts

_CLASSES = ("input", "output", "cache_write_5m", "cache_write_1h", "cache_read")
COLUMNS = ", ".join(f"{name}_tokens" for name in _CLASSES)


class Keeper:
    """A database, and the loop that keeps its ledger. `home` is the account directory that it looks into."""

    def __init__(self, state: Path, home: Path) -> None:
        self.home = home
        self.paths = Paths(state, state / "config.toml")
        self.notes: list[Note | Limit] = []
        self.charged = 0
        self._state = state
        self._task: asyncio.Task[None] | None = None

    async def start(self, config: Config | None = None) -> None:
        for directory in (self._state, self.paths.environments, self.paths.runners):
            directory.mkdir(mode=0o700, parents=True, exist_ok=True)
        self.database = Database.open(self.paths.database)
        await self.database.write(lambda tx: installation.begin(tx, "boot", now=NOW.replace(year=2020)))
        clock = SystemClock()
        shims = cast(Shims, None)
        daemon, now, config = Daemon(), clock.now(), config or Config()
        prices = Prices(config.prices)
        board, holds, turns = Board(clock.now), Holds(), Turns()
        self.context = Context(
            config, self.paths, self.database, shims, clock, News(), daemon, now, board, holds, turns, prices
        )
        self.ingest = Ingest(self.context, self._on_notes, self._on_charged)
        self._task = asyncio.create_task(self.ingest.run())

    async def stop(self) -> None:
        if self._task is not None:
            self._task.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await self._task
            self._task = None
            self.database.close()

    async def restart(self) -> None:
        await self.stop()
        await self.start()

    async def caught_up(self) -> None:
        """Everything that stands in the files now is booked."""
        await asyncio.wait_for(self.ingest.catch_up(), 30)

    async def do(self, sql: str, *values: Any) -> None:
        """Change rows behind the ledger's back."""
        await self.database.write(lambda tx: tx.execute(sql, values))

    def calls(self) -> dict[str, Counts]:
        """The ledger's calls with their classes."""
        return {row[0]: row[1:] for row in self.database.reader().tuples(f"SELECT key, {COLUMNS} FROM usage")}

    def rows(self, sql: str) -> list[Row]:
        return self.database.reader().all(sql)

    def scalar(self, sql: str) -> Any:
        return self.database.reader().scalar(sql)

    def usage(self, by: UsageBy, **asked: Any) -> Usage:
        return usage_report.report(self.database.reader(), by, zone=UTC, **asked)

    def _on_notes(self, agent: str, home: Path, notes: Sequence[Note | Limit]) -> None:
        self.notes += notes

    def _on_charged(self) -> None:
        self.charged += 1


@asynccontextmanager
async def keeping(directory: Path, environ: Mapping[str, str] | None = None) -> AsyncIterator[Keeper]:
    """One that looks into `directory/home`, where Claude is told to keep its files."""
    home = directory / "home"
    home.mkdir(exist_ok=True)
    keeper = Keeper(directory / "state", home)
    variables = {"CLAUDE_CONFIG_DIR": str(home), "HOME": str(directory), **(environ or {})}
    before = {name: os.environ.get(name) for name in variables}
    os.environ.update(variables)
    await keeper.start()
    try:
        yield keeper
    finally:
        await keeper.stop()
        for name, value in before.items():
            os.environ.pop(name) if value is None else os.environ.update({name: value})
