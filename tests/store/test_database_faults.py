"""When the disk refuses: nothing that was answered is lost, the reason is said, and it goes on by itself."""

import asyncio
import errno
import os
import shutil
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import apsw
import pytest

from stratavore.errors import Corrupt, Degraded, StorageFailed, StratavoreError
from stratavore.store.database import Condition, Database, Health, Tx
from stratavore.store.faults import explain, is_of_storage, lock_holder
from tests.store.conftest import Python
from tests.store.faulty_disk import Disk, inserted


def adding(name: str) -> Callable[[Tx], int]:
    return lambda tx: tx.execute("INSERT INTO things (name, size) VALUES (?, 1)", (name,))


def names(database: Database) -> set[str]:
    return {row["name"] for row in database.reader().all("SELECT name FROM things")}


def until(condition: Callable[[], bool], seconds: float = 20) -> None:
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, "it did not come to that in time"
        time.sleep(0.02)


def write_until_refused(database: Database) -> tuple[set[str], Degraded]:
    answered: set[str] = set()
    for n in range(20_000):
        name = f"{n}" + "x" * 20_000
        try:
            database.write_blocking(adding(name))
        except Degraded as refusal:
            return answered, refusal
        answered.add(name)
    raise AssertionError("it was never refused")


def test_a_full_disk_refuses_writes_and_recovers_without_a_restart(small_disk: Path, migrations: Path) -> None:
    changes: list[Health] = []
    path = small_disk / "state" / "state.db"
    database = Database.open(path, migrations=migrations, on_health=changes.append)
    ballast = small_disk / "ballast"
    ballast.write_bytes(bytes(4 * 1024 * 1024))

    answered, refusal = write_until_refused(database)
    assert "is full" in refusal.message
    assert database.health == Health(Condition.DEGRADED, refusal.message)
    assert names(database) == answered

    began = time.monotonic()
    for _ in range(100):
        with pytest.raises(Degraded, match="is full"):
            database.write_blocking(adding("refused"))
    assert time.monotonic() - began < 1
    assert database.recheck().condition == Condition.DEGRADED

    ballast.unlink()
    until(lambda: database.health.condition == Condition.OK)  # By itself, within five seconds.
    database.write_blocking(adding("after"))
    assert names(database) == answered | {"after"}
    assert database.check(full=True) == []
    assert [change.condition for change in changes] == [Condition.DEGRADED, Condition.OK]
    database.close()


def test_a_full_disk_refuses_a_backup_and_leaves_the_old_one(small_disk: Path, migrations: Path) -> None:
    database = Database.open(small_disk / "state" / "state.db", migrations=migrations)
    for n in range(8):
        database.write_blocking(adding(f"{n}" + "x" * 100_000))
    target = small_disk / "backups" / "copy.db"
    target.parent.mkdir()
    target.write_text("the old one")
    space = os.statvfs(small_disk)
    (small_disk / "ballast").write_bytes(bytes(space.f_bavail * space.f_frsize - 512 * 1024))
    with pytest.raises(Degraded, match="is full"):
        database.backup_to(target)
    assert [file.name for file in target.parent.iterdir()] == ["copy.db"]
    assert target.read_text() == "the old one"
    assert database.health.condition == Condition.OK
    database.close()


def test_a_limit_on_the_size_of_files_is_named(path: Path, migrations: Path, python: Python) -> None:
    """EFBIG comes as an I/O error; it must neither end the process by a signal nor count as a broken disk."""
    child = python(MEETS_A_LIMIT, path, migrations)
    output, errors = child.communicate(timeout=60)
    assert child.returncode == 0, errors
    assert "no file may grow over 2048 KiB here" in output
    assert output.splitlines()[-1] == "recovered"


MEETS_A_LIMIT = """
import resource, sys
from pathlib import Path
from stratavore.errors import Degraded
from stratavore.store.database import Database
database = Database.open(Path(sys.argv[1]), migrations=Path(sys.argv[2]))
resource.setrlimit(resource.RLIMIT_FSIZE, (2048 * 1024, resource.RLIM_INFINITY))
answered = 0
try:
    while True:
        name = f"{answered}" + "x" * 20_000
        database.write_blocking(lambda tx: tx.execute("INSERT INTO things (name, size) VALUES (?, 1)", (name,)))
        answered += 1
except Degraded as refusal:
    print(refusal)
assert database.recheck().condition == "degraded"
assert database.reader().scalar("SELECT count(*) FROM things") == answered > 0
resource.setrlimit(resource.RLIMIT_FSIZE, (resource.RLIM_INFINITY, resource.RLIM_INFINITY))
assert database.recheck().condition == "ok"
database.write_blocking(lambda tx: tx.execute("INSERT INTO things (name, size) VALUES ('after', 1)"))
database.close()
print("recovered")
"""


