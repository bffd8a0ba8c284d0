"""The output of one run, as its file and sidecar hold it.

Rule 1: a hole is never shown as zeros: a punched head is skipped, also when it is punched while somebody reads.
Rule 2: what the disk refused is a Gap at its place, not a silent seam.
"""

import os
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple, Self

from stratavore.shim.client import Sidecar, read_sidecar
from stratavore.terminal.modes import Modes

CHUNK = 1 << 16


class Run(NamedTuple):
    """Where the output of a run is, and the shim that may still hold it."""

    key: str
    log: Path
    shim: Path | None
    """The directory of its shim; None if the run has ended."""
    rows: int = 24
    cols: int | None = 80
    """None: it writes to no terminal, so nothing wraps."""


class Gap(NamedTuple):
    """Bytes that are missing."""

    missing_bytes: int
    reason: str = "disk full"

    @property
    def marker(self) -> str:
        return f"[stratavore: {self.missing_bytes:,} bytes were dropped here: {self.reason}]"


Piece = bytes | Gap


class LogFile:
    """An open log. Offsets are offsets of the file, and of the run's output."""

    def __init__(self, path: Path) -> None:
        """Raises FileNotFoundError."""
        self.path = path
        self._fd = os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NOFOLLOW)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        os.close(self._fd)

    @property
    def size(self) -> int:
        return os.fstat(self._fd).st_size

    def read(self, offset: int, limit: int = CHUNK) -> tuple[int, bytes]:
        """The first kept bytes at or after `offset`, and where they begin; b"" at the end."""
        while True:
            start = self._next_kept(offset)
            data = os.pread(self._fd, limit, start)
            # Punched while we read? Then zeros may stand at its beginning: again.
            if not data or self._next_kept(start) == start:
                return start, data
            offset = start

    def _next_kept(self, offset: int) -> int:
        try:
            return os.lseek(self._fd, offset, os.SEEK_DATA)
        except OSError:  # ENXIO: at or beyond the end
            return offset

    def sidecar(self) -> Sidecar:
        return read_sidecar(self.path)

    def pieces(self, start: int, end: int | None = None) -> Iterator[Piece]:
        """What lies between the two offsets, with what is missing there."""
        end = self.size if end is None else end
        gaps = [gap for gap in self.sidecar().gaps if start <= gap[0] <= end]
        while start < end:
            limit = min([CHUNK, end - start, *(at - start for at, _ in gaps if at > start)])
            while gaps and gaps[0][0] == start:
                yield Gap(gaps.pop(0)[1])
            begin, data = self.read(start, limit)
            if not data:
                return
            start = begin + len(data)
            gaps = [gap for gap in gaps if gap[0] >= start]
            yield data
        for _, missing in gaps:
            yield Gap(missing)

    def line_start(self, offset: int) -> int:
        """The beginning of the first line at or after `offset`; `offset` itself if none begins in the next CHUNK."""
        if offset <= self.sidecar().head:
            return self.sidecar().head
        start, data = self.read(offset - 1)
        return start + data.find(b"\n") + 1 if b"\n" in data else offset

    def modes_at(self, offset: int) -> Modes:
        """The terminal modes in force after `offset` bytes."""
        modes, sidecar = Modes(), self.sidecar()
        modes.feed(sidecar.preamble)
        for piece in self.pieces(sidecar.head, offset):
            if isinstance(piece, bytes):
                modes.feed(piece)
        return modes

    def offset_at(self, since_ms: int) -> int:
        """Where the output begins that came after the time (UTC, milliseconds), a second or so earlier at most."""
        sidecar = self.sidecar()
        before = [at for time, at in sidecar.marks if time <= since_ms]
        return max([sidecar.head, *before])
