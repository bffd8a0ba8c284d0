"""Rows: what a crowd of sleeping runners costs, and what it costs to ask about them and to end them.

One crowd at a time lives on the machine, each system in turn with the same parts.
"""

import signal
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field

from benchmarks.bare import Bare
from benchmarks.bench import CLICK, Bench, System, program
from benchmarks.house import House
from benchmarks.measure import Failed, seconds_of
from benchmarks.processes import cpu_seconds, pss_bytes
from benchmarks.rows import Better, Figure, Row, Target
from benchmarks.supervisord import Supervisord
from benchmarks.tmux import Tmux

MIB = 1 << 20
_PATIENCE_SECONDS = 10.0
"""Longer than this no command is timed again, apart from five times."""


@dataclass
class Seen:
    """What was measured of one system."""

    figures: dict[str, Figure] = field(default_factory=dict)
    notes: dict[str, list[str]] = field(default_factory=dict)


def rows(bench: Bench) -> Iterator[Row]:
    if not bench.wants("crowd", "memory", "idle", "status-1", "status-crowd", "stop-all", "exit-storm"):
        return
    systems: dict[str, Callable[[], System]] = {
        "bare": lambda: Bare(bench.place(), samples=True),
        "ours": lambda: House(bench.place()),
    }
    if program("tmux"):
        systems["tmux"] = Tmux
    if program("supervisord"):
        systems["supervisor"] = lambda: Supervisord(bench.place())
    seen = {name: _measure(bench, make()) for name, make in systems.items()}
    for row in (_memory, _idle, _status_of_one, _status_of_crowd, _stop_all, _exit_storm):
        made = row(bench, seen)
        if made is not None and bench.wants("crowd", made.name):
            yield made


def _measure(bench: Bench, system: System) -> Seen:
    seen, crowd = Seen(), bench.scale.crowd
    try:
        system.start()
        system.launch(1)
        if bench.wants("crowd", "status-1"):
            _time_status(bench, system, "status-1", seen)
        if bench.wants("crowd", "memory", "idle", "status-crowd", "stop-all"):
            system.launch(crowd - 1)
        if bench.wants("crowd", "idle", "memory"):
            _watch(bench, system, seen)
        if bench.wants("crowd", "status-crowd"):
            _time_status(bench, system, "status-crowd", seen)
        if bench.wants("crowd", "stop-all"):
            _stop(bench, system, seen)
        if bench.wants("crowd", "exit-storm"):
            _storm(bench, system, seen)
    finally:
        system.close()
    return seen


def _watch(bench: Bench, system: System, seen: Seen) -> None:
    """CPU over a window, then memory: what it keeps after it has gone about its business."""
    used, began = cpu_seconds(system.processes()), time.perf_counter()
    time.sleep(bench.scale.window_seconds)
    used = cpu_seconds(system.processes()) - used
    seen.figures["idle"] = Figure.of([100 * used / (time.perf_counter() - began)])
    seen.figures["memory"] = Figure.of([pss_bytes(system.processes()) / MIB])
    if isinstance(system, House):
        daemon, *holders = system.processes()
        seen.notes["memory"] = [
            f"daemon {pss_bytes([daemon]) / MIB:.1f} MiB, zygote and {len(holders) - 1} shims "
            f"{pss_bytes(holders) / MIB:.1f} MiB"
        ]


def _time_status(bench: Bench, system: System, part: str, seen: Seen) -> None:
    """The command and `import click` in turn."""
    ours: list[float] = []
    click: list[float] = []
    spent, env = time.monotonic(), system.environment()
    seconds_of(system.status_command(), env=env)
    while len(ours) < bench.scale.commands:
        ours.append(1000 * seconds_of(system.status_command(), env=env))
        click.append(1000 * seconds_of(CLICK, env=env))
        if time.monotonic() - spent > _PATIENCE_SECONDS and len(ours) >= 5:
            break
    seen.figures[part], seen.figures[f"{part} click"] = Figure.of(ours), Figure.of(click)


