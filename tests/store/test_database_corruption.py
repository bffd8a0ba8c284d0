"""A damaged file is put into quarantine, or harmless, or the damage lies inside a value.

What is promised, and what is not: SQLite keeps a checksum of every page in the WAL and of none in the file. So
- damage to the WAL never shows: the history ends before it, with whole transactions;
- damage to the file that breaks its structure is found by `quick_check` at the start after a reboot or a fault, or
  when the page is read; then writing stops, a copy is put aside, and nothing of the original is changed;
- a changed byte within a stored value is not found by anyone. Whoever must know has backups and the chain of events.
"""

import random
from collections.abc import Callable
from functools import partial
from pathlib import Path

import pytest

from stratavore.errors import Corrupt, Misconfigured
from stratavore.store.database import Condition, Database, Health, Tx

SEEDS = 200
ROWS_IN_FILE = 700
ROWS = 800


def fill(tx: Tx, first: int, number: int) -> None:
    numbers = range(first, first + number)
    things = ((n, f"the thing called {n:04}", n) for n in numbers)
    tx.execute_many("INSERT INTO things (id, name, size) VALUES (?, ?, ?)", things)
    tx.execute_many("INSERT INTO facts (thing, what) VALUES (?, 'made')", ((n,) for n in numbers))


@pytest.fixture
def whole(tmp_path: Path, migrations: Path) -> dict[str, bytes]:
    """The files of a database that was killed: most rows are in the file, the newest in the WAL."""
    path = tmp_path / "whole" / "state.db"
    database = Database.open(path, migrations=migrations)
    database.write_blocking(lambda tx: fill(tx, 0, ROWS_IN_FILE))
    database._writer.between_batches(database._writer.checkpoints.truncate)
    for first in range(ROWS_IN_FILE, ROWS, 10):
        database.write_blocking(partial(fill, first=first, number=10))
    files = {name: path.with_name(name).read_bytes() for name in ("state.db", "state.db-wal")}
    database.close()
    return files


def lay_down(files: dict[str, bytes], directory: Path) -> Path:
    directory.mkdir(mode=0o700)
    for name, content in files.items():
        (directory / name).write_bytes(content)
    return directory / "state.db"


def test_the_undamaged_files_hold_every_row(whole: dict[str, bytes], migrations: Path, tmp_path: Path) -> None:
    assert _rows(lay_down(whole, tmp_path / "state"), migrations) == ROWS


def test_damage_anywhere_in_the_file_is_quarantined_or_changes_no_structure(
    whole: dict[str, bytes], migrations: Path, memory: Path, rng: random.Random
) -> None:
    found = 0
    for seed in range(SEEDS):
        damaged = {**whole, "state.db": _flipped(whole["state.db"], rng)}
        path = lay_down(damaged, memory / str(seed))
        try:
            assert _rows(path, migrations) == ROWS
        except Corrupt:
            found += 1
            _assert_quarantined(path, damaged)
        except Misconfigured:
            # The damage hit the application id or the schema's number: the file is left alone.
            assert {name: path.with_name(name).read_bytes() for name in damaged} == damaged
    assert found > SEEDS // 4


def test_damage_in_the_wal_ends_the_history_before_it(
    whole: dict[str, bytes], migrations: Path, memory: Path, rng: random.Random
) -> None:
    for seed in range(SEEDS):
        wal = whole["state.db-wal"]
        wal = wal[: rng.randrange(len(wal))] if rng.random() < 0.3 else _flipped(wal, rng)
        rows = _rows(lay_down({**whole, "state.db-wal": wal}, memory / str(seed)), migrations)
        assert ROWS_IN_FILE <= rows <= ROWS
        assert rows % 10 == 0


@pytest.mark.parametrize("header", [b"", b"SQLite format 2\0", b"\0" * 100])
def test_a_broken_header_is_quarantined(
    whole: dict[str, bytes], migrations: Path, tmp_path: Path, header: bytes
) -> None:
    damaged = {"state.db": header + b"\xff" * 200 + whole["state.db"][len(header) + 200 :]}
    path = lay_down(damaged, tmp_path / "state")
    with pytest.raises(Corrupt) as refused:
        Database.open(path, migrations=migrations)
    assert str(_assert_quarantined(path, damaged)) in refused.value.message


def test_the_same_damage_is_quarantined_once(whole: dict[str, bytes], migrations: Path, tmp_path: Path) -> None:
    """A daemon that starts again and again must not fill the disk with copies."""
    path = lay_down({"state.db": b"\xff" * 8192}, tmp_path / "state")
    for _ in range(3):
        with pytest.raises(Corrupt):
            Database.open(path, migrations=migrations)
    assert len(list((path.parent / "quarantine").iterdir())) == 1


@pytest.mark.parametrize(
    "ask",
    [
        lambda database: database.reader().all("SELECT * FROM things ORDER BY name"),
        lambda database: database.write_blocking(lambda tx: fill(tx, ROWS, 10)),
    ],
    ids=["a reader", "a write"],
)
def test_damage_met_while_running_stops_the_writing(
    whole: dict[str, bytes], migrations: Path, tmp_path: Path, ask: Callable[[Database], object]
) -> None:
    """Without a check at the start, the page that nobody looked at is met later."""
    pages = bytearray(whole["state.db"])
    for page in range(2, len(pages) // 4096):
        pages[page * 4096 : page * 4096 + 64] = b"\xff" * 64
    damaged = {"state.db": bytes(pages)}
    path = lay_down(damaged, tmp_path / "state")
    changes: list[Health] = []
    database = Database.open(path, migrations=migrations, on_health=changes.append)
    with pytest.raises(Corrupt, match="is damaged"):
        _ = ask(database)
    database._writer.between_batches(lambda: None)  # What a reader finds reaches the writer by its queue.
    with pytest.raises(Corrupt) as refused:
        database.write_blocking(lambda tx: None)
    database.close()
    assert [change.condition for change in changes] == [Condition.CORRUPT]
    assert str(_assert_quarantined(path, damaged)) in refused.value.message


def _flipped(content: bytes, rng: random.Random) -> bytes:
    changed = bytearray(content)
    for _ in range(rng.choice((1, 4, 64))):
        changed[rng.randrange(len(changed))] ^= rng.randrange(1, 256)
    return bytes(changed)


def _rows(path: Path, migrations: Path) -> int:
    """Open with a check, and count in every way: through the table, the index and the other table."""
    database = Database.open(path, migrations=migrations, check=True)
    try:
        reader = database.reader()
        counts = {
            reader.scalar("SELECT count(*) FROM things NOT INDEXED"),
            reader.scalar("SELECT count(name) FROM things INDEXED BY sqlite_autoindex_things_1"),
            len(reader.all("SELECT * FROM things")),
            len(reader.all("SELECT * FROM facts")),
        }
    finally:
        database.close()
    (count,) = counts
    assert isinstance(count, int)
    return count


def _assert_quarantined(path: Path, damaged: dict[str, bytes]) -> Path:
    """The copy and the original are both what was damaged, WAL and all; returns where the copy is."""
    (copy,) = (path.parent / "quarantine").iterdir()
    for name, content in damaged.items():
        assert (copy / name).read_bytes() == content
        assert path.with_name(name).read_bytes() == content
    return copy
