"""Rows: a crowd that talks, and one runner that floods.

Every byte is counted afterwards: a figure of a run that lost one is no figure.
"""

import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import NamedTuple

from benchmarks.bare import Bare
from benchmarks.bench import Bench, System, program
from benchmarks.house import House, launch_one, state_of
from benchmarks.measure import Failed, wait_until
from benchmarks.processes import cpu_seconds, pss_bytes
from benchmarks.rows import Better, Figure, Row, Target
from benchmarks.supervisord import Supervisord
from benchmarks.talkers import LINE, Pipes, copying
from benchmarks.tmux import Tmux

_RATES = (1, 10)
_LIMITS = {10: Target("≤ 25 %", 25)}
_FLOOD_LINE = b"0123456789" * 10 + b"\n"


def rows(bench: Bench) -> Iterator[Row]:
    rates = [rate for rate in _RATES if bench.wants("output", f"talk-{rate}")]
    if rates:
        yield from _crowd(bench, rates)
    if bench.wants("output", "flood", "flood-cpu", "flood-memory"):
        yield from _flood(bench)


def _crowd(bench: Bench, rates: list[int]) -> Iterator[Row]:
    systems: dict[str, Callable[[], System]] = {
        "bare": lambda: Bare(bench.place()),
        "ours": lambda: House(bench.place()),
    }
    if program("tmux"):
        systems["tmux"] = Tmux
    found = {name: _listen(bench, make(), rates) for name, make in systems.items()}
    for rate in rates:
        yield Row(
            name=f"talk-{rate}",
            what=f"CPU of all of it, {bench.scale.crowd} runners printing {rate} line{'s'[: rate > 1]} a second",
            unit="% of a core",
            better=Better.LOWER,
            ours=found["ours"][rate],
            floor=found["bare"][rate],
            floor_is="one bare loop with a log each",
            peers={"tmux": found["tmux"][rate]} if "tmux" in found else {},
            target=_LIMITS.get(rate),
            notes=("no byte lost",),
        )


def _listen(bench: Bench, system: System, rates: list[int]) -> dict[int, Figure]:
    pipes_dir, found, sent = bench.place(), {}, 0
    try:
        system.start()
        system.launch(bench.scale.crowd, copying(pipes_dir))
        pipes = Pipes(pipes_dir, bench.scale.crowd)
        try:
            for rate in rates:
                used, began = cpu_seconds(system.processes()), time.perf_counter()
                sent += pipes.talk(lines_per_second=rate, seconds=bench.scale.window_seconds / 2)
                seconds = time.perf_counter() - began
                found[rate] = Figure.of([100 * (cpu_seconds(system.processes()) - used) / seconds])
            if isinstance(system, House):
                expected = sent * (len(LINE) + 1)  # the terminal makes CR LF of each LF
                _check_bytes(system, expected)
        finally:
            pipes.close()
    finally:
        system.close()
    return found


def _check_bytes(house: House, expected: int) -> None:
    def kept() -> int:
        return sum(
            file.stat().st_size for file in house.paths.logs.rglob("*") if file.suffix != ".idx" and file.is_file()
        )

    wait_until(lambda: kept() >= expected, "every byte is in a log", timeout_seconds=10)
    if kept() != expected:
        raise Failed(f"the logs hold {kept()} bytes instead of {expected}")


class Flood(NamedTuple):
    """How one runner's output came through."""

    seconds: float
    cpu_seconds: float
    grown_bytes: float = 0.0


