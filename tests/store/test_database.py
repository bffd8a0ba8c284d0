"""What the engine promises while nothing is broken."""

import asyncio
import threading
from pathlib import Path

import apsw
import pytest

from stratavore.errors import Conflict, Degraded
from stratavore.store.database import Condition, Database, NoRow, Tx


def add(name: str, size: int = 1) -> "Add":
    return Add(name, size)


class Add:
    """A write that inserts a thing and returns its id."""

    def __init__(self, name: str, size: int) -> None:
        self.name, self.size = name, size

    def __call__(self, tx: Tx) -> int:
        tx.execute("INSERT INTO things (name, size) VALUES (:name, :size)", {"name": self.name, "size": self.size})
        return tx.last_insert_id()


def names(database: Database) -> set[str]:
    return {row["name"] for row in database.reader().all("SELECT name FROM things")}


async def test_a_write_returns_what_its_function_returned(database: Database) -> None:
    assert await database.write(add("a")) == 1
    assert database.write_blocking(add("b")) == 2
    assert names(database) == {"a", "b"}


async def test_a_write_raises_what_its_function_raised_and_leaves_nothing(database: Database) -> None:
    def refuse(tx: Tx) -> None:
        add("half")(tx)
        raise Conflict("no")

    with pytest.raises(Conflict, match="no"):
        await database.write(refuse)
    assert names(database) == set()
    assert database.health.condition == Condition.OK


async def test_what_was_asked_together_is_committed_together(database: Database) -> None:
    await asyncio.gather(*(database.write(add(f"n{n}")) for n in range(200)))
    stats = database.stats()
    assert stats.writes == 200
    assert stats.commits < 20
    assert stats.largest_batch > 10


async def test_a_failing_write_does_not_hurt_its_neighbours(database: Database) -> None:
    asked = [add("same" if n % 10 == 0 else f"n{n}") for n in range(100)]
    answers = await asyncio.gather(*(database.write(each) for each in asked), return_exceptions=True)
    refused = [answer for answer in answers if isinstance(answer, apsw.ConstraintError)]
    assert len(refused) == 9
    assert len(names(database)) == 91


async def test_a_write_that_ends_the_shared_transaction_fails_alone(database: Database) -> None:
    """SQLite lets a statement roll all of it back; the neighbours are served once more."""

    def spoil(tx: Tx) -> None:
        tx.execute("INSERT OR ROLLBACK INTO things (id, name, size) VALUES (1, 'x', 1), (1, 'y', 1)")

    asked = [database.write(add("before")), database.write(spoil), database.write(add("after"))]
    before, spoilt, after = await asyncio.gather(*asked, return_exceptions=True)
    assert isinstance(spoilt, apsw.ConstraintError)
    assert {before, after} == {1, 2}
    assert names(database) == {"before", "after"}


async def test_a_cancelled_asker_leaves_the_others_their_answers(database: Database) -> None:
    first = asyncio.create_task(database.write(add("first")))
    second = asyncio.create_task(database.write(add("second")))
    await asyncio.sleep(0)
    first.cancel()
    assert await second == 2
    assert first.cancelled()


async def test_an_error_that_no_future_takes_still_answers(database: Database) -> None:
    def stop(tx: Tx) -> None:
        raise StopIteration

    with pytest.raises(RuntimeError, match="StopIteration"):
        await database.write(stop)


