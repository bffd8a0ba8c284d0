"""One file that an agent appends to, read by slices, whatever becomes of it meanwhile.

Rule 1: a line is handed out whole or not at all; its end must have been written.
Rule 2: where the file is not the one that was read before, it is read from its beginning: that counts nothing twice,
because a call has one key for ever. It is the same one if device, inode, the beginning of its first line and the last
bytes before the offset are; times of change decide nothing.
Rule 3: a file that was renamed or deleted is read to its end through the descriptor that is still open.
Rule 4: nothing is kept here that decides anything: with the row that was returned, another process goes on.
"""

import os
from collections import OrderedDict
from collections.abc import Sequence
from hashlib import sha256
from pathlib import Path
from typing import NamedTuple

import msgspec

from stratavore.agents.records import LONGEST_LINE
from stratavore.foreign import open_below
from stratavore.store.tails import Tail

TURN_BYTES = 256 * 1024
"""What is read of one file before others have their turn."""

MOST_DESCRIPTORS = 200

_MARK_BYTES = 256


class Slice(NamedTuple):
    """What one turn brought. `is_anew`: its lines begin at the beginning of another file, so what was remembered of the
    lines before no longer holds. `is_more`: ask again at once. `is_gone`: the file was deleted, and read to its end."""

    lines: Sequence[tuple[int, bytes]]
    tail: Tail
    is_anew: bool = False
    is_more: bool = False
    is_gone: bool = False


class Tails:
    """Reads many files with few descriptors: those that were read last stay open."""

    def __init__(self, most: int = MOST_DESCRIPTORS) -> None:
        self._most = most
        self._open: OrderedDict[Path, int] = OrderedDict()

    def close(self) -> None:
        while self._open:
            os.close(self._open.popitem()[1])

    def read(self, root: Path, was: Tail, *, limit: int = TURN_BYTES, finish: bool = False) -> Slice:
        """The next lines of the file of `was`, which lies below `root`. `finish`: nobody writes it any more, so its
        last line is whole if it is a whole JSON object.

        Raises:
            Refused: what stands there is not to be read.
            OSError: it cannot be read; a missing file is `is_gone` instead.
        """
        path = Path(was.path)
        there = _identity(path)
        if path not in self._open:
            if there is None:
                return Slice((), was, is_gone=True)
            self._keep(path, open_below(root, path))
        self._open.move_to_end(path)
        fd = self._open[path]
        seen = os.fstat(fd)
        is_left = there != (seen.st_dev, seen.st_ino)
        found = _next_slice(fd, seen, was, limit, finish=finish or is_left)
        if not is_left or found.lines or found.is_more or found.tail.size_seen != was.size_seen:
            return found._replace(is_more=found.is_more or is_left)
        os.close(self._open.pop(path))
        return found._replace(is_gone=there is None, is_more=there is not None)

    def _keep(self, path: Path, fd: int) -> None:
        self._open[path] = fd
        while len(self._open) > self._most:
            os.close(self._open.popitem(last=False)[1])


def _next_slice(fd: int, seen: os.stat_result, was: Tail, limit: int, *, finish: bool) -> Slice:
    mark = _Mark.of(fd, was.offset)
    is_anew = not _is_same(seen, was, mark)
    if is_anew:
        was, mark = was._replace(generation=was.generation + 1, offset=0, is_skipping=0, memory=""), _Mark()
    cutter = _Cutter(fd, seen.st_size, was, mark)
    lines = cutter.lines(limit)
    if finish:
        lines += cutter.last()
    after = was._replace(
        device=seen.st_dev,
        inode=seen.st_ino,
        head_sha256=mark.digest(),
        offset=cutter.offset,
        size_seen=seen.st_size,
        is_skipping=int(cutter.is_skipping),
        bad_lines=cutter.bad_lines,
        skipped_bytes=cutter.skipped_bytes,
    )
    return Slice(lines, after, is_anew=is_anew, is_more=cutter.is_more)


def _is_same(seen: os.stat_result, was: Tail, mark: "_Mark") -> bool:
    """Whether what was read before is the beginning of this file."""
    if was.offset == 0:
        return True
    is_place = (was.device, was.inode) == (seen.st_dev, seen.st_ino)
    return is_place and mark.digest() == was.head_sha256


def _identity(path: Path) -> tuple[int, int] | None:
    """What stands at the path now; None if nothing does."""
    try:
        seen = os.stat(path, follow_symlinks=False)
    except (FileNotFoundError, NotADirectoryError):
        return None
    return seen.st_dev, seen.st_ino


