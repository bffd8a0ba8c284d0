"""The person's terminal while it is lent to a program.

Rule 1: what was found is put back whatever happens: normal end, exception, SIGTERM, SIGHUP; while suspended, too.
Rule 2: writing never blocks: a terminal that stands still (Ctrl-S, a dead network) must not take away the detach key.
        The terminal is opened once more for that, for O_NONBLOCK on the given descriptor would be the shell's as well.
Rule 3: nothing here knows what is shown.
"""

import os
import select
import signal
import sys
import termios
import time
import tty
from contextlib import suppress
from types import FrameType
from typing import Any, Self

MAX_PENDING = 1 << 16
DRAIN_SECONDS = 0.06
_SIGNALS = (signal.SIGTERM, signal.SIGHUP, signal.SIGINT, signal.SIGWINCH, signal.SIGTSTP, signal.SIGCONT)


class UserTerminal:
    """Standard input and output of this process; neither needs to be a terminal."""

    def __init__(self, stdin: int = 0, stdout: int = 1) -> None:
        self.stdin = stdin
        self.is_input_terminal = os.isatty(stdin)
        self.is_output_terminal = os.isatty(stdout)
        self._stdout = stdout
        self._out = stdout
        self._pending = bytearray()
        self._saved: list[Any] | None = None
        self._handlers: dict[int, Any] = {}
        self._wakeup: tuple[int, int] | None = None
        self._old_wakeup = -1
        self.came: set[int] = set()
        """Signals that came and were not looked at yet."""

    # Lending it

    def __enter__(self) -> Self:
        if self.is_output_terminal:
            with suppress(OSError):
                self._out = os.open(os.ttyname(self._stdout), os.O_WRONLY | os.O_NONBLOCK | os.O_NOCTTY | os.O_CLOEXEC)
        self._catch_signals()
        try:
            self.make_raw()
        except BaseException:
            self.__exit__()
            raise
        return self

    def __exit__(self, *_: object) -> None:
        self.restore()
        self._pending.clear()
        self._release_signals()
        if self._out != self._stdout:
            os.close(self._out)
            self._out = self._stdout

    def make_raw(self) -> None:
        """Keys come one by one and unchanged."""
        if self.is_input_terminal:
            if self._saved is None:
                self._saved = termios.tcgetattr(self.stdin)
            tty.setraw(self.stdin, termios.TCSADRAIN)

    def restore(self) -> None:
        """The settings that were found; what was typed meanwhile is dropped: it may be an answer to a query."""
        if self._saved is not None:
            with suppress(OSError, termios.error):  # hung up
                termios.tcsetattr(self.stdin, termios.TCSAFLUSH, self._saved)

    def suspend(self) -> None:
        """Stop this process as the shell's Ctrl-Z would; returns when it was continued."""
        self.restore()
        os.kill(os.getpid(), signal.SIGSTOP)
        self.make_raw()

    def size(self) -> tuple[int, int]:
        """Rows and columns; 24 and 80 if nobody knows."""
        for fd in (self._stdout, self.stdin, sys.__stderr__.fileno() if sys.__stderr__ else 2):
            with suppress(OSError, ValueError):
                cols, rows = os.get_terminal_size(fd)
                if rows and cols:
                    return rows, cols
        return 24, 80

    # Signals

    @property
    def wakeup(self) -> int | None:
        """Readable when a signal came."""
        return None if self._wakeup is None else self._wakeup[0]

    def take_signals(self) -> set[int]:
        """The signals that came since the last time."""
        if self._wakeup is not None:
            with suppress(BlockingIOError):
                os.read(self._wakeup[0], 4096)
        came, self.came = self.came, set()
        return came

    def _catch_signals(self) -> None:
        reading, writing = os.pipe2(os.O_NONBLOCK | os.O_CLOEXEC)
        try:
            self._old_wakeup = signal.set_wakeup_fd(writing, warn_on_full_buffer=False)
        except ValueError:  # not the main thread: whoever is there looks after signals
            os.close(reading)
            os.close(writing)
            return
        self._wakeup = reading, writing
        for number in _SIGNALS:
            if signal.getsignal(number) is not signal.SIG_IGN or number == signal.SIGWINCH:
                self._handlers[number] = signal.signal(number, self._note)

    def _note(self, number: int, _frame: FrameType | None) -> None:
        self.came.add(number)

    def _release_signals(self) -> None:
        if self._wakeup is None:
            return
        for number, handler in self._handlers.items():
            signal.signal(number, handler if handler is not None else signal.SIG_DFL)
        self._handlers.clear()
        signal.set_wakeup_fd(self._old_wakeup)
        for fd in self._wakeup:
            os.close(fd)
        self._wakeup = None

    # Writing

    @property
    def out(self) -> int:
        return self._out

    @property
    def has_pending(self) -> bool:
        return bool(self._pending)

    @property
    def is_full(self) -> bool:
        """Whether to wait before giving it more."""
        return len(self._pending) >= MAX_PENDING

    def write(self, data: bytes) -> None:
        """Queue, and write what goes without waiting. Raises OSError if the terminal is gone."""
        self._pending += data
        self.write_pending()

    def write_pending(self) -> None:
        while self._pending:
            try:
                written = os.write(self._out, self._pending[:4096])
            except BlockingIOError:
                return
            del self._pending[:written]

    def write_all(self, deadline_seconds: float) -> None:
        """Write what is queued, but wait no longer than that for a terminal that stands still."""
        deadline = time.monotonic() + deadline_seconds
        with suppress(OSError):
            self.write_pending()
            while self._pending and (left := deadline - time.monotonic()) > 0:
                select.select([], [self._out], [], left)
                self.write_pending()

    def discard_input(self) -> None:
        """Read away what the terminal still answers to queries that the program asked."""
        if not self.is_input_terminal:
            return
        with suppress(OSError):
            deadline = time.monotonic() + DRAIN_SECONDS
            while (left := deadline - time.monotonic()) > 0 and select.select([self.stdin], [], [], left)[0]:
                if not os.read(self.stdin, 4096):
                    return
