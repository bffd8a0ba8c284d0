"""How errors reach a person: one line with the remedy, and an exit code that scripts can rely on."""

import json
import os
import re
import subprocess

import pytest

from stratavore import errors
from tests.cli.conftest import Cli
from tests.fake_daemon import Refusal, fake_daemon


def test_what_may_be_said_instead_is_listed_with_single_blanks_and_a_hook_has_a_help(cli: Cli) -> None:
    assert "Choose from: bash, zsh, fish" in cli("completion", exits=2).stderr
    assert "What the hooks of an agent run" in cli("hook", "--help").stdout


@pytest.mark.parametrize("cls", errors.classes(), ids=lambda cls: cls.code)
def test_a_refusal_is_one_line_with_its_remedy_and_the_exit_code_of_its_class(
    cli: Cli, cls: type[errors.StratavoreError]
) -> None:
    refusal = cls("it\x1b[2J is\nso", remedy="do otherwise")
    with fake_daemon(cli.home, lambda _: Refusal(cls.http_status, refusal.as_dict())):
        done = cli("reconcile", exits=cls.exit_code) if cls is not errors.DaemonUnreachable else None
    if done is not None:
        assert done.stderr == "stratavore: it[2J is so → do otherwise\n"
        assert done.stdout == ""


@pytest.mark.parametrize(
    "argv",
    [
        ["stop"],
        ["stop", "a", "--all"],
        ["launch", "p", "extra"],
        ["wait", "x"],
        ["wait", "x", "--until", "blue"],
        ["send", "x"],
        ["show", ""],
        ["show", "a/b"],
        ["prune", "--older-than", "soon"],
        ["--nonsense"],
    ],
    ids=" ".join,
)
def test_a_wrong_use_is_one_line_and_exit_2_and_starts_no_daemon(cli: Cli, argv: list[str]) -> None:
    said = cli(*argv, exits=2).stderr
    assert re.fullmatch(r"stratavore: .+ → .+\n", said)
    assert not cli.home.exists()


@pytest.mark.parametrize("argv", [["ls"], ["ls", "-la"], ["--resume"]], ids=" ".join)
def test_a_command_without_its_dashes_is_told_where_it_belongs(cli: Cli, argv: list[str]) -> None:
    said = cli("launch", "demo", *argv, exits=2).stderr
    assert "stands behind `--`, as in `stratavore launch PROJECT -- ls -la`" in said


def test_a_mistyped_option_is_only_that(cli: Cli) -> None:
    assert "behind `--`" not in cli("launch", "demo", "--nmae", "x", exits=2).stderr


def test_an_unknown_word_is_not_found_and_the_nearest_is_named(cli: Cli) -> None:
    done = cli("lanch", exits=3)
    assert done.stderr == (
        "stratavore: there is no command and no project 'lanch' → did you mean `stratavore launch`?\n"
    )


@pytest.mark.parametrize(
    "argv",
    [["--max-cpu", "nan"], ["--max-cpu", "0"], ["--max-memory", "0"], ["--max-memory", "-1"]],
    ids=" ".join,
)
def test_an_impossible_limit_is_told_with_what_to_write(cli: Cli, argv: list[str]) -> None:
    assert "; write " in cli("new", "demo", *argv, exits=2).stderr


HUGE = str(10**30)


