"""The verbs that tell how things stand: status, events, explanations."""

import asyncio
import os
from pathlib import Path

import pytest

from stratavore import __version__
from stratavore.errors import NotFound
from stratavore.model import Activity, Evidence, Explanation
from stratavore.store import events
from tests.house import House, living, quick


async def test_an_empty_house(house: House) -> None:
    found = await house.ask("status")
    assert (found.runners, found.by_state, found.projects) == (0, {}, 0)
    assert (found.cpu_percent, found.rss_bytes, found.warnings) == (None, None, [])


async def test_counts_are_of_what_lives(house: House) -> None:
    await house.project("p")
    await house.project("away")
    await house.ask("edit_project", "away", archived=True)
    ended, paused = await house.launch("p", "exit 0"), await house.running("p")
    await house.over(ended.id)
    await house.running("p")
    await house.ask("pause_runners", paused.id)
    await house.reaches(paused.id, "paused")
    found = await house.ask("status")
    assert (found.runners, found.by_state, found.projects) == (2, {"paused": 1, "running": 1}, 1)


async def test_the_daemon_tells_of_itself(house: House) -> None:
    await house.project("p")
    await house.running("p")
    found = await house.ask("daemon_status")
    assert (found.pid, found.version, found.runners, found.shims) == (os.getpid(), __version__, 1, 1)
    assert (found.database, found.healthy) == ("ok", True)
    assert found.started_at.tzinfo is not None


async def test_each_daemon_tells_of_its_beginning_and_end(house: House) -> None:
    await house.restart()
    told = [event.type for event in await house.ask("list_events") if event.aggregate_type == "daemon"]
    assert told == ["daemon.started", "daemon.stopped", "daemon.started"]


async def test_the_story_of_a_house_is_one_unbroken_chain(house: House) -> None:
    await house.project("p")
    for script in ("exit 0", "exit 3", "kill -9 $$"):
        runner = await house.launch("p", script)
        await house.over(runner.id)
    await house.restart()
    told = await house.ask("list_events")
    assert [event.seq for event in told] == list(range(1, len(told) + 1))
    assert events.first_broken(house.context.rows) is None
    assert {event.generation for event in told} == {1}
    assert len({event.event_id for event in told}) == len(told)


async def test_events_come_in_pages_or_from_the_end(house: House) -> None:
    for name in "abc":
        await house.project(name)
    told = await house.ask("list_events")
    assert await house.ask("list_events", since=told[0].seq, limit=2) == told[1:3]
    assert await house.ask("list_events", newest=True, limit=2) == told[-2:]
    assert await house.ask("list_events", since=told[-1].seq) == []


async def test_who_waits_for_events_is_told_at_once(house: House) -> None:
    last = (await house.ask("list_events", newest=True, limit=1))[0].seq
    waiting = asyncio.ensure_future(house.ask("list_events", since=last, wait_seconds=20))
    done, _ = await asyncio.wait([waiting], timeout=0.1)
    assert not done
    await house.project("p")
    assert [event.type for event in await asyncio.wait_for(waiting, 5)] == ["project.created"]
    last += 1
    assert await house.ask("list_events", since=last, wait_seconds=0.1) == []


class TestExplanations:
    """Why it is as it is, with the evidence, and what comes next."""

    async def test_while_it_runs(self, house: House) -> None:
        await house.project("p")
        runner = await house.running("p", "sleep 1000 & echo up; wait")
        await house.says(runner, "up")
        found: Explanation = await house.ask("explain_runner", runner.id)
        assert found.summary == f"process {runner.pid} is running"
        assert found.next == "when it ends it stays ended"
        assert f"pid {runner.pid} lives" in says(found, "process table")
        assert says(found, "children").split()[1] in ("sh", "sleep"), "it may not have become sleep yet"
        assert "runner.started by supervisor" in says(found, "event")
        assert found.runner.activity is Activity.UNKNOWN
        assert all(isinstance(evidence, Evidence) for evidence in found.evidence)

    async def test_after_its_end(self, house: House) -> None:
        await house.project("p")
        runner = await house.launch("p", "echo bye; exit 3")
        await house.over(runner.id)
        found = await house.ask("explain_runner", runner.id)
        assert found.summary == "it ended by itself (exit code 3)"
        assert found.next == f"nothing; `stratavore restart {runner.name}` starts it again"
        assert says(found, "exit record") == "exit code 3"
        assert says(found, "last line") == "bye"

    async def test_after_an_end_that_its_agent_gave_a_reason_for(self, tmp_path: Path) -> None:
        script = "echo 'Unable to connect to Anthropic services'; echo 'Failed: no'; echo 'at https://x'; exit 1"
        profile = {"agent": "claude", "argv": ("sh", "-c", script)}
        async with living(tmp_path / "state", quick(agents={"failing": profile})) as house:
            await house.project("p", agent="failing")
            ended = await house.over((await house.launch("p", argv=[])).id)
            assert ended.last_line == "Unable to connect to Anthropic services: Failed: no"

    async def test_between_two_runs(self, tmp_path: Path) -> None:
        slow = quick(runners={"backoff_first": 200.0, "backoff_max": 300.0})
        async with living(tmp_path / "state", slow) as house:
            await house.project("p")
            runner = await house.launch("p", "exit 3", restart_policy="always")
            waiting = await house.reaches(runner.id, "backoff")
            found = await house.ask("explain_runner", runner.id)
            assert found.summary == "its last run ended (exit code 3); it waits before it starts again"
            assert waiting.retry_at is not None
            assert found.next == f"a new run at {waiting.retry_at.astimezone():%Y-%m-%d %H:%M:%S}"

    async def test_when_its_own_files_have_gone(self, house: House) -> None:
        """An explanation is for when things are wrong: it must not itself fail then."""
        await house.project("p")
        runner = await house.running("p")
        house.paths.environment(runner.id).unlink()
        found = await house.ask("explain_runner", runner.id)
        assert found.summary == f"process {runner.pid} is running"


async def test_nothing_is_said_of_one_that_is_not_there(house: House) -> None:
    with pytest.raises(NotFound):
        await house.ask("explain_runner", "ghost")


def says(found: Explanation, source: str) -> str:
    return "\n".join(evidence.says for evidence in found.evidence if evidence.source == source)
