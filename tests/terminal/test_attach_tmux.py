"""Attach inside a real terminal emulator: what a person sees."""

import os
import shlex
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from stratavore.terminal.runlog import Run
from tests.terminal.holding import Shim, wait_until

ATTACHER = Path(__file__).with_name("attacher.py")
pytestmark = pytest.mark.skipif(shutil.which("tmux") is None, reason="tmux is not installed")


class Tmux:
    """A server of its own with one window, in which a shell runs."""

    def __init__(self, socket: Path) -> None:
        self._socket = socket
        self("-f", "/dev/null", "new-session", "-d", "-x", "80", "-y", "24", "env", "PS1=shell> ", "sh")

    def __call__(self, *arguments: str) -> str:
        environment = {**os.environ, "LC_ALL": "C.UTF-8"}
        environment.pop("TMUX", None)
        command = ["tmux", "-S", str(self._socket), *arguments]
        return subprocess.run(command, env=environment, check=True, capture_output=True, text=True, timeout=15).stdout

    def screen(self) -> str:
        return self("capture-pane", "-p", "-J")

    def attach(self, run: Run) -> None:
        words = [sys.executable, str(ATTACHER), run.key, str(run.log), str(run.shim)]
        self("send-keys", shlex.join(words), "Enter")


@pytest.fixture
def tmux(tmp_path: Path) -> Iterator[Tmux]:
    tmux = Tmux(tmp_path / "tmux")
    yield tmux
    tmux("kill-server")


def wait_for(tmux: Tmux, text: str) -> None:
    """Until the screen holds it; what stands there instead is told."""
    seen = [""]

    def is_there() -> bool:
        seen[0] = tmux.screen()
        return text in seen[0]

    try:
        wait_until(is_there, repr(text))
    except AssertionError as failure:
        failure.add_note(seen[0])
        raise


def test_a_full_screen_program_comes_and_goes_and_the_shell_is_as_before(shim: Shim, tmux: Tmux) -> None:
    run = shim.shell(r"printf '\033[?1049h\033[2J\033[Hthe page\033[?1000h\033[?25l'; stty raw -echo; cat -v")
    wait_until(lambda: b"page" in run.log.read_bytes())
    tmux("send-keys", "echo before", "Enter")
    tmux.attach(run)
    wait_for(tmux, "the page")
    assert "before" not in tmux.screen()
    tmux("send-keys", "typed")
    wait_for(tmux, "typed")
    tmux("send-keys", "C-\\", "d")
    wait_for(tmux, "OUTCOME detached")
    assert "before" in tmux.screen()
    flags = tmux(
        "display-message", "-p", "#{mouse_any_flag}#{mouse_standard_flag}#{cursor_flag}#{alternate_on}"
    ).strip()
    assert flags == "0010"
    tmux("send-keys", "echo canonical-$(stty -a | grep -c ' icanon')", "Enter")
    wait_for(tmux, "canonical-1")


def test_what_the_terminal_answers_does_not_reach_the_shell(shim: Shim, tmux: Tmux) -> None:
    run = shim.shell(r"stty raw -echo; while :; do printf '\033[6n\033[c'; sleep 0.01; done")
    tmux.attach(run)
    wait_for(tmux, "detach with")
    tmux("send-keys", "C-\\", "d")
    wait_for(tmux, "OUTCOME detached")
    tmux("send-keys", "echo done-$((1+1))", "Enter")
    wait_for(tmux, "done-2")
    after = tmux.screen().partition("OUTCOME")[2]
    assert "R" not in after
    assert "1;2" not in after
