"""Rows: the ledger: a backlog of transcripts that a daemon finds at its start, and how late live lines are booked.

The floor of the backlog is a loop that reads the same lines and checks that each is JSON; the peer reads the same files
and keeps nothing.
"""

import json
import random
import subprocess
import time
from collections.abc import Iterator, Sequence
from pathlib import Path

import msgspec

from benchmarks.bench import Bench
from benchmarks.house import House
from benchmarks.measure import wait_until
from benchmarks.processes import cpu_seconds, pss_bytes
from benchmarks.rows import Better, Figure, Peers, Row, Target
from stratavore.clock import SystemClock, iso
from tests import programs
from tests.ledger.transcripts import answer, append, file_of

_FILES = 50
_TARGET_MB = 20
_LINES_A_SECOND = 100
_SETTINGS = '[agents.claude-bench]\nagent = "claude"\nhome = "{}"\n'


def rows(bench: Bench) -> Iterator[Row]:
    if bench.wants("ledger", "ledger-backlog"):
        yield _backlog(bench)
    if bench.wants("ledger", "ledger-lag-p50", "ledger-lag-p99"):
        yield from _lag(bench)


def _backlog(bench: Bench) -> Row:
    home = bench.place()
    house = House(bench.place(), settings=_SETTINGS.format(home))
    try:
        house.start()
        house.kill_daemon()
        files = _written(home, bench.scale.transcript_bytes)
        size = sum(path.stat().st_size for path in files)
        began = time.perf_counter()
        house.start_daemon()
        wait_until(lambda: _are_read(house, files), "all is booked", timeout_seconds=600, look_seconds=0.05)
        seconds = time.perf_counter() - began
        calls = house.rows.scalar("SELECT COUNT(*) FROM usage")
        daemon = [house.daemon_pid()]
        used = f"{cpu_seconds(daemon):.1f} CPU s in all; the daemon is {pss_bytes(daemon) / 2**20:.0f} MiB then (PSS)"
    finally:
        house.close()
    return Row(
        name="ledger-backlog",
        what="transcripts of Claude that a daemon finds at its start: read, priced and booked",
        unit="MB/s",
        better=Better.HIGHER,
        ours=Figure.of([size / 1e6 / seconds]),
        floor=Figure.of([size / 1e6 / _floor(files)]),
        floor_is="the same lines read and checked to be JSON",
        peers=_peers(home, size),
        target=Target(f"≥ {_TARGET_MB} MB/s", _TARGET_MB),
        notes=(f"{size / 1e6:.0f} MB in {len(files)} files, {calls} calls; the daemon's start is counted", used),
    )


def _lag(bench: Bench) -> Iterator[Row]:
    home = bench.place()
    house = House(bench.place(), settings=_SETTINGS.format(home))
    try:
        house.start()
        house.kill_daemon()
        files = [file_of(home, f"live-{number}", f"-p{number % 20}") for number in range(bench.scale.crowd)]
        for number, path in enumerate(files):
            append(path, answer(number, session=path.stem))
        house.start_daemon()
        wait_until(lambda: _are_read(house, files), "all is followed", look_seconds=0.05)
        lags = _lags(house, files, bench.scale.transcript_seconds)
    finally:
        house.close()
    for name, part, target in (("p50", 0.5, None), ("p99", 0.99, Target("≤ 1 s", 1.0))):
        yield Row(
            name=f"ledger-lag-{name}",
            what=f"from a line in a transcript to its call in the ledger, {len(files)} files that live: {name}",
            unit="s",
            better=Better.LOWER,
            ours=Figure.quantile(lags, part),
            floor=None,
            floor_is="a line is looked for every half a second",
            target=target,
            notes=(f"{_LINES_A_SECOND} lines a second, each at a random file, by a fixed schedule",),
        )


def _lags(house: House, files: Sequence[Path], seconds: float) -> list[float]:
    """Append by the schedule, whatever becomes of it, and see when each call is there."""
    chance, clock = random.Random(7), SystemClock()
    began, since, count = time.perf_counter(), iso(clock.now()), int(seconds * _LINES_A_SECOND)
    due = {f"msg_{10**6 + number}": began + number / _LINES_A_SECOND for number in range(count)}
    unwritten, lags = iter(list(due.items())), list[float]()
    following = next(unwritten, None)
    while due:
        now = time.perf_counter()
        while following is not None and following[1] <= now:
            path = chance.choice(files)
            append(path, answer(int(following[0].removeprefix("msg_")), session=path.stem, at=clock.now()))
            following = next(unwritten, None)
        for (key,) in house.rows.tuples("SELECT key FROM usage WHERE at >= ?", (since,)):
            if key in due:
                lags.append(time.perf_counter() - due.pop(key))
        time.sleep(0.005)
    return lags


def _written(home: Path, size: int) -> list[Path]:
    """Transcripts of that size together: answers of a few blocks each, and what tools said."""
    chance = random.Random(1)
    files = [file_of(home, f"s{number}", f"-p{number % 10}") for number in range(_FILES)]
    number = 0
    for path in files:
        lines, left = list[bytes](), size // _FILES
        while left > 0:
            number += 1
            for _ in range(chance.choice((1, 1, 2, 3))):
                counts = (chance.randrange(10), chance.randrange(2000), chance.randrange(5000), 0, 10**5)
                lines.append(answer(number, session=path.stem, counts=counts, text="words " * chance.randrange(200)))
                lines.append(_tool_result(path.stem, chance.randrange(3000)))
                left -= len(lines[-1]) + len(lines[-2])
        append(path, *lines)
    return files


def _tool_result(session: str, size: int) -> bytes:
    said = "x" * size
    content = [{"type": "tool_result", "tool_use_id": "toolu_1", "content": said}]
    line = {
        "type": "user",
        "sessionId": session,
        "timestamp": "2031-01-02T03:04:05.000Z",
        "cwd": "/somewhere",
        "message": {"role": "user", "content": content},
        "toolUseResult": {"stdout": said},
    }
    return json.dumps(line).encode() + b"\n"


def _are_read(house: House, files: Sequence[Path]) -> bool:
    offsets = dict(house.rows.tuples("SELECT path, offset FROM tails"))
    return all(offsets.get(str(path)) == path.stat().st_size for path in files)


def _floor(files: Sequence[Path]) -> float:
    decoder, began = msgspec.json.Decoder(msgspec.Raw), time.perf_counter()
    for path in files:
        with path.open("rb") as lines:
            for line in lines:
                decoder.decode(line)
    return time.perf_counter() - began


def _peers(home: Path, size: int) -> Peers:
    if programs.find("ccusage") is None:
        return {"ccusage": "not installed"}
    command = [programs.path("ccusage"), "claude", "daily", "--json", "--offline"]
    env = {"PATH": programs.PATH, "HOME": str(home), "CLAUDE_CONFIG_DIR": str(home)}
    began = time.perf_counter()
    subprocess.run(command, env=env, stdout=subprocess.DEVNULL, check=True)
    return {"ccusage": Figure.of([size / 1e6 / (time.perf_counter() - began)])}
