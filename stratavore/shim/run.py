"""One run: its process, its output on the way to the log, its input, its stop, its end.

Rule 1: output is read whatever happens, at most 256 KiB a turn, and reading never waits for anybody.
Rule 2: what is typed goes through one queue, so that a `send` with its pauses is never mixed with somebody's keys.
Rule 3: a stop is carried out to the end; a second one can only shorten it. A pid is signalled until it is reaped.
Rule 4: it ends when its process was reaped and its output was read to the end, or two seconds after the first.
"""

import os
import signal
import time
from collections.abc import Callable
from typing import Protocol

from stratavore.shim import kernel
from stratavore.shim.launch import launch, set_size
from stratavore.shim.log import Log
from stratavore.shim.loop import READ, WRITE, Loop, Peer
from stratavore.shim.place import MARKER
from stratavore.shim.queries import answer
from stratavore.shim.record import ExitRecord
from stratavore.shim.wire import Json

_TURN_BYTES = 1 << 18
_READ_BYTES = 1 << 14
_SHORT_BYTES = 1 << 10
_DRAIN_SECONDS = 2.0
_REPAINT_SECONDS = 0.05
_SWEEP_SECONDS = 0.05
_SWEEPS_AFTER_KILL = 40  # what survives KILL for two seconds hangs in the kernel

_Item = tuple[bytes | memoryview, float, Callable[[bool], None] | None]


class Keeper(Protocol):
    """What a run asks of the holder it lives in."""

    def grew(self, run: "Run") -> None:
        """There is new output."""

    def typed(self, run: "Run") -> None:
        """All that was queued has been typed."""

    def ended(self, run: "Run") -> None:
        """It ended; `record` can be written."""

    def sweep(self, runner: str, leader: int, signum: int, then: Callable[[list[int]], None]) -> None:
        """Send the signal (0: none) to what the runner left behind, or to the tree of `leader` apart from itself;
        then tell which pids these were."""


