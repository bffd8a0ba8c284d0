"""What runners do is looked for, and written down when it changes."""

import asyncio
import os
import signal
import socket
import time
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from stratavore.activity import Source
from stratavore.hook import SOCKET, SPOOL
from stratavore.spool import EMPTIED_FROM
from tests.claudes import Claude, becomes, living_with_claudes
from tests.house import House, living, quick, until


@pytest.fixture
async def place(tmp_path: Path) -> AsyncIterator[House]:
    async with living_with_claudes(tmp_path) as house:
        yield house


async def test_a_change_of_the_state_file_is_seen_within_a_second(place: House) -> None:
    claude = await Claude.launch(place)
    for status, activity in (("busy", "working"), ("idle", "idle"), ("busy", "working")):
        claude.is_now(status)
        began = time.monotonic()
        found = await claude.becomes(activity)
        assert time.monotonic() - began < 1.0
        assert found.activity_source == Source.STATE_FILE
        assert found.waiting_for is None


async def test_a_hook_is_seen_at_once(place: House) -> None:
    claude = await Claude.launch(place)
    await claude.hook("UserPromptSubmit", prompt="do it")
    began = time.monotonic()
    found = await claude.becomes("working")
    assert time.monotonic() - began < 0.3
    assert (found.activity_source, found.seen_at is not None) == (Source.HOOK, True)


CLEARED = "0f0e1de9-0000-4000-8000-00000000000c"


async def test_an_agent_that_goes_into_another_session_is_followed_at_once(place: House) -> None:
    claude = await Claude.launch(place)
    first = claude.runner.session_id or ""
    for goes_to, source in ((CLEARED, "clear"), (first, "resume")):
        left = (await place.get(claude.runner.id)).session_id or ""
        await claude.hook("SessionEnd", session_id=left, reason=source)
        await claude.hook("SessionStart", session_id=goes_to, source=source)
        began = time.monotonic()
        await until(lambda goes_to=goes_to: session_of(place, claude) == goes_to)  # type: ignore[misc]
        assert time.monotonic() - began < 0.4, "no look at the processes is due for an hour"
        assert (await place.ask("get_session", left)).ended_at is not None
        assert (await place.ask("get_session", goes_to)).is_live
    assert (await place.ask("get_session", CLEARED)).runners == [claude.runner.name]
    assert place.told(claude.runner.id).count("runner.session_entered") == 2


async def test_a_state_file_tells_of_another_session_where_no_hook_does(place: House) -> None:
    claude = await Claude.launch(place)
    claude.is_now("idle", session_id=claude.runner.session_id)
    await claude.becomes("idle")
    claude.is_now("busy", session_id=CLEARED)
    await until(lambda: session_of(place, claude) == CLEARED, seconds=2)
    await claude.hook("SessionStart", session_id=claude.runner.session_id, source="resume")
    await until(lambda: session_of(place, claude) == claude.runner.session_id)
    claude.is_now("idle", session_id=CLEARED)  # it is written a moment later, and said that before
    await claude.becomes("idle")
    assert session_of(place, claude) == claude.runner.session_id


async def test_what_a_hook_said_last_holds_where_nobody_listened_to_the_end_of_the_run(place: House) -> None:
    claude = await Claude.launch(place)
    await place.stop()
    await claude.hook("SessionStart", session_id=CLEARED, source="clear")
    os.kill(claude.runner.pid or 0, signal.SIGTERM)
    await place.start()
    ended = await place.ended(claude.runner.id)
    assert ended.session_id == CLEARED
    found = await place.ask("get_session", CLEARED)
    assert (found.is_live, found.runners) == (False, [claude.runner.name])


def session_of(place: House, claude: Claude) -> str | None:
    found = place.context.rows.scalar("SELECT session_id FROM runners WHERE id = ?", (claude.runner.id,))
    return None if found is None else str(found)


async def test_only_the_edges_of_waiting_are_events(place: House) -> None:
    claude = await Claude.launch(place)
    claude.is_now("busy")
    await claude.becomes("working")
    claude.is_now("waiting", "permission prompt")
    await claude.hook("PermissionRequest", tool_name="Bash", tool_input={"command": "rm -r ."})
    found = await claude.becomes("waiting_permission")
    await until(lambda: "Bash" in (place.context.activity.of(found.id).waiting_for or ""))
    claude.is_now("busy")
    await claude.becomes("working")
    claude.is_now("waiting", "input needed")
    assert (await claude.becomes("waiting_input")).waiting_for == "waiting: input needed"
    claude.is_now("idle")
    await claude.becomes("idle")
    edges = ["runner.waiting", "runner.resumed_working", "runner.waiting", "runner.stopped_waiting"]
    assert [type for type in place.told(found.id) if "wait" in type or "resumed" in type] == edges


async def test_what_was_believed_outlives_the_daemon_and_what_hooks_left_meanwhile_is_read_once(place: House) -> None:
    claude = await Claude.launch(place)
    await claude.hook("PermissionRequest", tool_name="Bash", tool_input={})
    await claude.becomes("waiting_permission")
    await place.stop()
    assert not (place.paths.state / SOCKET).exists()
    await place.start()
    assert (await place.get(claude.runner.id)).activity == "waiting_permission"
    await place.stop()
    await claude.hook("PostToolUse", tool_name="Bash", tool_input={})
    await place.start()
    await claude.becomes("working")
    await place.restart()
    await asyncio.sleep(0)
    assert place.told(claude.runner.id).count("runner.waiting") == 1
    assert place.told(claude.runner.id).count("runner.resumed_working") == 1


