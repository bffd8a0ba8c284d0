"""Sessions, through the verbs: found, followed, resumed, forked, refused. The agents are commands that only wait."""

import asyncio
import json
import os
import subprocess
from collections.abc import AsyncIterator, Iterator
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from msgspec import structs

from stratavore import process
from stratavore.agents.agent import start_ticks
from stratavore.agents.records import Note
from stratavore.errors import Ambiguous, BudgetExceeded, Conflict, Invalid, NotFound
from stratavore.model import Launched, Runner, Session
from stratavore.process import mark_of
from stratavore.sampling import Sampling
from stratavore.shim.client import MARKER
from stratavore.store import budgets
from stratavore.store import sessions as stored
from stratavore.store.usage import Charge
from tests.house import House, living, quick, until

WAITS = ["sh", "-c", "exec sleep 1000", "agent"]
LONG_AGO = datetime.now(UTC) - timedelta(days=1)
FOREIGN = "0f0e1de9-0000-4000-8000-000000000001"


@pytest.fixture
async def house(tmp_path: Path) -> AsyncIterator[House]:
    """Claude and Codex with account directories of their own, and a project `p`."""
    profiles = {
        "claude": {"argv": WAITS, "home": str(tmp_path / "claude")},
        "claude-work": {"agent": "claude", "argv": WAITS, "home": str(tmp_path / "work")},
        "codex": {"argv": WAITS, "home": str(tmp_path / "codex")},
        "gemini": {"argv": WAITS, "home": str(tmp_path / "gemini")},
    }
    async with living(tmp_path / "state", quick(agents=profiles)) as house:
        await house.project("p", max_runners=20)
        yield house


async def launch(house: House, agent: str = "claude", **fields: Any) -> Runner:
    return await house.running("p", agent=agent, argv=fields.pop("argv", []), **fields)


async def launched(house: House, **fields: Any) -> Launched:
    return await house.launch_all("p", argv=fields.pop("argv", []), **fields)


async def stop(house: House, runner: Runner) -> None:
    await house.ask("stop_runners", runner.id)
    await house.over(runner.id)


async def session(house: House, reference: str | None) -> Session:
    found = await house.ask("get_session", reference or "")
    assert isinstance(found, Session)
    return found


async def listed(house: House, **fields: Any) -> list[str]:
    return [found.id for found in await house.ask("list_sessions", **fields)]


def cwd(house: House) -> Path:
    return house.paths.state.parent / "project-p"


def say(house: House, session_id: str | None, home: str = "claude", *, text: str = "hello") -> Path:
    """Claude's transcript of it, as if a prompt had been sent."""
    path = house.paths.state.parent / home / "projects" / "any" / f"{session_id}.jsonl"
    path.parent.mkdir(parents=True, exist_ok=True)
    line = {
        "type": "user",
        "uuid": "u1",
        "sessionId": session_id,
        "cwd": str(cwd(house)),
        "timestamp": "2031-05-06T07:08:09.000Z",
        "message": {"role": "user", "content": text},
    }
    path.write_text(json.dumps(line) + "\n")
    return path


async def heard_of(house: House, session_id: str, home: str = "claude", *, at: datetime = LONG_AGO) -> None:
    """The ledger read of it in the agent's files."""
    note = Note(session_id=session_id, at=at, cwd=str(cwd(house)), is_message=True)
    path = say(house, session_id, home)
    await house.context.write(
        lambda tx: stored.note_all(tx, "claude", str(house.paths.state.parent / home), str(path), [note], now=at)
    )


@contextmanager
def foreign_claude(house: House, session_id: str, home: str = "claude", *, mark: str = "") -> Iterator[int]:
    """A process that nobody here started, which Claude's own registry says is in that session; or that runner did."""
    child = subprocess.Popen(["sleep", "1000"], env={**os.environ, **({MARKER: mark} if mark else {})})
    state = house.paths.state.parent / home / "sessions" / f"{child.pid}.json"
    state.parent.mkdir(parents=True, exist_ok=True)
    while mark_of(child.pid) != (mark or None):  # the kernel lets us go on before its environment can be read
        pass
    said = {"pid": child.pid, "sessionId": session_id, "procStart": str(start_ticks(child.pid))}
    state.write_text(json.dumps(said))
    try:
        yield child.pid
    finally:
        child.kill()
        child.wait()


