"""A migration happens whole or not at all."""

import sqlite3
from pathlib import Path

import apsw
import pytest

from stratavore.errors import Degraded
from stratavore.store.database import MIGRATIONS, Database
from stratavore.store.migrate import migrations_in
from tests.store.conftest import SCHEMA, Python

SECOND = """
-- Colours; a comment with a semicolon; and a trigger, whose body has some too.
ALTER TABLE things ADD COLUMN colour TEXT NOT NULL DEFAULT 'grey';
CREATE TABLE colours (name TEXT PRIMARY KEY) STRICT;
INSERT INTO colours SELECT DISTINCT colour FROM things;
CREATE TRIGGER new_colour AFTER INSERT ON things BEGIN
    INSERT OR IGNORE INTO colours VALUES (new.colour);
    UPDATE things SET size = size WHERE id = new.id;
END;
"""

OPENS = """
import sys
from pathlib import Path
from stratavore.store.database import Database
Database.open(Path(sys.argv[1]), migrations=Path(sys.argv[2])).close()
"""


def schema_of(path: Path) -> tuple[int, tuple[str, ...]]:
    """The number and the statements of the schema, read by another SQLite than ours."""
    connection = sqlite3.connect(path)
    number = connection.execute("PRAGMA user_version").fetchone()[0]
    statements = connection.execute("SELECT sql FROM sqlite_schema WHERE sql IS NOT NULL ORDER BY name").fetchall()
    connection.close()
    return number, tuple(sql for (sql,) in statements)


def begin(path: Path, migrations: Path) -> None:
    """A database of the first schema with something in it."""
    database = Database.open(path, migrations=migrations)
    database.write_blocking(lambda tx: tx.execute("INSERT INTO things (name, size) VALUES ('a', 1)"))
    database.close()


def test_the_schema_is_brought_up_to_date_and_keeps_what_was_there(path: Path, migrations: Path) -> None:
    begin(path, migrations)
    (migrations / "0002_colours.sql").write_text(SECOND)
    database = Database.open(path, migrations=migrations)
    assert database.reader().one("SELECT * FROM things") == {
        "id": 1,
        "name": "a",
        "size": 1,
        "colour": "grey",
    }
    database.write_blocking(lambda tx: tx.execute("INSERT INTO things (name, size, colour) VALUES ('b', 1, 'red')"))
    assert database.reader().scalar("SELECT count(*) FROM colours") == 2
    database.close()
    assert schema_of(path)[0] == 2


@pytest.mark.parametrize("first_time", [True, False])
def test_a_kill_at_any_statement_leaves_the_old_schema_or_the_new(
    tmp_path: Path, python: Python, first_time: bool
) -> None:
    """From nothing, or from a schema with rows; every failpoint that an undisturbed run passes is one kill."""
    old, new = tmp_path / "old", tmp_path / "new"
    for directory, files in ((old, {}), (new, {"0001_things.sql": SCHEMA, "0002_colours.sql": SECOND})):
        directory.mkdir()
        for name, sql in files.items():
            (directory / name).write_text(sql)
    if not first_time:
        (old / "0001_things.sql").write_text(SCHEMA)

    def prepared(name: str) -> Path:
        path = tmp_path / name / "state.db"
        Database.open(path, migrations=old).close()
        if not first_time:
            begin(path, old)
        return path

    undisturbed = prepared("undisturbed")
    trace = tmp_path / "trace"
    assert python(OPENS, undisturbed, new, STRATAVORE_FAILPOINTS=f"trace:{trace}").wait() == 0
    failpoints = [name for name in trace.read_text().split() if name.startswith(("migrate.", "backup."))]
    assert len(failpoints) == len(set(failpoints)) > 6

    whole = {schema_of(prepared("before")), schema_of(undisturbed)}
    if first_time:
        between = tmp_path / "first" / "state.db"
        (new / "0002_colours.sql").rename(tmp_path / "aside")
        Database.open(between, migrations=new).close()
        (tmp_path / "aside").rename(new / "0002_colours.sql")
        whole.add(schema_of(between))
    for failpoint in failpoints:
        path = prepared(f"killed at {failpoint}")
        child = python(OPENS, path, new, STRATAVORE_FAILPOINTS=f"{failpoint}=kill")
        assert child.wait() == -9
        assert schema_of(path) in whole
        database = Database.open(path, migrations=new, check=True)
        assert database.reader().scalar("SELECT count(*) FROM things") == (0 if first_time else 1)
        assert database.check(full=True) == []
        database.close()
        assert schema_of(path) == schema_of(undisturbed)


def test_a_failing_migration_leaves_the_old_schema(path: Path, migrations: Path) -> None:
    begin(path, migrations)
    before = schema_of(path)
    (migrations / "0002_wrong.sql").write_text("CREATE TABLE fine (a INTEGER) STRICT; CREATE TABLE things (a INTEGER);")
    with pytest.raises(apsw.SQLError, match="things already exists"):
        Database.open(path, migrations=migrations)
    assert schema_of(path) == before


def test_a_database_that_holds_something_is_copied_before_it_is_migrated(path: Path, migrations: Path) -> None:
    begin(path, migrations)
    assert not (path.parent / "backups").exists()
    before = schema_of(path)
    (migrations / "0002_colours.sql").write_text(SECOND)
    Database.open(path, migrations=migrations).close()
    (copy,) = (path.parent / "backups").iterdir()
    assert schema_of(copy) == before
    assert copy.stat().st_mode & 0o777 == 0o600


def test_a_migration_without_room_is_not_begun(small_disk: Path, migrations: Path) -> None:
    path = small_disk / "state" / "state.db"
    begin(path, migrations)
    database = Database.open(path, migrations=migrations)
    database.write_blocking(lambda tx: tx.execute("INSERT INTO things (name, size) VALUES (?, 1)", ("x" * 1_500_000,)))
    database.close()
    before = schema_of(path)
    (migrations / "0002_colours.sql").write_text(SECOND)
    with pytest.raises(Degraded, match=r"needs \d+ KiB free"):
        Database.open(path, migrations=migrations)
    assert schema_of(path) == before


def test_migrations_are_numbered_without_gaps(migrations: Path) -> None:
    (migrations / "0003_later.sql").write_text("")
    with pytest.raises(ValueError, match="without gaps"):
        migrations_in(migrations)


def test_the_schema_that_is_shipped_applies(path: Path) -> None:
    database = Database.open(path)
    assert database.check(full=True) == []
    database.close()
    assert schema_of(path)[0] == len(list(MIGRATIONS.glob("*.sql")))
