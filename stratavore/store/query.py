"""Asking the database: parameters in, dicts out.

Rule 1: a row is a dict by column name; the nouns turn it into their own Struct.
Rule 2: a question reads its rows to the end before it answers. No cursor stays open, so no snapshot holds the WAL back.
Rule 3: nothing here commits. A `Tx` lives inside a batch of the writer, a `Reader` cannot write.
"""

import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any, NoReturn, Protocol, Self

import apsw

Row = dict[str, Any]
Params = Mapping[str, Any] | Sequence[Any]


class NoRow(LookupError):
    """A question that must have exactly one answer had none, or several. A bug, unless the asker expects it."""


class Rows(Protocol):
    """Whatever can be asked: a transaction or a reader."""

    def one(self, sql: str, params: Params = ()) -> Row:
        """The only row. Raises NoRow when there is none, or more than one."""

    def one_or_none(self, sql: str, params: Params = ()) -> Row | None:
        """The only row, or None. Raises NoRow when there is more than one."""

    def all(self, sql: str, params: Params = ()) -> list[Row]:
        """Every row, in the order of the statement."""

    def tuples(self, sql: str, params: Params = ()) -> list[tuple[Any, ...]]:
        """Every row as a tuple of its columns: for many rows, a third of the time of dicts."""

    def scalar(self, sql: str, params: Params = ()) -> Any:
        """The first column of the first row; None when there is no row."""


class _Asked:
    """Rows over one connection, with one cursor that is always read to its end (rule 2)."""

    def __init__(self, connection: apsw.Connection, *, schema_is_fixed: bool) -> None:
        self._connection = connection
        self._cursor = connection.cursor()
        # The names of a statement's columns cost a quarter of a small query: they are kept as long as nobody else
        # can change the schema, which is the case in the process that has the writer.
        self._names: dict[str, tuple[str, ...]] | None = {} if schema_is_fixed else None

    def one(self, sql: str, params: Params = ()) -> Row:
        row = self.one_or_none(sql, params)
        if row is None:
            raise NoRow(f"no row: {sql}")
        return row

    def one_or_none(self, sql: str, params: Params = ()) -> Row | None:
        rows = self.all(sql, params)
        if len(rows) > 1:
            raise NoRow(f"{len(rows)} rows instead of one: {sql}")
        return rows[0] if rows else None

    def all(self, sql: str, params: Params = ()) -> list[Row]:
        cursor = self._run(sql, params)
        names = self._columns(sql, cursor)
        return [dict(zip(names, row, strict=True)) for row in self._fetch(cursor)]

    def tuples(self, sql: str, params: Params = ()) -> list[tuple[Any, ...]]:
        return self._fetch(self._run(sql, params))

    def scalar(self, sql: str, params: Params = ()) -> Any:
        found = self._fetch(self._run(sql, params))
        return found[0][0] if found else None

    def _run(self, sql: str, params: Params) -> apsw.Cursor:
        return self._cursor.execute(sql, params)

    def _fetch(self, cursor: apsw.Cursor) -> list[tuple[Any, ...]]:
        try:
            return cursor.fetchall()
        except UnicodeDecodeError as error:
            # Only whole strings are ever stored, so what cannot be read as one was damaged on the disk.
            raise apsw.exception_for(apsw.SQLITE_CORRUPT) from error

    def _columns(self, sql: str, cursor: apsw.Cursor) -> tuple[str, ...]:
        if self._names is not None and (known := self._names.get(sql)):
            return known
        try:
            names = tuple(column[0] for column in cursor.get_description())
        except apsw.ExecutionCompleteError:
            return ()  # It has no rows, so nobody needs the names.
        if self._names is not None:
            self._names[sql] = names
        return names


class Tx(_Asked):
    """The transaction of one write: every change is kept, or none is.

    A function that gets one must not end it (no COMMIT, no ROLLBACK), must not keep it, and must change nothing but the
    database: when a neighbour spoils the batch that they share, the function is run once more.
    """

    def __init__(self, connection: apsw.Connection, *, schema_is_fixed: bool) -> None:
        super().__init__(connection, schema_is_fixed=schema_is_fixed)
        self.memo: dict[str, Any] = {}
        """What was read or written in this batch and is asked for again and again. Whoever keeps something here is the
        only one who changes it; the writer forgets all of it at each begin and when it takes a job back."""

    def execute(self, sql: str, params: Params = ()) -> int:
        """Run one INSERT, UPDATE or DELETE; return how many rows it changed itself (not its triggers)."""
        self._fetch(self._run(sql, params))
        return self._connection.changes()

    def execute_many(self, sql: str, each: Iterable[Params]) -> int:
        """Run one statement for each of the parameters; return the rows changed, those of triggers too."""
        before = self._connection.total_changes()
        self._cursor.executemany(sql, each).fetchall()
        return self._connection.total_changes() - before

    def scalars(self, sql: str, each: Iterable[Params]) -> list[Any]:
        """Run one statement with RETURNING for each of the parameters; the first column of every row they return."""
        return [row[0] for row in self._cursor.executemany(sql, each).fetchall()]

    def last_insert_id(self) -> int:
        """The rowid of the newest inserted row."""
        return self._connection.last_insert_rowid()


class Reader(_Asked):
    """A read-only connection of one thread. Each question is a snapshot of its own, unless inside `snapshot()`."""

    def __init__(
        self, connection: apsw.Connection, *, schema_is_fixed: bool, explain: Callable[[Exception], Exception]
    ) -> None:
        super().__init__(connection, schema_is_fixed=schema_is_fixed)
        self._explain = explain
        self._snapshot_since: float | None = None

    @contextmanager
    def snapshot(self) -> Iterator[None]:
        """Answer everything inside from one moment of the database. Never await in it: the WAL grows meanwhile."""
        self._run("BEGIN", ())
        self._snapshot_since = time.monotonic()
        try:
            yield
        finally:
            self._snapshot_since = None
            self._run("ROLLBACK", ())

    @property
    def snapshot_seconds(self) -> float:
        """How long the current snapshot has been held; 0 without one."""
        since = self._snapshot_since
        return time.monotonic() - since if since is not None else 0.0

    def close(self) -> None:
        self._connection.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def _run(self, sql: str, params: Params) -> apsw.Cursor:
        try:
            return super()._run(sql, params)
        except apsw.Error as error:
            self._raise(error)

    def _fetch(self, cursor: apsw.Cursor) -> list[tuple[Any, ...]]:
        try:
            return super()._fetch(cursor)
        except apsw.Error as error:
            self._raise(error)

    def _raise(self, error: apsw.Error) -> NoReturn:
        # An attempt to write is a bug of the asker: the disk has no part in it.
        fault = error if isinstance(error, apsw.ReadOnlyError) else self._explain(error)
        if fault is error:
            raise error
        raise fault from error