@pytest.mark.parametrize("nth", [1, 2, 7])
def test_a_failed_flush_ends_the_writer_and_loses_nothing(
    path: Path, migrations: Path, python: Python, nth: int
) -> None:
    _fail_the_flush(path, migrations, python, nth)


@pytest.mark.long
@pytest.mark.parametrize("nth", range(1, 31))
def test_any_failed_flush_ends_the_writer_and_loses_nothing(
    path: Path, migrations: Path, python: Python, nth: int
) -> None:
    _fail_the_flush(path, migrations, python, nth)


def _fail_the_flush(path: Path, migrations: Path, python: Python, nth: int) -> None:
    if shutil.which("strace") is None:
        pytest.skip("strace is not installed: nothing else can make a real fdatasync fail")
    database = Database.open(path, migrations=migrations)
    database.write_blocking(adding("before"))
    database.close()
    inject = f"inject=fdatasync:error=EIO:when={nth}"
    # Only these files: SQLite passes over a failed flush of the directory.
    files = ("-P", str(path), "-P", f"{path}-wal")
    strace = ("strace", "-f", "-qq", "-o", "/dev/null", *files, "-e", "trace=fdatasync", "-e", inject)
    child = python(WRITES_UNTIL_IT_FAILS, path, migrations, under=strace)
    output, errors = child.communicate(timeout=60)
    assert child.returncode == StorageFailed.exit_code, errors
    answered = {line for line in output.splitlines() if line != "failed"}
    database = Database.open(path, migrations=migrations, check=True)
    found = names(database)
    database.close()
    # The write whose flush failed was refused; whether the disk has it is unknown, and both are right.
    assert answered | {"before"} <= found <= answered | {"before", f"n{len(answered)}"}


WRITES_UNTIL_IT_FAILS = """
import sys
from pathlib import Path
from stratavore.errors import StorageFailed
from stratavore.store.database import Database
try:
    database = Database.open(Path(sys.argv[1]), migrations=Path(sys.argv[2]))
    for n in range(100):
        database.write_blocking(lambda tx: tx.execute("INSERT INTO things (name, size) VALUES (?, 1)", (f"n{n}",)))
        print(f"n{n}", flush=True)
except StorageFailed as failure:
    sys.exit(failure.exit_code)
"""


@contextmanager
def opened_on(disk: Disk, path: Path, migrations: Path) -> Iterator[Database]:
    database = Database.open(path, migrations=migrations)
    try:
        yield database
    finally:
        disk.before_write = disk.before_sync = lambda name: None
        database.close()


def refuse_with(result: int) -> Callable[[str], None]:
    def refuse(name: str) -> None:
        error = apsw.exception_for(result)
        raise error

    return refuse


def test_a_write_error_without_a_known_reason_counts_as_loss(path: Path, migrations: Path) -> None:
    with inserted() as disk, opened_on(disk, path, migrations) as database:
        database.write_blocking(adding("before"))
        disk.before_write = refuse_with(apsw.SQLITE_IOERR_WRITE)
        with pytest.raises(StorageFailed, match="the disk failed"):
            database.write_blocking(adding("lost"))
        assert database.health.condition == Condition.FAILED
        disk.before_write = lambda name: None
        with pytest.raises(StorageFailed):
            database.write_blocking(adding("the disk works again, but who knows what it has"))
        assert database.recheck().condition == Condition.FAILED
        assert names(database) == {"before"}
    reopened = Database.open(path, migrations=migrations, check=True)
    assert names(reopened) == {"before"}
    reopened.close()


def test_a_disk_that_turns_readonly_is_degraded(path: Path, migrations: Path) -> None:
    with inserted() as disk, opened_on(disk, path, migrations) as database:
        database.write_blocking(adding("before"))
        disk.before_write = refuse_with(apsw.SQLITE_READONLY)
        with pytest.raises(Degraded, match="cannot be written"):
            database.write_blocking(adding("refused"))
        assert database.recheck().condition == Condition.DEGRADED
        disk.before_write = lambda name: None
        assert database.recheck().condition == Condition.OK
        database.write_blocking(adding("after"))
        assert names(database) == {"before", "after"}


def test_a_slow_disk_is_answered_by_larger_batches_and_the_loop_stays_awake(path: Path, migrations: Path) -> None:
    async def measure(database: Database) -> float:
        longest, last = 0.0, time.monotonic()

        async def heartbeat() -> None:
            nonlocal longest, last
            while True:
                await asyncio.sleep(0.005)
                longest, last = max(longest, time.monotonic() - last), time.monotonic()

        async def caller(number: int) -> None:
            for n in range(5):
                await database.write(adding(f"{number}.{n}"))

        beating = asyncio.create_task(heartbeat())
        await asyncio.gather(*(caller(number) for number in range(100)))
        beating.cancel()
        return longest

    with inserted() as disk, opened_on(disk, path, migrations) as database:
        disk.before_sync = lambda name: time.sleep(0.05)
        longest_pause = asyncio.run(measure(database))
        assert len(names(database)) == 500
        assert database.stats().commits <= 25
    assert longest_pause < 0.5