def _stop(bench: Bench, system: System, seen: Seen) -> None:
    times = [system.stop_all()]
    if isinstance(system, House):
        for _ in range(bench.scale.repeats - 1):
            system.launch(bench.scale.crowd)
            times.append(system.stop_all())
    seen.figures["stop-all"] = Figure.of(times)


def _storm(bench: Bench, system: System, seen: Seen) -> None:
    """Ours and the bare loop: nobody else keeps what is awaited here."""
    times = []
    if isinstance(system, House):
        for _ in range(bench.scale.repeats):
            system.launch(bench.scale.crowd)
            times.append(system.storm())
            _check_signals(system)
    elif isinstance(system, Bare):
        system.launch(bench.scale.crowd)
        times.append(system.end(signal.SIGKILL))
    if times:
        seen.figures["exit-storm"] = Figure.of(times)


def _check_signals(house: House) -> None:
    unknown = house.count("ended_at IS NOT NULL AND exit_code IS NULL AND exit_signal IS NULL")
    if unknown:
        raise Failed(f"{unknown} runs ended nobody knows how")


def _row(
    seen: dict[str, Seen],
    part: str,
    what: str,
    unit: str,
    floor_is: str,
    target: Target | None,
    floor: Figure | None = None,
) -> Row | None:
    if part not in seen["ours"].figures:
        return None
    return Row(
        name=part,
        what=what,
        unit=unit,
        better=Better.LOWER,
        ours=seen["ours"].figures[part],
        floor=floor or seen["bare"].figures.get(part),
        floor_is=floor_is,
        peers={name: seen[name].figures.get(part, "–") for name in ("supervisor", "tmux") if name in seen},
        target=target,
        notes=seen["ours"].notes.get(part, ()),
    )


def _memory(bench: Bench, seen: dict[str, Seen]) -> Row | None:
    what = f"memory (PSS) with {bench.scale.crowd} runners: daemon, zygote, shims"
    return _row(seen, "memory", what, "MiB", "one bare process that holds them", Target("≤ 60 MiB", 60))


def _idle(bench: Bench, seen: dict[str, Seen]) -> Row | None:
    what = f"CPU over {bench.scale.window_seconds:g} s, {bench.scale.crowd} sleeping runners sampled every 10 s"
    floor_is = "holds them and reads /proc/PID/stat of each every 10 s"
    return _row(seen, "idle", what, "% of a core", floor_is, Target("≤ 0.5 %", 0.5))


def _status_of_one(bench: Bench, seen: dict[str, Seen]) -> Row | None:
    return _status(seen, "status-1", "one-shot `status`, 1 runner, from source", 1.8)


def _status_of_crowd(bench: Bench, seen: dict[str, Seen]) -> Row | None:
    return _status(seen, "status-crowd", f"one-shot `status`, {bench.scale.crowd} runners, from source", 2.2)


def _status(seen: dict[str, Seen], part: str, what: str, times: float) -> Row | None:
    click = seen["ours"].figures.get(f"{part} click")
    if click is None:
        return None
    target = Target(f"≤ {times} × floor", times * click.value)
    return _row(seen, part, what, "ms", "python -c 'import click', in turn with it", target, click)


def _stop_all(bench: Bench, seen: dict[str, Seen]) -> Row | None:
    what = f"`stop --all` of {bench.scale.crowd} runners, until all ends are in the database"
    return _row(seen, "stop-all", what, "s", "TERM to each, wait for each", Target("≤ 0.4 s", 0.4))


def _exit_storm(bench: Bench, seen: dict[str, Seen]) -> Row | None:
    what = f"{bench.scale.crowd} runners SIGKILLed, until all exit records are in the database"
    return _row(seen, "exit-storm", what, "s", "KILL to each, wait for each", Target("≤ 0.3 s", 0.3))
