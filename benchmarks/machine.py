"""On what the figures were taken: they mean nothing without it."""

import importlib.metadata
import os
import platform
import subprocess
import sys
import time
from pathlib import Path

import apsw

from benchmarks.bench import ROOT, Scale, environment, program
from benchmarks.measure import run
from benchmarks.rows import Figure

_SYNCS = 200


def describe(scratch: Path, scale: Scale) -> dict[str, str]:
    """The facts above the table, in the order in which they are shown."""
    return {
        "scale": scale.name,
        "commit": _commit(),
        "cpu": f"{_cpu()}, {os.cpu_count()} cores",
        "memory": f"{os.sysconf('SC_PAGE_SIZE') * os.sysconf('SC_PHYS_PAGES') / (1 << 30):.0f} GiB",
        "kernel": f"{platform.system()} {platform.release()}",
        "file system of the state": file_system(scratch),
        "fdatasync before": syncs(scratch),
        "load before": load(),
        "python": platform.python_version(),
        "sqlite": apsw.sqlite_lib_version(),
        "durability": "full: what is answered survives a power cut",
        "tmux": _tmux(),
        "supervisor": _supervisor(),
    }


def fdatasync_seconds(directory: Path, count: int = _SYNCS) -> list[float]:
    """How long the disk takes to keep one more page of a file that grows."""
    found = []
    file = directory / "sync"
    descriptor = os.open(file, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
    try:
        for _ in range(count):
            os.write(descriptor, b"x" * 4096)
            began = time.perf_counter()
            os.fdatasync(descriptor)
            found.append(time.perf_counter() - began)
    finally:
        os.close(descriptor)
        file.unlink()
    return found


def syncs(directory: Path) -> str:
    """p50 and p99 of fdatasync there, now."""
    times = [1000 * seconds for seconds in fdatasync_seconds(directory)]
    return f"p50 {Figure.of(times).value:.2f} ms, p99 {Figure.quantile(times, 0.99).value:.2f} ms"


def load() -> str:
    """The load average now."""
    return " ".join(f"{value:.2f}" for value in os.getloadavg())


def cpu_times() -> tuple[float, float]:
    """Seconds of all cores together since the start of the machine, and those of them that its host gave to others
    (the columns of `cpu` in /proc/stat, see proc_stat(5))."""
    columns = Path("/proc/stat").read_text().split("\n", 1)[0].split()[1:9]
    times = [int(column) / os.sysconf("SC_CLK_TCK") for column in columns]
    return sum(times), times[7]


def stolen(since: tuple[float, float]) -> str:
    """What part of the cores' time the host gave to others since then: above a few percent no latency means much."""
    (total, taken), (total_before, taken_before) = cpu_times(), since
    return f"{100 * (taken - taken_before) / max(total - total_before, 0.01):.1f} %"


def file_system(directory: Path) -> str:
    """The kind of file system on which the directory lies."""
    device = directory.stat().st_dev
    wanted = f"{os.major(device)}:{os.minor(device)}"
    for line in Path("/proc/self/mountinfo").read_text().splitlines():
        words = line.split()
        if words[2] == wanted:
            return words[words.index("-") + 1]
    return "unknown"


def compile_all() -> None:
    """As an installation does: else the first start of everything would compile it."""
    for place in (ROOT / "stratavore", ROOT / "benchmarks"):
        subprocess.run([sys.executable, "-m", "compileall", "-q", str(place)], env=environment(), check=True)


def _cpu() -> str:
    for line in Path("/proc/cpuinfo").read_text().splitlines():
        if line.startswith("model name"):
            return line.partition(":")[2].strip()
    return platform.machine()


def _commit() -> str:
    if not (ROOT / ".git").exists():
        return "unknown"
    commit = run(["git", "-C", str(ROOT), "rev-parse", "--short=12", "HEAD"], env=environment(), may_fail=True)
    changed = run(
        ["git", "-C", str(ROOT), "status", "--porcelain", "--", "stratavore"],
        env=environment(),
        may_fail=True,
    )
    return (commit.strip() or "unknown") + (" with uncommitted changes" if changed.strip() else "")


def _tmux() -> str:
    tmux = program("tmux")
    return run([tmux, "-V"], env=environment()).strip() if tmux else "not installed"


def _supervisor() -> str:
    return importlib.metadata.version("supervisor") if program("supervisord") else "not installed"
