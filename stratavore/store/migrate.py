"""Bringing the schema up to date.

Rule 1: migrations are files `NNNN_what.sql`, numbered from 1 without gaps, only ever added; `user_version` is the
last that was applied.
Rule 2: each runs in one transaction with its new number: a kill leaves the old schema or the new, nothing between.
Rule 3: a database that is newer than this program is refused before anything in it changes.
Rule 4: a database that holds something is copied before it is migrated.
"""

import os
from datetime import UTC, datetime
from pathlib import Path
from typing import NamedTuple

import apsw

from stratavore.errors import Degraded, NewerSchema
from stratavore.failpoints import fp
from stratavore.store.backup import backup
from stratavore.store.connect import schema_version


class Migration(NamedTuple):
    """One step: its number and its statements."""

    number: int
    sql: str


def migrations_in(directory: Path) -> list[Migration]:
    """The migrations of `directory`, in order. Raises ValueError when a number is missing or double, which is a bug."""
    found = [Migration(int(file.name[:4]), file.read_text()) for file in sorted(directory.glob("[0-9]*.sql"))]
    if [each.number for each in found] != list(range(1, len(found) + 1)):
        raise ValueError(f"{directory}: migrations must be numbered 0001, 0002, … without gaps")
    return found


def refuse_newer(connection: apsw.Connection, known: list[Migration], path: Path) -> None:
    """Raise NewerSchema when the database has migrations that we do not know."""
    if (version := schema_version(connection)) > len(known):
        raise NewerSchema(f"{path} has schema {version}, this program knows {len(known)}")


def migrate(connection: apsw.Connection, known: list[Migration], path: Path) -> None:
    """Apply what is missing.

    Raises:
        Degraded: there is not twice the room that the database takes.
        apsw.Error: a statement failed; the schema is what it was before that migration.
    """
    version = schema_version(connection)
    missing = known[version:]
    if not missing:
        return
    _require_room(path)
    if version > 0:
        backup(path, _copy_of(path, version))
    for migration in missing:
        _apply(connection, migration)


def _apply(connection: apsw.Connection, migration: Migration) -> None:
    cursor = connection.cursor()
    done = 0

    def before_each(*_: object) -> bool:
        nonlocal done
        done += 1
        fp(f"migrate.{migration.number}.{done}")
        return True

    cursor.execute("BEGIN IMMEDIATE")
    try:
        cursor.exec_trace = before_each
        cursor.execute(migration.sql).fetchall()
        cursor.exec_trace = None
        cursor.execute(f"PRAGMA user_version = {migration.number}")
        fp(f"migrate.{migration.number}.commit")
        cursor.execute("COMMIT")
    except BaseException:
        if connection.in_transaction:
            connection.execute("ROLLBACK")
        raise
    fp(f"migrate.{migration.number}.done")


def _require_room(path: Path) -> None:
    needed = 2 * path.stat().st_size
    space = os.statvfs(path.parent)
    if (free := space.f_bavail * space.f_frsize) < needed:
        raise Degraded(
            f"a migration of {path} needs {needed // 1024} KiB free, {free // 1024} KiB are",
            remedy=f"make room on the disk of {path.parent}, and start again",
        )


def _copy_of(path: Path, version: int) -> Path:
    stamp = datetime.now(UTC).strftime("%Y%m%dT%H%M%SZ")
    return path.parent / "backups" / f"before-migration-of-schema-{version}-{stamp}.db"