async def test_the_session_of_a_runner_is_known_before_it_runs_and_live_while_it_does(house: House) -> None:
    runner = await launch(house)
    found = await session(house, runner.session_id)
    assert (found.agent, found.project, found.cwd) == ("claude", "p", str(cwd(house)))
    assert (found.runners, found.is_live, found.is_foreign) == ([runner.name], True, False)
    assert (found.resumable, found.why_not) == (False, f"{runner.name} is in it now")
    assert (found.messages, found.tokens, found.cost_usd) == (None, None, None), "nobody has read it"
    await stop(house, runner)
    ended = await session(house, runner.session_id)
    assert (ended.is_live, ended.resumable, ended.why_not) == (False, False, "nothing was said in it yet")
    assert ended.ended_at is not None


async def test_many_in_which_nothing_was_said_hide_none_in_which_something_was(house: House) -> None:
    many = "WITH RECURSIVE n (i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < 1200)"
    await house.wish(
        f"{many} INSERT INTO sessions (agent, id, home, is_foreign, started_at, messages)"
        " SELECT 'claude', 's' || printf('%04d', i), '/nowhere', 0, '2031-01-01T00:00:00.000Z',"
        " CASE WHEN i % 400 = 0 THEN 1 END FROM n"
    )
    assert await listed(house) == ["s1200", "s0800", "s0400"]
    assert await listed(house, limit=1, offset=1) == ["s0800"]


async def test_what_was_never_spoken_in_is_not_listed_once_it_is_over(house: House) -> None:
    runner = await launch(house)
    assert await listed(house) == [runner.session_id]
    await stop(house, runner)
    assert await listed(house) == []
    say(house, runner.session_id)
    assert await listed(house, resumable=True) == [runner.session_id]


async def test_a_resume_without_room_in_a_budget_is_refused_and_the_session_stays_free(house: House) -> None:
    first = await launch(house)
    say(house, first.session_id)
    await stop(house, first)
    budget = await house.ask("set_budget", scope="project", name="p", period="daily", tokens=10)
    project, now = house.context.rows.scalar("SELECT project_id FROM runners"), house.context.clock.now()
    used = Charge(None, project, "claude", "m", now, 10, 0, True)
    await house.context.write(lambda tx: budgets.charge(tx, [used], now=now))
    with pytest.raises(BudgetExceeded, match="the daily budget of project p"):
        await launched(house, resume=first.session_id)
    assert (await session(house, first.session_id)).resumable
    await house.ask("extend_budget", str(budget.id), tokens=1000)
    assert (await launch(house, resume=first.session_id)).session_id == first.session_id


async def test_a_resumed_session_is_the_same_one_and_nobody_else_gets_in(house: House) -> None:
    first = await launch(house)
    say(house, first.session_id)
    await stop(house, first)
    assert first.session_id is not None
    second = await launch(house, None, resume=first.session_id[:8])  # type: ignore[arg-type]
    assert second.session_id == first.session_id
    assert ["--resume", first.session_id] == second.argv[4:6]
    assert (await session(house, first.session_id)).runners == [first.name, second.name]
    with pytest.raises(Conflict, match=f"{second.name} is in it now"):
        await launched(house, resume=first.session_id)
    with pytest.raises(Conflict, match=f"{second.name} is in the session of {first.name}"):
        await house.ask("restart_runners", first.id)


async def test_a_session_that_a_process_of_nobodys_is_in_is_refused_by_its_pid(house: House) -> None:
    await heard_of(house, FOREIGN)
    with foreign_claude(house, FOREIGN) as pid:
        found = await session(house, FOREIGN)
        assert (found.is_foreign, found.is_live, found.runners) == (True, True, [])
        with pytest.raises(Conflict, match=f"pid {pid}, which Stratavore did not start"):
            await launched(house, resume=FOREIGN)
        assert await listed(house, foreign=True) == [FOREIGN]
    assert (await session(house, FOREIGN)).resumable
    runner = await launch(house, resume=FOREIGN)
    assert not (await session(house, FOREIGN)).is_foreign
    assert runner.session_id == FOREIGN
    assert await listed(house, foreign=True) == []


async def test_what_an_agent_of_a_runner_starts_is_not_foreign(house: House) -> None:
    await heard_of(house, FOREIGN)
    runner = await launch(house)
    with foreign_claude(house, FOREIGN, mark=runner.id) as pid:
        found = await session(house, FOREIGN)
        assert (found.is_foreign, found.is_live) == (False, True)
        assert found.why_not == f"runner {runner.id} (pid {pid}) is in it now"
        assert await listed(house, foreign=True) == []
    assert await listed(house, foreign=True) == [FOREIGN]