def test_many_threads_may_write_and_read(database: Database) -> None:
    def work(number: int) -> None:
        for n in range(20):
            database.write_blocking(add(f"{number}.{n}"))
            assert database.reader().scalar("SELECT count(*) FROM things") > n

    threads = [threading.Thread(target=work, args=(number,)) for number in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(names(database)) == 160


def test_rows_are_dicts_by_column_name(database: Database) -> None:
    database.write_blocking(add("a", size=7))
    reader = database.reader()
    assert reader.one("SELECT * FROM things") == {"id": 1, "name": "a", "size": 7}
    assert reader.one_or_none("SELECT * FROM things WHERE id = ?", (2,)) is None
    assert reader.all("SELECT name FROM things WHERE size > :size", {"size": 3}) == [{"name": "a"}]
    assert reader.all("SELECT name FROM things WHERE size > :size", {"size": 30}) == []
    assert reader.scalar("SELECT size FROM things") == 7
    assert reader.scalar("SELECT size FROM things WHERE id = 9") is None


def test_one_row_means_one(database: Database) -> None:
    database.write_blocking(add("a"))
    database.write_blocking(add("b"))
    with pytest.raises(NoRow):
        database.reader().one("SELECT * FROM things WHERE id = 9")
    with pytest.raises(NoRow, match="2 rows"):
        database.reader().one_or_none("SELECT * FROM things")


def test_execute_counts_the_rows_it_changed(database: Database) -> None:
    def change(tx: Tx) -> tuple[int, int, int]:
        inserted = tx.execute_many("INSERT INTO things (name, size) VALUES (?, 1)", [("a",), ("b",), ("c",)])
        changed = tx.execute("UPDATE things SET size = 2 WHERE name <> 'a'")
        return inserted, changed, tx.execute("DELETE FROM things WHERE name = 'z'")

    assert database.write_blocking(change) == (3, 2, 0)


def test_returning_hands_back_the_changed_row(database: Database) -> None:
    database.write_blocking(add("a"))
    sql = "UPDATE things SET size = 5 WHERE id = :id AND size = :old RETURNING *"
    moved = database.write_blocking(lambda tx: tx.one_or_none(sql, {"id": 1, "old": 1}))
    assert moved == {"id": 1, "name": "a", "size": 5}
    assert database.write_blocking(lambda tx: tx.one_or_none(sql, {"id": 1, "old": 1})) is None


def test_a_forgotten_parameter_is_an_error_and_not_null(database: Database) -> None:
    with pytest.raises(KeyError):
        database.reader().all("SELECT :x, :y", {"x": 1})


def test_a_reader_cannot_write(database: Database) -> None:
    with pytest.raises(apsw.ReadOnlyError):
        database.reader().all("DELETE FROM things")


def test_a_snapshot_answers_from_one_moment(database: Database) -> None:
    reader = database.reader()
    with reader.snapshot():
        assert reader.scalar("SELECT count(*) FROM things") == 0
        database.write_blocking(add("a"))
        assert reader.scalar("SELECT count(*) FROM things") == 0
        assert database.stats().longest_snapshot_seconds > 0
    assert reader.scalar("SELECT count(*) FROM things") == 1
    assert database.stats().longest_snapshot_seconds == 0


def test_foreign_keys_are_enforced(database: Database) -> None:
    with pytest.raises(apsw.ConstraintError):
        database.write_blocking(lambda tx: tx.execute("INSERT INTO facts (thing, what) VALUES (9, 'made')"))


def test_closing_answers_what_is_queued_and_leaves_one_file(path: Path, migrations: Path) -> None:
    database = Database.open(path, migrations=migrations)

    async def all_at_once() -> list[int]:
        asked = [asyncio.ensure_future(database.write(add(f"n{n}"))) for n in range(50)]
        await asyncio.sleep(0)
        await asyncio.to_thread(database.close)
        return await asyncio.gather(*asked)

    assert sorted(asyncio.run(all_at_once())) == list(range(1, 51))
    assert [file.name for file in path.parent.iterdir()] == ["state.db"]
    with pytest.raises(Degraded, match="closed"):
        database.write_blocking(add("late"))
    database.close()


def test_the_wal_is_moved_into_the_file_while_it_grows(database: Database) -> None:
    for n in range(40):
        database.write_blocking(add(f"{n}" + "x" * 200_000))
    stats = database.stats()
    assert stats.checkpoints >= 1
    assert stats.checkpoint_busy == 0
    assert stats.wal_bytes < 8 * 1024 * 1024


async def test_a_backup_holds_all_that_was_answered_before(database: Database, tmp_path: Path) -> None:
    await asyncio.gather(*(database.write(add(f"n{n}")) for n in range(100)))
    writing = asyncio.gather(*(database.write(add(f"m{n}")) for n in range(100)))
    target = tmp_path / "copies" / "copy.db"
    await asyncio.to_thread(database.backup_to, target)
    await writing
    copied = apsw.Connection(str(target), apsw.SQLITE_OPEN_READONLY)
    held = {name for (name,) in copied.execute("SELECT name FROM things")}
    copied.close()
    assert {f"n{n}" for n in range(100)} <= held
    assert target.stat().st_mode & 0o777 == 0o600
    assert [file.name for file in target.parent.iterdir()] == ["copy.db"]


def test_a_backup_opens_as_a_database(database: Database, tmp_path: Path, migrations: Path) -> None:
    database.write_blocking(add("a"))
    target = tmp_path / "other" / "state.db"
    database.backup_to(target)
    copy = Database.open(target, migrations=migrations, check=True)
    assert names(copy) == {"a"}
    assert copy.check(full=True) == []
    copy.close()
