"""Real Claude Code sessions: launched, talked to, interrupted, stopped, resumed."""

import hashlib
import json
import os
import signal
from pathlib import Path

import pytest

from tests.e2e.house import House
from tests.programs import needs, once_more

pytestmark = [needs("claude"), once_more(), pytest.mark.timeout(150)]


def test_a_launched_session_reaches_its_prompt_and_answers_what_is_sent(house: House) -> None:
    runner = house.at_prompt("worker")
    sent = house.cli.json("send", "worker", "count to 7")
    assert sent["taken"] is True
    assert "● word-1 word-2 word-3 word-4 word-5 word-6 word-7" in house.until_logged("worker", "word-7")
    [listed] = house.cli.json("ps")
    assert (listed["state"], listed["pid"]) == ("running", runner["pid"])
    assert listed["session_id"] == house.said(runner)["sessionId"]


def test_a_stop_is_recorded_as_a_normal_end_with_143(house: House) -> None:
    house.at_prompt("worker")
    [stopped] = house.cli.json("stop", "worker")
    assert stopped["state"] == "terminated"
    assert (stopped["exit_code"], stopped["exit_signal"], stopped["end_reason"]) == (143, None, "stopped")


def test_a_restart_continues_the_conversation_under_the_same_name(house: House) -> None:
    first = house.at_prompt("worker")
    house.cli("send", "worker", "count to 7")
    house.until_logged("worker", "word-7")
    house.until_status(first, "idle")
    house.cli("stop", "worker")

    house.cli("restart", "worker")
    again = house.show("worker")
    assert again["id"] == first["id"]
    assert "--resume" in again["argv"]
    house.until_prompt(again)
    assert house.said(again)["sessionId"] == first["session_id"] == again["session_id"]
    house.until_on_screen("worker", "word-7")
    assert house.cli.json("send", "worker", "count to 9")["taken"] is True
    house.until_logged("worker", "word-9")
    assert house.heard_together("count to 7", "count to 9")


def test_a_session_whose_claude_was_killed_is_resumed_by_its_restart_policy(house: House) -> None:
    first = house.at_prompt("worker", "--restart", "on-failure")
    house.cli("send", "worker", "count to 7")
    house.until_logged("worker", "word-7")
    house.until_status(first, "idle")  # an answer is stored when its turn is over, not when it is shown
    os.kill(first["pid"], signal.SIGKILL)

    again = house.wait_for("worker", lambda runner: runner["run"] == 2 and runner["pid"] is not None)
    house.until_prompt(again)
    assert house.said(again)["sessionId"] == first["session_id"]
    assert (again["restarts"], again["state"]) == (1, "running")
    house.until_on_screen("worker", "word-7")


def test_a_first_prompt_is_submitted_once_whatever_restarts_follow(house: House) -> None:
    first = house.launch("worker", "--restart", "on-failure", "--prompt", "count to 7")
    house.until_logged("worker", "word-7")
    house.until_status(first, "idle")  # an answer is stored when its turn is over, not when it is shown
    os.kill(first["pid"], signal.SIGKILL)
    second = house.wait_for("worker", lambda runner: runner["run"] == 2 and runner["pid"] is not None)
    house.until_prompt(second)
    house.cli("restart", "worker")
    house.until_prompt(house.show("worker"))

    house.cli("send", "worker", "count to 9")
    house.until_logged("worker", "word-9")
    conversation = next(
        text
        for text in (json.dumps(request.body["messages"]) for request in reversed(house.standin.requests))
        if "count to 9" in text
    )
    assert conversation.count("count to 7") == 1


def test_interrupt_ends_the_turn_and_not_the_session(house: House) -> None:
    runner = house.at_prompt("worker")
    house.cli("send", "worker", "count to 2000 slowly")
    house.until_printed(runner, "word-5")
    house.cli("interrupt", "worker")
    house.until_status(runner, "idle")
    # Claude has put the old prompt back into its input box; what is sent now must not be added to it.
    assert house.cli.json("send", "worker", "say after-all")["taken"] is True
    house.until_logged("worker", "● after-all")
    assert house.show("worker")["pid"] == runner["pid"]


def test_nothing_of_the_users_settings_is_touched(house: House) -> None:
    settings = house.home / ".claude" / "settings.json"
    settings.parent.mkdir()
    settings.write_text('{"permissions": {"allow": ["Bash(ls:*)"]}}\n')
    (house.folder / "CLAUDE.md").write_text("Be brief.\n")
    before = digests(settings, house.folder / "CLAUDE.md")
    runner = house.at_prompt("worker")
    house.cli("send", "worker", "count to 3")
    house.until_status(runner, "idle")
    house.cli("stop", "worker")
    assert digests(settings, house.folder / "CLAUDE.md") == before
    assert sorted(path.name for path in house.folder.iterdir()) == ["CLAUDE.md"]
    assert sorted(path.name for path in settings.parent.glob("settings*")) == ["settings.json"]


def test_a_session_launched_from_inside_claude_is_told_nothing_of_it(house: House) -> None:
    marks = {
        "CLAUDECODE": "1",
        "CLAUDE_CODE_ENTRYPOINT": "cli",
        "CLAUDE_CODE_SESSION_ID": "3f0ad1f2-0000-4000-8000-000000000000",
        "CLAUDE_CODE_CHILD_SESSION": "1",
        "AI_AGENT": "claude-code",
    }
    house.cli.environment |= marks
    house.cli("daemon", "restart")  # So that the daemon was started from inside, too.
    runner = house.at_prompt("worker")
    environ = Path(f"/proc/{runner['pid']}/environ").read_bytes().split(b"\0")
    names = {variable.partition(b"=")[0].decode() for variable in environ}
    assert not names & set(marks)
    assert "ANTHROPIC_BASE_URL" in names
    assert house.said(runner)["kind"] == "interactive"


def test_a_permission_dialog_is_answered_by_a_key_and_never_by_a_text(house: House) -> None:
    runner = house.at_prompt("worker", "--", "--permission-mode", "default")
    house.cli("send", "worker", "run touch made-by-claude")
    house.until_status(runner, "waiting")
    house.until_on_screen("worker", "Do you want to proceed?")
    refused = house.cli("send", "worker", "count to 3", exits=4)
    assert "waits for a decision" in refused.stderr
    assert "stratavore attach worker" in refused.stderr
    house.cli("send", "worker", "--key", "enter")
    house.until_status(runner, "idle")
    assert (house.folder / "made-by-claude").exists()
    assert not house.heard_together("count to 3")


def test_a_text_does_not_answer_whether_a_folder_is_to_be_trusted(house: House) -> None:
    folder = house.home / "elsewhere"
    folder.mkdir()
    house.cli("new", "elsewhere", "--path", str(folder))
    house.cli("launch", "elsewhere", "--name", "stranger")
    house.until_on_screen("stranger", "trust")
    refused = house.cli("send", "stranger", "no, stop", exits=4)
    assert "has not come to its prompt" in refused.stderr
    assert "stratavore attach stranger" in refused.stderr
    assert "trust" in house.screen("stranger")


def digests(*files: Path) -> list[str]:
    return [hashlib.sha256(file.read_bytes()).hexdigest() for file in files]
