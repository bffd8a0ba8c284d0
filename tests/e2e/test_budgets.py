"""A budget and a real interactive Claude: it refuses the next prompt inside the terminal, until it is extended."""

import json

import pytest

from tests.e2e.house import House, until
from tests.programs import needs, once_more

pytestmark = [needs("claude"), once_more(), pytest.mark.timeout(180)]


def test_a_spent_budget_refuses_the_next_prompt_inside_the_terminal_until_it_is_extended(house: House) -> None:
    house.cli("budget", "set", "project", "demo", "daily", "--tokens", "100")
    runner = house.at_prompt("worker", "--budget", "10Mtok")
    house.cli("send", "worker", "count to 7")
    house.until_logged("worker", "word-7")
    blocked = house.wait_for("worker", lambda seen: seen["blocked"] is not None)
    assert blocked["tokens"] > 100
    house.until_status(runner, "idle")

    assert blocked["blocked"] in house.cli("send", "worker", "count to 9", exits=10).stderr
    [held] = [line for line in house.cli.json("status")["warnings"] if "held back" in line]
    assert "worker" in held
    house.until_on_screen("worker", "budget")
    screen = " ".join(house.screen("worker").split())
    assert blocked["blocked"] in screen
    assert not house.heard_together("count to 9")
    assert house.show("worker")["state"] == "running"

    [budget] = [each for each in house.cli.json("budget", "list") if each["scope"] == "project"]
    assert budget["exceeded"] is True
    house.cli("budget", "extend", str(budget["id"]), "--tokens", "5M")
    house.wait_for("worker", lambda seen: seen["blocked"] is None)
    house.cli("send", "worker", "count to 11")
    house.until_logged("worker", "word-11")
    types = [event["type"] for event in house.cli.json("events", "--since", "0")]
    assert {"budget.warning", "budget.exceeded", "runner.blocked", "budget.extended", "runner.unblocked"} <= {*types}
    until(lambda: house.show("worker")["tokens"] > blocked["tokens"], "the last answer is booked")


def test_a_subscribers_window_holds_it_as_its_status_line_tells_and_the_users_own_line_stays(house: House) -> None:
    house.cli.paths.user_config.touch(mode=0o600)
    house.cli.paths.user_config.write_text("[agents.claude]\nstatus_line_tee = true\n")
    house.cli("daemon", "stop")
    for environment in (house.seeds, house.cli.environment):
        del environment["ANTHROPIC_API_KEY"]
        environment["CLAUDE_CODE_OAUTH_TOKEN"] = "sk-ant-oat01-stand-in"
    own = {"statusLine": {"type": "command", "command": "echo the line of $USER_OF_IT"}}
    (house.home / ".claude").mkdir(exist_ok=True)
    (house.home / ".claude/settings.json").write_text(json.dumps(own))
    house.seeds["USER_OF_IT"] = house.cli.environment["USER_OF_IT"] = "the-user"
    house.cli("budget", "set", "global", "--window", "5h", "--percent", "70")

    house.standin.used_percent = 42
    runner = house.at_prompt("worker")
    house.until_on_screen("worker", "the line of the-user")
    house.cli("send", "worker", "count to 5")
    house.until_logged("worker", "word-5")
    until(lambda: house.cli.json("budget", "list")[0]["used_percent"] == 42, "what is used is known")
    assert house.show("worker")["blocked"] is None
    house.until_status(runner, "idle")

    house.standin.used_percent = 71.5
    house.cli("send", "worker", "count to 7")
    house.until_logged("worker", "word-7")
    blocked = house.wait_for("worker", lambda seen: seen["blocked"] is not None)
    house.until_status(runner, "idle")
    house.cli("send", "worker", "count to 9", exits=10)
    house.until_on_screen("worker", "budget")
    assert blocked["blocked"] in " ".join(house.screen("worker").split())
    assert not house.heard_together("count to 9")

    [budget] = house.cli.json("budget", "list")
    house.cli("budget", "extend", str(budget["id"]), "--percent", "10")
    house.wait_for("worker", lambda seen: seen["blocked"] is None)
    house.standin.used_percent = 3
    house.cli("send", "worker", "count to 11")
    house.until_logged("worker", "word-11")
    until(lambda: house.cli.json("budget", "list")[0]["used_percent"] == 3, "the next window is known")
    assert "the line of the-user" in house.screen("worker")
    assert json.loads((house.home / ".claude/settings.json").read_text()) == own
