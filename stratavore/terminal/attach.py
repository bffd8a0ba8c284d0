"""Attach: a person's terminal and a run's become one, until the person detaches or the run ends.

Rule 1: output is read from the log at this terminal's own pace: nothing is lost, and nobody waits for a slow terminal.
Rule 2: it talks to the shim alone; the daemon may come and go. Only `next_run` may ask it.
Rule 3: modes that the program set are set here when coming in and taken back when leaving, and nothing else is.
Rule 4: a query in old output is not replayed, and what the terminal answers after leaving reaches no shell.
"""

import os
import select
import signal
from contextlib import suppress
from enum import StrEnum
from typing import Any, NamedTuple

from stratavore.errors import Conflict, Forbidden, NotFound, StratavoreError
from stratavore.shim import client
from stratavore.terminal.chord import Chord, ChordMatcher
from stratavore.terminal.modes import Modes
from stratavore.terminal.output import NextRun, Waiting
from stratavore.terminal.replay import replay
from stratavore.terminal.runlog import LogFile, Run
from stratavore.terminal.sanitize import LiveFilter
from stratavore.terminal.tty import UserTerminal

ESCAPE_SECONDS = 0.05
"""After that a lone ESC is the Esc key, and not the beginning of a sequence."""
NEXT_RUN_SECONDS = 0.5
LEAVE_SECONDS = 1.0
_INPUT_CHUNK = 4096
MAX_TYPED = 1 << 20
"""What is typed into a program that reads nothing is dropped beyond that."""
_PUSH_TITLE, _POP_TITLE = b"\x1b[22;0t", b"\x1b[23;0t"


class How(StrEnum):
    DETACHED = "detached"
    ENDED = "ended"
    TAKEN = "taken"
    DISCONNECTED = "disconnected"


class AttachOutcome(NamedTuple):
    """Why the person is back at the shell, in a word and in a line."""

    how: How
    detail: str


class Options(NamedTuple):
    """How to attach."""

    chord: Chord
    read_only: bool = False
    takeover: bool = False
    scrollback_bytes: int = 256 << 10
    osc52: bool = False
    name: str = ""
    """What the banner calls the runner."""


def attach(run: Run, options: Options, *, next_run: NextRun, terminal: UserTerminal | None = None) -> AttachOutcome:
    """Lend the terminal to `run`, and to the runs after it.

    Raises:
        Conflict: somebody else is the writer, or the shim does not answer. NotFound, Forbidden: the shim says so.
    """
    session = _Session(terminal or UserTerminal(), options, next_run)
    return session.run(run)


