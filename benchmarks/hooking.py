"""Row: a hook of an agent, from its start to its end, with a daemon that is poked. The agent waits for it at each tool.

The floor is the same interpreter doing nothing at all.
"""

import json
import os
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from pathlib import Path

from benchmarks.bench import Bench
from benchmarks.house import House
from benchmarks.rows import Better, Figure, Row, Target
from stratavore.executable import hook_command

_SAID = json.dumps({"session_id": "s", "hook_event_name": "PreToolUse", "tool_name": "Bash", "tool_input": {}})
_LIMIT_MS = 45


def rows(bench: Bench) -> Iterator[Row]:
    if not bench.wants("hook"):
        return
    house = House(bench.place())
    try:
        house.start()
        house.launch(1)
        runner = house.rows.all("SELECT runner_id FROM runs")[0]["runner_id"]
        directory = house.paths.runner(runner)
        directory.mkdir(mode=0o700, exist_ok=True)
        ours, floor = list[float](), list[float]()
        for _ in range(bench.scale.commands):  # in turn, so that noise hits both alike
            ours.append(_seconds([*hook_command(), str(directory), "PreToolUse"]))
            floor.append(_seconds([sys.executable, "-c", "pass"]))
        yield _row(ours, floor, directory)
    finally:
        house.close()


def _row(ours: Sequence[float], floor: Sequence[float], directory: Path) -> Row:
    bare = Figure.of(floor).times(1000)
    left = (directory / "spool").stat().st_size // (len(_SAID) + 30)
    return Row(
        name="hook",
        what="a hook of an agent: a line in the spool, a poke, the verdict",
        unit="ms",
        better=Better.LOWER,
        ours=Figure.of(ours).times(1000),
        floor=bare,
        floor_is="python -c pass",
        target=Target("≤ 45 ms, ≤ 3 × floor", min(_LIMIT_MS, 3 * bare.value)),
        notes=(f"each left its line: {left >= len(ours)}",),
    )


def _seconds(command: Sequence[str]) -> float:
    began = time.perf_counter()
    subprocess.run(command, input=_SAID.encode(), env=dict(os.environ), stdout=subprocess.DEVNULL, check=True)
    return time.perf_counter() - began
