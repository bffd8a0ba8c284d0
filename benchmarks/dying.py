"""Rows: one client launching one runner after another; one runner killed after another; each restarted.

The disk is part of these: what is told to somebody is durable before. So the limits grow with its fdatasync.
"""

import os
import signal
import time
from collections.abc import Callable, Iterator

from benchmarks.bare import death_seconds, spawn
from benchmarks.bench import SLEEPER, Bench, program
from benchmarks.house import House, launch_one, state_of
from benchmarks.machine import fdatasync_seconds
from benchmarks.measure import TooSlow, wait_until
from benchmarks.processes import kill_and_wait
from benchmarks.rows import Better, Figure, Row, Target
from benchmarks.supervisord import Supervisord, end_of_line
from benchmarks.tmux import Tmux

_LOOK_SECONDS = 0.0001
_PAUSE_SECONDS = 0.01
"""Between two measurements, so that the end of one is not the start of the next."""
_BACKOFF_SECONDS = 0.0001
_SETTINGS = f"""
[runners]
backoff_first = {_BACKOFF_SECONDS}
backoff_max = {_BACKOFF_SECONDS}
backoff_jitter = 0.0
max_restarts = 1000000
"""
Times = dict[str, dict[str, list[float]]]
"""By row, then by system, in milliseconds."""


def rows(bench: Bench) -> Iterator[Row]:
    if not bench.wants("death", "launch-call", "launched", "death-seen", "restarted"):
        return
    times: Times = {"launch-call": {}, "launched": {}, "death-seen": {}, "restarted": {}}
    sync = 1000 * Figure.of(fdatasync_seconds(bench.place())).value
    _ours(bench, times)
    _floors(bench, times)
    if program("supervisord"):
        _supervisor(bench, times)
    if program("tmux"):
        _tmux(bench, times)
    told = f"fdatasync p50 in this run {sync:.2f} ms, {bench.scale.deaths} deaths"
    yield _row(times, "launch-call", "one `launch` by one client, until the reply", 0.5, Target("≤ 5 ms", 5), "")
    yield _row(times, "launched", "the same, until it runs in the database", 0.5, Target("≤ 5 ms", 5), "")
    seen = Target(f"≤ 3 ms + 1 fdatasync = {3 + sync:.1f} ms", 3 + sync)
    yield _row(times, "death-seen", "SIGKILL of a runner, until its end is in the database", 0.5, seen, told)
    yield _row(times, "death-seen", "the same", 0.99, None, "")
    again = Target(f"≤ 6 ms + 3 fdatasync = {6 + 3 * sync:.1f} ms", 6 + 3 * sync)
    told = f"the configured backoff of {1000 * _BACKOFF_SECONDS:g} ms is taken off; Supervisor has none"
    yield _row(times, "restarted", "SIGKILL of a runner, until its next run runs", 0.5, again, told)
    yield _row(times, "restarted", "the same", 0.99, None, "")


def _row(times: Times, name: str, what: str, part: float, target: Target | None, note: str) -> Row:
    found = {system: Figure.quantile(values, part) for system, values in times[name].items() if values}
    floors = {
        "launch-call": "openpty + posix_spawn, once",
        "launched": "openpty + posix_spawn, once",
        "death-seen": "pidfd in epoll, waitpid",
        "restarted": "pidfd in epoll, waitpid, openpty + posix_spawn",
    }
    return Row(
        name=f"{name}-p{100 * part:.0f}",
        what=f"{what}, p{100 * part:.0f}",
        unit="ms",
        better=Better.LOWER,
        ours=found["ours"],
        floor=found["bare"],
        floor_is=floors[name],
        peers={system: found[system] for system in ("supervisor", "tmux") if system in found},
        target=target,
        notes=(note,) if note else (),
    )


def _ours(bench: Bench, times: Times) -> None:
    house = House(bench.place(), settings=_SETTINGS)
    try:
        house.start()
        launch_one(house)  # makes the shim
        launched = [_launch(house) for _ in range(bench.scale.deaths)]
        times["launch-call"]["ours"] = [reply for _, reply, _ in launched]
        times["launched"]["ours"] = [runs for _, _, runs in launched]
        times["death-seen"]["ours"] = [_die(house, runner_id) for runner_id, _, _ in launched]
        phoenix = launch_one(house, restart_policy="always")
        wait_until(lambda: state_of(house, phoenix) == (1, "running"), "it runs")
        times["restarted"]["ours"] = [_rise(house, phoenix) for _ in range(bench.scale.deaths)]
    finally:
        house.close()


