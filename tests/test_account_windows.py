"""Budgets of an account's own windows, from what the agents tell of them to who is held."""

import asyncio
import json
import os
import subprocess
import time
from collections.abc import AsyncIterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest

from stratavore import verdicts
from stratavore.errors import BudgetExceeded
from stratavore.executable import status_line_command
from stratavore.model import Budget, Launched, Runner
from stratavore.store import sessions, windows
from stratavore.store.database import Tx
from tests.house import House, living, quick, until

SLEEPER = ["sh", "-c", "exec sleep 1000", "agent"]
THREAD = "0198d6d1-0000-7000-8000-000000000001"


@pytest.fixture
async def house(tmp_path: Path) -> AsyncIterator[House]:
    profiles = {
        name: {"agent": kind, "argv": SLEEPER, "home": str(tmp_path / name)}
        for name, kind in (("mine", "claude"), ("theirs", "claude"), ("codex", "codex"))
    }
    async with living(tmp_path / "state", quick(agents=profiles)) as found:
        await found.project("p", max_runners=20)
        yield found


async def put(house: House, **fields: Any) -> Budget:
    found: Budget = await house.ask("set_budget", scope="global", period="5h", percent=70, **fields)
    return found


async def launch(house: House, agent: str) -> Runner:
    answer = await house.ask("launch", project="p", agent=agent)
    assert isinstance(answer, Launched)
    return await house.reaches(answer.runners[0].id, "running")


async def shows(house: House, runner: Runner, percent: float, *, for_seconds: float = 3600) -> None:
    """The Claude of that runner has its status line drawn."""
    limits = {"five_hour": {"used_percentage": percent, "resets_at": time.time() + for_seconds}}
    command = [*status_line_command(), str(house.paths.runner(runner.id)), "/nowhere"]
    said = json.dumps({"rate_limits": limits}).encode()
    await asyncio.to_thread(subprocess.run, command, input=said, check=True)
    await until(lambda: percent in known(house))


async def records(house: House, percent: float) -> None:
    """The Codex of that account has written down a turn."""
    rollout = (
        Path(house.config.agents["codex"].home) / f"sessions/2031/01/02/rollout-2031-01-02T03-04-05-{THREAD}.jsonl"
    )
    rollout.parent.mkdir(parents=True, exist_ok=True)
    window = {"used_percent": percent, "window_minutes": 300, "resets_at": time.time() + 3600}
    payload = {"type": "token_count", "info": None, "rate_limits": {"primary": window}}
    line = {"timestamp": datetime.now(UTC).isoformat(), "type": "event_msg", "payload": payload}
    with open(rollout, "a") as file:
        file.write(json.dumps(line) + "\n")
    assert house.daemon.ingest is not None
    await house.daemon.ingest.catch_up()
    assert percent in known(house)


async def holds(house: House, runner: Runner) -> None:
    """The Codex of that runner is found to hold the rollout open, so it is known whose account it uses."""
    home, now = os.path.realpath(house.config.agents["codex"].home), datetime.now(UTC)
    key = str(house.context.rows.scalar("SELECT key FROM runs WHERE runner_id = ?", (runner.id,)))

    def enter(tx: Tx) -> None:
        where = runner.cwd
        sessions.enter(tx, "codex", home, THREAD, run_key=key, runner_id=runner.id, project_id=None, cwd=where, now=now)

    await house.context.write(enter)


def known(house: House) -> list[float]:
    return [each.used_percent for each in windows.list_windows(house.context.rows)]


