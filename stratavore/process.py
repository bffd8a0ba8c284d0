"""Processes: who is who, who belongs to whom, what they use.

Rule 1: a process is (boot id, pid, start time), never a bare pid; a zombie counts as dead.
Rule 2: all runners are measured in one pass over the process table, which reads /proc/PID/stat itself: psutil needs
five times as long for it, and an idle machine with a thousand runners would feel it.
"""

import contextlib
import os
import signal
import time
from collections.abc import Collection, Iterable, Mapping, Set
from functools import cache
from typing import NamedTuple

import psutil

from stratavore.shim.client import MARKER

_TICKS = os.sysconf("SC_CLK_TCK")
_PAGE = os.sysconf("SC_PAGE_SIZE")
_MARKER = f"{MARKER}=".encode()


class Identity(NamedTuple):
    """One process of one boot. `start_time` is in clock ticks since boot (field 22 of /proc/PID/stat, proc(5))."""

    boot_id: str
    pid: int
    start_time: int


class Stat(NamedTuple):
    """What one line of /proc/PID/stat says (proc(5)); CPU in ticks, memory in bytes."""

    state: str
    ppid: int
    session: int
    cpu_ticks: int
    threads: int
    start_time: int
    rss_bytes: int


class Usage(NamedTuple):
    """What a process tree uses now. `cpu_percent` is of one core, None at the first look."""

    cpu_percent: float | None
    rss_bytes: int
    threads: int
    children: int
    members: tuple[tuple[int, int], ...]
    """Pid and start time of every process of the tree, the root first."""


@cache
def boot_id() -> str:
    """The id of this boot. STRATAVORE_BOOT_ID_FILE names another source, for tests of what a reboot does."""
    path = os.environ.get("STRATAVORE_BOOT_ID_FILE", "/proc/sys/kernel/random/boot_id")
    with open(path) as file:
        return file.read().strip()


def stat(pid: int) -> Stat | None:
    """The process `pid` as it is now, None if there is none."""
    try:
        fd = os.open(f"/proc/{pid}/stat", os.O_RDONLY)
    except OSError:
        return None
    try:
        raw = os.read(fd, 1024)
    except OSError:
        return None
    finally:
        os.close(fd)
    # The command stands in parentheses and may itself hold any byte but NUL: the last one closes it.
    fields = raw[raw.rindex(b")") + 2 :].split()
    return Stat(
        state=chr(fields[0][0]),
        ppid=int(fields[1]),
        session=int(fields[3]),
        cpu_ticks=int(fields[11]) + int(fields[12]),
        threads=int(fields[17]),
        start_time=int(fields[19]),
        rss_bytes=int(fields[21]) * _PAGE,
    )


def identify(pid: int) -> Identity | None:
    """Who `pid` is now; None if nobody, or a zombie."""
    found = stat(pid)
    return None if found is None or found.state in "ZX" else Identity(boot_id(), pid, found.start_time)


def is_alive(who: Identity) -> bool:
    """Whether that very process still lives."""
    return identify(who.pid) == who


def seconds_since_start(start_time: int, boottime: float) -> float:
    """How long the process with that start time has lived when the boot clock says `boottime`."""
    return boottime - start_time / _TICKS


def ancestors(pid: int) -> list[int]:
    """The pid, its parent, and so on up to init; nothing if it is gone, or cannot be seen from here."""
    for _ in range(3):  # a parent that ends meanwhile breaks the chain, and leaves its child to another
        chain: list[int] = []
        at = pid
        while at > 0 and at not in chain and (found := stat(at)) is not None:
            chain.append(at)
            at = found.ppid
        if at == 0:
            return chain
    return []


def marked(runner_ids: Collection[str]) -> dict[str, list[Identity]]:
    """The living processes that bear the marker of these runners, from one scan of our own processes."""
    wanted = {runner_id.encode(): runner_id for runner_id in runner_ids}
    found: dict[str, list[Identity]] = {}
    for pid in psutil.pids():
        mark = _mark_of(pid)
        if mark in wanted and (who := identify(pid)) is not None:
            found.setdefault(wanted[mark], []).append(who)
    return found


def mark_of(pid: int) -> str | None:
    """The runner whose marker the process bears; None if none, or if it may not be read."""
    mark = _mark_of(pid)
    return None if mark is None else mark.decode("ascii", "replace")


def has_variable(pid: int, name: str) -> bool:
    """Whether the process began with that in its environment; no if it may not be read."""
    return _variable_of(pid, f"{name}=".encode()) is not None


def _mark_of(pid: int) -> bytes | None:
    return _variable_of(pid, _MARKER)


def _variable_of(pid: int, key: bytes) -> bytes | None:
    try:
        with open(f"/proc/{pid}/environ", "rb") as file:
            environ = file.read()
    except OSError:
        return None
    _, found, rest = (b"\0" + environ).partition(b"\0" + key)
    return rest.partition(b"\0")[0] if found else None


def send_signal(processes: Iterable[Identity], number: signal.Signals) -> None:
    """Signal those of them that live, each after a look at who it is."""
    for who in processes:
        if is_alive(who):
            with contextlib.suppress(ProcessLookupError):
                os.kill(who.pid, number)


