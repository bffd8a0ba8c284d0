"""The other agents, as far as launching, talking, stopping and resuming go."""

import pytest

from tests.agents.bench import KINDS
from tests.e2e.house import House
from tests.programs import needs, once_more

OTHERS = ("opencode", "gemini", "codex")  # the slowest first, so that it is not the last of all

pytestmark = [
    once_more(),
    pytest.mark.parametrize("house", [pytest.param(name, marks=needs(name)) for name in OTHERS], indirect=True),
    pytest.mark.timeout(300),
]


def test_a_session_is_launched_talked_to_stopped_and_resumed(house: House) -> None:
    first = house.at_prompt("worker")
    house.ask("worker", "count to 7", "word-7")
    [stopped] = house.cli.json("stop", "worker")
    assert (stopped["state"], stopped["end_reason"]) == ("terminated", "stopped")
    code = stopped["exit_code"] if stopped["exit_signal"] is None else -stopped["exit_signal"]
    assert code in KINDS[house.agent].exits_when_stopped
    assert stopped["session_id"] is not None

    house.cli("restart", "worker")
    again = house.show("worker")
    assert (again["id"], again["session_id"]) == (first["id"], stopped["session_id"])
    house.until_on_screen("worker", "word-7")
    house.until_prompt(again)
    house.ask("worker", "count to 9", "word-9")
    assert house.heard_together("count to 7", "count to 9")
    assert house.cli.json("stop", "worker")[0]["session_id"] == stopped["session_id"]
