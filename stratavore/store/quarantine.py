"""A damaged database is copied aside, and nothing of the original is changed.

Rule 1: the file, its WAL and its shm are copied together; none is moved or deleted.
Rule 2: the same damage is copied once: a daemon that restarts over and over does not fill the disk.
"""

import os
import shutil
from datetime import UTC, datetime
from pathlib import Path
from typing import IO

from stratavore.errors import Corrupt
from stratavore.store.place import side_file

# Closing any descriptor of a file drops every POSIX lock that this process has on it, those of SQLite's readers too
# (https://sqlite.org/howtocorrupt.html, 2.2). So what is copied here stays open until the process ends.
_kept_open: list[IO[bytes]] = []


def quarantine(path: Path, reason: str) -> Corrupt:
    """Copy the database aside; return the error that says so."""
    try:
        copy = _already_there(path) or _copy(path)
    except OSError as error:
        return Corrupt(f"{reason}; it could not be copied to quarantine: {error.strerror}")
    return Corrupt(f"{reason}; a copy is in {copy}")


def _copy(path: Path) -> Path:
    target = path.parent / "quarantine" / datetime.now(UTC).strftime("%Y%m%dT%H%M%S.%fZ")
    target.mkdir(mode=0o700, parents=True)
    for source in _present(path):
        into = target / source.name
        opened = source.open("rb")
        _kept_open.append(opened)
        with open(os.open(into, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "wb") as copied:
            shutil.copyfileobj(opened, copied, 1024 * 1024)
            copied.flush()
            os.fsync(copied.fileno())
        shutil.copystat(source, into)
    return target


def _already_there(path: Path) -> Path | None:
    for copy in sorted((path.parent / "quarantine").glob("*"), reverse=True):
        # The shm is rebuilt at every start, so it says nothing about the damage.
        if all(_looks_like(file, copy / file.name) for file in _present(path) if not file.name.endswith("-shm")):
            return copy
    return None


def _present(path: Path) -> list[Path]:
    files = (path, side_file(path, "-wal"), side_file(path, "-shm"))
    return [file for file in files if file.exists()]


def _looks_like(one: Path, other: Path) -> bool:
    if not other.exists():
        return False
    left, right = one.stat(), other.stat()
    return (left.st_size, left.st_mtime_ns) == (right.st_size, right.st_mtime_ns)
