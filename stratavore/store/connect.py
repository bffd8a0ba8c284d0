"""Connections to the database, with every pragma that a promise rests on.

Rule 1: a pragma is set and then read back; a word that did not stick stops the start.
Rule 2: until the file is known to be ours and not newer than we are, nothing in it changes, not even at closing.
"""

from collections.abc import Mapping
from pathlib import Path

import apsw

from stratavore.errors import Degraded, Misconfigured, NotFound
from stratavore.model import Durability

APPLICATION_ID = 0x53545241  # "STRA"
BUSY_MS = 5000
PAGE_BYTES = 4096
READER_BUSY_MS = 2000

_SYNCHRONOUS: Mapping[Durability, int] = {Durability.FULL: 2, Durability.NORMAL: 1}

_PRAGMAS: Mapping[str, int] = {
    "fullfsync": 1,
    "checkpoint_fullfsync": 1,
    "foreign_keys": 1,
    "recursive_triggers": 1,
    "trusted_schema": 0,
    "busy_timeout": BUSY_MS,
    "cell_size_check": 1,
    "mmap_size": 0,  # A failing disk must be an error code, not SIGBUS.
    "temp_store": 2,
    "cache_size": -2000,
    "journal_size_limit": 64 * 1024 * 1024,
    "wal_autocheckpoint": 0,  # The writer checkpoints when nobody waits.
}


def sqlite_version() -> tuple[int, ...]:
    """The version of the SQLite that is linked, such as (3, 54, 1)."""
    return tuple(int(part) for part in apsw.sqlite_lib_version().split("."))


def is_free_of_wal_reset_bug(version: tuple[int, ...]) -> bool:
    """Whether this SQLite cannot lose a commit when two connections checkpoint at once (https://sqlite.org/wal.html).

    Fixed in 3.51.3, and carried back to 3.50.7 and 3.44.6.
    """
    return version >= (3, 51, 3) or (3, 50, 7) <= version < (3, 51) or (3, 44, 6) <= version < (3, 45)


def connect_writer(path: Path) -> apsw.Connection:
    """A connection that has only read yet (rule 2); `settle` makes it the writer.

    Raises:
        Misconfigured: the file is a database of something else.
        Degraded: the disk is read-only.
        apsw.Error: it is damaged, or the disk refuses.
    """
    connection = apsw.Connection(str(path), apsw.SQLITE_OPEN_READWRITE, statementcachesize=1024)
    try:
        _plan_once(connection)
        keep_wal_at_close(connection, True)
        connection.set_busy_timeout(BUSY_MS)
        if connection.readonly("main"):
            # SQLite makes do with less than was asked for; a writer cannot.
            raise Degraded(f"{path} cannot be written: it, or its file system, is read-only")
        found = _pragma(connection, "application_id")
        if found != APPLICATION_ID and (found != 0 or not _is_blank(connection)):
            raise Misconfigured(
                f"{path} is not a database of Stratavore", remedy="move it away, or set STRATAVORE_HOME"
            )
    except BaseException:
        connection.close()
        raise
    return connection


def settle(connection: apsw.Connection, durability: Durability) -> None:
    """Set and check every pragma; mark the file as ours if it is new.

    Raises:
        Misconfigured: one did not stick, as on a file system without shared memory.
    """
    if _pragma(connection, "application_id") != APPLICATION_ID:
        # The first two only take before the first table is made. Each is a write of its own; a power loss between
        # them leaves a blank file, which is begun again.
        connection.pragma("page_size", PAGE_BYTES)
        connection.pragma("auto_vacuum", 2)
        connection.pragma("application_id", APPLICATION_ID)
    if (mode := connection.pragma("journal_mode", "WAL")) != "wal":
        raise Misconfigured(
            f"the file system of {connection.filename} cannot keep a write-ahead log (got {mode!r})",
            remedy="set STRATAVORE_HOME to a directory on a local disk",
        )
    for name, wanted in {**_PRAGMAS, "synchronous": _SYNCHRONOUS[durability]}.items():
        connection.pragma(name, wanted)
        if (found := _pragma(connection, name)) != wanted:
            raise Misconfigured(f"SQLite keeps {name} at {found} instead of {wanted}", remedy="report this as a bug")
    connection.execute("SELECT count(*) FROM sqlite_schema").fetchall()  # From now on there is a -wal file.
    keep_wal_at_close(connection, False)


def connect_reader(path: Path) -> apsw.Connection:
    """A read-only connection that has proved that it can read.

    Raises:
        NotFound: there is no database.
        apsw.Error: it is damaged, or cannot be read.
    """
    if not path.exists():
        raise NotFound(f"there is no database at {path}", remedy="`stratavore daemon start` makes one")
    connection = apsw.Connection(str(path), apsw.SQLITE_OPEN_READONLY, statementcachesize=256)
    try:
        _plan_once(connection)
        connection.set_busy_timeout(READER_BUSY_MS)
        connection.pragma("query_only", 1)
        connection.pragma("mmap_size", 0)
        connection.pragma("trusted_schema", 0)
        connection.execute("SELECT count(*) FROM sqlite_schema").fetchall()
    except BaseException:
        connection.close()
        raise
    return connection


def schema_version(connection: apsw.Connection) -> int:
    """The number of the last migration that was applied."""
    return _pragma(connection, "user_version")


def keep_wal_at_close(connection: apsw.Connection, keep: bool) -> None:
    """Whether closing leaves the WAL as it is, instead of moving it into the file and deleting it."""
    connection.config(apsw.SQLITE_DBCONFIG_NO_CKPT_ON_CLOSE, int(keep))


def _plan_once(connection: apsw.Connection) -> None:
    """Have a statement's plan depend on nothing but its text.

    Else every statement over a table with a partial index is compiled anew for each new parameter, which costs five
    times what it then does.
    """
    connection.config(apsw.SQLITE_DBCONFIG_ENABLE_QPSG, 1)


def _is_blank(connection: apsw.Connection) -> bool:
    tables = connection.execute("SELECT count(*) FROM sqlite_schema").fetchall()
    return schema_version(connection) == 0 and tables == [(0,)]


def _pragma(connection: apsw.Connection, name: str) -> int:
    found = connection.pragma(name)
    assert isinstance(found, int)
    return found
