"""An answer means that it is stored: a process that is killed at any moment never answered what is not there.

The oracle is a journal that the killed process itself writes and flushes, one line for each answer that it got.
"""

import random
import time
from pathlib import Path

import pytest

from stratavore.store.database import Database
from tests.store.conftest import Python

ANSWERS_AND_NOTES = """
import asyncio, os, sys
from pathlib import Path
from stratavore.store.database import Database

path, migrations, journal, early = Path(sys.argv[1]), Path(sys.argv[2]), sys.argv[3], sys.argv[4] == "early"
notes = os.open(journal, os.O_WRONLY | os.O_CREAT | os.O_APPEND)

def note(name):
    os.write(notes, f"{name}\\n".encode())
    os.fdatasync(notes)

def add(name):
    def write(tx):
        tx.execute("INSERT INTO things (name, size) VALUES (?, 1)", (name,))
        tx.execute("INSERT INTO facts (thing, what) VALUES (?, 'made')", (tx.last_insert_id(),))
    return write

async def caller(database, number):
    for n in range(1_000_000):
        name = f"{os.getpid()}.{number}.{n}"
        if early:
            note(name)
        await database.write(add(name))
        if not early:
            note(name)

async def main():
    database = Database.open(path, migrations=migrations)
    print("open", flush=True)
    await asyncio.gather(*(caller(database, number) for number in range(10)))

asyncio.run(main())
"""


class Killed:
    """What is there after a process was killed while it wrote, and what it had been answered."""

    def __init__(self, path: Path, migrations: Path, journal: Path) -> None:
        self.answered = set(journal.read_text().split())
        database = Database.open(path, migrations=migrations, check=True)
        reader = database.reader()
        self.stored = {row["name"] for row in reader.all("SELECT name FROM things")}
        self.facts = reader.scalar("SELECT count(*) FROM facts")
        self.problems = database.check(full=True)
        database.close()


@pytest.mark.parametrize("nth", [1, 2, 20])
@pytest.mark.parametrize("failpoint", ["store.commit", "store.after_commit"])
def test_a_kill_beside_the_commit_loses_no_answer(
    path: Path, migrations: Path, tmp_path: Path, python: Python, failpoint: str, nth: int
) -> None:
    armed = f"{failpoint}=kill@{nth}"
    child = python(ANSWERS_AND_NOTES, path, migrations, tmp_path / "journal", "late", STRATAVORE_FAILPOINTS=armed)
    child.communicate(timeout=60)
    assert child.returncode == -9
    killed = Killed(path, migrations, tmp_path / "journal")
    assert killed.answered <= killed.stored
    assert len(killed.stored) == killed.facts
    assert killed.problems == []
    if failpoint == "store.after_commit":
        assert killed.stored > killed.answered  # The last batch is stored, and nobody was told.


@pytest.mark.parametrize("kills", [5, pytest.param(100, marks=[pytest.mark.long, pytest.mark.timeout(600)])])
def test_a_kill_at_any_moment_loses_no_answer(
    path: Path, migrations: Path, tmp_path: Path, python: Python, rng: random.Random, kills: int
) -> None:
    for _ in range(kills):
        child = python(ANSWERS_AND_NOTES, path, migrations, tmp_path / "journal", "late")
        assert child.stdout is not None
        assert child.stdout.readline() == "open\n"
        time.sleep(rng.uniform(0, 0.3))  # The moment of the kill is what is random here; nothing is waited for.
        child.kill()
        child.wait()
        killed = Killed(path, migrations, tmp_path / "journal")
        assert killed.answered <= killed.stored
        assert len(killed.stored) == killed.facts
        assert killed.problems == []


def test_an_answer_before_the_commit_would_be_noticed(
    path: Path, migrations: Path, tmp_path: Path, python: Python
) -> None:
    """The negative control: a journal that is written too early must turn the tests above red."""
    armed = "store.commit=kill@3"
    child = python(ANSWERS_AND_NOTES, path, migrations, tmp_path / "journal", "early", STRATAVORE_FAILPOINTS=armed)
    child.communicate(timeout=60)
    killed = Killed(path, migrations, tmp_path / "journal")
    assert killed.answered - killed.stored
