"""What the hooks of a runner left for us (hook.py), read from where we stopped.

Rule 1: the offset is committed with what came of the lines before it. A crash in between has them read again, which
harms nothing: what they say is a state, or is noted once.
Rule 2: the agent's side may write what it likes: a line that has not our shape is passed over, whatever its length.
Rule 3: a file is emptied when all of it was read, after the offset 0 was committed, and never under a hook that writes.
"""

import fcntl
import os
import stat
from contextlib import suppress
from datetime import datetime
from pathlib import Path
from typing import NamedTuple

from stratavore.clock import from_unix_ms
from stratavore.hook import LARGEST_LINE, SPOOL

EMPTIED_FROM = 256 << 10
READ_AT_ONCE = 1 << 20
_OPENING = os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC


class Heard(NamedTuple):
    """One call of a hook: when, which event, whether our verdict blocked it, and what the agent said, as JSON."""

    at: datetime
    event: str
    is_blocked: bool
    said: bytes


class Piece(NamedTuple):
    """The lines that were read, and where the next begin. `is_more`: there are more, that can be read at once."""

    heard: list[Heard]
    offset: int
    is_more: bool


def read(directory: Path, offset: int) -> Piece:
    """The whole lines behind `offset`, or from the beginning of a file that is shorter; none if there is no file."""
    try:
        file = os.open(directory / SPOOL, os.O_RDONLY | _OPENING)
    except OSError:
        return Piece([], offset, is_more=False)
    try:
        found = os.fstat(file)
        if not stat.S_ISREG(found.st_mode):
            return Piece([], offset, is_more=False)
        start = offset if offset <= found.st_size else 0
        return _pieces(os.pread(file, READ_AT_ONCE, start), start, found.st_size)
    except OSError:
        return Piece([], offset, is_more=False)
    finally:
        os.close(file)


def is_worth_emptying(offset: int) -> bool:
    """Whether so much was read that the file should be emptied."""
    return offset >= EMPTIED_FROM


def empty(directory: Path, offset: int) -> bool:
    """Empty the file if there is nothing behind `offset`; whether that was so."""
    with suppress(OSError):
        file = os.open(directory / SPOOL, os.O_WRONLY | _OPENING)
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            if os.fstat(file).st_size == offset:
                os.ftruncate(file, 0)
                return True
        finally:
            os.close(file)
    return False


def _pieces(data: bytes, start: int, size: int) -> Piece:
    end = data.rfind(b"\n") + 1
    if not end and len(data) == READ_AT_ONCE:  # no hook of ours writes such a line: it is jumped over
        end = len(data)
    heard = [found for line in data[:end].split(b"\n") if (found := _heard(line)) is not None]
    return Piece(heard, start + end, is_more=bool(end) and start + len(data) < size)


def _heard(line: bytes) -> Heard | None:
    parts = line.split(b" ", 3)
    if len(parts) != 4 or len(line) > LARGEST_LINE + 200:
        return None
    try:
        at = from_unix_ms(int(parts[0]))
        event = parts[1].decode("ascii")
    except (ValueError, OverflowError, OSError):
        return None
    return Heard(at, event[:40], parts[2] == b"block", parts[3])