class _Mark:
    """What tells the consumed part of a file from others: the beginning of its first line, and its last bytes.

    It is made of the bytes that were handed out, never read again: the file may be another one by then.
    """

    def __init__(self, head: bytes = b"", last: bytes = b"") -> None:
        self._head = head
        self._last = last

    @classmethod
    def of(cls, fd: int, offset: int) -> "_Mark":
        begin = max(0, offset - _MARK_BYTES)
        return cls(os.pread(fd, min(_MARK_BYTES, offset), 0), os.pread(fd, offset - begin, begin))

    def add(self, data: bytes) -> None:
        self._head += data[: _MARK_BYTES - len(self._head)]
        self._last = (self._last + data[-_MARK_BYTES:])[-_MARK_BYTES:]

    @property
    def ends_in_hole(self) -> bool:
        return self._last.endswith(b"\0")

    def digest(self) -> str:
        """Empty before anything was consumed."""
        first = self._head.partition(b"\n")[0]
        return sha256(first + b"\n" + self._last).hexdigest() if self._head else ""


class _Cutter:
    """Cuts one turn's bytes into lines. `offset` moves behind what was consumed."""

    def __init__(self, fd: int, size: int, was: Tail, mark: _Mark) -> None:
        self._fd = fd
        self._size = size
        self._mark = mark
        self._rest = b""
        """What was read behind the offset, and is no line yet."""
        self._lines: list[tuple[int, bytes]] = []
        self._is_in_hole = mark.ends_in_hole
        self.offset = was.offset
        self.is_skipping = bool(was.is_skipping)
        self.is_more = False
        self.bad_lines = was.bad_lines
        self.skipped_bytes = was.skipped_bytes

    def lines(self, limit: int) -> list[tuple[int, bytes]]:
        """Whole lines; at least one, if there is one that may be read, however long it is."""
        begin = self.offset
        while self.offset + len(self._rest) - begin < limit or (self._rest and not self._lines):
            piece = self._piece(limit)
            if not piece:
                return self._lines
            self._cut(self._skip(piece) if self.is_skipping else piece)
        self.is_more = self.offset + len(self._rest) < self._size
        return self._lines

    def last(self) -> list[tuple[int, bytes]]:
        """The line without an end, if it is a whole object: half of one never is."""
        line = self._rest
        if self.is_more or self.is_skipping or not line.startswith(b"{") or not _is_json(line):
            return []
        self._consume(line)
        return [(self.offset - len(line), line)]

    def _piece(self, limit: int) -> bytes:
        """More, in steps that grow with what is waiting: a long line is not copied again for each of them."""
        at = self.offset + len(self._rest)
        return os.pread(self._fd, max(0, min(max(limit, len(self._rest)), self._size - at)), at)

    def _cut(self, piece: bytes) -> None:
        end = piece.rfind(b"\n") + 1
        if end:
            whole, self._rest = self._rest + piece[:end], b""
            at = self.offset
            for line in whole.split(b"\n")[:-1]:
                self._line(line, at)
                at += len(line) + 1
            self._consume(whole)
        self._wait(piece[end:])

    def _line(self, line: bytes, at: int) -> None:
        text = line.lstrip(b"\0")
        self.bad_lines += len(text) != len(line) and not self._is_in_hole
        self._is_in_hole = False
        if len(text) > LONGEST_LINE:
            self.skipped_bytes += len(text)
        elif text and not text.isspace():
            self._lines.append((at + len(line) - len(text), text))

    def _wait(self, piece: bytes) -> None:
        """Keep the beginning of a line, unless it is too long, or nothing but the hole that a crash left."""
        if not self._rest and piece.startswith(b"\0"):
            text = piece.lstrip(b"\0")
            self.bad_lines += not self._is_in_hole
            self._consume(piece[: len(piece) - len(text)])
            self._is_in_hole, piece = True, text
        self._is_in_hole = self._is_in_hole and not piece
        self._rest += piece
        if len(self._rest) > LONGEST_LINE:
            self.is_skipping = True
            self.skipped_bytes += len(self._rest)
            self._consume(self._rest)
            self._rest = b""

    def _skip(self, piece: bytes) -> bytes:
        """Leave out the rest of a line that is too long; what follows it."""
        line, end, after = piece.partition(b"\n")
        self.is_skipping = not end
        self.skipped_bytes += len(line)
        self._consume(line + end)
        return after

    def _consume(self, data: bytes) -> None:
        self.offset += len(data)
        self._mark.add(data)


def _is_json(line: bytes) -> bool:
    try:
        msgspec.json.decode(line, type=msgspec.Raw)
    except (msgspec.MsgspecError, ValueError, RecursionError):
        return False
    return True
