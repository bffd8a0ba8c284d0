"""The runs of a runner as one stream of output, from the logs that the shims write.

Rule 1: reading costs the shim nothing: it is the file that is read, and the shim only tells that it grew.
Rule 2: what is yielded is either output, or a Gap, or an Edge that says what the reader is at.
"""

import select
import time
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from enum import StrEnum
from pathlib import Path
from typing import NamedTuple

from stratavore.shim import client
from stratavore.terminal.render import Renderer
from stratavore.terminal.runlog import CHUNK, LogFile, Piece, Run

POLL_SECONDS = 0.1
"""Where no shim tells of growth, the file is looked at so often."""
LOOK_SECONDS = 1.0
"""A shim that tells nothing is looked at so often: it may have died."""
TAIL_START = 64 << 10
TAIL_SECONDS = 0.5
"""If rendering took so long and there are still too few lines, they are what there is."""


class Edge(StrEnum):
    """What is no output: the reader has caught up, or a run's output is complete."""

    CAUGHT_UP = "caught_up"
    RUN_ENDED = "run_ended"


class Waiting(NamedTuple):
    """No next run yet, but there may be one; `why` is empty where nobody knows yet."""

    why: str = "it will be started again"


NextRun = Callable[[], Run | Waiting | None]
"""Asks which run follows the one that ended; None if none will. Called every half second while it answers Waiting."""


def read(runs: Sequence[Run], *, since_ms: int | None = None) -> Iterator[tuple[Run, Piece | Edge]]:
    """The output of the runs, oldest first, from the beginning or a time on. A log that was removed is skipped."""
    for run in runs:
        try:
            with LogFile(run.log) as log:
                for piece in log.pieces(0 if since_ms is None else log.offset_at(since_ms)):
                    yield run, piece
        except FileNotFoundError:
            continue
        yield run, Edge.RUN_ENDED


def follow(run: Run, *, start: int | None = None, next_run: NextRun) -> Iterator[tuple[Run, Piece | Edge]]:
    """The output of `run` from `start` (default: its end) as it comes, then of the runs after it."""
    current: Run | None = run
    while current is not None:
        yield from ((current, piece) for piece in _follow_one(current, start))
        current, start = _await_next(next_run), 0


def _follow_one(run: Run, start: int | None) -> Iterator[Piece | Edge]:
    try:
        with LogFile(run.log) as log, Watch(run) as watch:
            offset = log.size if start is None else start
            while True:
                is_over = watch.is_over  # before reading: nothing is written after it
                yield from log.pieces(offset, end := log.size)
                offset = end
                if is_over:
                    break
                yield Edge.CAUGHT_UP
                watch.wait(log, offset)
    except FileNotFoundError:
        pass
    yield Edge.RUN_ENDED


def _await_next(next_run: NextRun) -> Run | None:
    while isinstance(answer := next_run(), Waiting):
        time.sleep(0.5)
    return answer


class Watch:
    """Knows when a log grew and when its run is over: from the shim while it answers, else by looking."""

    def __init__(self, run: Run) -> None:
        self._run = run
        self.is_over = run.shim is None
        self._connection = None if run.shim is None else _observe(run.shim, run.key)
        if self._connection is not None and self._connection[1]:
            self.is_over = True

    def __enter__(self) -> "Watch":
        return self

    def __exit__(self, *_: object) -> None:
        if self._connection is not None:
            self._connection[0].close()

    def wait(self, log: LogFile, offset: int) -> None:
        """Until the log is longer than `offset` or the run is over; sometimes earlier."""
        if self._connection is None:
            self._look(log, offset)
            return
        connection = self._connection[0]
        try:
            if not connection.pending() and not select.select([connection], [], [], LOOK_SECONDS)[0]:
                return
            self.is_over = any(event["event"] == "exited" for event in connection.receive())
        except OSError:
            connection.close()
            self._connection = None

    def _look(self, log: LogFile, offset: int) -> None:
        deadline = time.monotonic() + LOOK_SECONDS
        while log.size <= offset and time.monotonic() < deadline:
            time.sleep(POLL_SECONDS)
        shim = self._run.shim
        if log.size <= offset and (shim is None or not client.is_locked(shim / "lock")):
            self.is_over = True


def _observe(shim: Path, key: str) -> tuple[client.Connection, bool] | None:
    """A connection that is told of growth, and whether the run has ended already; None if the shim does not answer."""
    try:
        connection = client.connect(shim)
    except (OSError, client.Refused):
        return None
    try:
        return connection, bool(connection.attach(key).get("ended"))
    except (OSError, client.Refused):
        connection.close()
        return None


def rendered(stream: Iterable[tuple[Run, Piece | Edge]]) -> Iterator[str]:
    """Readable text of a stream, as soon as it is known; each run is a page of its own."""
    renderer: Renderer | None = None
    for run, piece in stream:
        renderer = renderer or Renderer(rows=run.rows, cols=run.cols)
        if isinstance(piece, bytes):
            text = renderer.feed(piece)
        elif piece is Edge.CAUGHT_UP:
            text = renderer.settle()
        elif piece is Edge.RUN_ENDED:
            text, renderer = renderer.finish(), None
        else:
            text = renderer.settle() + piece.marker + "\n"
        if text:
            yield text


def tail(runs: Sequence[Run], lines: int) -> list[str]:
    """The last `lines` readable lines of the runs together.

    A page that a full-screen program painted cannot be cut at a line, so the end of the log is rendered from further
    and further back until there are enough lines.
    """
    found: deque[str] = deque()
    for run in reversed(runs):
        if (missing := lines - len(found)) <= 0:
            break
        found.extendleft(reversed(_tail_of_one(run, missing)))
    return list(found)


def _tail_of_one(run: Run, lines: int) -> list[str]:
    try:
        with LogFile(run.log) as log:
            back, size, began = TAIL_START, log.size, time.monotonic()
            while True:
                start = max(size - back, 0)
                stream = ((run, piece) for piece in (*log.pieces(log.line_start(start), size), Edge.RUN_ENDED))
                text = "".join(rendered(stream))
                found = text.split("\n")[:-1]
                # Where a page is painted the first lines may be pieces of it: ask for more than are needed.
                if len(found) > 2 * lines or start <= log.sidecar().head or time.monotonic() - began > TAIL_SECONDS:
                    return found[-lines:]
                back *= 4
    except FileNotFoundError:
        return []


def raw_tail(log: LogFile, lines: int) -> int:
    """The offset at which the last `lines` lines, counted by line feeds, begin."""
    end, head = log.size, log.sidecar().head
    missing = lines + 1 if end and log.read(end - 1)[1] == b"\n" else lines
    while end > head:
        begin = max(end - CHUNK, head)
        begin, data = log.read(begin, end - begin)
        at = len(data)
        while (at := data.rfind(b"\n", 0, at)) >= 0:
            missing -= 1
            if missing == 0:
                return begin + at + 1
        end = begin
    return head