def _flood(bench: Bench) -> Iterator[Row]:
    lines = bench.scale.output_bytes // len(_FLOOD_LINE)
    file = bench.place() / "flood"
    file.write_bytes(_FLOOD_LINE * lines)
    sent = lines * len(_FLOOD_LINE)
    argv = ("/bin/cat", str(file))
    few = file.with_name("few")
    few.write_bytes(_FLOOD_LINE * (lines // 20))
    ours, bare = [], []
    for _ in range(bench.scale.repeats):
        bare.append(_through_bare(bench, argv))
        ours.append(_through_us(bench, argv, ("/bin/cat", str(few)), sent + lines))
    peers = {}
    if program("tmux"):
        peers["tmux"] = _through_tmux(argv)
    if program("supervisord"):
        peers["supervisor (pipe)"] = _through_supervisor(bench, file, sent)
    file.unlink()
    few.unlink()
    rate = Figure.of(run.seconds for run in bare).rate(sent / 1e6)
    yield Row(
        name="flood",
        what=f"{sent / 1e6:.0f} MB through a terminal into the log, until its end is in the database",
        unit="MB/s",
        better=Better.HIGHER,
        ours=Figure.of(run.seconds for run in ours).rate(sent / 1e6),
        floor=rate,
        floor_is="the same loop without us",
        peers={name: Figure.of([run.seconds]).rate(sent / 1e6) for name, run in peers.items()},
        target=Target("≥ 0.9 × floor", 0.9 * rate.value),
        notes=("tmux keeps no log; Supervisor's runner writes to a pipe, which no terminal slows down",),
    )
    scaled = 0.5 * sent / 1e8
    yield Row(
        name="flood-cpu",
        what="the same, CPU time of all of it",
        unit="s",
        better=Better.LOWER,
        ours=Figure.of(run.cpu_seconds for run in ours),
        floor=Figure.of(run.cpu_seconds for run in bare),
        floor_is="the same loop without us",
        peers={name: Figure.of([run.cpu_seconds]) for name, run in peers.items()},
        target=Target(f"≤ {scaled:.2g} s", scaled),
    )
    yield Row(
        name="flood-memory",
        what="the same, how much memory (PSS) of all of it grew",
        unit="MiB",
        better=Better.LOWER,
        ours=Figure.of(run.grown_bytes / (1 << 20) for run in ours),
        floor=None,
        floor_is="",
        peers={name: Figure.of([run.grown_bytes / (1 << 20)]) for name, run in peers.items()},
        target=Target("≤ 1 MiB", 1),
    )


def _through_us(bench: Bench, argv: tuple[str, ...], warm_up: tuple[str, ...], expected: int) -> Flood:
    """The warm-up makes the shim, and whatever is made once for the first output."""
    house = House(bench.place())
    try:
        house.start()
        first = launch_one(house, argv=warm_up)
        wait_until(lambda: state_of(house, first) == (1, "terminated"), "the warm-up is over")
        memory, used = pss_bytes(house.processes()), cpu_seconds(house.processes())
        began = time.perf_counter()
        runner_id = launch_one(house, argv=argv)
        wait_until(lambda: state_of(house, runner_id) == (1, "terminated"), "the flood is over")
        seconds = time.perf_counter() - began
        used = cpu_seconds(house.processes()) - used
        kept = house.rows.one("SELECT output_bytes FROM runs WHERE runner_id = ?", (runner_id,))["output_bytes"]
        if kept != expected:
            raise Failed(f"{kept} bytes came through instead of {expected}")
        return Flood(seconds, used, pss_bytes(house.processes()) - memory)
    finally:
        house.close()


def _through_bare(bench: Bench, argv: tuple[str, ...]) -> Flood:
    bare = Bare(bench.place())
    try:
        bare.start()
        bare.launch(1, argv)
        took = bare.finish()
        return Flood(took["wall"], took["cpu"])
    finally:
        bare.close()


def _through_tmux(argv: tuple[str, ...]) -> Flood:
    peer = Tmux(batched=False)
    try:
        peer.start()
        memory, used = pss_bytes(peer.processes()), cpu_seconds(peer.processes())
        began = time.perf_counter()
        peer.do("new-window", "-d", "-t", "load:", *argv)
        wait_until(lambda: len(peer.panes()) == 1, "tmux has read it all", look_seconds=0.02)
        seconds = time.perf_counter() - began
        used = cpu_seconds(peer.processes()) - used
        return Flood(seconds, used, pss_bytes(peer.processes()) - memory)
    finally:
        peer.close()


def _through_supervisor(bench: Bench, file: Path, sent: int) -> Flood:
    """It starts its programs when it starts itself, so the runner waits for a sign; up to 10 ms of that count."""
    place = bench.place()
    go = place / "go"
    peer = Supervisord(place)
    try:
        peer.start()
        script = place / "script"
        script.write_text(f"while [ ! -e {go} ]; do sleep 0.01; done\nexec cat {file}\n")
        peer.launch(1, ("/bin/sh", str(script)))
        log = place / "supervisor" / "0.log"
        memory, used = pss_bytes(peer.processes()), cpu_seconds(peer.processes())
        began = time.perf_counter()
        go.touch()
        wait_until(lambda: log.stat().st_size >= sent, "supervisor has read it all")
        seconds = time.perf_counter() - began
        return Flood(seconds, cpu_seconds(peer.processes()) - used, pss_bytes(peer.processes()) - memory)
    finally:
        peer.close()
