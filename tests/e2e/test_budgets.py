"""A budget and a real interactive Claude: it refuses the next prompt inside the terminal, until it is extended."""

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

    house.cli("send", "worker", "count to 9")
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
