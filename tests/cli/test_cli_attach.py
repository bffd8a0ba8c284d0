"""`attach`, `open` and `up` through a real terminal."""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pexpect
import pytest

from tests.cli.conftest import Cli

SECONDS = 20
DETACH = "\x1cd"


@contextmanager
def terminal(cli: Cli, *argv: str, cwd: Path | None = None) -> Iterator["pexpect.spawn[str]"]:
    """A command on a terminal of 30 rows and 100 columns."""
    program, *arguments = cli.command(*argv)
    child = pexpect.spawn(
        program,
        arguments,
        env=cli.environment,
        cwd=None if cwd is None else str(cwd),
        dimensions=(30, 100),
        encoding="utf-8",
        timeout=SECONDS,
    )
    try:
        yield child
    finally:
        child.close(force=True)


def test_attach_types_into_the_runner_and_the_detach_key_leaves_it_alive(live: Cli, project: str) -> None:
    live("launch", project, "--name", "shell-1", "--", "sh")
    with terminal(live, "attach", "shell-1") as child:
        child.expect_exact("detach with")
        child.send("echo $((20 + 22))\r")
        child.expect_exact("42")
        child.send("stty size\r")
        child.expect_exact("30 100")
        child.send(DETACH)
        child.expect(pexpect.EOF)
    child.wait()
    assert child.exitstatus == 0
    assert live.json("show", "shell-1")["state"] == "running"


def test_there_is_one_writer_and_takeover_makes_another(live: Cli, project: str) -> None:
    live("launch", project, "--name", "shared", "--", "sh")
    with terminal(live, "attach", "shared") as first:
        first.expect_exact("detach with")
        first.send("echo first $((1 + 1))\r")
        first.expect_exact("first 2")
        with terminal(live, "attach", "shared") as refused:
            refused.expect_exact("--takeover")
            refused.expect(pexpect.EOF)
        with terminal(live, "attach", "--takeover", "shared") as second:
            second.expect_exact("first 2")
            second.send("echo second $((2 + 2))\r")
            second.expect_exact("second 4")
            first.expect_exact("took over")


def test_another_detach_key_may_be_chosen(live: Cli, project: str) -> None:
    live("launch", project, "--name", "other-key", "--", "sh")
    with terminal(live, "attach", "other-key", "--detach-key", "ctrl-]") as child:
        child.expect_exact("Ctrl-]")
        child.send("\x1d")
        child.expect(pexpect.EOF)
    assert "ctrl" in live("attach", "other-key", "--detach-key", "q", exits=2).stderr


def test_attaching_to_an_ended_runner_is_refused_with_what_to_do(live: Cli, project: str) -> None:
    live("launch", project, "--name", "ended", "--", "sleep", "1000")
    live("stop", "ended")
    done = live("attach", "ended", exits=4)
    assert "stratavore logs ended" in done.stderr


def test_attach_survives_a_restart_of_the_daemon(live: Cli, project: str) -> None:
    live("launch", project, "--name", "survivor", "--", "sh")
    with terminal(live, "attach", "survivor") as child:
        child.expect_exact("detach with")
        live("daemon", "restart")
        child.send("echo still $((3 + 4))\r")
        child.expect_exact("still 7")
        child.send(DETACH)
        child.expect(pexpect.EOF)


def test_attach_returns_when_the_runner_ends(live: Cli, project: str) -> None:
    live("launch", project, "--name", "leaver", "--", "sh")
    with terminal(live, "attach", "leaver") as child:
        child.expect_exact("detach with")
        child.send("exit 0\r")
        child.expect_exact("exit code 0")
        child.expect(pexpect.EOF)


@pytest.mark.parametrize(
    ("typed", "exits"), [("exit 3\r", 7), ("kill -KILL $$\r", 7), ("exit 0\r", 0)], ids="7 signal 0".split()
)
def test_the_exit_code_says_whether_it_ended_well(live: Cli, project: str, typed: str, exits: int) -> None:
    live("launch", project, "--name", "ends-so", "--", "sh")
    with terminal(live, "attach", "ends-so") as child:
        child.expect_exact("detach with")
        child.send(typed)
        child.expect(pexpect.EOF)
    child.wait()
    assert child.exitstatus == exits