async def test_a_state_file_of_a_process_that_is_gone_keeps_nobody_out(house: House) -> None:
    await heard_of(house, FOREIGN)
    with foreign_claude(house, FOREIGN):
        pass
    assert (await session(house, FOREIGN)).resumable


async def test_a_command_line_tells_of_a_writer_too(house: House, tmp_path: Path) -> None:
    await heard_of(house, FOREIGN)
    program = tmp_path / "claude.exe"
    program.write_text("#!/bin/sh\nread line\n")
    program.chmod(0o755)
    child = subprocess.Popen([program, f"--resume={FOREIGN}"], stdin=subprocess.PIPE)
    try:
        await until(lambda: FOREIGN in Path(f"/proc/{child.pid}/cmdline").read_text())
        with pytest.raises(Conflict, match=f"pid {child.pid}"):
            await launched(house, resume=FOREIGN)
    finally:
        child.communicate(b"\n")


async def test_a_restart_does_not_go_where_somebody_else_went_meanwhile(house: House) -> None:
    runner = await launch(house)
    say(house, runner.session_id)
    await stop(house, runner)
    with foreign_claude(house, runner.session_id or "") as pid:
        await house.ask("restart_runners", runner.id)
        ended = await house.reaches(runner.id, "failed", run=2)
        assert f"pid {pid}, which Stratavore did not start) is in its session" in (ended.end_detail or "")
    await house.ask("restart_runners", runner.id)
    assert "--resume" in (await house.reaches(runner.id, "running", run=3)).argv


async def test_a_fork_is_a_session_of_its_own_that_knows_its_parent(house: House) -> None:
    first = await launch(house)
    say(house, first.session_id)
    fork = await launch(house, fork=first.session_id)  # while the first goes on
    assert fork.session_id != first.session_id
    expected = ["--resume", first.session_id, "--fork-session", "--session-id", fork.session_id]
    assert fork.argv[4:9] == expected
    assert (await session(house, fork.session_id)).resumed_from == first.session_id

    await stop(house, fork)
    await house.ask("restart_runners", fork.id)
    again = await house.reaches(fork.id, "running", run=2)
    assert again.argv[4:9] == expected, "nothing was said in it, so it does not exist"
    await stop(house, fork)
    say(house, fork.session_id)
    await house.ask("restart_runners", fork.id)
    again = await house.reaches(fork.id, "running", run=3)
    assert again.argv[4:6] == ["--resume", fork.session_id]


async def test_gemini_says_that_it_cannot_fork(house: House) -> None:
    runner = await launch(house, "gemini")
    chats = house.paths.state.parent / "gemini/.gemini/tmp/any/chats"
    chats.mkdir(parents=True)
    (chats / f"session-2031-05-06T07-08-{(runner.session_id or '')[:8]}.jsonl").write_text("{}\n")
    with pytest.raises(Invalid, match="gemini cannot fork"):
        await launched(house, fork=runner.session_id)


async def test_continue_takes_the_newest_that_can_be_resumed_by_its_id(house: House) -> None:
    with pytest.raises(NotFound, match="no session of claude that can be resumed"):
        await launched(house, agent="claude", continue_newest=True)
    older = await launch(house)
    newer = await launch(house)
    for runner in (older, newer):
        say(house, runner.session_id)
        await stop(house, runner)
    busy = await launch(house)
    say(house, busy.session_id)
    taken = await launch(house, continue_newest=True)
    assert taken.session_id == newer.session_id
    assert "--continue" not in taken.argv
    assert (await launch(house, continue_newest=True)).session_id == older.session_id


async def test_what_the_last_runner_might_do_unasked_is_kept_unless_something_else_is_said(house: House) -> None:
    first = await launch(house, argv=["--verbose", "--permission-mode", "plan"])
    say(house, first.session_id)
    await stop(house, first)
    second = await launch(house, resume=first.session_id)
    assert second.argv[-2:] == ["--permission-mode", "plan"]
    assert "--verbose" not in second.argv
    await stop(house, second)
    third = await launch(house, resume=first.session_id, argv=["--permission-mode=acceptEdits"])
    assert third.argv[-1] == "--permission-mode=acceptEdits"
    assert "plan" not in third.argv


