"""`logs` and the screen: what a runner printed, and how it reaches the reader."""

import json
import subprocess
import time
from pathlib import Path

import pytest

from tests.cli.conftest import Cli

NASTY = r"printf 'plain\n\033[31mred\033[0m\nabc\rxyz\n\033]0;title\007\033[2Jafter\n'"


@pytest.fixture
def nasty(live: Cli, project: str) -> str:
    """An ended runner whose output holds escape sequences."""
    name = f"nasty-{project[-20:]}"
    live("launch", project, "--name", name, "--no-wait", "--", "sh", "-c", NASTY)
    live("wait", name, "--until", "ended", "--timeout", "20")
    return name


def test_logs_are_readable_and_hold_no_escape_sequence(live: Cli, nasty: str) -> None:
    printed = live("logs", nasty).stdout
    assert "\x1b" not in printed
    assert printed.splitlines()[:3] == ["plain", "red", "xyz"]


def test_raw_is_every_byte(live: Cli, nasty: str) -> None:
    done = subprocess.run(live.command("logs", nasty, "--raw"), capture_output=True, env=live.environment, check=True)
    assert done.stdout == b"plain\r\n\x1b[31mred\x1b[0m\r\nabc\rxyz\r\n\x1b]0;title\x07\x1b[2Jafter\r\n"


def test_screen_is_what_the_terminal_shows(live: Cli, nasty: str) -> None:
    assert live("logs", nasty, "--screen").stdout.strip() == "after"
    assert live("show", nasty, "--screen").stdout.strip() == "after"
    assert [line.strip() for line in live.json("show", nasty, "--screen") if line] == ["after"]


def test_json_is_an_array_of_lines(live: Cli, nasty: str) -> None:
    assert live.json("logs", nasty)[0] == "plain"


def test_tail_takes_the_last_lines(live: Cli, project: str) -> None:
    live("launch", project, "--name", "counter", "--no-wait", "--", "sh", "-c", "seq 1 1000")
    live("wait", "counter", "--until", "ended", "--timeout", "20")
    assert live("logs", "counter", "--tail", "3").stdout == "998\n999\n1000\n"
    assert live("logs", "counter", "--tail", "2", "--raw").stdout == "999\n1000\n"
    assert live("logs", "counter").stdout.splitlines() == [str(number) for number in range(1, 1001)]


def test_since_takes_what_came_later(live: Cli, project: str) -> None:
    live("launch", project, "--name", "early", "--no-wait", "--", "sh", "-c", "echo early")
    live("wait", "early", "--until", "ended", "--timeout", "20")
    assert live("logs", "early", "--since", "1h").stdout == "early\n"
    assert live("logs", "early", "--since", "2099-01-01T00:00").stdout in ("", "early\n")
    assert "is no moment" in live("logs", "early", "--since", "yesterday", exits=2).stderr


def test_follow_prints_what_comes_and_ends_with_the_runner(live: Cli, project: str, tmp_path: Path) -> None:
    gate = tmp_path / "gate"
    script = f"echo one; while [ ! -e {gate} ]; do sleep 0.05; done; echo two"
    live("launch", project, "--name", "followed", "--", "sh", "-c", script)
    follower = subprocess.Popen(
        live.command("logs", "-f", "followed"), env=live.environment, stdout=subprocess.PIPE, text=True
    )
    assert follower.stdout is not None
    with follower.stdout:
        assert follower.stdout.readline() == "one\n"
        gate.touch()
        assert follower.stdout.read() == "two\n"
    assert follower.wait(30) == 0


def test_follow_goes_on_with_the_next_run(live: Cli, project: str) -> None:
    live("launch", project, "--name", "runs-on", "--", "sh", "-c", "echo pid $$; sleep 1000")
    follower = subprocess.Popen(
        live.command("logs", "-f", "runs-on"), env=live.environment, stdout=subprocess.PIPE, text=True
    )
    assert follower.stdout is not None
    with follower.stdout:
        first = follower.stdout.readline()
        live("restart", "runs-on")
        second = follower.stdout.readline()
        live("stop", "runs-on")
        assert follower.stdout.read() == ""
    assert follower.wait(30) == 0
    assert first.startswith("pid ")
    assert second.startswith("pid ")
    assert first != second


def test_the_runs_are_joined(live: Cli, project: str) -> None:
    live("launch", project, "--name", "joined", "--", "sh", "-c", "echo run; sleep 1000")
    live("restart", "joined")
    deadline = time.monotonic() + 20
    while live("logs", "joined").stdout != "run\nrun\n":
        assert time.monotonic() < deadline


def test_events_follow_is_a_line_of_json_each(live: Cli, project: str) -> None:
    last = live.json("events", "--limit", "1")[-1]["seq"]
    follower = subprocess.Popen(
        live.command("events", "-f", "--json", "--since", str(last)),
        env=live.environment,
        stdout=subprocess.PIPE,
        text=True,
    )
    assert follower.stdout is not None
    live("launch", project, "--name", "eventful", "--", "sleep", "1000")
    seen = [json.loads(follower.stdout.readline()) for _ in range(2)]
    follower.terminate()
    follower.stdout.close()
    follower.wait(30)
    assert [event["type"] for event in seen] == ["runner.launched", "runner.started"]
    assert [event["seq"] for event in seen] == [last + 1, last + 2]
    assert [event["seq"] for event in live.json("events", "--since", str(last))][:2] == [last + 1, last + 2]