async def test_who_uses_an_account_up_is_held_until_less_of_it_is_used(house: House) -> None:
    runner, same, other = await launch(house, "mine"), await launch(house, "mine"), await launch(house, "theirs")
    budget = await put(house)
    await shows(house, runner, 69)
    assert (await house.ask("get_budget", str(budget.id))).used_percent == 69
    assert verdicts.read(house.paths, runner.id) is None
    await shows(house, runner, 71)
    for each in (runner, same):
        await until(lambda each=each: verdicts.read(house.paths, each.id) is not None)  # type: ignore[misc]
    reason = str((await house.get(runner.id)).blocked)
    assert "the 5h budget of everything, 70 %" in reason
    assert "It resets at" in reason
    assert verdicts.read(house.paths, other.id) is None, "it has an account of its own"
    with pytest.raises(BudgetExceeded, match="71 % are used"):
        await launch(house, "mine")
    await launch(house, "theirs")
    await shows(house, same, 60)
    await until(lambda: verdicts.read(house.paths, runner.id) is None)
    assert [name for name in house.told(runner.id) if "block" in name] == ["runner.blocked", "runner.unblocked"]


async def test_a_window_that_is_reset_holds_nobody_any_more(house: House) -> None:
    runner = await launch(house, "mine")
    await put(house)
    await shows(house, runner, 99, for_seconds=2)
    await until(lambda: verdicts.read(house.paths, runner.id) is not None)
    await until(lambda: verdicts.read(house.paths, runner.id) is None)
    assert (await house.get(runner.id)).blocked is None
    await launch(house, "mine")


async def test_more_of_a_window_may_be_given(house: House) -> None:
    runner = await launch(house, "mine")
    budget = await put(house)
    await shows(house, runner, 75)
    await until(lambda: verdicts.read(house.paths, runner.id) is not None)
    await house.ask("extend_budget", str(budget.id), percent=10)
    await until(lambda: verdicts.read(house.paths, runner.id) is None)


async def test_what_codex_writes_down_of_its_account_decides_who_is_let_in(house: House) -> None:
    await put(house)
    await records(house, 70)
    with pytest.raises(BudgetExceeded, match="70 % are used"):
        await launch(house, "codex")
    await launch(house, "mine")
    await records(house, 12)
    await launch(house, "codex")


async def test_a_codex_at_work_is_told_of_and_then_stopped_as_its_account_is_used_up(house: House) -> None:
    """It has no hooks that could hold it."""
    await put(house, on_exceeded="stop", warn=[80])
    runner, other = await launch(house, "codex"), await launch(house, "mine")
    await holds(house, runner)
    await records(house, 55)
    assert budget_events(house) == []
    await records(house, 57)
    await until(lambda: budget_events(house) == ["budget.warning"])
    await records(house, 69)
    assert not [name for name in house.told(runner.id) if "block" in name or "budget" in name]
    await records(house, 70)
    ended = await house.over(runner.id)
    assert (ended.state, ended.end_reason) == ("terminated", "budget")
    [why] = [event.payload["why"] for event in house.events_of(runner.id) if event.type == "runner.held_to_budget"]
    assert "the 5h budget of everything, 70 %" in why
    assert budget_events(house)[-1] == "budget.exceeded"
    assert (await house.get(other.id)).state == "running"


async def test_a_codex_that_may_only_be_blocked_is_told_of_and_goes_on(house: House) -> None:
    await put(house)
    runner = await launch(house, "codex")
    await holds(house, runner)
    await records(house, 71)
    await until(lambda: "runner.cannot_be_blocked" in house.told(runner.id))
    assert (await house.get(runner.id)).state == "running"


def budget_events(house: House) -> list[str]:
    """The steps that were told of the budget since it was set."""
    found = house.context.rows.tuples("SELECT type FROM events WHERE type LIKE 'budget.%' ORDER BY seq")
    return [str(each) for (each,) in found if each != "budget.set"]


async def test_what_was_told_outlives_the_daemon_and_is_not_read_twice(house: House) -> None:
    runner = await launch(house, "mine")
    await put(house)
    await shows(house, runner, 71)
    await until(lambda: verdicts.read(house.paths, runner.id) is not None)
    before = windows.list_windows(house.context.rows)
    await house.restart()
    await house.stays(lambda: verdicts.read(house.paths, runner.id) is not None)
    assert windows.list_windows(house.context.rows) == before