def _launch(house: House) -> tuple[str, float, float]:
    """The runner, and the milliseconds until the reply and until it runs."""
    time.sleep(_PAUSE_SECONDS)
    began = time.perf_counter()
    runner_id = launch_one(house)
    reply = time.perf_counter() - began
    runs = reply + _until(lambda: state_of(house, runner_id) == (1, "running")) / 1000
    return runner_id, 1000 * reply, 1000 * runs


def _die(house: House, runner_id: str) -> float:
    [row] = house.rows.all("SELECT pid FROM runs WHERE runner_id = ?", (runner_id,))
    return _kill(row["pid"], lambda: state_of(house, runner_id) == (1, "failed"))


def _rise(house: House, runner_id: str) -> float:
    """A new run, after the last was killed."""
    row = house.rows.one("SELECT number, pid FROM runs WHERE runner_id = ? ORDER BY number DESC LIMIT 1", (runner_id,))
    seconds = _kill(row["pid"], lambda: state_of(house, runner_id) == (row["number"] + 1, "running"))
    return seconds - 1000 * _BACKOFF_SECONDS


def _floors(bench: Bench, times: Times) -> None:
    spawns, deaths = [], []
    for _ in range(bench.scale.deaths):
        time.sleep(_PAUSE_SECONDS)
        began = time.perf_counter()
        pid, master = spawn(SLEEPER)
        spawns.append(1000 * (time.perf_counter() - began))
        deaths.append(1000 * death_seconds())
        kill_and_wait([pid], signal.SIGKILL)
        os.waitpid(pid, 0)
        os.close(master)
    times["launch-call"]["bare"] = times["launched"]["bare"] = spawns
    times["death-seen"]["bare"] = deaths
    times["restarted"]["bare"] = [death + spawned for death, spawned in zip(deaths, spawns, strict=True)]


def _supervisor(bench: Bench, times: Times) -> None:
    """Its log is the first to tell of a death and of a new start."""
    peer = Supervisord(bench.place(), restarts=True)
    count = max(2, bench.scale.deaths // 10)
    try:
        peer.start()
        peer.launch(1)
        died: list[float] = []
        rose: list[float] = []
        for _ in range(count):
            before = peer.log.stat().st_size
            pid = peer.runners()[0]
            began = time.perf_counter()
            os.kill(pid, signal.SIGKILL)
            for text, found in ((end_of_line(signal.SIGKILL), died), (" spawned: ", rose)):
                _until(lambda before=before, text=text: text in peer.log.read_text()[before:])  # type: ignore[misc]
                found.append(1000 * (time.perf_counter() - began))
            wait_until(lambda pid=pid: peer.runners() not in ([], [pid]), "it runs again")  # type: ignore[misc]
        times["death-seen"]["supervisor"], times["restarted"]["supervisor"] = died, rose
        peer.call("stopProcess", "load:0")
        called = []
        for _ in range(count):
            began = time.perf_counter()
            peer.call("startProcess", "load:0", False)
            called.append(1000 * (time.perf_counter() - began))
            peer.call("stopProcess", "load:0")
        times["launch-call"]["supervisor"] = called
    finally:
        peer.close()


def _tmux(bench: Bench, times: Times) -> None:
    """A client in control mode is told when a window closes; one call of the command line opens one."""
    peer = Tmux(batched=False)
    count = max(2, bench.scale.deaths // 10)
    try:
        peer.start()
        times["launch-call"]["tmux"] = [1000 * peer.launch(1) for _ in range(count)]
        watcher = peer.watch()
        assert watcher.stdout is not None
        while "%session-changed" not in watcher.stdout.readline():
            pass
        died = []
        for pid in peer.runners():
            time.sleep(_PAUSE_SECONDS)
            began = time.perf_counter()
            os.kill(pid, signal.SIGKILL)
            while "window-close" not in watcher.stdout.readline():
                pass
            died.append(1000 * (time.perf_counter() - began))
        times["death-seen"]["tmux"] = died
        watcher.terminate()
        watcher.communicate()
    finally:
        peer.close()


def _kill(pid: int, is_so: Callable[[], bool]) -> float:
    """SIGKILL, and the milliseconds until it shows."""
    time.sleep(_PAUSE_SECONDS)
    began = time.perf_counter()
    os.kill(pid, signal.SIGKILL)
    _until(is_so)
    return 1000 * (time.perf_counter() - began)


def _until(is_so: Callable[[], bool]) -> float:
    """The milliseconds until it is so, seen early."""
    began = time.perf_counter()
    try:
        wait_until(is_so, "what was asked", timeout_seconds=30, look_seconds=_LOOK_SECONDS)
    except TooSlow as problem:
        raise TooSlow("it did not come in 30 s") from problem
    return 1000 * (time.perf_counter() - began)
