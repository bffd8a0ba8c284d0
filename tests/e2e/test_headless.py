"""Claude without a terminal: it does its task, ends by itself, and how it went is known."""

import json

import pytest

from tests.e2e.house import House
from tests.programs import needs, once_more

pytestmark = [needs("claude"), once_more(), pytest.mark.timeout(150)]


def test_a_task_ends_by_itself_and_its_result_is_in_the_logs(house: House) -> None:
    house.launch("task", "--no-tty", "--prompt", "count to 7")
    [ended] = house.cli.json("wait", "task", "--until", "ended", "--timeout", "40s")
    assert (ended["state"], ended["exit_code"], ended["end_reason"]) == ("terminated", 0, "exited")
    result = [json.loads(line) for line in house.logs("task").splitlines() if '"type":"result"' in line]
    assert [said["result"] for said in result] == ["word-1 word-2 word-3 word-4 word-5 word-6 word-7"]
    assert result[0]["session_id"] == ended["session_id"]


def test_a_task_that_met_an_error_of_the_model_has_failed(house: House) -> None:
    house.launch("task", "--no-tty", "--prompt", "fail with 400")
    [ended] = house.cli.json("wait", "task", "--until", "ended", "--timeout", "40s")
    assert ended["state"] == "failed"
    assert "asked to fail with 400" in house.logs("task")


def test_a_task_that_is_stopped_is_terminated(house: House) -> None:
    runner = house.launch("task", "--no-tty", "--prompt", "count to 2000 slowly")
    house.until_printed(runner, '"subtype":"init"')
    [stopped] = house.cli.json("stop", "task")
    assert (stopped["state"], stopped["exit_code"], stopped["end_reason"]) == ("terminated", 143, "stopped")


def test_a_task_without_a_prompt_is_refused_before_anything_starts(house: House) -> None:
    refused = house.cli("launch", "demo", "--agent", "claude", "--no-tty", exits=2)
    assert "--prompt" in refused.stderr
    assert house.cli.json("ps", "--all") == []
