"""An agent asks through its hook, a person answers, and the hook tells the agent: once, whatever restarts meanwhile."""

import asyncio
import json
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import msgspec
import pytest

from stratavore.agents import HookTold
from stratavore.approvals import Requests, ask_approval, decide_approval
from stratavore.context import Asker
from stratavore.errors import Ambiguous, Conflict, Forbidden, Invalid
from stratavore.model import Approval
from stratavore.protocol import AskApproval, DecideApproval
from tests.claudes import Claude, living_with_claudes
from tests.house import ME, House, until

LS = {"command": "ls", "description": "look"}


@pytest.fixture
async def place(tmp_path: Path) -> AsyncIterator[House]:
    async with living_with_claudes(tmp_path) as house:
        yield house


async def asking(
    claude: Claude, given: dict[str, Any] = LS, *, tool: str = "Bash", seconds: int = 60
) -> "asyncio.Task[Any]":
    """Its hook, which is held; and listed, when this returns."""
    house, before = claude.house, len(await opened(claude.house))
    held = asyncio.create_task(claude.hook("PermissionRequest", f"hold={seconds}", tool_name=tool, tool_input=given))
    await until(
        lambda: held.done() or len(house.context.rows.all("SELECT 1 FROM approvals WHERE decision IS NULL")) > before
    )
    return held


async def opened(house: House) -> list[Approval]:
    found: list[Approval] = await house.ask("list_approvals")
    return found


async def decide(house: House, runner: str, **fields: Any) -> Approval:
    found: Approval = await house.ask("decide_approval", runner, **fields)
    return found


def decision_of(printed: Any) -> Any:
    assert printed["hookSpecificOutput"]["hookEventName"] == "PermissionRequest"
    return printed["hookSpecificOutput"]["decision"]


async def test_what_is_allowed_is_told_to_the_agent_and_to_all(place: House) -> None:
    claude = await Claude.launch(place)
    held = await asking(claude)
    [request] = await opened(place)
    assert (request.runner, request.tool, request.input, request.decision) == (claude.runner.name, "Bash", LS, None)
    assert (request.expires_at - request.asked_at).total_seconds() == pytest.approx(60, abs=5)
    decided = await decide(place, claude.runner.name, allow=True)
    assert decision_of(await held) == {"behavior": "allow"}
    assert (decided.decision, decided.decided_by is not None) == ("allow", True)
    assert await opened(place) == []
    asked, told = place.events_of(request.id)
    assert (asked.type, asked.payload["says"]) == ("approval.requested", "Bash: ls")
    assert (told.type, told.payload["decision"]) == ("approval.decided", "allow")
    assert told.actor.startswith("cli uid=")


async def test_what_is_denied_is_told_with_the_reason(place: House) -> None:
    claude = await Claude.launch(place)
    for reason, message in (("not today", "not today"), (None, "denied with `stratavore deny`")):
        held = await asking(claude)
        await decide(place, claude.runner.id, allow=False, reason=reason)
        assert decision_of(await held) == {"behavior": "deny", "message": message}


async def test_for_the_session_the_very_same_is_allowed_and_no_more(place: House) -> None:
    claude = await Claude.launch(place)
    held = await asking(claude)
    await decide(place, claude.runner.id, allow=True, for_session=True)
    [update] = decision_of(await held)["updatedPermissions"]
    assert update == {
        "type": "addRules",
        "rules": [{"toolName": "Bash", "ruleContent": "ls"}],
        "behavior": "allow",
        "destination": "session",
    }
    held = await asking(claude, {"command": "rm *"})
    with pytest.raises(Invalid, match="this very command"):
        await decide(place, claude.runner.id, allow=True, for_session=True)
    await decide(place, claude.runner.id, allow=True)
    assert decision_of(await held) == {"behavior": "allow"}
    held = await asking(claude, {"file_path": "/x"}, tool="Edit")
    await decide(place, claude.runner.id, allow=True, for_session=True)
    assert decision_of(await held)["updatedPermissions"][0]["rules"] == [{"toolName": "Edit"}]


async def test_a_second_answer_is_refused_in_words(place: House) -> None:
    claude = await Claude.launch(place)
    held = await asking(claude)
    [request] = await opened(place)
    await decide(place, claude.runner.id, allow=True)
    for reference in (claude.runner.id, request.id):
        with pytest.raises(Conflict, match=r"was allowed at .* by cli uid="):
            await decide(place, reference, allow=False)
    assert decision_of(await held) == {"behavior": "allow"}
    other = await Claude.launch(place)
    with pytest.raises(Conflict, match="asks for no permission"):
        await decide(place, other.runner.id, allow=False)


async def test_of_two_requests_each_is_answered_by_its_id(place: House) -> None:
    claude = await Claude.launch(place)
    first = await asking(claude)
    second = await asking(claude, {"command": "pwd"})
    with pytest.raises(Ambiguous, match="several"):
        await decide(place, claude.runner.id, allow=True)
    ls, pwd = await opened(place)
    assert (ls.input["command"], pwd.input["command"]) == ("ls", "pwd")
    await decide(place, pwd.id, allow=False, reason="no")
    await decide(place, claude.runner.id, allow=True)
    assert decision_of(await first) == {"behavior": "allow"}
    assert decision_of(await second) == {"behavior": "deny", "message": "no"}


