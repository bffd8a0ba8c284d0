"""What was launched to go on when its provider does is told so, once; or started again, if it ended."""

import asyncio
import os
import signal
from collections.abc import AsyncIterator
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from stratavore.agents.agent import CONTINUE
from stratavore.agents.records import Window
from stratavore.clock import SystemClock, iso
from stratavore.continuing import Continuing
from stratavore.store import windows
from tests.claudes import Claude, living_with_claudes
from tests.house import House, living, quick, until

ECHOES = ("sh", "-c", "exec cat")


@pytest.fixture
async def place(tmp_path: Path) -> AsyncIterator[House]:
    async with living_with_claudes(tmp_path, argv=ECHOES) as house:
        yield house


class Later(SystemClock):
    """The clock of those to whom the limit is over."""

    def now(self) -> datetime:
        return super().now() + timedelta(hours=2)


def continuing(house: House) -> Continuing:
    """Who looks two hours later; the daemon's own sees nobody whose limit is over."""
    return Continuing(house.context._replace(clock=Later()))


async def limited(house: House, policy: str = "on-limit-reset", *, seconds: float = 3600) -> Claude:
    """One at its prompt, which its provider refuses for so long; that is stored."""
    claude = await Claude.launch(house, restart_policy=policy)
    claude.is_now("idle")
    until_then = int((datetime.now(UTC) + timedelta(seconds=seconds)).timestamp())
    await claude.hook("StopFailure", error="rate_limit", last_assistant_message=f"limit reached|{until_then}")
    await until(lambda: limit_of(house, claude))
    return claude


def limit_of(house: House, claude: Claude) -> object:
    return house.context.rows.scalar("SELECT limit_resets_at FROM samples WHERE runner_id = ?", (claude.runner.id,))


def typed(house: House, claude: Claude) -> int:
    return house.output(claude.runner).count(CONTINUE.encode())


async def test_a_living_one_is_told_to_continue_once(place: House) -> None:
    claude, other = await limited(place), await limited(place, "never")
    looking = continuing(place)
    assert typed(place, claude) == 0
    told = asyncio.ensure_future(looking.look())
    await until(lambda: typed(place, claude))
    claude.is_now("busy")  # it takes it
    await told
    await claude.becomes("working")
    await looking.look()
    assert place.told(claude.runner.id).count("runner.continued") == 1
    assert limit_of(place, claude) is None
    assert typed(place, other) == 0


async def test_so_it_is_after_a_restart_of_the_daemon(place: House) -> None:
    claude = await limited(place, seconds=2)
    await place.restart()
    await until(lambda: "runner.continued" in place.told(claude.runner.id))
    await until(lambda: typed(place, claude))
    await place.restart()
    await continuing(place).look()
    assert place.told(claude.runner.id).count("runner.continued") == 1


async def test_one_that_stands_at_a_dialog_is_not_typed_into(place: House) -> None:
    claude = await limited(place)
    claude.is_now("waiting", "permission prompt")
    await claude.becomes("waiting_permission")
    await continuing(place).look()
    assert_put_off(place, claude)


async def test_one_that_cannot_be_told_now_is_told_later(place: House) -> None:
    claude, other = await limited(place), await limited(place)
    place.paths.environment(claude.runner.id).unlink()  # without it nobody knows where its agent keeps its files
    looking = asyncio.ensure_future(continuing(place).look())
    await until(lambda: typed(place, other))
    other.is_now("busy")
    await looking
    assert_put_off(place, claude)


async def test_what_could_not_be_written_is_tried_again(place: House) -> None:
    """As on a full disk."""
    claude, looking = await limited(place), continuing(place)
    await place.wish(
        "CREATE TRIGGER full BEFORE INSERT ON events WHEN NEW.type = 'runner.continued'"
        " BEGIN SELECT RAISE(ABORT, 'full'); END"
    )
    with pytest.raises(Exception, match="full"):
        await looking.look()
    assert typed(place, claude) == 0
    await place.wish("DROP TRIGGER full")

    async def look_again() -> None:
        while "runner.continued" not in place.told(claude.runner.id):
            await looking.look()
            await asyncio.sleep(0.01)

    told = asyncio.ensure_future(look_again())
    await until(lambda: typed(place, claude))
    claude.is_now("busy")
    await told


def assert_put_off(house: House, claude: Claude) -> None:
    assert "runner.continued" in house.told(claude.runner.id)
    assert typed(house, claude) == 0
    later = Later().now()
    assert iso(later + timedelta(seconds=20)) < str(limit_of(house, claude)) < iso(later + timedelta(seconds=40))


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


async def test_what_was_printed_after_the_limit_does_not_hide_it(tmp_path: Path) -> None:
    script = 'echo "Quota exceeded: reset after 30s"; seq 4000; exit 1'
    async with living(tmp_path / "state", quick()) as house:
        await house.project("p")
        runner = await house.launch("p", script, restart_policy="on-limit-reset")
        assert (await house.reaches(runner.id, "backoff")).retry_at is not None


async def test_who_does_not_say_when_the_limit_ends_goes_by_what_is_known_of_its_account(place: House) -> None:
    """A window that is used up says it; without one it stays ended, and is told so."""
    one, other = await Claude.launch(place, restart_policy="on-limit-reset"), await limited_without_an_end(place)
    told = (await place.ask("explain_runner", other.runner.id)).evidence
    says = [piece.says for piece in told if piece.source == "limit"]
    assert says == ["its provider refused to go on and did not say until when: nobody tells it to continue"]
    os.kill(other.runner.pid or 0, signal.SIGKILL)
    assert (await place.over(other.runner.id)).state == "failed"

    now = datetime.now(UTC).replace(microsecond=0)
    full = Window(at=now, name="5h", used_percent=100, resets_at=now + timedelta(hours=2))
    home = str(place.context.rows.scalar("SELECT home FROM sessions LIMIT 1"))
    await place.context.write(lambda tx: windows.note_all(tx, "claude", home, [full]))
    os.kill(one.runner.pid or 0, signal.SIGKILL)
    waiting = await place.reaches(one.runner.id, "backoff")
    assert waiting.retry_at is not None
    assert abs(waiting.retry_at - now - timedelta(hours=2)) < timedelta(seconds=5)


async def limited_without_an_end(house: House) -> Claude:
    claude = await Claude.launch(house, restart_policy="on-limit-reset")
    await claude.hook("StopFailure", error="rate_limit", last_assistant_message="Request rejected (429)")
    await claude.becomes("waiting_input")
    return claude


@pytest.mark.parametrize("script", ["exit 1", 'echo "reset after 3s"; exit 0'])
async def test_one_that_ended_otherwise_stays_ended(tmp_path: Path, script: str) -> None:
    async with living(tmp_path / "state", quick()) as house:
        await house.project("p")
        runner = await house.launch("p", script, restart_policy="on-limit-reset")
        assert (await house.over(runner.id)).run == 1
