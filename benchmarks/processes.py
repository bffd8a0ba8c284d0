"""What processes cost, and their end.

Rule 1: memory is the proportional set size: pages that forks share count once.
Rule 2: whatever was started below this process comes back to it when its parent dies, so nothing can be left behind.
Rule 3: a process is ended by its pid, while it is known to be below us.
"""

import ctypes
import os
import resource
import select
import signal
import time
from collections import defaultdict
from collections.abc import Collection, Iterable
from contextlib import ExitStack, suppress
from pathlib import Path

_PROC = Path("/proc")
_PR_SET_CHILD_SUBREAPER = 36


def raise_limits() -> None:
    """As many open files as the machine allows: a thousand terminals need more than the usual 1024."""
    _, most = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (most, most))


def adopt_orphans() -> None:
    """From now on orphans below this process become its children."""
    ctypes.CDLL(None, use_errno=True).prctl(_PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0)


def cpu_seconds(pids: Iterable[int]) -> float:
    """What the threads of these processes have computed so far, to the nanosecond."""
    used = 0
    for pid in pids:
        with suppress(OSError):
            for task in (_PROC / f"{pid}/task").iterdir():
                with suppress(OSError):
                    used += int((task / "schedstat").read_bytes().split()[0])
    return used / 1e9


def pss_bytes(pids: Iterable[int]) -> int:
    """The memory that these processes would free."""
    found = 0
    for pid in pids:
        for line in (_PROC / f"{pid}/smaps_rollup").read_text().splitlines():
            if line.startswith("Pss:"):
                found += int(line.split()[1]) * 1024
    return found


def start_time(pid: int) -> str:
    """When it started, in clock ticks; with the pid it is the process and no other."""
    stat = (_PROC / f"{pid}/stat").read_bytes()
    return stat[stat.rindex(b")") + 2 :].split()[19].decode()


def below(roots: Collection[int]) -> list[int]:
    """These processes and all that descend from them."""
    children = defaultdict(list)
    for entry in _PROC.iterdir():
        if entry.name.isdecimal():
            with suppress(OSError):
                stat = (entry / "stat").read_bytes()
                children[int(stat[stat.rindex(b")") + 2 :].split()[1])].append(int(entry.name))
    found, ahead = [], list(roots)
    while ahead:
        pid = ahead.pop()
        found.append(pid)
        ahead += children[pid]
    return found


def end(roots: Collection[int]) -> None:
    """Kill these processes and everything below them, as far as they are below us, and reap what is ours to reap."""
    ours = set(below([os.getpid()]))
    doomed = [pid for pid in below(roots) if pid in ours]
    for pid in doomed:
        with suppress(ProcessLookupError):
            os.kill(pid, signal.SIGKILL)
    deadline = time.monotonic() + 10
    for pid in doomed:
        while time.monotonic() < deadline and _is_there(pid):
            with suppress(ChildProcessError):
                os.waitpid(pid, os.WNOHANG)
            if _is_there(pid):
                time.sleep(0.001)


def end_all() -> None:
    """Kill everything below this process."""
    me = os.getpid()
    while left := [pid for pid in below([me]) if pid != me]:
        end(left)


def kill_and_wait(pids: Collection[int], number: signal.Signals, *, timeout_seconds: float = 60) -> float:
    """Send all of them the signal; the seconds until the last one is dead."""
    with Deaths(pids) as deaths:
        began = time.perf_counter()
        for pid in pids:
            os.kill(pid, number)
        deaths.wait(timeout_seconds)
        return time.perf_counter() - began


class Deaths:
    """Watches processes die, whoever their parent is; a zombie counts as dead."""

    def __init__(self, pids: Iterable[int]) -> None:
        self._poll = select.epoll()
        self._open: set[int] = set()
        self._stack = ExitStack()
        for pid in pids:
            with suppress(ProcessLookupError):
                descriptor = os.pidfd_open(pid)
                self._stack.callback(os.close, descriptor)
                self._poll.register(descriptor, select.EPOLLIN)
                self._open.add(descriptor)

    def wait(self, timeout_seconds: float) -> int:
        """Return when all are dead, or the time is up; how many still live."""
        deadline = time.monotonic() + timeout_seconds
        while self._open and (left := deadline - time.monotonic()) > 0:
            for descriptor, _ in self._poll.poll(left):
                self._poll.unregister(descriptor)
                self._open.discard(descriptor)
        return len(self._open)

    def __enter__(self) -> "Deaths":
        return self

    def __exit__(self, *_: object) -> None:
        self._poll.close()
        self._stack.close()


def _is_there(pid: int) -> bool:
    return (_PROC / str(pid)).exists()