async def test_a_request_outlives_the_daemon_and_is_still_one(place: House) -> None:
    claude = await Claude.launch(place)
    held = await asking(claude)
    [request] = await opened(place)
    for _ in range(2):
        await place.restart()
    decided = asyncio.create_task(decide(place, claude.runner.id, allow=True))
    assert decision_of(await held) == {"behavior": "allow"}
    assert (await decided).id == request.id
    assert len(await place.ask("list_approvals", all=True)) == 1


async def test_what_is_decided_is_told_to_a_hook_that_comes_back(place: House) -> None:
    """The daemon dies between the commit and its answer."""
    claude = await Claude.launch(place)
    held = await asking(claude)
    await place.stop()
    await place.start()
    await place.wish(
        "UPDATE approvals SET decision = 'allow', decided_at = asked_at, decided_by = 'me', for_session = 0"
    )
    assert decision_of(await held) == {"behavior": "allow"}


async def test_who_is_not_answered_in_time_is_told_nothing(place: House) -> None:
    claude = await Claude.launch(place)
    assert await (await asking(claude, seconds=1)) is None
    await until(lambda: place.context.rows.scalar("SELECT decision FROM approvals") == "expired")
    with pytest.raises(Conflict, match="expired"):
        await decide(place, claude.runner.id, allow=True)


async def test_who_answered_in_the_agents_own_dialog_decided(place: House) -> None:
    """By Esc, which its state file tells; by Yes, after which the tool has run; by the end of the agent."""
    claude = await Claude.launch(place)
    claude.is_now("waiting", "permission prompt")
    held = await asking(claude)
    claude.is_now("idle")
    assert await held is None
    held = await asking(claude)
    await claude.hook("PostToolUse", tool_name="Bash", tool_input=LS)
    assert await held is None
    held = await asking(claude)
    await place.ask("stop_runners", claude.runner.id)
    assert await held is None
    assert {each.decision for each in await place.ask("list_approvals", all=True)} == {"elsewhere"}


async def test_that_a_tool_has_run_is_known_until_it_is_written(place: House) -> None:
    claude, watch = await Claude.launch(place), Requests(place.context)
    held = await asking(claude)
    sha256 = place.context.rows.scalar("SELECT input_sha256 FROM approvals")
    watch.told(claude.runner.id, HookTold(finished_tool=sha256))
    await place.wish("CREATE TRIGGER full BEFORE UPDATE ON approvals BEGIN SELECT RAISE(ABORT, 'full'); END")
    with pytest.raises(Exception, match="full"):
        await watch.look()
    await place.wish("DROP TRIGGER full")
    await watch.look()
    assert await held is None
    assert {each.decision for each in await place.ask("list_approvals", all=True)} == {"elsewhere"}


async def test_what_was_before_the_request_closes_it_not(place: House) -> None:
    claude = await Claude.launch(place)
    claude.is_now("busy")
    await claude.becomes("working")
    held = await asking(claude)
    await claude.hook("PostToolUse", tool_name="Bash", tool_input={"command": "another"})
    await asyncio.sleep(1.5)
    assert len(await opened(place)) == 1
    await decide(place, claude.runner.id, allow=True)
    assert decision_of(await held) == {"behavior": "allow"}


async def test_nobody_decides_what_nobody_would_learn(place: House, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("stratavore.approvals._COMES_BACK_SECONDS", 0.1)
    claude = await Claude.launch(place)
    said = {"tool_name": "Bash", "tool_input": LS}
    assert (await ask(place, claude.runner.id, said)) is None
    with pytest.raises(Conflict, match="has gone"):
        await decide(place, claude.runner.id, allow=True)


async def ask(house: House, runner: str, said: Any, request_id: str = "0123456789abcdef") -> Any:
    request = AskApproval(id=request_id, said=msgspec.Raw(json.dumps(said).encode()), expires_seconds=60)
    return (await ask_approval(house.context, ME, request, runner)).answer


async def test_a_request_that_nobody_understands_is_refused(place: House) -> None:
    claude = await Claude.launch(place)
    hostile: list[Any] = [[], {"tool_name": 7}, {"tool_name": "Bash", "tool_input": []}]
    for said in hostile:
        with pytest.raises(Invalid, match="not understood"):
            await ask(place, claude.runner.id, said)
    assert await opened(place) == []


async def test_an_id_is_one_runners_alone(place: House) -> None:
    one, other = await Claude.launch(place), await Claude.launch(place)
    await ask(place, one.runner.id, {"tool_name": "Bash"})
    with pytest.raises(Conflict, match="another runner"):
        await ask(place, other.runner.id, {"tool_name": "Bash"})


async def test_no_runner_decides_for_itself(place: House) -> None:
    claude = await Claude.launch(place)
    held = await asking(claude)
    itself = Asker("cli", 0, 0, claude.runner.id)
    with pytest.raises(Forbidden, match="its own request"):
        await decide_approval(place.context, itself, DecideApproval(allow=True), claude.runner.id)
    await decide(place, claude.runner.id, allow=True)
    assert json.dumps(await held)
