"""Two real terminals for a person to sit at: a PTY whose screen is kept by pyte, and a window of tmux."""

import shlex
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pexpect
import pyte

from tests import programs
from tests.agents.terminal import Screen
from tests.e2e.house import PATIENCE_SECONDS, House, until

ROWS, COLUMNS = 30, 100
MODES = "alternate_on cursor_flag insert_flag keypad_flag keypad_cursor_flag mouse_any_flag wrap_flag".split()
DETACH = "\x1cd"


class Terminal:
    """A command on a PTY, between two looks at how that is set."""

    def __init__(self, house: House, argv: tuple[str, ...], cwd: Path | None) -> None:
        self._looks = house.home / "stty-before", house.home / "stty-after"
        before, after = map(shlex.quote, map(str, self._looks))
        command = shlex.join(house.cli.command(*argv))
        script = f"stty -g >{before}; {command}; code=$?; stty -g >{after}; exit $code"
        self.child: pexpect.spawn[bytes] = pexpect.spawn(
            "/bin/sh",
            ["-c", script],
            env=house.cli.environment,
            cwd=None if cwd is None else str(cwd),
            dimensions=(ROWS, COLUMNS),
        )
        self.printed = b""
        self._screen = Screen(COLUMNS, ROWS)
        self._stream = pyte.ByteStream(self._screen)

    def type(self, keys: str) -> None:
        self.child.send(keys)

    def ask(self, prompt: str) -> None:
        """Type a prompt as a person does: Enter follows when the prompt is seen in the box."""
        self.type(prompt)
        self.until_seen(prompt)
        self.type("\r")

    def until_seen(self, text: str) -> None:
        """Return once the screen shows the text."""

        def is_seen() -> bool:
            self._reads()
            return text in self.screen()

        until(is_seen, f"{text!r} on the screen", more=self.screen)

    def until_closed(self, *, exits: int = 0) -> None:
        """Return once the command has ended; the terminal must be set as it was."""
        until(lambda: not self._reads(), "the command has ended", more=self.screen)
        self.child.close()
        assert self.child.exitstatus == exits, self.screen()
        before, after = (look.read_text() for look in self._looks)
        assert before == after

    def leave(self) -> None:
        """Press the detach key, and be back at the shell."""
        self.type(DETACH)
        self.until_closed()
        assert "[stratavore: detached]" in self.screen()

    def screen(self) -> str:
        return "\n".join(line.rstrip() for line in self._screen.display)

    def _reads(self) -> bool:
        """Take in what was printed; False at the end."""
        try:
            data = self.child.read_nonblocking(1 << 16, timeout=0.1)
        except pexpect.TIMEOUT:
            pass
        except pexpect.EOF:
            return False
        else:
            self.printed += data
            self._stream.feed(data)
        return True


@contextmanager
def terminal(house: House, *argv: str, cwd: Path | None = None) -> Iterator[Terminal]:
    """A command of Stratavore on a terminal."""
    terminal = Terminal(house, argv, cwd)
    try:
        yield terminal
    finally:
        terminal.child.close(force=True)


class Tmux:
    """A tmux server of its own, with one window in which a shell runs."""

    def __init__(self, house: House) -> None:
        self._socket = house.home / "tmux"
        self._environment = {**house.cli.environment, "LC_ALL": "C.UTF-8", "PS1": "shell> "}
        self("-f", "/dev/null", "new-session", "-d", "-x", str(COLUMNS), "-y", str(ROWS), "sh")

    def __call__(self, *arguments: str) -> str:
        command = [programs.path("tmux"), "-S", str(self._socket), *arguments]
        done = subprocess.run(
            command,
            env=self._environment,
            check=True,
            capture_output=True,
            text=True,
            timeout=PATIENCE_SECONDS,
        )
        return done.stdout

    def run(self, *argv: str) -> None:
        """Have the shell in the window run a command."""
        self("send-keys", shlex.join(argv), "Enter")

    def screen(self) -> str:
        return self("capture-pane", "-p")

    def until_seen(self, text: str) -> None:
        until(lambda: text in self.screen(), f"{text!r} in tmux", look=0.1, more=self.screen)

    def modes(self) -> str:
        """How the window is set, as far as tmux tells."""
        return self("display-message", "-p", " ".join(f"{name}=#{{{name}}}" for name in MODES))
