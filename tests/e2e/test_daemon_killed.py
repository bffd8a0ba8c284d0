"""The daemon is killed under a working session, and nobody notices."""

import os
import signal

import pytest

from tests.e2e.house import House, counted, until
from tests.programs import needs, once_more

pytestmark = [needs("claude"), once_more(), pytest.mark.timeout(150)]


def test_an_answer_goes_on_while_the_daemon_is_dead_and_the_zygote_brings_it_back(house: House) -> None:
    runner = house.at_prompt("worker")
    house.cli("send", "worker", "count to 200 slowly")
    house.until_printed(runner, "word-20")
    dead = house.kill_daemon()
    assert b"word-200" not in house.printed(runner)
    assert house.until_daemon() != dead
    house.until_status(runner, "idle")
    assert counted(house.until_logged("worker", "word-200")) == [*range(1, 201)]
    after = house.show("worker")
    assert (after["state"], after["pid"], after["restarts"]) == ("running", runner["pid"], 0)
    assert house.cli.json("send", "worker", "say still-here")["taken"] is True


def test_with_the_zygote_dead_too_the_next_command_brings_the_daemon_back(house: House) -> None:
    runner = house.at_prompt("worker")
    house.cli("send", "worker", "count to 200 slowly")
    house.until_printed(runner, "word-20")
    os.kill(house.zygote(), signal.SIGKILL)
    house.kill_daemon()
    offline = house.cli("ps")
    assert "worker" in offline.stdout
    assert "the daemon" in offline.stderr
    assert "word-" in house.logs("worker")
    house.cli("rename", "worker", "survivor")
    assert house.show("survivor")["pid"] == runner["pid"]
    house.until_status(runner, "idle")
    assert counted(house.until_logged("survivor", "word-200")) == [*range(1, 201)]


def test_a_session_that_ends_while_the_daemon_is_dead_is_booked_as_it_ended(house: House) -> None:
    runner = house.at_prompt("worker")
    house.kill_daemon()
    os.kill(runner["pid"], signal.SIGTERM)
    until(lambda: not house.said(runner), "claude has ended")
    house.cli("daemon", "start")
    ended = house.wait_for("worker", lambda runner: runner["ended_at"] is not None)
    assert (ended["pid"], ended["exit_code"], ended["end_reason"]) == (None, 143, "exited")


def test_a_session_that_dies_together_with_the_daemon_is_resumed_by_its_restart_policy(house: House) -> None:
    """As when the kernel runs out of memory and takes both."""
    runner = house.at_prompt("worker", "--restart", "on-failure")
    house.kill_daemon()
    os.kill(runner["pid"], signal.SIGKILL)
    house.until_daemon(seconds=6)
    again = house.wait_for("worker", lambda runner: runner["run"] == 2 and runner["pid"] is not None)
    house.until_prompt(again)
    assert house.said(again)["sessionId"] == runner["session_id"]
