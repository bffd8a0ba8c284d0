"""A turn that its provider did not let happen waits for a person, in the agent's own words; it is not idle."""

import pytest

from tests.e2e.house import House
from tests.programs import needs, once_more

REFUSED = [
    pytest.param("claude", marks=[needs("claude"), pytest.mark.long]),
    pytest.param("gemini", marks=[needs("gemini"), pytest.mark.long]),
    pytest.param("opencode", marks=[needs("opencode"), pytest.mark.long]),
]
SAYS_THAT_IT_IS_DONE = {"claude": "state file", "gemini": "screen", "opencode": "records"}
"""Gemini records no end of a turn: that it takes a prompt again stands on its screen only."""
pytestmark = [once_more(), pytest.mark.timeout(200)]


def until_failed(house: House, words: str) -> None:
    failed = house.wait_for("worker", lambda runner: words in (runner["waiting_for"] or ""))
    assert failed["activity"] == "waiting_input"
    assert failed["activity_source"] in ("records", "hook")
    evidence = house.cli.json("explain", "worker")["evidence"]
    assert [piece["says"] for piece in evidence if piece["source"] == failed["activity_source"]] == [
        f"waiting_input: {failed['waiting_for']}"
    ]
    assert [runner["name"] for runner in house.cli.json("ps", "--waiting")] == ["worker"]


@pytest.mark.parametrize("house", [pytest.param("codex", marks=needs("codex"))], indirect=True)
def test_codex_without_its_key_says_which_one_is_missing_and_may_be_restarted_as_who_is_idle(house: House) -> None:
    del house.seeds["STANDIN_KEY"]
    house.launch("worker", "--prompt", "count to 3")
    until_failed(house, "Missing environment variable: `STANDIN_KEY`")
    house.cli("restart", "worker", "--when-idle", "--timeout", "60")


@pytest.mark.parametrize("house", REFUSED, indirect=True)
def test_a_refused_turn_is_told_until_the_next_one_works(house: House) -> None:
    house.at_prompt("worker")
    house.cli("send", "worker", "fail with 400")
    until_failed(house, "asked to fail with 400")
    house.cli("send", "worker", "count to 3")
    house.until_logged("worker", "word-3")
    idle = house.wait_for("worker", lambda runner: runner["activity"] == "idle")
    assert idle["activity_source"] == SAYS_THAT_IT_IS_DONE[house.agent]