def test_the_first_detach_key_pressed_twice_is_typed_once(live: Cli, project: str) -> None:
    live(
        "launch",
        project,
        "--name",
        "quits",
        "--",
        "sh",
        "-c",
        "trap 'echo got QUIT; exit' QUIT; echo up; cat",
    )
    with terminal(live, "attach", "quits") as child:
        child.expect_exact("up")
        child.send("\x1c\x1c")
        child.expect_exact("got QUIT")


def test_launch_can_attach_at_once(live: Cli, project: str) -> None:
    with terminal(live, "launch", project, "--attach", "--name", "at-once", "--", "sh") as child:
        child.expect_exact("detach with")
        child.send("echo $((5 + 6))\r")
        child.expect_exact("11")


def test_a_projects_name_goes_into_its_runner_and_the_second_time_into_the_same(live: Cli, project: str) -> None:
    for _ in range(2):
        with terminal(live, project) as child:
            child.expect_exact("detach with")
            child.send(DETACH)
            child.expect(pexpect.EOF)
    assert len(live.json("ps", "--project", project)) == 1


def test_where_several_live_one_is_picked(live: Cli, project: str) -> None:
    live("launch", project, "--count", "2", "--name", "choice", "--", "sh")
    with terminal(live, "open", project) as child:
        child.expect_exact("Which one")
        child.send("2\r")
        child.expect_exact("detach with")
    assert "choice-1" in live("open", project, exits=4).stderr


def test_up_makes_a_project_of_the_folder_and_a_runner_in_it(live: Cli, tmp_path: Path) -> None:
    folder = tmp_path / "My project (new)"
    folder.mkdir()
    with terminal(live, "up", cwd=folder) as child:
        child.expect_exact("is now the project My-project-new")
        child.expect_exact("detach with")
        child.send("pwd\r")
        child.expect_exact(str(folder))
    runners = live.json("ps", "--project", "My-project-new")
    assert [runner["agent"] for runner in runners] == ["shell"]
    assert live("up", str(folder)).stdout.splitlines()[1].split()[0] == runners[0]["id"]


@pytest.mark.parametrize("folder", ["status", "ended", "-x", "...", "ä ö"])
def test_up_finds_a_legal_name_for_any_folder(live: Cli, tmp_path: Path, folder: str) -> None:
    place = tmp_path / folder
    place.mkdir()
    live("up", "--", cwd=place)
    names = [project["name"] for project in live.json("projects") if project["path"] == str(place)]
    assert len(names) == 1
    assert names[0] not in ("status", "-x", "...")


def test_a_second_folder_of_the_same_name_gets_a_number(live: Cli, tmp_path: Path) -> None:
    for parent in ("a", "b"):
        (tmp_path / parent / "twin").mkdir(parents=True)
        live("up", str(tmp_path / parent / "twin"))
    paths = {project["name"]: project["path"] for project in live.json("projects")}
    assert (paths["twin"], paths["twin-2"]) == (str(tmp_path / "a" / "twin"), str(tmp_path / "b" / "twin"))


def test_watch_draws_and_gives_the_terminal_back(live: Cli, project: str) -> None:
    live("launch", project, "--name", "watched", "--", "sh")
    with terminal(live, "watch", "--project", project) as child:
        child.expect_exact("\x1b[?1049h")
        child.expect_exact("watched")
        child.expect_exact("q ends")
        child.send("q")
        child.expect_exact("\x1b[?1049l")
        child.expect(pexpect.EOF)


def test_stop_with_runners_asks_on_a_terminal(live: Cli, project: str) -> None:
    live("launch", project, "--name", "spared", "--", "sh")
    with terminal(live, "daemon", "stop", "--runners") as child:
        child.expect_exact("Go on?")
        child.send("n\r")
        child.expect(pexpect.EOF)
    child.wait()
    assert child.exitstatus == 130
    assert live.json("show", "spared")["state"] == "running"
