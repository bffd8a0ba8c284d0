"""`import`: what agents left before is read whole, counted once, and may be interrupted."""

import asyncio
import json
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest

from stratavore.errors import Conflict, Invalid, NotFound
from stratavore.imports import Imports
from stratavore.model import ImportProgress
from tests.house import House, living, until

A, B = "0f0e1de9-0000-4000-8000-000000000001", "0f0e1de9-0000-4000-8000-000000000002"


def left_by_claude(home: Path, session_id: str, cwd: Path, *, turns: int = 2) -> Path:
    """A transcript of so many turns, of two calls' worth of lines each."""
    path = home / "projects" / "any" / f"{session_id}.jsonl"
    path.parent.mkdir(parents=True, exist_ok=True)
    common = {"sessionId": session_id, "cwd": str(cwd), "version": "2.1.197"}
    lines: list[dict[str, Any]] = []
    for number in range(turns):
        at = f"2026-03-01T12:{number // 60 % 60:02}:{number % 60:02}.000Z"
        asked = {"role": "user", "content": f"question {number}"}
        lines.append({**common, "type": "user", "uuid": f"u{number}", "timestamp": at, "message": asked})
        answer = {
            "id": f"msg_{session_id[-1]}_{number}",
            "model": "claude-opus-4-8",
            "role": "assistant",
            "stop_reason": "end_turn",
            "content": [{"type": "text", "text": f"answer {number}"}],
            "usage": {"input_tokens": 10, "output_tokens": 5},
        }
        lines += [{**common, "type": "assistant", "uuid": f"a{number}", "timestamp": at, "message": answer}] * 2
    path.write_text("".join(json.dumps(line) + "\n" for line in lines))
    return path


@pytest.fixture
async def house(tmp_path: Path) -> AsyncIterator[House]:
    (tmp_path / "work").mkdir()
    async with living(tmp_path / "state") as house:
        yield house


async def brought_in(house: House, **asked: Any) -> ImportProgress:
    await house.ask("begin_import", **asked)
    for _ in range(100):
        found = await house.ask("watch_import", wait_seconds=0.5)
        assert isinstance(found, ImportProgress)
        if not found.is_running:
            return found
    raise TimeoutError("the import does not end")


def kept(house: House) -> list[tuple[Any, ...]]:
    """The rows of sessions and calls, and how many messages there are."""
    rows = house.context.rows
    return [
        *rows.tuples(
            "SELECT agent, id, cwd, messages, started_at, last_message_at, is_foreign FROM sessions ORDER BY id"
        ),
        *rows.tuples("SELECT key, input_tokens, output_tokens, runner_id FROM usage ORDER BY key"),
    ]


async def test_what_an_agent_left_is_brought_in_once_however_often_it_is_asked(house: House, tmp_path: Path) -> None:
    home = tmp_path / "claude"
    left_by_claude(home, A, tmp_path / "work")
    left_by_claude(home, B, tmp_path / "work")
    first = await brought_in(house, path=str(home))
    assert (first.failed, first.new_sessions, first.calls, first.files, first.bad_lines) == (None, 2, 4, 2, 0)
    assert first.bytes == first.total_bytes > 0
    rows = kept(house)
    assert [row[:4] for row in rows[:2]] == [("claude", each, str(tmp_path / "work"), 4) for each in (A, B)]
    again = await brought_in(house, path=str(home))
    assert (again.failed, again.calls) == (None, 0)
    assert kept(house) == rows
    found = await house.ask("list_sessions", foreign=True)
    assert {each.id: each.tokens for each in found} == {A: 30, B: 30}
    turns = (await house.ask("read_transcript", A)).turns
    assert [turn.text for turn in turns[:2]] == ["question 0", "answer 0"]


async def test_a_copy_of_what_is_known_adds_nothing_and_is_told_of_as_known(house: House, tmp_path: Path) -> None:
    first = left_by_claude(tmp_path / "claude", A, tmp_path / "work")
    await brought_in(house, path=str(tmp_path / "claude"))
    rows = kept(house)
    left_by_claude(tmp_path / "copy", B, tmp_path / "work")
    (tmp_path / "copy" / first.relative_to(tmp_path / "claude")).write_bytes(first.read_bytes())
    again = await brought_in(house, path=str(tmp_path / "copy"))
    assert (again.sessions, again.new_sessions, again.calls) == (2, 1, 2)
    assert [row for row in kept(house) if B not in row and "_2_" not in row[0]] == rows
    assert (await house.ask("get_session", A)).transcript_path == str(first)


