"""The prompt of a launch reaches the model once, however often its agent is killed and started again."""

import os
import signal

import pytest

from tests.e2e.house import House, until
from tests.programs import needs, once_more

pytestmark = [needs("claude"), once_more(), pytest.mark.long, pytest.mark.timeout(200)]


def prompts(house: House) -> int:
    """How often it was said in the request that says it most often; a title is asked for apart."""
    conversations = [request.body["messages"] for request in house.standin.requests if request.body.get("tools")]
    said = [[str(each["content"]) for each in messages if each["role"] == "user"] for messages in conversations]
    return max((sum("count to 200 slowly" in text for text in texts) for texts in said), default=0)


def asked(house: House) -> int:
    """How often the model was asked for an answer to it."""
    return sum("count to 200 slowly" in str(request.body.get("messages")) for request in house.standin.requests)


def test_a_prompt_is_submitted_once_though_its_agent_is_killed_at_work_and_starts_again(house: House) -> None:
    runner = house.launch("worker", "--prompt", "count to 200 slowly", "--restart", "always")
    until(lambda: prompts(house), "the model is asked")
    house.until_status(runner, "busy")
    for run in (2, 3):
        before = asked(house)
        os.kill(house.show("worker")["pid"], signal.SIGKILL)
        again = house.wait_for("worker", lambda seen, run=run: seen["run"] == run and seen["state"] == "running")  # type: ignore[misc]
        house.until_status(again, "idle")
        assert asked(house) == before, house.screen("worker")
    house.cli("send", "worker", "say done")
    house.until_logged("worker", "done")
    assert prompts(house) == 1