@pytest.mark.parametrize(
    ("result", "expected"),
    [
        (apsw.SQLITE_BUSY, Degraded), (apsw.SQLITE_LOCKED, Degraded), (apsw.SQLITE_FULL, Degraded),
        (apsw.SQLITE_READONLY, Degraded), (apsw.SQLITE_READONLY_DBMOVED, Degraded),
        (apsw.SQLITE_IOERR_WRITE, StorageFailed), (apsw.SQLITE_IOERR_FSYNC, StorageFailed),
        (apsw.SQLITE_IOERR_DIR_FSYNC, StorageFailed), (apsw.SQLITE_IOERR_READ, StorageFailed),
        (apsw.SQLITE_CANTOPEN, StorageFailed), (apsw.SQLITE_CORRUPT, Corrupt), (apsw.SQLITE_CORRUPT_INDEX, Corrupt),
        (apsw.SQLITE_NOTADB, Corrupt), (apsw.SQLITE_IOERR_SHORT_READ, Corrupt), (apsw.SQLITE_IOERR_DATA, Corrupt),
    ],
)  # fmt: skip
def test_every_error_of_the_storage_has_its_class(tmp_path: Path, result: int, expected: type[StratavoreError]) -> None:
    error = apsw.exception_for(result)
    assert is_of_storage(error)
    explained = explain(error, tmp_path / "state.db")
    assert type(explained) is expected
    assert "state.db" in explained.message or str(tmp_path) in explained.message


@pytest.mark.parametrize("number", [errno.ENOSPC, errno.EDQUOT, errno.EFBIG, errno.EROFS, errno.EMFILE])
def test_a_write_error_with_a_reason_that_passes_is_degraded(tmp_path: Path, number: int) -> None:
    error = apsw.exception_for(apsw.SQLITE_IOERR_WRITE)
    explained = explain(error, tmp_path / "state.db", system_errno=number)
    assert type(explained) is Degraded
    assert os.strerror(number) in explained.message


def test_an_error_of_a_statement_is_not_the_storages() -> None:
    assert not is_of_storage(apsw.exception_for(apsw.SQLITE_CONSTRAINT))
    assert not is_of_storage(ValueError())


def foreign_lock(python: Python, path: Path) -> "Foreign":
    return Foreign(python, path)


class Foreign:
    """Another program in the middle of a write to our database."""

    def __init__(self, python: Python, path: Path) -> None:
        self.process = python(HOLDS_THE_WRITE_LOCK, path)
        assert self.process.stdout is not None
        assert self.process.stdout.readline() == "locked\n"

    def let_go(self) -> None:
        self.process.communicate("")


HOLDS_THE_WRITE_LOCK = """
import sqlite3, sys
connection = sqlite3.connect(sys.argv[1], isolation_level=None)
connection.execute("BEGIN IMMEDIATE")
connection.execute("UPDATE things SET size = 2")
print("locked", flush=True)
sys.stdin.read()
connection.execute("COMMIT")
"""


@pytest.mark.parametrize("seconds", [1, pytest.param(10, marks=pytest.mark.long)])
async def test_a_foreign_write_is_waited_for(database: Database, path: Path, python: Python, seconds: int) -> None:
    foreign = foreign_lock(python, path)
    asked = [asyncio.ensure_future(database.write(adding(f"n{n}"))) for n in range(50)]
    done, _ = await asyncio.wait(asked, timeout=seconds)
    assert not done
    await asyncio.to_thread(foreign.let_go)
    await asyncio.gather(*asked)
    assert len(names(database)) == 50
    assert database.health.condition == Condition.OK


def test_a_foreign_write_that_does_not_end_is_named(path: Path, migrations: Path, python: Python) -> None:
    database = Database.open(path, migrations=migrations, busy_patience_seconds=0.3)
    foreign = foreign_lock(python, path)
    pid = foreign.process.pid
    with pytest.raises(Degraded, match=rf"is locked by pid {pid} \(python"):
        database.write_blocking(adding("refused"))
    assert database.recheck().condition == Condition.DEGRADED
    foreign.let_go()
    assert database.recheck().condition == Condition.OK
    database.write_blocking(adding("after"))
    assert names(database) == {"after"}
    database.close()