async def test_it_may_be_stopped_and_goes_on_from_there(house: House, tmp_path: Path) -> None:
    home = tmp_path / "claude"
    for number in range(40):
        left_by_claude(home, f"{A[:-2]}{number:02}", tmp_path / "work", turns=400)
    await house.ask("begin_import", path=str(home))
    with pytest.raises(Conflict, match="under way"):
        await house.ask("begin_import", path=str(home))
    stopped = await house.ask("stop_import")
    assert (stopped.is_running, stopped.failed) == (False, "stopped")
    assert await house.ask("stop_import") == stopped
    done = await brought_in(house, path=str(home))
    assert (done.failed, done.bytes) == (None, done.total_bytes)
    assert house.context.rows.scalar("SELECT COUNT(*) FROM sessions") == 40
    assert house.context.rows.scalar("SELECT SUM(messages) FROM sessions") == 40 * 800


async def test_of_two_that_are_asked_for_at_once_one_begins(house: House, tmp_path: Path) -> None:
    left_by_claude(tmp_path / "claude", A, tmp_path / "work", turns=400)
    asked = [house.ask("begin_import", path=str(tmp_path / "claude")) for _ in range(2)]
    first, second = await asyncio.gather(*asked, return_exceptions=True)
    assert {type(first), type(second)} == {ImportProgress, Conflict}


async def test_who_stops_one_and_goes_away_is_gone() -> None:
    imports, may_end = Imports(), asyncio.Event()

    async def work() -> ImportProgress:
        try:
            await asyncio.Event().wait()
        finally:
            await may_end.wait()
        raise AssertionError

    imports.begin(work())
    await imports.wait(0.01)
    stopping = asyncio.ensure_future(imports.stop())
    await imports.wait(0.01)
    stopping.cancel()
    with pytest.raises(asyncio.CancelledError):
        await stopping
    may_end.set()
    await imports.wait(5)
    assert (imports.progress.is_running, imports.progress.failed) == (False, "stopped")


async def test_a_daemon_that_ends_meanwhile_leaves_what_it_read(house: House, tmp_path: Path) -> None:
    home = tmp_path / "claude"
    for number in range(40):
        left_by_claude(home, f"{A[:-2]}{number:02}", tmp_path / "work", turns=400)
    await house.ask("begin_import", path=str(home))
    await until(lambda: house.context.rows.scalar("SELECT COUNT(*) FROM usage"))
    await house.restart()
    assert not (await house.ask("watch_import")).is_running
    assert (await brought_in(house, path=str(home))).failed is None
    assert house.context.rows.scalar("SELECT SUM(messages) FROM sessions") == 40 * 800


async def test_each_agents_directory_is_known_by_what_lies_in_it(house: House, tmp_path: Path) -> None:
    home = tmp_path / "claude"
    left_by_claude(home, A, tmp_path / "work")
    assert (await brought_in(house, path=str(home))).sessions == 1
    (home / "sessions").mkdir()  # where Claude says who lives
    assert (await brought_in(house, path=str(home))).failed is None
    (home / "sessions" / "2026").mkdir()
    with pytest.raises(Invalid, match="may be the directory of claude, codex"):
        await house.ask("begin_import", path=str(home))
    assert (await brought_in(house, path=str(home), agent="claude")).failed is None
    with pytest.raises(Invalid, match="may be the directory of none"):
        await house.ask("begin_import", path=str(tmp_path / "work"))
    with pytest.raises(Invalid, match="is not a directory"):
        await house.ask("begin_import", path=str(tmp_path / "nowhere"))
    with pytest.raises(Invalid, match="shell keeps no conversations"):
        await house.ask("begin_import", agent="shell")


async def test_without_a_path_it_looks_where_the_asker_keeps_them(house: House, tmp_path: Path) -> None:
    left_by_claude(tmp_path / "me" / ".claude", A, tmp_path / "work")
    environment = {"HOME": str(tmp_path / "me")}
    with pytest.raises(NotFound, match="codex has left nothing here"):
        await house.ask("begin_import", agent="codex", environment=environment)
    assert (await brought_in(house, environment=environment)).sessions == 1


async def test_a_project_that_is_made_later_has_what_was_said_in_its_directory(house: House, tmp_path: Path) -> None:
    home = tmp_path / "claude"
    left_by_claude(home, A, tmp_path / "work")
    left_by_claude(home, B, tmp_path / "elsewhere")
    await brought_in(house, path=str(home))
    await house.project("late", tmp_path / "work")
    assert [each.id for each in await house.ask("list_sessions", project="late")] == [A]
    used = house.context.rows.tuples(
        "SELECT DISTINCT s.id FROM usage AS u JOIN sessions AS s ON s.number = u.session WHERE u.project_id IS NOT NULL"
    )
    assert used == [(A,)]
