"""What was launched to go on when its provider does is told so, once; or started again, if it ended."""

import asyncio
from collections.abc import AsyncIterator
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from stratavore.agents.agent import CONTINUE
from stratavore.clock import iso
from tests.claudes import Claude, living_with_claudes
from tests.house import House, living, quick, until

ECHOES = ("sh", "-c", "exec cat")


@pytest.fixture
async def place(tmp_path: Path) -> AsyncIterator[House]:
    async with living_with_claudes(tmp_path, argv=ECHOES) as house:
        yield house


async def limited(house: House, policy: str = "on-limit-reset") -> Claude:
    """One at its prompt, which its provider refused for three seconds; that is stored."""
    claude = await Claude.launch(house, restart_policy=policy)
    claude.is_now("idle")
    until_then = int((datetime.now(UTC) + timedelta(seconds=3)).timestamp())
    await claude.hook("StopFailure", error="rate_limit", last_assistant_message=f"limit reached|{until_then}")
    await until(lambda: limit_of(house, claude))
    return claude


def limit_of(house: House, claude: Claude) -> object:
    return house.context.rows.scalar("SELECT limit_resets_at FROM samples WHERE runner_id = ?", (claude.runner.id,))


def typed(house: House, claude: Claude) -> int:
    return house.output(claude.runner).count(CONTINUE.encode())


async def test_a_living_one_is_told_to_continue_once(place: House) -> None:
    claude, other = await limited(place), await limited(place, "never")
    assert typed(place, claude) == 0
    await until(lambda: typed(place, claude))
    claude.is_now("busy")
    await claude.becomes("working")
    await asyncio.sleep(2.5)
    assert place.told(claude.runner.id).count("runner.continued") == 1
    assert limit_of(place, claude) is None
    assert typed(place, other) == 0


async def test_so_it_is_after_a_restart_of_the_daemon(place: House) -> None:
    claude = await limited(place)
    await place.restart()
    await until(lambda: "runner.continued" in place.told(claude.runner.id))
    await until(lambda: typed(place, claude))
    await place.restart()
    await asyncio.sleep(1.5)
    assert place.told(claude.runner.id).count("runner.continued") == 1


async def test_one_that_stands_at_a_dialog_is_not_typed_into(place: House) -> None:
    claude = await limited(place)
    claude.is_now("waiting", "permission prompt")
    await claude.becomes("waiting_permission")
    await until(lambda: "runner.continued" in place.told(claude.runner.id))
    await until(lambda: limit_of(place, claude))
    assert typed(place, claude) == 0
    assert str(limit_of(place, claude)) > iso(datetime.now(UTC) + timedelta(seconds=20))


async def test_one_that_ended_over_it_is_started_again_at_that_moment(tmp_path: Path) -> None:
    script = 'echo "Quota exceeded: reset after 3s"; exit 1'
    async with living(tmp_path / "state", quick()) as house:
        await house.project("p")
        began = datetime.now(UTC)
        runner = await house.launch("p", script, restart_policy="on-limit-reset", max_restarts=1)
        waiting = await house.reaches(runner.id, "backoff")
        assert waiting.retry_at is not None
        assert 2 <= (waiting.retry_at - began).total_seconds() < 6
        await house.restart()
        again = await house.over(runner.id)
        assert (again.run, again.state) == (2, "failed")
        assert again.started_at is not None
        assert again.started_at >= waiting.retry_at - timedelta(seconds=0.1)


@pytest.mark.parametrize("script", ["exit 1", 'echo "reset after 3s"; exit 0'])
async def test_one_that_ended_otherwise_stays_ended(tmp_path: Path, script: str) -> None:
    async with living(tmp_path / "state", quick()) as house:
        await house.project("p")
        runner = await house.launch("p", script, restart_policy="on-limit-reset")
        assert (await house.over(runner.id)).run == 1
