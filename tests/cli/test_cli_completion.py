"""What the shells are offered after TAB."""

import shlex
import subprocess
from pathlib import Path

import pytest

from stratavore.cli.commands import COMMANDS
from tests import programs
from tests.cli.conftest import Cli
from tests.programs import needs


def test_verbs_and_projects_are_offered_first(live: Cli, project: str) -> None:
    offered = _complete(live, "")
    assert set(COMMANDS) <= offered
    assert project in offered


def test_projects_and_runners_are_completed_where_they_are_meant(live: Cli, project: str) -> None:
    runner = live.json("launch", project, "--name", "completed-1", "--", "sleep", "1000")["runners"][0]
    assert _complete(live, "launch", project[:10]) == {project}
    assert _complete(live, "stop", "completed") == {"completed-1"}
    assert _complete(live, "logs", runner["id"][:6]) == {runner["id"]}
    assert project in _complete(live, "ps", "--project", "")
    assert _complete(live, "launch", project, "--agent", "cl") == {"claude"}
    assert _complete(live, "wait", "completed-1", "--until", "term") == {"terminated"}


def test_budgets_periods_and_keys_are_completed(live: Cli, project: str) -> None:
    number = live.json("budget", "set", "project", project, "daily", "--tokens", "1M")["id"]
    live("launch", project, "--name", "bounded-1", "--", "sleep", "1000")
    assert _complete(live, "budget", "set", "project", project[:10]) == {project}
    assert _complete(live, "budget", "set", "runner", "bounded") == {"bounded-1"}
    assert _complete(live, "budget", "set", "runner", "bounded-1", "w") == {"weekly"}
    assert _complete(live, "budget", "set", "global", "") == {"hourly", "daily", "weekly", "monthly"}
    assert _complete(live, "budget", "set", "global", "daily", "") == set()
    for verb in ("show", "extend", "remove"):
        assert str(number) in _complete(live, "budget", verb, "")
    assert _complete(live, "send", "bounded-1", "--key", "ctrl-c") == {"ctrl-c"}


def test_a_verb_for_the_living_is_offered_no_ended_one(live: Cli, project: str) -> None:
    live("launch", project, "--name", "over-1", "--no-wait", "--", "true")
    live("wait", "over-1", "--until", "ended")
    for verb in ("stop", "send", "pause", "approve"):
        assert _complete(live, verb, "over") == set()
    for verb in ("logs", "rm"):
        assert _complete(live, verb, "over") == {"over-1"}


def test_with_the_daemon_down_the_database_completes_silently(cli: Cli) -> None:
    assert _complete(cli, "show", "") == set()


@pytest.mark.parametrize("shell", ["bash", "zsh", "fish"])
def test_the_script_of_a_shell_is_printed(cli: Cli, shell: str) -> None:
    script = cli("completion", shell).stdout
    assert f"_STRATAVORE_COMPLETE={shell}_complete" in script


def test_bash_takes_the_script(cli: Cli, tmp_path: Path) -> None:
    script = tmp_path / "script"
    script.write_text(cli("completion", "bash").stdout)
    subprocess.run(["/bin/bash", "-n", script], check=True)
    shown = subprocess.run(
        ["/bin/bash", "-c", f". {script}; complete -p stratavore"], check=True, capture_output=True, text=True
    )
    assert "_stratavore_completion" in shown.stdout


def test_zsh_and_fish_get_word_and_meaning_in_their_own_borders(live: Cli, project: str) -> None:
    """click's script for fish splits an answer at its commas, that for zsh reads three lines a word."""
    live("launch", project, "--name", "bordered", "--", "sleep", "1000")
    assert _answer(live, "fish", "stratavore show bord", "bord") == [f"plain,bordered\trunning in {project}"]
    assert _answer(live, "zsh", "stratavore show bord", "2") == ["plain", "bordered", f"running in {project}"]


@needs("zsh")
def test_zsh_takes_the_script(cli: Cli, tmp_path: Path) -> None:
    script = tmp_path / "script.zsh"
    script.write_text(cli("completion", "zsh").stdout)
    subprocess.run([programs.path("zsh"), "-n", script], check=True)


@needs("fish")
def test_fish_completes_a_runner(live: Cli, project: str, tmp_path: Path) -> None:
    live("launch", project, "--name", "swimming", "--", "sleep", "1000")
    script = tmp_path / "script.fish"
    script.write_text(live("completion", "fish").stdout)
    command = tmp_path / "stratavore"
    command.write_text(f'#!/bin/sh\nexec {shlex.join(live.command())} "$@"\n')
    command.chmod(0o700)
    asked = subprocess.run(
        [programs.path("fish"), "--no-config", "-c", f"source {script}; complete -C 'stratavore show swim'"],
        env={**live.environment, "PATH": f"{tmp_path}:{live.environment['PATH']}"},
        check=True, capture_output=True, text=True, timeout=60,
    )  # fmt: skip
    assert asked.stdout.split("\t")[0].strip() == "swimming"


def _answer(cli: Cli, shell: str, words: str, word: str) -> list[str]:
    asked = {"_STRATAVORE_COMPLETE": f"{shell}_complete", "COMP_WORDS": words, "COMP_CWORD": word}
    return cli(env=asked).stdout.splitlines()


def _complete(cli: Cli, *words: str) -> set[str]:
    """What bash would offer for the last word."""
    line = ["stratavore", *words]
    done = subprocess.run(
        cli.command(),
        env={
            **cli.environment,
            "_STRATAVORE_COMPLETE": "bash_complete",
            "COMP_WORDS": " ".join(line),
            "COMP_CWORD": str(len(line) - 1),
        },
        capture_output=True,
        text=True,
        check=True,
    )
    assert done.stderr == ""
    return {row.partition(",")[2] for row in done.stdout.splitlines() if row}