def tree(pid: int) -> list[tuple[int, int]]:
    """Pid and start time of the process and of all below it, itself first; empty if it is gone."""
    found = [(each, stat(each)) for each in (pid, *_below(pid))]
    return [(each, entry.start_time) for each, entry in found if entry is not None]


def describe_tree(pid: int) -> list[str]:
    """One line for each process below `pid`, for people."""
    lines = []
    for child in _below(pid):
        try:
            lines.append(f"{child} {psutil.Process(child).name()}")
        except psutil.Error:
            continue
    return lines


def _below(pid: int) -> list[int]:
    """All below the process, parents first, as the kernel lists the children of each (proc(5)): to look through all
    processes instead takes as long as there are many."""
    found, at = [pid], 0
    while at < len(found):
        found += _children(found[at])
        at += 1
    return found[1:]


def _children(pid: int) -> list[int]:
    try:
        tasks = os.listdir(f"/proc/{pid}/task")
    except OSError:
        return []
    found: list[int] = []
    for task in tasks:
        with contextlib.suppress(OSError), open(f"/proc/{pid}/task/{task}/children", "rb") as file:
            found += map(int, file.read().split())
    return found


class Sampler:
    """Measures process trees; remembers the last look, since CPU is a difference."""

    def __init__(self) -> None:
        self._ticks: dict[tuple[int, int], int] = {}
        self._at: float | None = None

    def sample(self, roots: Mapping[str, Identity], holders: Set[int] = frozenset()) -> dict[str, Usage]:
        """The use of each tree, by the name of its root. A root that is gone has no entry, nor has one whose pid is
        another's by now.

        A tree is the root, all below it, and all of its session, so that orphans count too. Those with a session of
        their own are known by the marker that they bear, once one of the `holders` has taken their parent's place.
        """
        table = _read_table()
        at, before = time.monotonic(), self._at
        living = {
            name: who.pid
            for name, who in roots.items()
            if who.boot_id == boot_id() and (seen := table.get(who.pid)) and seen.start_time == who.start_time
        }
        owners = _owners(table, {pid: name for name, pid in living.items()}, holders)
        sums: dict[str, list[int]] = {name: [0, 0, 0] for name in living}
        members = {name: [(pid, table[pid].start_time)] for name, pid in living.items()}
        ticks: dict[tuple[int, int], int] = {}
        for pid, name in owners.items():
            entry = table[pid]
            total = sums[name]
            if entry.state in "ZX":
                continue
            who = (pid, entry.start_time)
            ticks[who] = entry.cpu_ticks
            total[0] += max(0, entry.cpu_ticks - self._ticks.get(who, 0 if before is not None else entry.cpu_ticks))
            total[1] += entry.rss_bytes
            total[2] += entry.threads
            if pid != living[name]:
                members[name].append(who)
        self._ticks, self._at = ticks, at
        elapsed = None if before is None else max(at - before, 0.001)
        return {
            name: Usage(
                None if elapsed is None else round(100 * cpu / _TICKS / elapsed, 1),
                rss,
                threads,
                len(members[name]) - 1,
                tuple(members[name]),
            )
            for name, (cpu, rss, threads) in sums.items()
        }


def _read_table() -> dict[int, Stat]:
    table = {}
    for pid in psutil.pids():
        entry = stat(pid)
        if entry is not None:
            table[pid] = entry
    return table


def _owners(table: Mapping[int, Stat], roots: Mapping[int, str], holders: Set[int]) -> dict[int, str]:
    """The root's name of every process that belongs to a tree: through its parents, its session, or its marker."""
    owners, names = dict(roots), set(roots.values())
    strangers: set[int] = set()
    for start in table:
        path, pid = [], start
        while pid not in owners and pid not in strangers and pid in table:
            path.append(pid)
            entry = table[pid]
            if entry.session in roots:
                owners[pid] = roots[entry.session]
            elif entry.ppid in holders and (mark := mark_of(pid)) in names:
                owners[pid] = mark
            else:
                pid = entry.ppid
        if pid in owners:
            owners.update(dict.fromkeys(path, owners[pid]))
        else:
            strangers.update(path)
    return owners


class OutOfMemory:
    """Tells whether the kernel's out-of-memory killer ended a process."""

    def __init__(self) -> None:
        self._kills = _oom_kills()
        self._looked_at = time.monotonic()

    def killed(self, pid: int) -> bool:
        """Whether the kernel log says that it killed `pid` since this object was made; False if nobody can tell."""
        if time.monotonic() - self._looked_at > 0.5:
            self._looked_at = time.monotonic()
            self._any = _oom_kills() > self._kills
        return self._any and _kernel_log_says_killed(pid)

    _any = False


def _oom_kills() -> int:
    try:
        with open("/proc/vmstat") as file:
            return next((int(line.split()[1]) for line in file if line.startswith("oom_kill ")), 0)
    except OSError:
        return 0


def _kernel_log_says_killed(pid: int) -> bool:
    try:
        fd = os.open("/dev/kmsg", os.O_RDONLY | os.O_NONBLOCK)
    except OSError:
        return False
    needle = f"Killed process {pid} ".encode()
    try:
        while True:
            if needle in os.read(fd, 8192):
                return True
    except OSError:
        return False
    finally:
        os.close(fd)
