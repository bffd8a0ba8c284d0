"""Any command: what is run, and how it is stopped."""

import signal
from pathlib import Path

import pytest

from stratavore import errors
from stratavore.agents import AGENTS, Plain, Start
from tests.agents.terminal import Terminal

shell = AGENTS["shell"]


def start(tmp_path: Path, *extra: str, tty: bool = True, prompt: str | None = None) -> Start:
    env = {"HOME": str(tmp_path), "PATH": "/usr/bin:/bin", "SHELL": "/bin/bash"}
    return Start(name="x", cwd=str(tmp_path), runner_dir=tmp_path, env=env, extra=extra, tty=tty, prompt=prompt)


def test_what_stands_after_the_dashes_is_the_whole_command(tmp_path: Path) -> None:
    assert shell.launch(start(tmp_path, "make", "-j4", "all")).argv == ("make", "-j4", "all")


def test_with_nothing_said_it_is_the_users_shell(tmp_path: Path) -> None:
    assert shell.launch(start(tmp_path)).argv == ("/bin/bash",)


def test_what_makes_no_sense_for_a_shell_is_refused(tmp_path: Path) -> None:
    for wrong in (start(tmp_path, tty=False), start(tmp_path, "make", prompt="do it")):
        with pytest.raises(errors.Invalid):
            shell.launch(wrong)
    for profile in (Plain(model="opus"), Plain(home="~/work")):
        with pytest.raises(errors.Invalid):
            shell.launch(Start(name="x", cwd="/", runner_dir=tmp_path, env={}, extra=("make",), profile=profile))


@pytest.mark.parametrize(
    ("argv", "number"),
    [
        ((), signal.SIGHUP),
        (("/bin/bash",), signal.SIGHUP),
        (("zsh", "-l"), signal.SIGHUP),
        (("bash", "--norc", "-i"), signal.SIGHUP),
        (("bash", "-c", "sleep 9"), signal.SIGTERM),
        (("sh", "script.sh"), signal.SIGTERM),
        (("bash", "-lc", "make"), signal.SIGTERM),
        (("make", "all"), signal.SIGTERM),
    ],
)
def test_only_an_interactive_shell_is_hung_up(argv: tuple[str, ...], number: signal.Signals) -> None:
    (step,) = shell.stop_steps(argv, tty=True, grace_seconds=5)
    assert (step.signal, step.to_group) == (number, True)


def test_a_real_interactive_shell_ends_at_its_stop(tmp_path: Path) -> None:
    """bash, which ignores TERM at its prompt."""
    launch = shell.launch(start(tmp_path, "/bin/bash", "--norc", "-i"))
    with Terminal(launch.argv, {"PATH": "/usr/bin:/bin", "PS1": "ready> "}, tmp_path) as terminal:
        terminal.until_shown("ready>")
        (step,) = shell.stop_steps(launch.argv, tty=True, grace_seconds=5)
        terminal.signal(signal.Signals(step.signal), group=step.to_group)
        assert terminal.wait(seconds=5) in (-signal.SIGHUP, 128 + signal.SIGHUP)
