"""Rows: from the line that crosses a budget being on disk to the verdict that blocks, with a crowd of Claudes living.

They are light programs that pass for Claude: their profile says so, and the transcripts are written here. A few of them
print, as the real one does while it works; no hook pokes, so that the lines have to be found.
Each crossing comes at a moment of its own: what is looked at at intervals must not be met at its best.
"""

import json
import os
import random
import time
from collections.abc import Callable, Iterator, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import NamedTuple

from benchmarks.bench import Bench
from benchmarks.house import PROJECT, House
from benchmarks.measure import wait_until
from benchmarks.rows import Better, Figure, Row, Target
from stratavore import verdicts
from stratavore.model import BudgetPeriod, BudgetScope, Launched

_LIMIT_SECONDS = 2.0
_STEP = 1000
"""Tokens of each line, and what each extension makes room for."""
_PRINTING = 10
_LONGEST_PAUSE_SECONDS = 0.7
_SETTINGS = """
[agents.still]
agent = "claude"
home = "{account}"
argv = ["/bin/sh", "-c", "exec sleep 86413"]

[agents.printing]
agent = "claude"
home = "{account}"
argv = ["/bin/sh", "-c", "while sleep 0.5; do printf .; done"]
"""


class _Claude(NamedTuple):
    """One that prints: its runner, and the file that it seems to write."""

    id: str
    name: str
    session_id: str
    transcript: Path


def rows(bench: Bench) -> Iterator[Row]:
    if not bench.wants("block"):
        return
    place = bench.place()
    account = place / "account"
    house = House(place, settings=_SETTINGS.format(account=account))
    try:
        house.start()
        claudes = _launch(house, account, bench.scale.crowd)
        printing = claudes[-_PRINTING:]
        ours = _cross_all(house, printing, bench.scale.crossings)
        yield from (_row(bench, ours, part) for part in (0.5, 0.99))
        yield _row_of_all(bench, _cross_for_all(house, claudes, printing, max(2, bench.scale.crossings // 5)))
    finally:
        house.close()


def _row(bench: Bench, ours: Sequence[float], part: float) -> Row:
    is_tail = part == 0.99
    what = f"from the line that crosses a budget to the verdict that blocks, {bench.scale.crowd} live"
    return Row(
        name=f"block-p{100 * part:.0f}",
        what=f"{what}, p{100 * part:.0f}",
        unit="s",
        better=Better.LOWER,
        ours=Figure.quantile(ours, part),
        floor=None,
        floor_is="",
        target=Target(f"≤ {_LIMIT_SECONDS:g} s", _LIMIT_SECONDS) if is_tail else None,
        notes=(f"{len(ours)} crossings, of {_PRINTING} runners that print; no hook pokes",) if is_tail else (),
    )


def _row_of_all(bench: Bench, ours: Sequence[float]) -> Row:
    return Row(
        name="block-all-p99",
        what=f"the same of one budget that bounds all {bench.scale.crowd}, until the last of them is blocked, p99",
        unit="s",
        better=Better.LOWER,
        ours=Figure.quantile(ours, 0.99),
        floor=None,
        floor_is="",
        target=Target(f"≤ {_LIMIT_SECONDS:g} s", _LIMIT_SECONDS),
        notes=(f"{len(ours)} crossings",),
    )


def _launch(house: House, account: Path, crowd: int) -> list[_Claude]:
    """A crowd of which each has a verdict; those that print come last."""
    printing = min(_PRINTING, crowd)
    folder = account / "projects" / "-load"
    folder.mkdir(parents=True)
    launched = list[_Claude]()
    for agent, count in (("still", crowd - printing), ("printing", printing)):
        if count:
            answer = house.client.launch(PROJECT, agent=agent, count=count, environment=house.environment())
            assert isinstance(answer, Launched)
            for each in answer.runners:
                session_id = str(each.session_id)
                launched.append(_Claude(each.id, each.name, session_id, folder / f"{session_id}.jsonl"))
    wait_until(lambda: house.count("state = 'running'") >= crowd, "the crowd runs")
    wait_until(lambda: all((house.paths.runner(each.id) / "verdict").exists() for each in launched), "all are allowed")
    return launched


def _cross_all(house: House, claudes: Sequence[_Claude], crossings: int) -> list[float]:
    """The seconds of each crossing."""
    chance = random.Random(20260101)
    budgets = {}
    for claude in claudes:
        _say(claude, 1)  # the first line of a conversation finds nothing prepared
        budget = house.client.set_budget(BudgetScope.RUNNER, BudgetPeriod.MONTHLY, name=claude.name, tokens=_STEP)
        budgets[claude.id] = budget.id
    wait_until(lambda: _booked(house) >= len(claudes), "the first lines are booked", timeout_seconds=60)
    found = []
    for number in range(crossings):
        claude = claudes[number % len(claudes)]
        time.sleep(chance.uniform(0, _LONGEST_PAUSE_SECONDS))
        _say(claude, _STEP)
        began = time.perf_counter()
        wait_until(_is_blocked(house, claude, is_so=True), "it is blocked", timeout_seconds=60)
        found.append(time.perf_counter() - began)
        house.client.extend_budget(budgets[claude.id], tokens=_STEP)
        wait_until(_is_blocked(house, claude, is_so=False), "it goes on", timeout_seconds=60)
    for number in budgets.values():
        house.client.remove_budget(number)
    return found


def _cross_for_all(
    house: House, claudes: Sequence[_Claude], printing: Sequence[_Claude], crossings: int
) -> list[float]:
    """The same of a budget of everybody."""
    chance = random.Random(20260102)
    budget = house.client.set_budget(BudgetScope.GLOBAL, BudgetPeriod.MONTHLY, tokens=10**9)
    house.client.set_budget(BudgetScope.GLOBAL, BudgetPeriod.MONTHLY, tokens=budget.used_tokens + _STEP)
    found = []
    for number in range(crossings):
        time.sleep(chance.uniform(0, _LONGEST_PAUSE_SECONDS))
        _say(printing[number % len(printing)], _STEP)
        began = time.perf_counter()
        for claude in claudes:
            wait_until(_is_blocked(house, claude, is_so=True), "all are blocked", timeout_seconds=60)
        found.append(time.perf_counter() - began)
        house.client.extend_budget(budget.id, tokens=_STEP)
        for claude in claudes:
            wait_until(_is_blocked(house, claude, is_so=False), "all go on", timeout_seconds=60)
    return found


def _is_blocked(house: House, claude: _Claude, *, is_so: bool) -> Callable[[], bool]:
    return lambda: (verdicts.read(house.paths, claude.id) is not None) is is_so


def _booked(house: House) -> int:
    """How many runners the ledger knows calls of."""
    return int(house.rows.scalar("SELECT count(*) FROM runner_usage WHERE calls > 0"))


def _say(claude: _Claude, tokens: int) -> None:
    """One answer of a model, on disk when this returns."""
    mark = os.urandom(8).hex()
    line = {
        "type": "assistant",
        "sessionId": claude.session_id,
        "requestId": f"req_{mark}",
        "timestamp": datetime.now(UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z"),
        "cwd": "/",
        "message": {
            "id": f"msg_{mark}",
            "role": "assistant",
            "model": "claude-opus-4-8",
            "content": [{"type": "text", "text": "done"}],
            "stop_reason": "end_turn",
            "usage": {"input_tokens": 0, "output_tokens": tokens},
        },
    }
    with open(claude.transcript, "ab") as file:
        file.write(json.dumps(line).encode() + b"\n")
        file.flush()
        os.fdatasync(file.fileno())
