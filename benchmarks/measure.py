"""Clocks: how long until something is so, how late answers come.

Rule 1: latency counts from the moment at which a request was due, not from when it got its turn: a stall is paid by
everyone who would have come during it (no coordinated omission).
"""

import os
import subprocess
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path

from benchmarks.bench import ROOT

LOOK_SECONDS = 0.002


class TooSlow(Exception):
    """Something that was waited for did not come."""


class Failed(Exception):
    """A command that is measured ended with an error."""


def wait_until(
    is_so: Callable[[], bool], what: str, *, timeout_seconds: float = 120, look_seconds: float = LOOK_SECONDS
) -> None:
    """Return as soon as `is_so`. Raises TooSlow."""
    deadline = time.monotonic() + timeout_seconds
    while not is_so():
        if time.monotonic() > deadline:
            raise TooSlow(f"{what}: not after {timeout_seconds:g} s")
        time.sleep(look_seconds)


def run(
    command: Sequence[str],
    *,
    env: Mapping[str, str],
    cwd: Path | None = None,
    timeout_seconds: float = 180,
    may_fail: bool = False,
) -> str:
    """What the command printed. Raises Failed with its last words."""
    done = subprocess.run(
        command,
        env=env,
        cwd=cwd,
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=timeout_seconds,
        check=False,
    )
    if done.returncode and not may_fail:
        raise Failed(f"{' '.join(command)[:200]}: exit code {done.returncode}: {done.stderr.strip()[-500:]}")
    return done.stdout


def seconds_of(command: Sequence[str], *, env: Mapping[str, str], may_fail: bool = False) -> float:
    """How long a command takes from its start to its end."""
    began = time.perf_counter()
    run(command, env=env, cwd=ROOT, may_fail=may_fail)
    return time.perf_counter() - began


def open_loop(act: Callable[[], object], *, per_second: float, seconds: float, warm_up_seconds: float) -> list[float]:
    """Call `act` on a fixed schedule; the seconds from when each call was due to its end, the warm-up left out."""
    found = []
    began = time.perf_counter()
    for number in range(int((seconds + warm_up_seconds) * per_second)):
        due = began + number / per_second
        if (early := due - time.perf_counter()) > 0:
            time.sleep(early)
        act()
        if due - began >= warm_up_seconds:
            found.append(time.perf_counter() - due)
    return found


@contextmanager
def own_core() -> Iterator[None]:
    """Keep whoever makes the load on the last core, away from the measured ones as far as cores go."""
    before = os.sched_getaffinity(0)
    os.sched_setaffinity(0, {max(before)})
    try:
        yield
    finally:
        os.sched_setaffinity(0, before)
