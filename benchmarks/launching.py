"""Rows: launching many at once, on terminals, with a log and a durable row each.

Ours begins with a fresh state directory and no shim each time. The peers do less: tmux keeps no log and no row,
Supervisor gives no terminal and keeps no row.
"""

from collections import defaultdict
from collections.abc import Callable, Iterator

from benchmarks.bare import Bare
from benchmarks.bench import Bench, System, program
from benchmarks.house import House
from benchmarks.processes import cpu_seconds
from benchmarks.rows import Better, Figure, Peers, Row, Target, best
from benchmarks.supervisord import Supervisord
from benchmarks.tmux import Tmux

_SLOW = ("tmux", "supervisor")
"""Measured once: they take their time."""


def rows(bench: Bench) -> Iterator[Row]:
    for count in bench.scale.sizes:
        if bench.wants("launch", f"launch-{count}", f"launch-client-{count}"):
            yield from _of_size(bench, count)


def _of_size(bench: Bench, count: int) -> Iterator[Row]:
    seconds: dict[str, list[float]] = defaultdict(list)
    cpu: list[float] = []
    for turn in range(bench.scale.repeats):
        for name, make in _systems(bench).items():
            if turn and name in _SLOW:
                continue
            system = make()
            try:
                system.start()
                before = cpu_seconds(system.processes()) if name == "ours" else 0.0
                seconds[name].append(system.launch(count))
                if name == "ours":
                    cpu.append(cpu_seconds(system.processes()) - before)
            finally:
                system.close()
    rates = {name: Figure.of(values).rate(count) for name, values in seconds.items()}
    peers: Peers = {name: rates[name] for name in ("supervisor", "tmux", "tmux batched") if name in rates}
    floor, with_logs = rates["bare"], rates["bare with logs"]
    limit = max(0.6 * floor.value, best(Better.HIGHER, peers) or 0)
    own = Figure.of(cpu).times(1000 / count)
    notes = (
        f"the bare loop with a log file each: {with_logs}/s, ours {rates['ours'].value / with_logs.value:.2f} × that",
        f"CPU of daemon and holders: {own} ms a launch",
    )
    yield Row(
        name=f"launch-{count}",
        what=f"launch {count} with one command, until all run in the database",
        unit="/s",
        better=Better.HIGHER,
        ours=rates["ours"],
        floor=floor,
        floor_is="openpty + posix_spawn",
        peers=peers,
        target=Target("≥ 0.6 × floor, ahead of every peer", limit),
        notes=notes,
    )
    yield Row(
        name=f"launch-client-{count}",
        what=f"the same {count} through the Python client",
        unit="/s",
        better=Better.HIGHER,
        ours=rates["ours by client"],
        floor=floor,
        floor_is="openpty + posix_spawn",
        peers=peers,
        target=Target("≥ 0.6 × floor, ahead of every peer", limit),
    )


def _systems(bench: Bench) -> dict[str, Callable[[], System]]:
    """In turn, so that noise hits all alike."""
    found: dict[str, Callable[[], System]] = {
        "bare": lambda: Bare(bench.place(), keeps_logs=False),
        "ours": lambda: House(bench.place()),
        "bare with logs": lambda: Bare(bench.place()),
        "ours by client": lambda: House(bench.place(), by_client=True),
    }
    if program("tmux"):
        found |= {"tmux batched": Tmux, "tmux": lambda: Tmux(batched=False)}
    if program("supervisord"):
        found["supervisor"] = lambda: Supervisord(bench.place())
    return found
