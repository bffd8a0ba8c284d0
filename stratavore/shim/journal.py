"""The journal of a living shim, and the thread that makes it durable before anybody is told of an exit.

Rule 1: the room of an entry is reserved before its run is spawned, so a full disk cannot lose an exit.
Rule 2: only the helper thread waits for the disk, and it does nothing else.
Rule 3: the journal begins again at its start only when every exit in it is marked as acked.
"""

import _thread
import os
from collections import deque
from collections.abc import Callable

from stratavore.shim.loop import Loop, complain, guarded
from stratavore.shim.record import ACKED_AT, ExitRecord, entry

_STRETCH = 1 << 18

Work = Callable[[], None]


class Disk:
    """The helper thread: work that may stall, urgent work first."""

    def __init__(self, loop: Loop) -> None:
        self._urgent: deque[tuple[Work, Work]] = deque()
        self._patient: deque[tuple[Work, Work]] = deque()
        self._done: deque[Work] = deque()
        self._ask = os.eventfd(0, os.EFD_CLOEXEC)
        self._tell = os.eventfd(0, os.EFD_CLOEXEC | os.EFD_NONBLOCK)
        loop.watch(self._tell, self._finished, is_vital=True)

    def start(self) -> None:
        """Only after the fork: the zygote never has a thread."""
        _thread.start_new_thread(self._serve, ())  # `threading` would cost each shim 200 KiB of its own

    def do(self, work: Work, then: Work = lambda: None, *, urgent: bool = False) -> None:
        """Do `work` in the thread, and `then` in the loop."""
        (self._urgent if urgent else self._patient).append((work, then))
        os.eventfd_write(self._ask, 1)

    def catch_up(self) -> None:
        """Do all that was asked, here and now: for the rehearsal, which has no thread."""
        while self._urgent or self._patient:
            self._step()
        self._say_done()

    def _serve(self) -> None:
        while True:
            os.read(self._ask, 8)  # eventfd_read would not go on after a signal
            while self._urgent or self._patient:
                if self._step():
                    self._say_done()
            self._say_done()

    def _step(self) -> bool:
        """Do the next; whether somebody waits for it."""
        is_urgent = bool(self._urgent)
        work, then = (self._urgent or self._patient).popleft()
        try:
            work()
        except Exception as problem:  # the thread must outlive it: without it no exit is ever told
            complain(f"the helper thread: {problem!r}")
        self._done.append(then)
        return is_urgent

    def _say_done(self) -> None:
        if self._done:  # each wake of the loop takes it from the runners: what is patient is told of together
            os.eventfd_write(self._tell, 1)

    def _finished(self, _events: int) -> None:
        os.eventfd_read(self._tell)
        while self._done:
            guarded(self._done.popleft())


class Journal:
    """Exits, written in the order in which they happened."""

    def __init__(self, path: str, loop: Loop, disk: Disk) -> None:
        self._loop, self._disk = loop, disk
        self._fd = os.open(path, os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
        self._end = self._size = self._promised = self._sequence = 0
        self._unacked: dict[str, int] = {}
        self._waiting: list[tuple[int, bytes, Work]] = []
        self._batch: list[tuple[int, bytes, Work]] = []
        self._has_failed = False
        self.promise(0)

    def promise(self, room: int) -> None:
        """Reserve the room for one exit. Raises OSError: the disk has none."""
        need = self._end + self._promised + room
        if need > self._size or not self._size:
            stretch = max(_STRETCH, need - self._size)
            os.posix_fallocate(self._fd, self._size, stretch)
            os.fdatasync(self._fd)
            self._size += stretch
        self._promised += room

    def release(self, room: int) -> None:
        """The run was not spawned after all, or its exit is written."""
        self._promised -= room

    def write(self, record: ExitRecord, room: int, then: Work) -> None:
        """Write the exit into its room; call `then` when it is durable. Tries until the disk takes it."""
        self._sequence += 1
        data = entry(self._sequence, record)
        self._unacked[record.key] = self._end
        self._waiting.append((self._end, data, then))
        self._end += len(data)
        self.release(room)
        if not self._batch:
            self._flush()

    def ack(self, key: str) -> None:
        """The exit is known elsewhere: a replay leaves it out."""
        place = self._unacked[key] + ACKED_AT
        self._disk.do(lambda: self._mark_acked(place), lambda: self._forget(key))

    def _flush(self) -> None:
        self._batch, self._waiting = self._waiting, []
        if self._batch:
            self._disk.do(self._write, self._written, urgent=True)

    def _write(self) -> None:
        self._has_failed = True
        for offset, data, _ in self._batch:
            os.pwrite(self._fd, data, offset)
        os.fdatasync(self._fd)
        self._has_failed = False

    def _written(self) -> None:
        if self._has_failed:
            self._loop.later(1, lambda: self._disk.do(self._write, self._written, urgent=True))
            return
        batch = self._batch
        self._flush()
        for _, _, then in batch:
            guarded(then)

    def _mark_acked(self, place: int) -> None:
        os.pwrite(self._fd, b"\1", place)

    def _forget(self, key: str) -> None:
        self._unacked.pop(key, None)
        if not self._unacked and self._end > self._size // 2:
            self._end = 0
