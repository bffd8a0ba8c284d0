"""Rows: the daemon SIGKILLed with a crowd, and a new one that must know all of it again.

While there is no daemon, every runner prints and one in twenty ends with a code of its own. Afterwards every pid, byte
and code is compared, and no second copy may be there.
"""

import os
import time
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

from benchmarks import processes
from benchmarks.bare import Bare
from benchmarks.bench import SLEEPER, Bench, program
from benchmarks.house import House
from benchmarks.measure import wait_until
from benchmarks.rows import Better, Figure, Peers, Row, Target
from benchmarks.supervisord import Supervisord
from benchmarks.talkers import Pipes, obeying
from benchmarks.tmux import Tmux
from stratavore.shim.client import MARKER

_PEER_RUNNERS = 100
_LONG_ENOUGH_SECONDS = 5.0
"""For a peer that is started again to show what it does about those that live."""


class Returned(NamedTuple):
    """What a new daemon made of what the old one left."""

    seconds: float
    alive: int
    expected_alive: int
    lost_bytes: int
    lost_codes: int
    duplicates: int


def rows(bench: Bench) -> Iterator[Row]:
    if not bench.wants("readopt", "readopt-losses"):
        return
    found = _ours(bench)
    yield Row(
        name="readopt",
        what=f"daemon SIGKILLed with {bench.scale.crowd} runners: from the new one's start until all are known",
        unit="s",
        better=Better.LOWER,
        ours=Figure.of([found.seconds]),
        floor=_floor(bench),
        floor_is="a pidfd and the start time of each",
        peers=_peers(bench),
        target=Target("≤ 1 s", 1),
        notes=(
            f"{found.alive} of {found.expected_alive} alive with the same pid and start time",
            f"peers with {min(_PEER_RUNNERS, bench.scale.crowd)} runners",
        ),
    )
    yield Row(
        name="readopt-losses",
        what="the same: dead runners, lost bytes, lost exit codes, second copies, added up",
        unit="",
        better=Better.LOWER,
        ours=Figure.of([found.expected_alive - found.alive + found.lost_bytes + found.lost_codes + found.duplicates]),
        floor=None,
        floor_is="",
        target=Target("0", 0),
        notes=(f"{found.lost_bytes} bytes, {found.lost_codes} codes, {found.duplicates} second copies",),
    )


def _ours(bench: Bench) -> Returned:
    pipes_dir, crowd = bench.place(), bench.scale.crowd
    house = House(bench.place())
    try:
        house.start()
        house.launch(crowd, obeying(pipes_dir))
        pipes = Pipes(pipes_dir, crowd)
        try:
            return _killed(house, pipes)
        finally:
            pipes.close()
    finally:
        house.close()


def _killed(house: House, pipes: Pipes) -> Returned:
    logs = {
        row["pid"]: house.paths.run_log(row["shim"], row["key"])
        for row in house.rows.all("SELECT pid, shim, key FROM runs")
    }
    starts = {pid: processes.start_time(pid) for pid in pipes.ends}
    codes = {pid: 1 + number % 200 for number, pid in enumerate(sorted(pipes.ends)) if number % 20 == 0}
    for pid in pipes.ends:
        pipes.tell(pid, b"before it dies\n")
    house.kill_daemon()
    for pid in pipes.ends:
        pipes.tell(pid, b"while it is dead\n")
        if pid in codes:
            pipes.tell(pid, b"exit %d\n" % codes[pid])
    with processes.Deaths(codes) as deaths:
        deaths.wait(10)
    began = time.perf_counter()
    house.start_daemon()
    running = len(starts) - len(codes)
    wait_until(
        lambda: (house.count("state = 'running'"), house.count("ended_at IS NOT NULL")) == (running, len(codes)),
        "all are known again",
    )
    seconds = time.perf_counter() - began
    living = starts.keys() - codes.keys()
    for pid in living:
        pipes.tell(pid, b"after it came back\n")
    before = b"before it dies\r\nwhile it is dead\r\n"
    expected = {pid: before if pid in codes else before + b"after it came back\r\n" for pid in starts}
    time.sleep(0.2)
    known = {
        row["pid"]: row["exit_code"] for row in house.rows.all("SELECT pid, exit_code FROM runs WHERE ended_at > ''")
    }
    marked = set(_marked())
    return Returned(
        seconds=seconds,
        alive=sum(pid in marked and _is_same(pid, starts[pid]) for pid in living),
        expected_alive=len(living),
        lost_bytes=sum(len(text) for pid, text in expected.items() if logs[pid].read_bytes() != text),
        lost_codes=sum(known.get(pid) != code for pid, code in codes.items()),
        duplicates=len(marked - living),
    )


def _marked() -> list[int]:
    """The processes of runners, wherever they are below us. (A zygote may also have started a daemon meanwhile.)"""
    marker = f"{MARKER}=".encode()
    found = []
    for pid in processes.below([os.getpid()]):
        try:
            variables = Path(f"/proc/{pid}/environ").read_bytes().split(b"\0")
        except OSError:
            continue
        if any(variable.startswith(marker) for variable in variables):
            found.append(pid)
    return found


def _is_same(pid: int, start: str) -> bool:
    try:
        return processes.start_time(pid) == start
    except OSError:
        return False


def _floor(bench: Bench) -> Figure:
    bare = Bare(bench.place(), keeps_logs=False)
    try:
        bare.start()
        bare.launch(bench.scale.crowd)
        return Figure.of([bare.recognise() for _ in range(5)])
    finally:
        bare.close()


def _peers(bench: Bench) -> Peers:
    count, found = min(_PEER_RUNNERS, bench.scale.crowd), {}
    if program("supervisord"):
        found["supervisor"] = _supervisor(bench, count)
    if program("tmux"):
        found["tmux"] = _tmux(count)
    return found


def _supervisor(bench: Bench, count: int) -> str:
    peer = Supervisord(bench.place())
    before: list[int] = []
    try:
        peer.start()
        peer.launch(count)
        before = peer.runners()
        peer.kill_server()
        peer.start_server()
        time.sleep(_LONG_ENOUGH_SECONDS)
        copies = [pid for pid in _sleepers() if pid not in before]
        alive = [pid for pid in _sleepers() if pid in before]
        return f"{len(alive)} of {count} live, {len(copies)} second copies, output of the living lost"
    finally:
        peer.close()
        processes.end(before)


def _tmux(count: int) -> str:
    peer = Tmux()
    try:
        peer.start()
        peer.launch(count)
        before = peer.runners()
        with processes.Deaths(before) as deaths:
            peer.kill_server()
            return f"{deaths.wait(_LONG_ENOUGH_SECONDS)} of {count} live"
    finally:
        peer.close()


def _sleepers() -> list[int]:
    """Our light runners, wherever they are below us."""
    words = "\0".join(SLEEPER).encode() + b"\0"
    found = []
    for pid in processes.below([os.getpid()]):
        try:
            with open(f"/proc/{pid}/cmdline", "rb") as file:
                if file.read() == words:
                    found.append(pid)
        except OSError:
            continue
    return found
