"""Rows: the store alone: events that are durable when their asker is answered, also on a slow disk.

The floor is a bare loop over SQLite with the same pragmas: a table, an insert, a commit.
"""

import asyncio
import time
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path

import apsw

from benchmarks.bench import Bench
from benchmarks.machine import syncs
from benchmarks.rows import Better, Figure, Row, Target
from stratavore.store import events, installation
from stratavore.store.database import Database, Tx

_ASKERS = 256
_PAYLOAD = {"text": "x" * 200}
_SLOW_SECONDS = 0.005
_TARGET = Target("≥ 5,000/s", 5000)


def rows(bench: Bench) -> Iterator[Row]:
    if not bench.wants("store", "store-commits", "store-events", "store-slow"):
        return
    told = f"fdatasync in this run: {syncs(bench.place())}"
    seconds = bench.scale.store_seconds
    if bench.wants("store", "store-commits"):
        ours, floor = _events_a_second(bench, 1), _bare(bench.place(), 1, seconds)
        yield _row("store-commits", "one asker, an event a commit", ours, floor, None, told)
    if bench.wants("store", "store-events"):
        ours, floor = _events_a_second(bench, _ASKERS), _bare(bench.place(), _ASKERS, seconds)
        yield _row("store-events", f"{_ASKERS} askers, an event each, at once", ours, floor, _TARGET, told)
    if bench.wants("store", "store-slow"):
        with slow_disk(_SLOW_SECONDS):
            ours, floor = _events_a_second(bench, _ASKERS), _bare(bench.place(), _ASKERS, seconds)
        what = f"the same, each sync {1000 * _SLOW_SECONDS:g} ms slower"
        yield _row("store-slow", what, ours, floor, _TARGET, told)


def _row(name: str, what: str, ours: tuple[Figure, str], floor: Figure, target: Target | None, told: str) -> Row:
    rate, batches = ours
    return Row(
        name=name,
        what=f"durable events of 200 B: {what}",
        unit="/s",
        better=Better.HIGHER,
        ours=rate,
        floor=floor,
        floor_is="bare inserts, as many to a commit as there are askers",
        target=target,
        notes=(batches, told),
    )


def _events_a_second(bench: Bench, askers: int) -> tuple[Figure, str]:
    """So many askers, each of which waits for the commit of its event and then brings the next."""
    database = Database.open(bench.place() / "state.db")
    try:
        database.write_blocking(lambda tx: installation.begin(tx, "boot", now=datetime.now(UTC)))
        before = database.stats()
        began = time.perf_counter()
        asyncio.run(_ask(database, askers, bench.scale.store_seconds))
        seconds = time.perf_counter() - began
        after = database.stats()
    finally:
        database.close()
    written, commits = after.writes - before.writes, after.commits - before.commits
    batches = f"{commits / seconds:.0f} commits/s, {written / commits:.0f} events to a commit"
    return Figure.of([written / seconds]), batches


async def _ask(database: Database, askers: int, seconds: float) -> None:
    until = time.perf_counter() + seconds

    async def asker(number: int) -> None:
        def append(tx: Tx) -> None:
            events.append(tx, "runner.talked", f"r{number}", _PAYLOAD, actor="benchmark", now=datetime.now(UTC))

        while time.perf_counter() < until:
            await database.write(append)

    await asyncio.gather(*(asker(number) for number in range(askers)))


def _bare(place: Path, batch: int, seconds: float) -> Figure:
    connection = apsw.Connection(str(place / "bare.db"))
    try:
        for name, value in (("journal_mode", "WAL"), ("synchronous", 2)):
            connection.pragma(name, value)
        connection.execute("CREATE TABLE events (seq INTEGER PRIMARY KEY, id TEXT, payload TEXT)")
        written, began = 0, time.perf_counter()
        while time.perf_counter() - began < seconds:
            connection.execute("BEGIN IMMEDIATE")
            for _ in range(batch):
                connection.execute("INSERT INTO events (id, payload) VALUES (?, ?)", ("x" * 26, "x" * 211))
            connection.execute("COMMIT")
            written += batch
        return Figure.of([written / (time.perf_counter() - began)])
    finally:
        connection.close()


@contextmanager
def slow_disk(seconds: float) -> Iterator[None]:
    """Every sync of SQLite in this process takes so much longer, on connections opened meanwhile."""

    class File(apsw.VFSFile):
        def xSync(self, flags: int) -> None:  # noqa: N802 - SQLite's name
            time.sleep(seconds)
            super().xSync(flags)

    class Disk(apsw.VFS):
        def xOpen(self, name: str | apsw.URIFilename | None, flags: list[int]) -> File:  # noqa: N802
            return File("unix", name, flags)

    disk = Disk("slow", "unix", makedefault=True)
    try:
        yield
    finally:
        disk.unregister()
