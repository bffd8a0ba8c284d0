"""The database: one writer with group commit, any number of readers.

Rule 1: exactly one connection writes and checkpoints; it belongs to the writer's thread. All others are read-only.
Rule 2: a write is a plain function of a `Tx`. It is answered after its COMMIT returned, never before.
Rule 3: when the disk refuses, writes are refused with the reason, and nothing is lost that was answered before.
Rule 4: a damaged file is copied to quarantine and not touched again; no WAL is ever deleted by us.
"""

import asyncio
import concurrent.futures
import threading
import weakref
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Any, Self, TypeVar

import apsw

from stratavore.errors import Corrupt, DaemonUnreachable, NotFound
from stratavore.model import Durability
from stratavore.store import backup, faults
from stratavore.store.connect import (
    connect_reader,
    connect_writer,
    keep_wal_at_close,
    schema_version,
    settle,
)
from stratavore.store.health import Condition, Health, Stats
from stratavore.store.jobs import Job
from stratavore.store.migrate import Migration, migrate, migrations_in, refuse_newer
from stratavore.store.place import prepare
from stratavore.store.quarantine import quarantine
from stratavore.store.query import NoRow, Params, Reader, Row, Rows, Tx
from stratavore.store.writer import BUSY_PATIENCE_SECONDS, Writer

__all__ = [
    "MIGRATIONS",
    "Condition",
    "Database",
    "Durability",
    "Health",
    "NoRow",
    "Params",
    "Reader",
    "Row",
    "Rows",
    "Stats",
    "Tx",
    "open_readonly",
]

T = TypeVar("T")
MIGRATIONS = Path(__file__).with_name("migrations")


class Database:
    """An open database. `open` makes one; `close` answers what is queued and ends the writer.

    The caller holds the lock of the state directory (`store.lock`) as long as it is open.
    """

    def __init__(self, path: Path, writer: Writer) -> None:
        self.path = path
        self._writer = writer
        self._own = threading.local()
        self._readers: weakref.WeakSet[Reader] = weakref.WeakSet()

    @classmethod
    def open(
        cls,
        path: Path,
        *,
        durability: Durability = Durability.FULL,
        migrations: Path = MIGRATIONS,
        check: bool = False,
        on_health: Callable[[Health], None] | None = None,
        busy_patience_seconds: float = BUSY_PATIENCE_SECONDS,
    ) -> Self:
        """Open `path` for writing, create it if need be, and bring its schema up to date.

        `check` runs a `quick_check` first: asked for after a reboot or a fault. `on_health` is told every change of
        condition, in the writer's thread. On `failed` the daemon has to end, and to ask for a check at its next start.

        Raises:
            Misconfigured: the place cannot be used, or holds something else.
            NewerSchema: a newer program wrote it; nothing was changed.
            Corrupt: it is damaged; a copy is in quarantine, nothing else was changed.
            Degraded, StorageFailed: the disk refuses.
        """
        try:
            connection = _opened(path, durability, migrations, check=check)
        except (apsw.Error, OSError, Corrupt) as error:
            fault = _explained(error, path)
            if isinstance(fault, Corrupt):
                fault = quarantine(path, fault.message)
            if fault is error:
                raise
            raise fault from error
        return cls(path, Writer(path, connection, on_health=on_health, busy_patience_seconds=busy_patience_seconds))

    async def write(self, fn: Callable[[Tx], T]) -> T:
        """Run `fn` in the next batch; return what it returned, or raise what it raised, after the commit.

        A cancelled asker may have been too late: the write stands if it was committed.

        Raises:
            Degraded, StorageFailed, Corrupt: nothing of it is stored; after StorageFailed that is not sure.
        """
        loop = asyncio.get_running_loop()
        future: asyncio.Future[Any] = loop.create_future()
        self._writer.submit(Job(fn, future, loop))
        return await future  # type: ignore[no-any-return]

    def write_blocking(self, fn: Callable[[Tx], T]) -> T:
        """The same from a plain thread. Never call it on an event loop, nor in a function that is given to `write`."""
        future: concurrent.futures.Future[Any] = concurrent.futures.Future()
        self._writer.submit(Job(fn, future, None))
        return future.result()  # type: ignore[no-any-return]

    def reader(self) -> Reader:
        """The read-only connection of the calling thread, kept until the thread or the database ends."""
        reader: Reader | None = getattr(self._own, "reader", None)
        if reader is None:
            self._writer.place.verify()
            try:
                reader = Reader(connect_reader(self.path), schema_is_fixed=True, explain=self._explain)
            except apsw.Error as error:
                raise self._explain(error) from error
            self._own.reader = reader
            self._readers.add(reader)
        return reader

    @property
    def health(self) -> Health:
        """Whether it takes writes, and if not, why."""
        return self._writer.health

    def recheck(self) -> Health:
        """Try now whether a degraded database takes writes again; by itself it tries every 5 seconds."""
        self._writer.probe()
        return self.health

    def stats(self) -> Stats:
        """The figures for metrics and `status`."""
        counts, checkpoints = self._writer.counts, self._writer.checkpoints
        return Stats(
            writes=counts.writes,
            commits=counts.commits,
            refused=counts.refused,
            commit_seconds=counts.commit_seconds,
            slowest_commit_seconds=counts.slowest_commit_seconds,
            largest_batch=counts.largest_batch,
            checkpoints=checkpoints.done,
            checkpoint_busy=checkpoints.busy,
            wal_bytes=checkpoints.wal_bytes,
            queued=self._writer.queued,
            longest_snapshot_seconds=max((reader.snapshot_seconds for reader in list(self._readers)), default=0.0),
        )

    def check(self, *, full: bool = False) -> list[str]:
        """What is wrong with the file, empty if nothing: `quick_check`, or every row, index and foreign key."""
        self._writer.place.verify()
        try:
            return backup.check(self.path, full=full)
        except apsw.Error as error:
            raise self._explain(error) from error

    def backup_to(self, target: Path) -> None:
        """Write a copy to `target` that holds all that was answered before, and has passed `integrity_check`.

        It blocks its thread, not the writer.

        Raises:
            Degraded, StorageFailed: there is no room, the disk failed, or the database was moved away; `target` is as
                it was.
            Corrupt: the database is damaged.
        """
        self._writer.place.verify()
        try:
            backup.backup(self.path, target)
        except (apsw.Error, OSError) as error:
            raise faults.explain(error, target) from error

    def close(self) -> None:
        """Answer what is queued, move the WAL into the file, close every connection. May be called twice."""
        for reader in list(self._readers):
            with suppress(apsw.Error):  # A thread is in the middle of a question.
                reader.close()
        self._writer.close()

    def _explain(self, error: Exception) -> Exception:
        fault = _explained(error, self.path)
        if isinstance(fault, Corrupt):
            self._writer.condemn(fault)
        return fault


