"""A terminal for the tests: a real PTY that starts a program as a holder does, and a screen to look at.

It answers exactly the queries that a holder answers for a runner that nobody watches (ANSWERS) and notes every query,
answered or not, so that the tests can say what an agent needs to reach its prompt.
"""

import fcntl
import os
import re
import select
import signal
import struct
import termios
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Self

import pyte

ROWS, COLUMNS = 40, 120
PATIENCE_SECONDS = 60  # on a busy machine an agent that is a small browser needs half of it to begin

# Device status, cursor position, primary device attributes (VT100 with advanced video).
ANSWERS: Mapping[bytes, bytes] = {b"\x1b[5n": b"\x1b[0n", b"\x1b[6n": b"\x1b[1;1R", b"\x1b[c": b"\x1b[?1;2c"}

# Everything that asks a terminal to answer: CSI … n, c, $p, u, t, q; OSC … ?; DCS $q and +q; a graphics query.
_QUERY = re.compile(
    rb"\x1b\[(?:[?>=]?[0-9;]*[cn]|\??[0-9;]*\$p|\?u|1[13-9]t|2[01]t|>0?q|\?[0-9;]*S)"
    rb"|\x1b\][0-9;]*;\?(?:\x07|\x1b\\)|\x1bP[$+]q[^\x1b]*\x1b\\|\x1b_G[^\x1b]*\x1b\\"
)


class Ended(Exception):
    """The program ended while something of it was waited for."""


class Screen(pyte.Screen):
    """pyte takes xterm's `CSI > … m` (key modifiers, which Gemini CLI sets) for colours, and fails over it."""

    def select_graphic_rendition(self, *attributes: int, private: bool = False) -> None:
        if not private:
            super().select_graphic_rendition(*attributes)


class Terminal:
    """A program on a PTY."""

    def __init__(self, argv: Sequence[str], env: Mapping[str, str], cwd: Path) -> None:
        self.output = bytearray()
        self.queries: list[bytes] = []
        self.exit: int | None = None
        self._scanned = 0
        self._screen = Screen(COLUMNS, ROWS)
        self._stream = pyte.ByteStream(self._screen)
        self._master, slave = os.openpty()
        fcntl.ioctl(slave, termios.TIOCSWINSZ, struct.pack("HHHH", ROWS, COLUMNS, 0, 0))
        # A new session that opens the PTY gets it as its controlling terminal.
        terminal = [(os.POSIX_SPAWN_OPEN, 0, os.ttyname(slave), os.O_RDWR, 0)]
        copies = [(os.POSIX_SPAWN_DUP2, 0, 1), (os.POSIX_SPAWN_DUP2, 0, 2)]
        in_cwd = ["/bin/sh", "-c", 'cd "$0" && exec "$@"', str(cwd), *argv]
        self.pid = os.posix_spawn(
            in_cwd[0],
            in_cwd,
            {"TERM": "xterm-256color", **env},
            file_actions=[*terminal, *copies],
            setsid=True,
            setsigmask=(),
            setsigdef=signal.valid_signals() - {signal.SIGKILL, signal.SIGSTOP},
        )
        os.close(slave)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        if self.exit is None:
            self.signal(signal.SIGKILL, group=True)
            self.wait()
        os.close(self._master)

    def type(self, keys: bytes) -> None:
        """Type as a person would."""
        os.write(self._master, keys)

    def signal(self, number: signal.Signals, *, group: bool = False) -> None:
        if group:
            os.killpg(self.pid, number)
        else:
            os.kill(self.pid, number)

    def text(self) -> str:
        """What the screen shows, lines without trailing blanks."""
        return "\n".join(line.rstrip() for line in self._screen.display)

    def until(self, is_so: Callable[[], bool], *, seconds: float = PATIENCE_SECONDS, what: str = "") -> None:
        """Read until a condition holds; the screen is part of the complaint if it never does."""
        deadline = time.monotonic() + seconds
        while not is_so():
            if self.exit is not None:
                raise Ended(f"{what or is_so}: ended with {self.exit}\n{self.text()}")
            if time.monotonic() > deadline:
                raise TimeoutError(f"{what or is_so}: not within {seconds} s\n{self.text()}")
            self.read(0.05)

    def until_shown(self, words: str, *, seconds: float = PATIENCE_SECONDS) -> None:
        """Read until the screen shows the words."""
        self.until(lambda: words in self.text(), seconds=seconds, what=f"screen shows {words!r}")

    def until_quiet(self, quiet_seconds: float, *, seconds: float = 2) -> None:
        """Read until nothing new was printed for a while, or, where something always moves, for `seconds`."""
        deadline = time.monotonic() + seconds
        while self.read(quiet_seconds) and time.monotonic() < deadline:
            pass

    def wait(self, *, seconds: float = 30) -> int:
        """Read until the program has ended; its exit code, or minus the signal's number."""
        deadline = time.monotonic() + seconds
        while self.exit is None:
            if time.monotonic() > deadline:
                raise TimeoutError(f"still alive after {seconds} s\n{self.text()}")
            self.read(0.02)
        return self.exit

    def read(self, seconds: float) -> bool:
        """Take in what is printed within so many seconds; False if that was nothing."""
        if not select.select([self._master], [], [], seconds)[0]:
            self._reap()
            return False
        try:
            data = os.read(self._master, 65536)
        except OSError:  # EIO: nothing holds the other side any more.
            time.sleep(0.01)
            data = b""
        if not data:
            self._reap()
            return False
        self.output += data
        self._stream.feed(data)
        self._answer()
        return True

    def _reap(self) -> None:
        if self.exit is None:
            pid, status = os.waitpid(self.pid, os.WNOHANG)
            self.exit = os.waitstatus_to_exitcode(status) if pid else None

    def _answer(self) -> None:
        for found in _QUERY.finditer(self.output, self._scanned):
            self.queries.append(found[0])
            self._scanned = found.end()
            if found[0] in ANSWERS:
                os.write(self._master, ANSWERS[found[0]])