def test_only_the_holder_of_the_write_lock_is_named(tmp_path: Path) -> None:
    path, shm = tmp_path / "state.db", tmp_path / "state.db-shm"
    path.touch()
    shm.touch()
    locks = f"""
1: POSIX  ADVISORY  READ  11 fe:00:{shm.stat().st_ino} 123 123
2: FLOCK  ADVISORY  WRITE 12 fe:00:{path.stat().st_ino} 0 EOF
3: POSIX  ADVISORY  WRITE 13 fe:00:1 120 120
4: POSIX  ADVISORY  WRITE {os.getpid()} fe:00:{shm.stat().st_ino} 120 120
4: -> POSIX  ADVISORY  WRITE 14 fe:00:{shm.stat().st_ino} 121 121
5: POSIX  ADVISORY  WRITE 99999999 fe:00:{shm.stat().st_ino} 120 120
"""
    assert lock_holder(path, locks) == "pid 99999999 (ended)"
    assert lock_holder(path, "") is None


def test_a_long_reader_holds_the_wal_back_and_it_shrinks_afterwards(database: Database) -> None:
    with database.reader().snapshot():
        assert names(database) == set()
        for n in range(60):
            database.write_blocking(adding(f"{n}" + "x" * 200_000))
        stats = database.stats()
        assert stats.checkpoint_busy > 0
        assert stats.wal_bytes > 12 * 1024 * 1024
    until(lambda: database.stats().wal_bytes == 0)  # When nothing has been asked for five seconds.
    assert len(names(database)) == 60


@pytest.mark.long
def test_a_wal_that_grew_large_is_cut_without_an_idle_moment(database: Database) -> None:
    with database.reader().snapshot():
        assert names(database) == set()
        while database.stats().wal_bytes < 65 * 1024 * 1024:
            database.write_blocking(adding(f"{time.monotonic_ns()}" + "x" * 200_000))

    def cut_after_a_write() -> bool:
        database.write_blocking(adding(f"{time.monotonic_ns()}" + "x" * 200_000))
        return database.stats().wal_bytes < 16 * 1024 * 1024

    until(cut_after_a_write)


@pytest.mark.parametrize("victim", ["state.db", "state.db-wal"])
def test_a_file_that_is_moved_away_is_noticed_and_may_come_back(
    database: Database, path: Path, tmp_path: Path, victim: str
) -> None:
    database.write_blocking(adding("before"))
    moved, aside = path.parent / victim, tmp_path / "aside"
    moved.rename(aside)
    with pytest.raises(Degraded, match=f"{victim} was moved away or deleted") as refusal:
        database.write_blocking(adding("refused"))
    assert "put the files back" in refusal.value.remedy
    assert database.recheck().condition == Condition.DEGRADED
    aside.rename(moved)
    assert database.recheck().condition == Condition.OK
    database.write_blocking(adding("after"))
    assert names(database) == {"before", "after"}


def test_a_file_that_is_replaced_is_not_written(database: Database, path: Path, tmp_path: Path) -> None:
    database.write_blocking(adding("before"))
    database.backup_to(tmp_path / "copy.db")
    held = (tmp_path / "copy.db").read_bytes()
    (tmp_path / "copy.db").replace(path)
    side_files = {suffix: path.with_name(f"state.db{suffix}").stat().st_ino for suffix in ("-wal", "-shm")}
    with pytest.raises(Degraded, match="was replaced"):
        database.write_blocking(adding("refused"))
    with pytest.raises(Degraded, match="was replaced"):
        database.backup_to(tmp_path / "copy of the wrong one.db")
    database.close()
    assert path.read_bytes() == held
    assert {suffix: path.with_name(f"state.db{suffix}").stat().st_ino for suffix in side_files} == side_files


def test_a_listener_that_fails_does_not_stop_the_writer(path: Path, migrations: Path, tmp_path: Path) -> None:
    def fail(health: Health) -> None:
        raise ValueError

    database = Database.open(path, migrations=migrations, on_health=fail)
    path.rename(tmp_path / "aside")
    with pytest.raises(Degraded):
        database.write_blocking(adding("refused"))
    (tmp_path / "aside").rename(path)
    assert database.recheck().condition == Condition.OK
    database.close()


def test_a_bug_in_a_chore_leaves_nobody_waiting(database: Database) -> None:
    """Whatever happens in the writer's thread, every asker gets an answer and `close` returns."""
    with pytest.raises(ZeroDivisionError):
        database._writer.between_batches(lambda: print(1 / 0))
    with pytest.raises(StorageFailed, match="ZeroDivisionError"):
        database.write_blocking(adding("refused"))


def test_a_moved_file_is_noticed_without_a_write(database: Database, path: Path, tmp_path: Path) -> None:
    path.rename(tmp_path / "aside")
    until(lambda: database.health.condition == Condition.DEGRADED, seconds=10)
