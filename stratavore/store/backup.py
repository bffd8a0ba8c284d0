"""A consistent copy of a living database.

Rule 1: a copy appears under its name only when it is whole, on the disk, and has passed `integrity_check`.
Rule 2: it reads through a connection of its own, so the writer does not wait; the WAL cannot shrink meanwhile.
"""

import os
from contextlib import closing
from pathlib import Path

import apsw

from stratavore.errors import Corrupt
from stratavore.failpoints import fp
from stratavore.store.connect import READER_BUSY_MS
from stratavore.store.faults import is_damage


def backup(path: Path, target: Path) -> None:
    """Copy the database `path`, with everything committed before now, to `target`, replacing what was there.

    Raises:
        Corrupt: the copy did not pass the check; `target` is as it was.
        apsw.Error, OSError: it could not be written.
    """
    target.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    unfinished = target.with_name(target.name + ".tmp")
    unfinished.unlink(missing_ok=True)
    try:
        # SQLite fills an empty file: made here, it is 0600 from the beginning.
        os.close(os.open(unfinished, os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC | os.O_WRONLY, 0o600))
        _copy(path, unfinished)
        fp("backup.copied")
        if problems := check(unfinished, full=True):
            raise Corrupt(f"the copy of {path} is damaged: {problems[0]}")
        _flush(unfinished)
        unfinished.replace(target)
        _flush(target.parent)
    finally:
        unfinished.unlink(missing_ok=True)


def check(path: Path, *, full: bool) -> list[str]:
    """What is wrong with the database `path`; nothing when it is whole.

    `full` runs `integrity_check` and `foreign_key_check`, which read every row and index; else `quick_check(1)`.
    """
    with closing(apsw.Connection(str(path), apsw.SQLITE_OPEN_READONLY)) as connection:
        return check_connection(connection, full=full)


def check_connection(connection: apsw.Connection, *, full: bool) -> list[str]:
    """The same over an open connection."""
    try:
        sql = "PRAGMA integrity_check(20)" if full else "PRAGMA quick_check(1)"
        found = [str(line) for (line,) in connection.execute(sql) if line != "ok"]
        if full:
            orphans = connection.execute("PRAGMA foreign_key_check").fetchall()
            found += [f"row {row} of {table} points to no row of {parent}" for table, row, parent, _ in orphans]
    except apsw.Error as error:
        if not is_damage(error):
            raise
        return [str(error)]
    return found


def _copy(path: Path, target: Path) -> None:
    with closing(apsw.Connection(str(path), apsw.SQLITE_OPEN_READONLY)) as source:
        source.set_busy_timeout(READER_BUSY_MS)
        source.execute("VACUUM INTO ?", (str(target),))


def _flush(path: Path) -> None:
    descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
