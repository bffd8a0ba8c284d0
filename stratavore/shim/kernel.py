"""What the shim asks of the kernel: /proc, prctl and fallocate. Nothing here waits."""

import ctypes
import os
from collections.abc import Iterable, Iterator

from stratavore.shim.place import MARKER

_libc = ctypes.CDLL(None, use_errno=True)
_PR_SET_CHILD_SUBREAPER = 36
_PUNCH_HOLE_KEEP_SIZE = 0x02 | 0x01


def become_subreaper() -> None:
    """Orphans among our descendants become our children instead of init's."""
    _libc.prctl(_PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0)


def punch_hole(fd: int, offset: int, length: int) -> bool:
    """Give the bytes back to the file system; they read as zeros. False if the file system cannot."""
    start, size = ctypes.c_int64(offset), ctypes.c_int64(length)
    return bool(_libc.fallocate(fd, _PUNCH_HOLE_KEEP_SIZE, start, size) == 0)


def stat_fields(pid: int) -> list[bytes]:
    """/proc/PID/stat from field 3 (the state) on; the name before it may hold anything, even a parenthesis.

    Raises:
        OSError: there is no such process.
    """
    with open(f"/proc/{pid}/stat", "rb", buffering=0) as file:
        return file.read(1024).rpartition(b")")[2].split()


def start_time(pid: int) -> int:
    """Clock ticks since boot (field 22): with the boot id, what tells a process from a later one of the same pid."""
    try:
        return int(stat_fields(pid)[19])
    except OSError:
        return 0


def boot_id() -> str:
    with open("/proc/sys/kernel/random/boot_id", "rb", buffering=0) as file:
        return file.read(64).decode().strip()


def ancestors(pid: int) -> Iterator[int]:
    """The process, its parent, and so on up to init. Raises OSError where one of them has gone meanwhile."""
    while pid > 0:
        yield pid
        pid = int(stat_fields(pid)[1])


def bearing(runners: Iterable[str]) -> dict[str, list[int]]:
    """The processes whose environment carries the marker of one of these runners: one pass over /proc for all."""
    found: dict[str, list[int]] = {runner: [] for runner in runners}
    wanted = {f"{MARKER}={runner}".encode(): pids for runner, pids in found.items()}
    start = f"{MARKER}=".encode()
    for pid in filter(str.isdigit, os.listdir("/proc")):
        try:
            with open(f"/proc/{pid}/environ", "rb", buffering=0) as file:
                environ = file.read()
        except OSError:  # gone, or not ours to look into
            continue
        if (at := (b"\0" + environ).find(b"\0" + start)) >= 0:
            pids = wanted.get(environ[at:].partition(b"\0")[0])
            if pids is not None:
                pids.append(int(pid))
    return found


def children() -> set[int]:
    """Our own children, adopted orphans included."""
    found: set[int] = set()
    for task in os.listdir("/proc/self/task"):
        with open(f"/proc/self/task/{task}/children", "rb") as file:
            found.update(map(int, file.read().split()))
    return found
