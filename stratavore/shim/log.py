"""The output of one run: an append-only file, and beside it `<name>.idx`, which tells what the bytes cannot.

Rule 1: the offset of a byte in the file never changes; beyond the cap the head is punched out, not cut off.
Rule 2: the disk can refuse bytes. They are counted, the gap is noted as soon as the disk takes a line, nobody dies.
Rule 3: a line of the sidecar is `KIND MILLISECONDS OFFSET [REST]`:
  mark       at that time the log was OFFSET bytes long (at most one a second, fewer in a long sidecar)
  gap N      at OFFSET the disk refused N bytes
  head SEQ…  the bytes before OFFSET are gone; ESC and each SEQ put a fresh terminal into the modes in force there
"""

import os
import re
import time

from stratavore.shim.kernel import punch_hole

_PAGE = 4096
_LONG_SIDECAR = 1 << 18
_MAX_PUNCH = 1 << 24
_MODE = re.compile(rb"\x1b(\[\?[\d;]+[hl]|\[[<>=][\d;]*u|\[!p|[c=>])")
_APPEND = os.O_WRONLY | os.O_APPEND | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW


class Log:
    """The open log of a run that lives."""

    __slots__ = (
        "_cap", "_fd", "_gap", "_marked", "_marked_at", "_modes", "_sidecar", "_sidecar_bytes", "_slack", "_synced",
        "dropped", "head", "path", "size",
    )  # fmt: skip

    def __init__(self, path: str, cap_bytes: int) -> None:
        """Make the file. Raises OSError, FileExistsError among them: a key is used once."""
        self.path = path
        self.size = self.dropped = self.head = 0
        self._slack = max(_PAGE, min(1 << 20, cap_bytes // 8))
        self._cap = cap_bytes
        self._modes: list[bytes] = []
        self._gap = (0, 0)
        self._sidecar: int | None = None
        self._sidecar_bytes = 0
        self._marked_at = self._marked = self._synced = 0
        self._fd = os.open(path, _APPEND | os.O_EXCL, 0o600)

    def append(self, data: bytes) -> None:
        """Keep the bytes, or as many of them as the disk takes."""
        if self._gap[1]:
            self._note_gap()
        try:
            written = os.write(self._fd, data)
        except OSError:
            written = 0
        self.size += written
        if missing := len(data) - written:
            self.dropped += missing
            offset, before = self._gap
            if before and offset != self.size:
                self._note_gap()
                before = 0
            self._gap = (self.size, before + missing)
        if self.size - self.head > self._cap + self._slack:
            self._punch()

    def sync(self) -> None:
        """Bring the bytes to the disk. This is the part that may stall."""
        size = self.size
        try:
            if self._synced != size:
                os.fdatasync(self._fd)
                self._synced = size
        except OSError:
            pass

    def mark(self) -> None:
        """Note the time and the length, if it grew."""
        if self._gap[1]:
            self._note_gap()
        now = time.time_ns() // 1_000_000
        if self.size != self._marked and now - self._marked_at >= 1000 * (self._sidecar_bytes // _LONG_SIDECAR):
            self._marked_at, self._marked = now, self.size
            self._note(f"mark {now} {self.size}")

    def close(self) -> None:
        """Sync and close: the helper thread does it, after every `sync` that was asked."""
        self.sync()
        os.close(self._fd)
        if self._sidecar is not None:
            os.close(self._sidecar)

    def discard(self) -> None:
        """Nothing was started after all."""
        os.close(self._fd)
        os.unlink(self.path)

    def _note_gap(self) -> None:
        offset, missing = self._gap
        if self._note(f"gap {time.time_ns() // 1_000_000} {offset} {missing}"):
            self._gap = (0, 0)

    def _note(self, line: str) -> bool:
        data = f"{line}\n".encode()
        try:
            if self._sidecar is None:
                self._sidecar = os.open(self.path + ".idx", _APPEND, 0o600)
            written = os.write(self._sidecar, data)
        except OSError:
            return False
        self._sidecar_bytes += written
        return written == len(data)

    def _punch(self) -> None:
        head = min((self.size - self._cap) // _PAGE * _PAGE, self.head + _MAX_PUNCH)
        fd = -1
        try:
            fd = os.open(f"/proc/self/fd/{self._fd}", os.O_RDWR | os.O_CLOEXEC)  # so also a log that was deleted
            # A sequence that begins before the new head counts, so read a little beyond.
            self._modes = modes_after(self._modes, os.pread(fd, head - self.head + 32, self.head), head - self.head)
            if not punch_hole(fd, self.head, head - self.head):
                self._cap = 1 << 62  # this file system keeps everything
                return
        except OSError:  # the next bytes try again
            return
        finally:
            if fd >= 0:
                os.close(fd)
        self.head = head
        modes = " ".join(mode.decode("ascii") for mode in self._modes)
        self._note(f"head {time.time_ns() // 1_000_000} {head} {modes}".rstrip())


def modes_after(modes: list[bytes], data: bytes, end: int) -> list[bytes]:
    """The escape sequences (without ESC) that bring a fresh terminal into the modes in force after `data[:end]`, if
    `modes` do so before it: the last of each private mode, keyboard protocol and keypad sequence since a reset."""
    kept = dict.fromkeys(modes)
    for match in _MODE.finditer(data):
        if match.start() >= end:
            break
        if match[1] in (b"c", b"[!p"):
            kept.clear()
        else:
            kept.pop(match[1], None)
            kept[match[1]] = None
    return list(kept)