class Run:
    """A process and everything that belongs to it, from its spawn to its end."""

    __slots__ = (
        "_askers", "_at_end", "_carry", "_ended_at", "_exit", "_fd", "_input", "_is_blocked", "_is_closed",
        "_is_killing", "_is_pausing", "_is_sweeping", "_keeper", "_loop", "_steps", "_sweeps_left", "is_paused",
        "is_stopping", "is_tty", "key", "label", "log", "pid", "queued_bytes", "runner", "size", "start_time",
        "started_at", "viewers", "writer",
    )  # fmt: skip

    def __init__(self, request: Json, log: Log, loop: Loop, keeper: Keeper) -> None:
        """Spawn it. Raises Refusal."""
        self.key: str = request["key"]
        self.label: str = request["label"]
        self.runner: str = request["env"].get(MARKER, "")
        self.is_tty: bool = request["tty"]
        self.size: tuple[int, int] = (request["rows"], request["cols"])
        self.log = log
        self.viewers: dict[Peer, int | None] = {}
        """Who watches, and up to where they have read; None: they were told of more and have not read it yet."""
        self.writer: Peer | None = None
        self._askers: list[str] = []
        self.is_paused = self.is_stopping = False
        self._loop, self._keeper = loop, keeper
        self._input: list[_Item] = []
        self.queued_bytes = 0
        self._is_blocked = self._is_pausing = False
        self._carry = b""
        self._steps: list[Json] = []
        self._is_killing = self._is_sweeping = self._at_end = self._is_closed = False
        self._sweeps_left = _SWEEPS_AFTER_KILL
        self._exit: tuple[int, float, float, int] | None = None
        self._ended_at = 0
        self.started_at = time.time_ns() // 1_000_000
        self.pid, self._fd = launch(request)
        self.start_time = kernel.start_time(self.pid)
        loop.watch(self._fd, self._ready)

    @property
    def is_reaped(self) -> bool:
        return self._exit is not None

    @property
    def state(self) -> str:
        """`running`, `paused`, `stopping`, or `ending`: reaped, its output not read to the end or not yet durable."""
        if self.is_reaped:
            return "ending"
        return "stopping" if self.is_stopping else "paused" if self.is_paused else "running"

    @property
    def stop_by(self) -> str | None:
        """Who asked for its end: the last of them, whoever repeats what was asked before not counted."""
        return self._askers[-1] if self._askers else None

    def record(self, boot_id: str) -> ExitRecord:
        """How it ended."""
        assert self._exit is not None
        status, utime, stime, max_rss = self._exit
        code = os.waitstatus_to_exitcode(status)
        return ExitRecord(
            self.key, self.label, self.pid, self.start_time, boot_id,
            exit_code=code if code >= 0 else None, exit_signal=-code if code < 0 else None,
            utime_seconds=utime, stime_seconds=stime, max_rss_bytes=max_rss,
            output_bytes=self.log.size, dropped_bytes=self.log.dropped,
            started_at=self.started_at, ended_at=self._ended_at, stop_by=self.stop_by,
        )  # fmt: skip

    # Input

    def type(self, data: bytes, pause_seconds: float = 0, then: Callable[[bool], None] | None = None) -> None:
        """Queue bytes for the terminal, and a pause after them; `then` hears whether they were written."""
        if self._is_closed:
            if then is not None:
                then(False)
            return
        self._input.append((data, pause_seconds, then))
        self.queued_bytes += len(data)
        if not self._is_blocked and not self._is_pausing:
            self._type()

    def resize(self, rows: int, cols: int, *, repaint: bool = False) -> None:
        """Give the terminal a size; with `repaint` an equal one makes the program paint again."""
        if self._is_closed or not self.is_tty or rows < 1 or cols < 1:
            return
        if repaint and (rows, cols) == self.size:
            set_size(self._fd, rows - 1 or 2, cols)
            self._loop.later(_REPAINT_SECONDS, lambda: self.resize(*self.size))
        else:
            self.size = (rows, cols)
            set_size(self._fd, rows, cols)

    def _type(self) -> None:
        while self._input:
            data, pause, then = self._input[0]
            try:
                written = os.write(self._fd, data) if data else 0
            except BlockingIOError:
                written = 0
            except OSError:  # nobody has the terminal open: what is typed now is lost, as with a real one
                written = len(data)
            self.queued_bytes -= written
            if written < len(data):
                self._input[0] = (memoryview(data)[written:], pause, then)
                self._block(True)
                return
            del self._input[0]
            if then is not None:
                then(True)
            if pause:
                self._is_pausing = True
                self._block(False)
                self._loop.later(pause, self._resume)
                return
        self._block(False)
        self._keeper.typed(self)

    def _resume(self) -> None:
        self._is_pausing = False
        if not self._is_closed:
            self._type()

    def _block(self, is_blocked: bool) -> None:
        if is_blocked != self._is_blocked:
            self._is_blocked = is_blocked
            self._loop.change(self._fd, READ | WRITE * is_blocked)

    # Output

    def _ready(self, events: int) -> None:
        if events & WRITE:
            self._type()
        if events & ~WRITE:
            self._drain()

    def _drain(self) -> None:
        chunks, room, chunk = [], _TURN_BYTES, b""
        try:
            while room > 0 and (chunk := os.read(self._fd, _READ_BYTES)):
                chunks.append(chunk)
                room -= len(chunk)
                if len(chunk) < _SHORT_BYTES:
                    break  # most likely that was all; if it was not, epoll says so
            self._at_end = not chunk
        except BlockingIOError:
            self._at_end = False
        except OSError:  # EIO: nobody has the terminal open
            self._at_end = True
        if chunks:
            self._keep(b"".join(chunks))
        if self._at_end:
            self._output_ended()

    def _keep(self, data: bytes) -> None:
        self.log.append(data)
        if self.writer is None and self.is_tty:
            reply, self._carry = answer(data, self._carry)
            if reply:
                self.type(reply)
        self._keeper.grew(self)

    def _output_ended(self) -> None:
        if self.is_reaped:
            self._finish_if_complete()
        else:
            self._loop.forget(self._fd)
            if self.is_tty:  # the program may open its terminal again
                self._loop.later(1, self._look_again)

    def _look_again(self) -> None:
        if not self.is_reaped:
            self._loop.watch(self._fd, self._ready)

    # Stopping

    def stop(self, steps: list[Json], grace_seconds: float, by: str) -> None:
        """Take the steps, then end its tree with TERM, and at the end of the grace with KILL."""
        if self.is_reaped:
            return
        self._asked_by(by)
        self._loop.later(grace_seconds, self._kill)
        if not self.is_stopping:
            self.is_stopping = True
            self._steps.extend(steps)
            self._next_step()

    def kill(self, by: str) -> None:
        """KILL its tree now."""
        if not self.is_reaped:
            self._asked_by(by)
            self.is_stopping = True
            self._kill()

    def _asked_by(self, by: str) -> None:
        if by not in self._askers:
            self._askers.append(by)

    def pause(self, signum: int) -> None:
        """SIGSTOP or SIGCONT its tree."""
        self.is_paused = signum == signal.SIGSTOP
        self._signal(signum, group=True)
        self._sweep(signum)

    def _next_step(self) -> None:
        if self.is_reaped or self._is_killing:
            return
        if not self._steps:
            self._sweep(signal.SIGTERM)
            return
        step = self._steps.pop(0)
        if (keys := step.get("keys")) is not None:
            if self.is_tty:
                self.type(keys)
        else:
            signum = signal.Signals["SIG" + step["signal"]]
            self._signal(signum, group=step.get("group", False))
            if signum == signal.SIGTERM:
                self.pause(signal.SIGCONT) if self.is_paused else self._signal(signal.SIGCONT, group=True)
        self._loop.later(step["wait"], self._next_step)

    def _kill(self) -> None:
        if self.is_reaped and not self._is_sweeping:
            return
        self._is_killing = True
        self._signal(signal.SIGKILL, group=True)
        if self._is_sweeping:
            self._sweep(signal.SIGKILL)

    def _sweep(self, signum: int) -> None:
        self._keeper.sweep(self.runner, 0 if self.is_reaped else self.pid, signum, self._swept)

    def _swept(self, pids: list[int]) -> None:
        if not self._is_sweeping:
            return
        self._sweeps_left -= self._is_killing
        if pids and self._sweeps_left:
            self._loop.later(_SWEEP_SECONDS, lambda: self._sweep(signal.SIGKILL * self._is_killing))
        else:
            self._is_sweeping = False
            self._finish_if_complete()

    def _signal(self, signum: int, *, group: bool) -> None:
        if not self.is_reaped:
            try:
                (os.killpg if group else os.kill)(self.pid, signum)
            except (ProcessLookupError, PermissionError):
                pass

    # The end

    def reaped(self, status: int, utime: float, stime: float, max_rss_bytes: int) -> None:
        """Its process was waited for."""
        self._exit = (status, utime, stime, max_rss_bytes)
        self._ended_at = time.time_ns() // 1_000_000
        if self.is_stopping:
            self._is_sweeping = True
            self._sweep(signal.SIGKILL if self._is_killing else signal.SIGTERM)
        self._loop.later(_DRAIN_SECONDS, self._finish)
        self._drain()

    def _finish_if_complete(self) -> None:
        if self.is_reaped and self._at_end and not self._is_sweeping:
            self._finish()

    def _finish(self) -> None:
        if self._is_closed:
            return
        self._is_closed = True
        self._loop.forget(self._fd)
        os.close(self._fd)
        for _, _, then in self._input:
            if then is not None:
                then(False)
        self._input.clear()
        self._keeper.ended(self)