async def test_a_new_run_begins_unknown(place: House) -> None:
    claude = await Claude.launch(place)
    claude.is_now("busy")
    await claude.becomes("working")
    await place.ask("restart_runners", claude.runner.id)
    found = await place.reaches(claude.runner.id, "running", run=2)
    assert (found.activity, found.activity_since, found.activity_source) == ("unknown", None, None)
    again = Claude(place, found)
    again.is_now("idle")
    await again.becomes("idle")


async def test_a_state_file_of_another_process_says_nothing(place: House) -> None:
    claude = await Claude.launch(place)
    claude._start_time += 1
    claude.is_now("busy")
    await claude.hook("Stop")
    found = await claude.becomes("idle")
    assert found.activity_source == Source.HOOK


async def test_sources_that_disagree_for_seconds_are_an_event_once(place: House) -> None:
    claude = await Claude.launch(place)
    claude.is_now("busy", at=time.time() - 60)
    await place.wish("UPDATE runs SET created_at = '2020-01-01T00:00:00.000Z'")
    await place.restart()
    await claude.becomes("working")
    await claude.hook("Stop")
    await until(lambda: "runner.activity_disputed" in place.told(claude.runner.id))
    await claude.hook("Stop")
    await asyncio.sleep(1.0)
    [event] = [each for each in place.events_of(claude.runner.id) if each.type == "runner.activity_disputed"]
    assert (event.payload["activity"], event.payload["other_activity"]) == ("working", "idle")
    assert event.payload["other_source"] == "hook"
    assert place.context.activity.disputes == 1


async def test_what_hooks_leave_does_not_pile_up(place: House) -> None:
    claude = await Claude.launch(place)
    spool = place.paths.runner(claude.runner.id) / SPOOL
    spool.write_bytes(b"noise\n" * (EMPTIED_FROM // 6 + 1))
    await claude.hook("Stop")
    await claude.becomes("idle")
    await until(lambda: spool.stat().st_size == 0)
    await claude.hook("UserPromptSubmit")
    await claude.becomes("working")


async def test_its_prompt_is_taken_once_it_was_seen_at_work(place: House) -> None:
    def is_taken(claude: Claude) -> bool:
        return bool(place.context.rows.scalar("SELECT prompt_taken FROM runners WHERE id = ?", (claude.runner.id,)))

    first, second = await Claude.launch(place), await Claude.launch(place)
    first.is_now("idle")
    await first.becomes("idle")
    assert not is_taken(first)
    await first.hook("UserPromptSubmit")
    second.is_now("busy")
    await until(lambda: is_taken(first) and is_taken(second))


async def test_the_limit_of_its_provider_is_shown_until_it_works_again(place: House) -> None:
    claude = await Claude.launch(place)
    await claude.hook("StopFailure", error="rate_limit", last_assistant_message="Limit reached · resets 3am (UTC)")
    found = await claude.becomes("waiting_input")
    assert found.waiting_for == "Limit reached · resets 3am (UTC)"
    assert found.limit_resets_at is not None
    assert (found.limit_resets_at.hour, found.limit_resets_at.minute) == (3, 0)
    await claude.hook("UserPromptSubmit")
    assert (await claude.becomes("working")).limit_resets_at is None


async def test_a_wall_before_its_prompt_is_told_with_its_text(tmp_path: Path) -> None:
    wall = "printf ' Quick safety check: Is this one you trust?\\n'; exec sleep 1000"
    async with living_with_claudes(tmp_path, argv=("sh", "-c", wall)) as house:
        claude = await Claude.launch(house)
        found = await claude.becomes("waiting_input")
        assert found.waiting_for == "Quick safety check: Is this one you trust?"
        assert found.activity_source == Source.SCREEN
        claude.is_now("idle")
        await claude.becomes("idle")


async def test_other_programs_are_unknown_unless_patterns_tell(tmp_path: Path) -> None:
    script = "echo 'Proceed? [y/N]'; read answer; echo 'Compiling 3 of 9'; exec sleep 1000"
    patterns = {"waiting": r"\[y/N\]$", "working": "^Compiling"}
    async with living(tmp_path / "state", quick(activity={"patterns": patterns})) as house:
        await house.project("p")
        runner = await house.running("p", script)
        found = await becomes(house, runner.id, "waiting_input")
        assert (found.waiting_for, found.activity_source) == ("Proceed? [y/N]", "screen")
        silent = await house.running("p")
        assert (await house.get(silent.id)).activity == "unknown"


async def test_a_thousand_pokes_of_strangers_cost_nothing(place: House) -> None:
    claude = await Claude.launch(place)
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM | socket.SOCK_NONBLOCK) as stranger:
        for number in range(500):
            words = (b"x" * 5000, b"aaaaaaaaaa", b"../../etc/", b"")[number % 4]
            try:
                stranger.sendto(words, str(place.paths.state / SOCKET))
            except BlockingIOError:
                await asyncio.sleep(0.01)
    await claude.hook("Stop")
    await claude.becomes("idle")
