"""A database in a directory of its own, and the faults that it has to stand."""

import os
import random
import subprocess
import sys
import tempfile
import textwrap
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from stratavore.store.database import Database

_SEED = os.environ.get("STRATAVORE_SEED")  # Read before the fixture of all tests clears the environment.
ROOT = Path(__file__).parents[2]

SCHEMA = """
CREATE TABLE things (id INTEGER PRIMARY KEY, name TEXT NOT NULL UNIQUE, size INTEGER NOT NULL) STRICT;
CREATE TABLE facts (seq INTEGER PRIMARY KEY AUTOINCREMENT, thing INTEGER NOT NULL REFERENCES things (id),
                    what TEXT NOT NULL) STRICT;
"""


@pytest.fixture
def migrations(tmp_path: Path) -> Path:
    """A schema of two tables: things, and the facts about them."""
    directory = tmp_path / "migrations"
    directory.mkdir()
    (directory / "0001_things.sql").write_text(SCHEMA)
    return directory


@pytest.fixture
def path(tmp_path: Path) -> Path:
    """Where the database will be; its directory is not there yet."""
    return tmp_path / "state" / "state.db"


@pytest.fixture
def database(path: Path, migrations: Path) -> Iterator[Database]:
    opened = Database.open(path, migrations=migrations)
    yield opened
    opened.close()


@pytest.fixture
def memory() -> Iterator[Path]:
    """A directory whose own flushes cost nothing: for tests that bring their own faults, hundreds of times."""
    shared = Path("/dev/shm")
    with tempfile.TemporaryDirectory(dir=shared if shared.is_dir() else None) as directory:
        yield Path(directory)


@pytest.fixture
def rng(request: pytest.FixtureRequest) -> random.Random:
    """Randomness that prints its seed, and takes it back from STRATAVORE_SEED."""
    seed = int(_SEED or random.randrange(1 << 32))
    print(f"STRATAVORE_SEED={seed}")
    return random.Random(seed)


Python = Callable[..., "subprocess.Popen[str]"]


@pytest.fixture
def python() -> Iterator[Python]:
    """Starts `python -c CODE ARGS…`, optionally under another command; ends what is left of it."""
    started: list[subprocess.Popen[str]] = []

    def start(code: str, *args: object, under: tuple[str, ...] = (), **environ: str) -> subprocess.Popen[str]:
        child = subprocess.Popen(
            [*under, sys.executable, "-c", textwrap.dedent(code), *map(str, args)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            env={**os.environ, "PYTHONPATH": str(ROOT), **environ},
        )
        started.append(child)
        return child

    yield start
    for child in started:
        child.kill()
        child.communicate()


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """A file system of 8 MiB."""
    directory = tmp_path / "disk"
    directory.mkdir()
    mount = ["mount", "-t", "tmpfs", "-o", "size=8m,mode=0700", "tmpfs", str(directory)]
    tried = subprocess.run(mount, capture_output=True, text=True, check=False)
    if tried.returncode != 0:
        pytest.skip(f"cannot mount a tmpfs here: {tried.stderr.strip()}")
    yield directory
    subprocess.run(["umount", "--lazy", str(directory)], check=True)