async def test_a_session_goes_on_with_the_account_that_has_it(house: House) -> None:
    await heard_of(house, FOREIGN, "work")
    runner = await launch(house, None, resume=FOREIGN)  # type: ignore[arg-type]
    assert runner.agent == "claude-work"
    await stop(house, runner)
    with pytest.raises(Invalid, match="is of another account than agent claude"):
        await launched(house, resume=FOREIGN, agent="claude")
    with pytest.raises(Invalid, match="is claude's, not codex's"):
        await launched(house, resume=FOREIGN, agent="codex")


async def test_an_account_that_no_profile_names_is_given_by_the_environment(tmp_path: Path) -> None:
    async with living(tmp_path / "state", quick(agents={"claude": {"argv": WAITS}})) as house:
        await house.project("p")
        await heard_of(house, FOREIGN, "elsewhere")
        runner = await launch(house, None, resume=FOREIGN)  # type: ignore[arg-type]
        environ = Path(f"/proc/{runner.pid}/environ").read_text().split("\0")
        assert f"CLAUDE_CONFIG_DIR={tmp_path / 'elsewhere'}" in environ


async def test_what_is_in_the_way_is_told(house: House, tmp_path: Path) -> None:
    await heard_of(house, FOREIGN)
    transcript = say(house, FOREIGN)
    transcript.unlink()
    gone = await session(house, FOREIGN)
    assert gone.why_not == "its transcript has gone, and no copy of it was kept"
    say(house, FOREIGN)
    await house.wish("UPDATE sessions SET cwd = ?", str(tmp_path / "nowhere"))
    assert (await session(house, FOREIGN)).why_not == f"its directory {tmp_path / 'nowhere'} has gone"
    with pytest.raises(Conflict, match="has gone"):
        await launched(house, resume=FOREIGN)
    (tmp_path / "nowhere").touch()
    assert (await session(house, FOREIGN)).why_not == f"its directory {tmp_path / 'nowhere'} is none any more"


async def test_an_unknown_or_ambiguous_prefix_is_told(house: House) -> None:
    await heard_of(house, FOREIGN)
    await heard_of(house, FOREIGN[:-1] + "2")
    with pytest.raises(Ambiguous, match="fits several sessions"):
        await session(house, FOREIGN[:5])
    with pytest.raises(NotFound, match="no session's id"):
        await session(house, "nonsense")
    assert (await session(house, FOREIGN)).id == FOREIGN


async def test_a_session_of_another_project_is_not_resumed_in_this_one(house: House) -> None:
    await house.project("q")
    await heard_of(house, FOREIGN)
    with pytest.raises(Invalid, match="is of project p"):
        await house.launch_all("q", argv=[], resume=FOREIGN)


async def test_a_session_that_changes_in_the_same_process_is_followed(house: House) -> None:
    runner = await launch(house)
    state = house.paths.state.parent / "claude" / "sessions" / f"{runner.pid}.json"
    state.parent.mkdir(parents=True)
    assert runner.pid is not None
    said = {"sessionId": FOREIGN, "procStart": str(start_ticks(runner.pid)), "status": "idle"}
    state.write_text(json.dumps(said))
    await Sampling(house.context).look()
    assert (await house.get(runner.id)).session_id == FOREIGN
    assert not (await session(house, runner.session_id)).is_live
    assert (await session(house, FOREIGN)).runners == [runner.name]
    assert "runner.session_entered" in house.told(runner.id)


async def test_two_runners_that_turn_out_to_be_in_one_session_are_told(house: House) -> None:
    one, two = await launch(house), await launch(house)
    state = house.paths.state.parent / "claude" / "sessions" / f"{two.pid}.json"
    state.parent.mkdir(parents=True)
    state.write_text(json.dumps({"sessionId": one.session_id, "procStart": str(start_ticks(two.pid or 0))}))
    for _ in range(2):
        await Sampling(house.context).look()
    shown = await house.get(two.id)
    assert (shown.session_id, shown.session_detail) == (None, f"{one.name} is in session {one.session_id} too")
    assert house.told(two.id).count("runner.session_contested") == 1
    assert (await session(house, one.session_id)).runners == [one.name]


