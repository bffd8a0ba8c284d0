"""`launch`: the wish, the waiting, the ways in which it fails."""

import json
import re
from pathlib import Path

import pytest

from tests.cli.conftest import Cli

SLEEP = ("--", "sleep", "1000")


def test_a_launch_returns_when_the_runner_runs(live: Cli, project: str) -> None:
    launched = live.json("launch", project, "--name", "it-runs")  # the shell itself, on a terminal
    assert [runner["state"] for runner in launched["runners"]] == ["running"]
    assert launched["refused"] == 0
    assert live.json("show", "it-runs")["pid"] is not None


def test_a_launch_prints_id_name_and_state(live: Cli, project: str) -> None:
    printed = live("launch", project, "--name", "printed", *SLEEP).stdout.splitlines()
    assert printed[0].split() == ["ID", "NAME", "STATE"]
    assert printed[1].split()[1:] == ["printed", "running"]


def test_argv_is_passed_as_it_stands(live: Cli, project: str) -> None:
    live("launch", project, "--name", "argv", "--", "sh", "-c", "sleep 1000; : --help -- a  b")
    assert live.json("show", "argv")["argv"][1:] == ["-c", "sleep 1000; : --help -- a  b"]


def test_many_are_launched_in_the_order_of_their_names(live: Cli, project: str) -> None:
    launched = live.json("launch", project, "--count", "3", "--name", "many", *SLEEP)
    assert [runner["name"] for runner in launched["runners"]] == ["many-1", "many-2", "many-3"]


def test_over_quota_all_are_refused_or_as_many_as_fit_are_taken(live: Cli, project: str) -> None:
    live("projects", "set", project, "--max-runners", "2")
    assert "--partial" in live("launch", project, "--count", "3", *SLEEP, exits=5).stderr
    assert live.json("ps", "--project", project) == []
    done = live("launch", project, "--count", "3", "--partial", *SLEEP)
    assert "1 of 3 did not fit" in done.stderr
    assert len(live.json("ps", "--project", project)) == 2


def test_a_missing_program_fails_with_its_reason_and_leaves_nothing_running(live: Cli, project: str) -> None:
    done = live("launch", project, "--", "no-such-program-here", exits=7)
    assert "stratavore logs" not in done.stderr, "it has printed nothing"
    assert "no-such-program-here" in done.stderr
    assert live.json("ps", "--project", project) == []


def test_an_unknown_project_is_not_found(live: Cli) -> None:
    assert "nowhere" in live("launch", "nowhere", exits=3).stderr


def test_a_dry_run_ends_as_the_launch_would(live: Cli, project: str) -> None:
    live("projects", "set", project, "--max-runners", "1")
    live("launch", project, "--name", "taken", *SLEEP)
    for argv in (["--name", "taken"], []):
        code = 4 if argv else 5
        dry, real = (live("launch", project, *argv, *how, *SLEEP, exits=code) for how in (["--dry-run"], []))
        assert dry.stderr == real.stderr
        assert "refused" in dry.stdout
    assert live.json("launch", project, "--dry-run", *SLEEP, exits=5)["refused_code"] == "quota"


def test_a_dry_run_shows_what_each_run_may_use_and_which_budgets_bound_it(live: Cli, project: str) -> None:
    words = ("launch", project, "--agent", "shell", "--dry-run", "--budget", "500ktok", "--max-turns", "40", *SLEEP)
    printed = live(*words).stdout
    assert re.search(r"^each run +at most 500,000 tokens, at most 40 turns$", printed, re.M)
    assert "none bounds it, but its own" in printed
    budget = live.json("budget", "set", "project", project, "daily", "--usd", "3")
    live("projects", "set", project, "--max-runners", "1")
    live("launch", project, *SLEEP)
    assert "1 budget" in live(*words, exits=5).stdout
    live("budget", "remove", str(budget["id"]), "--yes")


def test_what_happens_over_a_limit_that_is_not_said_is_refused(live: Cli, project: str) -> None:
    assert "say one" in live("launch", project, "--on-exceeded", "stop", "--dry-run", *SLEEP, exits=2).stderr


def test_a_dry_run_gives_a_key_only_to_whom_it_is_for(live: Cli, project: str) -> None:
    def given(*argv: str) -> bool:
        words = ("launch", project, "--agent", "claude", "--dry-run", *argv)
        done = live(*words, env={"GEMINI_API_KEY": "k", "PATH": path})
        return "GEMINI_API_KEY=***" in done.stdout

    directory = live.home / "programs"
    directory.mkdir(exist_ok=True)
    (directory / "claude").write_text("#!/bin/sh\n")
    (directory / "claude").chmod(0o755)
    path = f"{directory}:{live.environment['PATH']}"
    assert not given()
    assert given("--env", "GEMINI_API_KEY")


def test_a_dry_run_shows_the_plan_and_does_nothing(live: Cli, project: str) -> None:
    plan = live.json("launch", project, "--dry-run", "--env", "MARK=1", *SLEEP)
    assert plan["argv"][-1] == "1000"
    assert plan["environment"]["MARK"] == "1"
    assert live.json("ps", "--project", project) == []
    assert "MARK=1" in live("launch", project, "--dry-run", "--env", "MARK=1", *SLEEP).stdout


def test_the_environment_comes_from_options_file_and_caller(live: Cli, project: str, tmp_path: Path) -> None:
    file = tmp_path / "env"
    file.write_text("# comment\n\nexport A=from file\nB='quoted # not a comment'\nC\nBOTH=file\n")
    plan = live(
        *(
            "launch",
            project,
            "--dry-run",
            "--json",
            "--env-file",
            str(file),
            "--env",
            "BOTH=option",
            "--env",
            "D",
        ),
        *SLEEP,
        env={"C": "mine", "D": "mine too", "NOT_LISTED": "x"},
    ).stdout
    environment = json.loads(plan)["environment"]
    expected = {
        "A": "from file",
        "B": "quoted # not a comment",
        "C": "mine",
        "D": "mine too",
        "BOTH": "option",
    }
    assert expected.items() <= environment.items()
    assert "NOT_LISTED" not in environment


@pytest.mark.parametrize("line", ["no equals sign here", "=value"])
def test_a_bad_line_of_an_env_file_is_named(cli: Cli, tmp_path: Path, line: str) -> None:
    file = tmp_path / "env"
    file.write_text(f"GOOD=1\n{line}\n")
    done = cli("launch", "demo", "--env-file", str(file), exits=2)
    assert f"{file}:2" in done.stderr


def test_no_wait_returns_at_once_and_wait_sees_the_rest(live: Cli, project: str) -> None:
    live("launch", project, "--no-wait", "--name", "later", *SLEEP)
    assert live.json("wait", "later", "--until", "running", "--timeout", "20")[0]["state"] == "running"


def test_the_prompt_may_come_from_stdin(live: Cli, project: str, tmp_path: Path) -> None:
    program = tmp_path / "claude"
    program.write_text("#!/bin/sh\n")
    program.chmod(0o700)
    path = {"PATH": f"{tmp_path}:{live.environment['PATH']}"}
    headless = ("launch", project, "--no-tty", "--agent", "claude", "--dry-run")
    done = live(*headless, "--prompt", "-", stdin="do it", env=path)
    assert "do it" in done.stdout