class _Session:
    """One terminal at one runner, over the runs of the runner."""

    def __init__(self, terminal: UserTerminal, options: Options, next_run: NextRun) -> None:
        self._terminal = terminal
        self._options = options
        self._next_run = next_run
        self._chord = ChordMatcher(options.chord)
        self._modes = Modes()
        self._live = LiveFilter(osc52=options.osc52)
        self._is_writer = not options.read_only and terminal.is_input_terminal
        self._typed = bytearray()
        self._connection: client.Connection | None = None
        self._log: LogFile | None = None
        self._offset = 0
        self._key = ""
        self._run_ended: str | None = None
        self._is_waiting = self._has_told = False
        self._outcome: AttachOutcome | None = None

    def run(self, run: Run) -> AttachOutcome:
        """Raises what `attach` raises, before the terminal is touched."""
        try:
            self._connect(run, takeover=self._options.takeover)
            with self._terminal:
                try:
                    self._show_banner()
                    self._replay()
                    outcome = self._converse()
                finally:
                    self._leave()
        finally:
            self._disconnect()  # the seat is free before anything waits for this terminal again
        with suppress(OSError):
            self._say(f"{outcome.how}: {outcome.detail}" if outcome.detail else outcome.how.value)
        return outcome

    # Coming and going

    def _connect(self, run: Run, *, takeover: bool) -> None:
        """Raises what `attach` raises; touches no terminal."""
        try:
            self._log = LogFile(run.log)
        except FileNotFoundError:
            raise NotFound(f"the output of {run.key} is gone", remedy="it was pruned with its runner") from None
        self._key, self._run_ended, self._is_waiting, self._has_told = run.key, None, False, False
        if run.shim is None:
            self._run_ended = "it has ended"
            return
        rows, cols = self._terminal.size()
        role = client.WRITER if self._is_writer else client.OBSERVER
        try:
            self._connection = client.connect(run.shim)
            answer = self._connection.attach(run.key, role=role, rows=rows, cols=cols, takeover=takeover)
        except client.Refused as refusal:
            raise _error(refusal, self._options.name) from None
        except OSError as problem:
            raise Conflict(
                f"the holder of this runner does not answer: {problem}",
                remedy="`stratavore reconcile` looks at it",
            ) from None
        if record := answer.get("ended"):
            self._run_ended = told_end(record)

    def _disconnect(self) -> None:
        if self._connection is not None:
            self._connection.close()
            self._connection = None
        if self._log is not None:
            self._log.__exit__()
            self._log = None

    def _show_banner(self) -> None:
        how = "watching" if not self._is_writer else "attached to"
        why = "" if self._is_writer or self._options.read_only else ", for stdin is no terminal to type on"
        self._say(f"{how} {self._options.name or 'the runner'}{why}; detach with {self._options.chord.shown}")
        if self._terminal.is_output_terminal:
            self._terminal.write(_PUSH_TITLE)

    def _say(self, text: str) -> None:
        """A line of our own."""
        end = b"\r\n" if self._terminal.is_output_terminal else b"\n"
        self._terminal.write(b"[stratavore: " + text.encode() + b"]" + end)

    def _replay(self) -> None:
        assert self._log is not None
        old, self._modes, self._offset = replay(self._log, self._options.scrollback_bytes, osc52=self._options.osc52)
        self._terminal.write(old)

    def _leave(self) -> None:
        """Take back what the program did to the terminal. A signal may have brought us here: nothing waits for ever."""
        if not self._terminal.is_output_terminal:
            self._terminal.write_all(LEAVE_SECONDS)
            return
        reset = self._modes.leave() + b"\x1b[?25h" + _POP_TITLE + b"\x1b[m\r\n"
        try:
            self._terminal.write(reset)
        except OSError:
            return
        self._terminal.write_all(LEAVE_SECONDS)
        self._terminal.discard_input()

    # Together

    def _converse(self) -> AttachOutcome:
        while True:
            is_at_end = self._show_output()
            if self._run_ended is not None and is_at_end and not self._terminal.has_pending:
                self._go_on()
            if self._outcome is not None:
                return self._outcome
            try:
                self._wait()
            except OSError as problem:
                return AttachOutcome(How.DISCONNECTED, f"the terminal is gone: {problem}")

    def _show_output(self) -> bool:
        """Read on in the log as long as the terminal takes it; whether all of it was read."""
        assert self._log is not None
        while not self._terminal.is_full:
            start, data = self._log.read(self._offset)
            if not data:
                return True
            self._offset = start + len(data)
            passed = self._live.feed(data)
            self._modes.feed(passed)
            self._terminal.write(passed)
        return False

    def _wait(self) -> None:
        """For keys, news of the shim, room at the terminal, or a signal; and handle what came."""
        terminal, connection = self._terminal, self._connection
        if connection is not None and connection.has_queued:
            self._talk(connection, has_come=True, has_room=False)
            return
        readable: list[int] = [fd for fd in (terminal.wakeup,) if fd is not None]
        writable: list[int] = [terminal.out] if terminal.has_pending else []
        if terminal.is_input_terminal:
            readable.append(terminal.stdin)
        if connection is not None:
            if not terminal.has_pending or self._typed:
                readable.append(connection.fileno())
            if self._typed:
                writable.append(connection.fileno())
        can_read, can_write, _ = select.select(readable, writable, [], self._patience())
        if terminal.wakeup in can_read:
            self._obey(terminal.take_signals())
        if terminal.is_input_terminal:
            self._listen(has_come=terminal.stdin in can_read)
        if terminal.out in can_write:
            terminal.write_pending()
        if connection is not None:
            self._talk(
                connection,
                has_come=connection.fileno() in can_read,
                has_room=connection.fileno() in can_write,
            )

    def _patience(self) -> float | None:
        if self._chord.has_begun:
            return ESCAPE_SECONDS
        return NEXT_RUN_SECONDS if self._is_waiting else None

    def _listen(self, *, has_come: bool) -> None:
        """What the person types."""
        if not has_come:
            self._type(self._chord.flush())
            return
        data = os.read(self._terminal.stdin, _INPUT_CHUNK)
        if not data:
            raise OSError("hung up")
        typed = self._chord.feed(data)
        self._type(typed.passed)
        if typed.is_detach:
            self._type_rest()
            self._outcome = AttachOutcome(How.DETACHED, "")

    def _type(self, data: bytes) -> None:
        if self._is_writer and self._connection is not None and len(self._typed) < MAX_TYPED:
            self._typed += data

    def _type_rest(self) -> None:
        """What was typed before the detach key, if it goes without waiting."""
        connection = self._connection
        if connection is not None and self._typed and select.select([], [connection], [], 0)[1]:
            self._talk(connection, has_come=False, has_room=True)

    def _talk(self, connection: client.Connection, *, has_come: bool, has_room: bool) -> None:
        try:
            if has_room:
                connection.input(bytes(self._typed[:_INPUT_CHUNK]))
                del self._typed[:_INPUT_CHUNK]
            if has_come:
                for event in connection.receive():
                    self._hear(event)
        except OSError:
            connection.close()
            self._connection = None
            self._typed.clear()
            self._run_ended = self._run_ended or "its holder is gone"

    def _hear(self, event: dict[str, Any]) -> None:
        if event["event"] == "exited" and event["key"] == self._key:
            self._run_ended = told_end(event["record"])
        elif event["event"] == "taken":
            self._outcome = AttachOutcome(How.TAKEN, f"another terminal took over (process {event['pid']})")

    # Signals

    def _obey(self, signals: set[int]) -> None:
        if ending := signals & {signal.SIGTERM, signal.SIGHUP, signal.SIGINT}:
            self._outcome = AttachOutcome(How.DISCONNECTED, signal.Signals(min(ending)).name)
        elif signal.SIGTSTP in signals:
            self._leave()
            self._terminal.suspend()
            self._come_back()
        elif signal.SIGCONT in signals:
            self._terminal.make_raw()
            self._come_back()
        elif signal.SIGWINCH in signals and self._is_writer and self._connection is not None:
            self._connection.resize(self._key, *self._terminal.size())

    def _come_back(self) -> None:
        """After this process was stopped: the modes again, and the program paints again."""
        self._terminal.take_signals()
        self._terminal.write(_PUSH_TITLE + self._modes.enter())
        if self._is_writer and self._connection is not None:
            rows, cols = self._terminal.size()
            with suppress(client.Refused):  # it ended or was taken meanwhile, of which the news is on its way
                self._connection.attach(self._key, role=client.WRITER, rows=rows, cols=cols)

    # The next run

    def _go_on(self) -> None:
        """The run is over and all of it was shown."""
        assert self._run_ended is not None
        if self._connection is None and self._run_ended == "its holder is gone":
            self._outcome = AttachOutcome(How.DISCONNECTED, self._run_ended)
            return
        match self._next_run():
            case None:
                self._outcome = AttachOutcome(How.ENDED, self._run_ended)
            case Waiting(why):
                if why and not self._has_told:
                    self._say_between(f"{self._run_ended}; {why}")
                    self._has_told = True
                self._is_waiting = True
            case Run() as run:
                if not self._has_told:
                    self._say_between(f"{self._run_ended}; started again")
                self._disconnect()
                self._connect(run, takeover=False)
                self._replay()

    def _say_between(self, text: str) -> None:
        self._terminal.write(self._modes.leave() + b"\x1b[?25h\r\n")
        self._modes, self._live = Modes(), LiveFilter(osc52=self._options.osc52)
        self._say(text)


def told_end(record: dict[str, Any]) -> str:
    """How a run ended, from its exit record, in words."""
    by = f", asked by {record['stop_by']}" if record.get("stop_by") else ""
    if (number := record.get("exit_signal")) is not None:
        return f"killed by {_signal_name(number)}{by}"
    return f"exit code {record['exit_code']}{by}"


def _signal_name(number: int) -> str:
    try:
        return signal.Signals(number).name
    except ValueError:
        return f"signal {number}"


def _error(refusal: client.Refused, name: str) -> StratavoreError:
    match refusal.code:
        case "busy":
            remedy = f"watch with `--read-only`, or take it: `stratavore attach {name} --takeover`"
            return Conflict(refusal.text, remedy=remedy)
        case "forbidden":
            return Forbidden(refusal.text)
        case "not_found" | "ended":
            return NotFound(refusal.text)
        case "version":
            return Conflict(refusal.text, remedy="use the program of the version that started this runner")
        case _:
            return Conflict(refusal.text)