def open_readonly(path: Path, *, migrations: Path = MIGRATIONS) -> Reader:
    """A reader of the database while no daemon runs; close it.

    What a crash left in the WAL is read too: SQLite rebuilds its index, the shm file, for a reader as for a writer.

    Raises:
        NotFound: there is no database, or nothing was ever written to it.
        NewerSchema: a newer program wrote it.
        DaemonUnreachable: an older program wrote it, and only the daemon migrates.
        Corrupt, Degraded, StorageFailed: it cannot be read.
    """
    try:
        connection = connect_reader(path)
        try:
            known = migrations_in(migrations)
            refuse_newer(connection, known, path)
            _refuse_older(connection, known, path)
        except BaseException:
            connection.close()
            raise
    except (apsw.Error, OSError) as error:
        raise faults.explain(error, path) from error
    return Reader(connection, schema_is_fixed=False, explain=lambda error: _explained(error, path))


def _opened(path: Path, durability: Durability, migrations: Path, *, check: bool) -> apsw.Connection:
    """A connection that is ready for the writer."""
    prepare(path)
    connection = connect_writer(path)
    try:
        known = migrations_in(migrations)
        refuse_newer(connection, known, path)
        if check and (problems := backup.check_connection(connection, full=False)):
            raise Corrupt(f"{path} is damaged: {problems[0]}")
        settle(connection, durability)
        migrate(connection, known, path)
    except BaseException:
        keep_wal_at_close(connection, True)
        connection.close()
        raise
    return connection


def _refuse_older(connection: apsw.Connection, known: list[Migration], path: Path) -> None:
    version = schema_version(connection)
    if version == 0:
        raise NotFound(f"nothing was ever recorded in {path}", remedy="`stratavore up` begins")
    if version < len(known):
        raise DaemonUnreachable(f"{path} has schema {version}; the daemon brings it to {len(known)} when it starts")


def _explained(error: Exception, path: Path) -> Exception:
    """`error` in a user's words when it is the storage's; any other is a bug, and stays what it is."""
    if isinstance(error, OSError) or faults.is_of_storage(error):
        return faults.explain(error, path)
    return error
