"""The lock of the state directory: one writer process, ever.

Rule 1: whoever writes the database holds this lock for its whole life; the kernel frees it with the process.
Rule 2: the file says who holds it, for people; only the lock itself decides.
"""

import fcntl
import os
import time
from pathlib import Path
from typing import NamedTuple, Self

from stratavore.errors import AlreadyRunning

_RETRY_SECONDS = 0.3
_PAUSE_SECONDS = 0.02


class Holder(NamedTuple):
    """Who wrote the file: the boot, the pid and the start time in clock ticks (field 22 of /proc/PID/stat)."""

    boot_id: str
    pid: int
    start_time: int


class LockHeld:
    """The lock, until `release` or the end of the process."""

    def __init__(self, descriptor: int) -> None:
        self._descriptor = descriptor

    def release(self) -> None:
        """Let go. The file stays: deleting it would let two processes lock two files."""
        if self._descriptor >= 0:
            os.close(self._descriptor)
            self._descriptor = -1

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.release()


def hold_lock(path: Path) -> LockHeld:
    """Take the lock at `path` and write our name into it.

    Raises:
        AlreadyRunning: another process holds it.
    """
    descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW | os.O_CLOEXEC, 0o600)
    try:
        _lock(descriptor, path)
        os.ftruncate(descriptor, 0)
        os.pwrite(descriptor, " ".join(map(str, _ourselves())).encode() + b"\n", 0)
    except BaseException:
        os.close(descriptor)
        raise
    return LockHeld(descriptor)


def last_holder(path: Path) -> Holder | None:
    """Who holds the lock, or held it last; None when the file says nothing readable."""
    try:
        boot_id, pid, start_time = path.read_text().split()
        return Holder(boot_id, int(pid), int(start_time))
    except (OSError, ValueError):
        return None


def _lock(descriptor: int, path: Path) -> None:
    # A zygote that looks whether a daemon lives holds the lock for microseconds: that is not a refusal.
    deadline = time.monotonic() + _RETRY_SECONDS
    while True:
        try:
            return fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            if time.monotonic() >= deadline:
                break
            time.sleep(_PAUSE_SECONDS)
    holder = last_holder(path)
    who = f"pid {holder.pid}" if holder else "another process"
    raise AlreadyRunning(f"{path.parent} is in use by {who}")


def _ourselves() -> Holder:
    boot_id = Path("/proc/sys/kernel/random/boot_id").read_text().strip()
    # The command's name may hold spaces and brackets: count the fields behind the last bracket.
    fields = Path("/proc/self/stat").read_text().rpartition(")")[2].split()
    return Holder(boot_id, os.getpid(), int(fields[19]))