@pytest.mark.parametrize(
    ("argv", "allowed"),
    [
        ("budget set global daily --tokens 0", "from 1 to 1,000,000,000,000,000"),
        ("budget set global daily --tokens 1e30", "from 1 to 1,000,000,000,000,000"),
        (f"budget set global daily --tokens {HUGE}", "from 1 to 1,000,000,000,000,000"),
        ("budget set global daily --usd 0", "from 0.000001 to 1,000,000,000"),
        (f"budget set global daily --usd {HUGE}", "from 0.000001 to 1,000,000,000"),
        ("budget set global --window 5h --percent 0", "from 0.1 to 100"),
        ("budget set global --window 5h --percent nan", "from 0.1 to 100"),
        ("budget set global daily --usd 1 --warn 0", "from 1 to 100"),
        ("budget set runner daily --usd 1", "say which runner"),
        ("budget extend 1 --tokens 0", "from 1 to"),
        ("budget extend 1 --percent -5", "from 0.1 to 100"),
        ("budget show abc", "`stratavore budget list` shows them"),
        ("budget remove -1", "no such option"),
        ("launch p --budget 0usd", "from 1 to 1,000,000,000,000,000 tokens, or from 0.000001 to"),
        (f"launch p --budget {HUGE}tok", "from 1 to"),
        ("launch p --count 0", "from 1 to 4,096"),
        (f"launch p --max-restarts {HUGE}", "from 0 to 1,000,000"),
        (f"launch p --max-turns {HUGE}", "from 1 to 1,000,000"),
        ("launch p --max-time 0", "from 1ms to 366d"),
        ("launch p --continue --fork x", "say --continue or --fork SESSION, not both"),
        ("launch p --continue --count 2", "only one may be in a session"),
        ("wait x --until idle --timeout -5", "from 0s to 366d"),
        ("wait x --until idle --timeout 1e30", "from 0s to 366d"),
        ("stop x --grace -1", "from 0s to 366d"),
        ("watch --interval 0", "from 1ms to 366d"),
        ("prune --older-than -5", "from 0s to 366d"),
        ("projects set p --max-memory 99999999999T", "from 1 byte to 1024T"),
        ("projects set p --max-cpu 1e300", "from 0.1 to 1,000,000"),
        ("projects set p --max-runners 9999999999", "from 0 to 100,000"),
        ("usage --since -5", "write 7d"),
        ("sessions --since 99999999d", "write 7d"),
        (f"logs x -n {HUGE}", "from 0 to 1,000,000,000"),
        ("events -n 0", "from 1 to 1,000"),
    ],
)
def test_a_number_that_cannot_be_is_told_with_what_is_allowed(cli: Cli, argv: str, allowed: str) -> None:
    said = cli(*argv.split(), exits=2).stderr
    assert allowed in said
    assert said.count("\n") == 1
    assert not cli.home.exists(), "no daemon was asked"


def test_a_number_too_large_for_the_log_is_wrong_use(cli: Cli) -> None:
    assert "--since" in cli("events", "--since", str(2**63), exits=2).stderr


def test_with_autostart_off_a_changing_verb_is_unreachable(cli: Cli) -> None:
    done = cli("launch", "demo", exits=6)
    assert "daemon.autostart is false → `stratavore daemon start`" in done.stderr


def test_a_broken_configuration_is_told_with_file_and_line(cli: Cli) -> None:
    cli.home.mkdir()
    (cli.home / "config.toml").write_text("[daemon]\nautostrat = true\n")
    assert "config.toml:2" in cli("new", "demo", exits=78).stderr


@pytest.mark.parametrize(("taken", "code"), [(True, 0), (None, 0), (False, 10)])
def test_what_is_known_not_to_be_taken_fails(cli: Cli, taken: bool | None, code: int) -> None:
    with fake_daemon(cli.home, lambda _: {"taken": taken, "detail": "so it is"}):
        assert json.loads(cli("send", "x", "hi", "--json", exits=code).stdout)["taken"] is taken
        done = cli("send", "x", "hi", exits=code)
    assert "so it is" in (done.stderr if code else done.stdout)


def test_a_reader_who_leaves_is_no_error(cli: Cli) -> None:
    reading, writing = os.pipe()
    os.close(reading)
    done = subprocess.run(cli.command("--help"), stdout=writing, stderr=subprocess.PIPE, env=cli.environment)
    os.close(writing)
    assert (done.returncode, done.stderr) == (141, b"")


def test_a_bug_is_one_line_too(cli: Cli) -> None:
    with fake_daemon(cli.home, lambda _: {"not": "a status"}):
        done = cli("status", exits=1)
    assert done.stderr.startswith("stratavore: internal error: KeyError: ")
    assert done.stderr.count("\n") == 1