def rollout(house: House, session_id: str) -> Path:
    now = datetime.now(UTC)
    path = house.paths.state.parent / f"codex/sessions/2031/05/06/rollout-2031-05-06T07-08-09-{session_id}.jsonl"
    path.parent.mkdir(parents=True, exist_ok=True)
    meta = {"id": session_id, "cwd": str(cwd(house)), "timestamp": now.isoformat(), "source": "cli"}
    path.write_text(json.dumps({"type": "session_meta", "payload": meta}) + "\n")
    return path


A, B = "01a20410-520b-7cb0-bc60-d72d12519fa1", "01a20410-520b-7cb0-bc60-d72d12519fa2"


async def test_sessions_that_nothing_tells_apart_are_of_nobody_and_that_is_explained(house: House) -> None:
    runner = await launch(house, "codex")
    rollout(house, A)
    rollout(house, B)
    await Sampling(house.context).look()
    shown = await house.get(runner.id)
    assert shown.session_id is None
    why = "2 conversations began in its directory since it started, and nothing tells which is its own"
    assert shown.session_detail == why
    explained = await house.ask("explain_runner", runner.id)
    assert f"unknown: {why}" in [piece.says for piece in explained.evidence]


async def test_codex_runners_in_one_directory_are_told_apart_by_what_they_hold_open(house: House) -> None:
    files = [rollout(house, A), rollout(house, B)]
    scripts = [f'exec 9>>"{file}"; echo ready; exec sleep 1000' for file in files]
    runners = []
    for script in scripts:
        argv = ("sh", "-c", script, "codex")
        house.config.agents["codex"] = structs.replace(house.config.agents["codex"], argv=argv)
        runners.append(await launch(house, "codex"))
        await house.says(runners[-1], "ready")
    await Sampling(house.context).look()
    assert [(await house.get(runner.id)).session_id for runner in runners] == [A, B]
    assert [(await session(house, each)).runners for each in (A, B)] == [[runner.name] for runner in runners]


async def test_a_second_agent_in_a_directory_is_warned_of_and_a_mere_command_is_not(house: House) -> None:
    first = await launched(house, agent="claude")
    assert first.warnings == []
    second = await launched(house, agent="codex")
    assert second.warnings == [f"{first.runners[0].name} (claude) works in {cwd(house)} too"]
    assert (await house.launch_all("p")).warnings == []


async def test_no_project_is_deleted_under_who_works_inside(house: House) -> None:
    await house.project("outer", house.paths.state.parent)
    runner = await launch(house)
    with pytest.raises(Conflict, match=f"{runner.name} works in"):
        await house.ask("delete_project", "outer")
    await stop(house, runner)
    await house.ask("delete_project", "outer")


async def test_what_was_said_is_read_part_by_part(house: House) -> None:
    await heard_of(house, FOREIGN)
    path = say(house, FOREIGN)
    line = path.read_text()
    path.write_text(line * 501 + "{broken\n" + line.replace("hello", "the last"))
    first = await house.ask("read_transcript", FOREIGN)
    assert len(first.turns) == 500
    rest = await house.ask("read_transcript", FOREIGN, after=first.next)
    assert [turn.text for turn in rest.turns] == ["hello", "(a line that cannot be read)", "the last"]
    assert rest.next is None
    assert {turn.role for turn in first.turns} == {"user"}


async def test_a_transcript_behind_a_link_is_not_read(house: House, tmp_path: Path) -> None:
    await heard_of(house, FOREIGN)
    path = say(house, FOREIGN)
    path.unlink()
    secret = tmp_path / "secret"
    secret.write_text("secret\n")
    path.symlink_to(secret)
    with pytest.raises(NotFound, match="symbolic link"):
        await house.ask("read_transcript", FOREIGN)


async def test_the_lease_ends_with_the_run_whatever_ends_it(house: House) -> None:
    runner = await launch(house)
    say(house, runner.session_id)
    assert runner.pid is not None
    os.kill(runner.pid, 9)
    await house.over(runner.id)
    assert process.identify(runner.pid) is None
    assert (await session(house, runner.session_id)).resumable


async def test_of_two_resumes_at_once_one_is_refused(house: House) -> None:
    first = await launch(house)
    say(house, first.session_id)
    await stop(house, first)
    tried = await asyncio.gather(*(launched(house, resume=first.session_id) for _ in range(4)), return_exceptions=True)
    assert sum(isinstance(each, Launched) for each in tried) == 1
    assert sum(isinstance(each, Conflict) for each in tried) == 3
    assert house.slots("p") == 1
