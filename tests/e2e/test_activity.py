"""What a real Claude does is known as it changes; its requests for permission are answered from outside; a verdict
stops it inside its own terminal."""

import json
import time
from collections.abc import Callable

import pytest

from stratavore import verdicts
from tests.e2e.house import House, until
from tests.programs import needs, once_more
from tests.standins.server import JSON

pytestmark = [needs("claude"), once_more(), pytest.mark.timeout(200)]
MANUAL = ("--", "--permission-mode", "manual")


def is_at(activity: str) -> Callable[[JSON], bool]:
    return lambda runner: runner["activity"] == activity


def asks(house: House) -> list[JSON]:
    return [dict(each) for each in house.cli.json("approvals")]


def until_asked(house: House, name: str, command: str) -> JSON:
    """The request for permission of a runner that was told to run that command."""
    house.cli("send", name, f"run {command}")
    return until(lambda: asks(house), "it asks", look=0.1, more=lambda: house.screen(name))[0]


def within(house: House, name: str, activity: str, since: float, seconds: float = 1.0) -> None:
    """The activity is stored within so long after `since` (by its own time: reading it takes a while, too)."""
    runner = house.wait_for(name, is_at(activity))
    [told] = [piece for piece in house.cli.json("explain", name)["evidence"] if piece["source"] == "state file"]
    assert told["says"].startswith(activity)
    assert runner["activity_source"] == "state file"
    assert time.time() - since < seconds + 2.0  # and a command line, twice


def test_every_turn_is_seen_as_it_begins_and_ends(house: House) -> None:
    house.at_prompt("worker")
    house.wait_for("worker", is_at("idle"))
    house.cli("send", "worker", "count to 100 slowly")
    within(house, "worker", "working", time.time())
    runner = house.show("worker")
    house.cli("interrupt", "worker")  # Esc, which fires no hook
    house.until_status(runner, "idle")
    within(house, "worker", "idle", time.time())
    [listed] = house.cli.json("runners")
    assert (listed["activity"], listed["waiting_for"]) == ("idle", None)


def test_a_permission_is_given_from_the_command_line(house: House) -> None:
    house.at_prompt("worker", *MANUAL)
    request = until_asked(house, "worker", "touch made-by-claude")
    assert (request["tool"], request["input"]["command"]) == ("Bash", "touch made-by-claude")
    waiting = house.wait_for("worker", is_at("waiting_permission"))
    assert "touch made-by-claude" in waiting["waiting_for"]
    assert "Do you want to proceed?" in house.screen("worker")
    assert not (house.folder / "made-by-claude").exists()
    assert house.cli("approve", "worker").stdout.startswith("worker: Bash allowed: touch made-by-claude")
    house.until_logged("worker", "The command said")
    assert (house.folder / "made-by-claude").exists()
    assert "Do you want to proceed?" not in house.screen("worker")
    house.wait_for("worker", is_at("idle"))
    types = [event["type"] for event in house.cli.json("events")]
    assert "runner.waiting" in types
    assert types.index("approval.requested") < types.index("approval.decided")
    late = house.cli("deny", "worker", exits=4)
    assert "was allowed at" in late.stderr


def test_a_denied_permission_is_told_to_the_agent_with_the_reason(house: House) -> None:
    house.at_prompt("worker", *MANUAL)
    until_asked(house, "worker", "touch made-by-claude")
    house.cli("deny", "worker", "--reason", "not on a Sunday")
    house.until_logged("worker", "not on a Sunday")
    house.wait_for("worker", is_at("idle"))
    assert not (house.folder / "made-by-claude").exists()
    assert any("not on a Sunday" in json.dumps(request.body) for request in house.standin.requests)


def test_for_the_session_the_same_is_not_asked_again(house: House) -> None:
    house.at_prompt("worker", *MANUAL)
    until_asked(house, "worker", "touch made-by-claude")
    house.cli("approve", "worker", "--for-session")
    house.until_logged("worker", "The command said")
    house.wait_for("worker", is_at("idle"))
    (house.folder / "made-by-claude").unlink()
    house.cli("send", "worker", "run touch made-by-claude")
    until(lambda: (house.folder / "made-by-claude").exists(), "it is made again", more=lambda: house.screen("worker"))
    assert asks(house) == []


def test_who_answers_in_the_terminal_has_answered(house: House) -> None:
    house.at_prompt("worker", *MANUAL)
    until_asked(house, "worker", "touch made-by-claude")
    time.sleep(1.0)  # a dialog is deaf at first, lest it be answered by what was typed for another
    house.cli("send", "worker", "--key", "enter")
    house.until_logged("worker", "The command said")
    until(lambda: not asks(house), "nothing is asked any more", look=0.1)
    [told] = house.cli.json("approvals", "--all")
    assert told["decision"] == "elsewhere"
    assert "was answered elsewhere" in house.cli("approve", "worker", exits=4).stderr


def test_a_request_outlives_the_daemon(house: House) -> None:
    house.at_prompt("worker", *MANUAL)
    request = until_asked(house, "worker", "touch made-by-claude")
    house.kill_daemon()
    house.until_daemon()
    assert [each["id"] for each in asks(house)] == [request["id"]]
    house.cli("approve", request["id"])
    until(lambda: (house.folder / "made-by-claude").exists(), "it is made", more=lambda: house.screen("worker"))


def test_a_verdict_stops_the_next_prompt_and_lifting_it_lets_it_through(house: House) -> None:
    runner = house.at_prompt("worker")
    verdicts.write(house.cli.paths, runner["id"], "the budget of demo is spent until Monday")
    house.cli("send", "worker", "count to 7")
    house.until_on_screen("worker", "the budget of demo is spent until Monday")
    assert not house.heard_together("count to 7")
    verdicts.write(house.cli.paths, runner["id"], None)
    house.cli("send", "worker", "count to 9")
    house.until_logged("worker", "word-9")


def test_the_users_own_hooks_run_besides_ours(house: House) -> None:
    mine = {"hooks": [{"type": "command", "command": "echo mine >>mine"}]}
    settings = house.home / ".claude" / "settings.json"
    settings.parent.mkdir(exist_ok=True)
    settings.write_text(json.dumps({"hooks": {"UserPromptSubmit": [mine]}}))
    runner = house.at_prompt("worker")
    house.cli("send", "worker", "count to 3")
    house.until_logged("worker", "word-3")
    assert (house.folder / "mine").read_text() == "mine\n"
    assert json.loads(settings.read_text()) == {"hooks": {"UserPromptSubmit": [mine]}}
    until(lambda: (house.cli.paths.runner(runner["id"]) / "spool").exists(), "ours ran, too")


def test_a_folder_that_is_not_trusted_shows_as_a_question(house: House) -> None:
    answers = json.loads((house.home / ".claude.json").read_text())
    (house.home / ".claude.json").write_text(json.dumps(answers | {"projects": {}}))
    house.launch("worker")
    waiting = house.wait_for("worker", is_at("waiting_input"))
    assert waiting["waiting_for"].startswith("Quick safety check")
    assert waiting["activity_source"] == "screen"
