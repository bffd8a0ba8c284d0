"""One look at one run: its agent's own state file, and its screen.

Rule 1: a look costs one `stat` as long as nothing has changed. Looks are taken beside the loop.
Rule 2: the screen is looked at only where nothing else tells what a run does, or its agent asks nowhere else.
"""

import os
import re
import time
from collections.abc import Mapping, Sequence
from contextlib import suppress
from datetime import UTC, datetime
from pathlib import Path
from typing import NamedTuple

from stratavore import process
from stratavore.agents import Agent, Live, Process, Start
from stratavore.ending import read_tail
from stratavore.model import Activity
from stratavore.store.activity import Watched
from stratavore.terminal.screen import snapshot

_SEARCH_SECONDS = 2.0
_SCREEN_SECONDS = 1.0
_RESTLESS_SECONDS = 3.0
_TAIL_BYTES = 32 << 10
_LAST_LINES = 12
_LONGEST_LINE = 500
_WORDS = {"waiting": Activity.WAITING_INPUT, "working": Activity.WORKING, "idle": Activity.IDLE}
Signature = tuple[int, int, int]


class Shown(NamedTuple):
    """What the screen shows of what a run is doing; None: nothing."""

    live: Live | None


class Watch:
    """A run, and what is remembered of earlier looks at it."""

    def __init__(self, row: Watched, agent: Agent, start: Start | None, log: Path) -> None:
        self.row, self.agent, self.start = row, agent, start
        self._log = log
        self._process: Process | None = None
        self._file: Path | None = None
        self._seen: Signature | None = None
        self._search_at = 0.0
        self._size = self._size_shown = -1
        self._shown_at = 0.0

    @property
    def has_state_file(self) -> bool:
        """Whether its agent tells of itself in a file that was found."""
        return self._file is not None

    def state(self) -> Live | None:
        """What its agent's own state file says, if that is news."""
        if self.start is None or not self.agent.tells_activity:
            return None
        if self._file is None:
            return self._search(self.start)
        assert self._process is not None
        seen = _signature(self._file)
        if seen is None:
            self._file = None
            return None
        if seen == self._seen:
            return None
        return self._read(self.start, self._process, self._file, seen)

    def is_screen_due(self, *, is_restless: bool) -> bool:
        """Whether the screen has changed, and is looked at not too often; `is_restless`: also while it still does."""
        size = _size(self._log)
        was, self._size = self._size, size
        now = time.monotonic()
        if size in (-1, self._size_shown) or now - self._shown_at < _SCREEN_SECONDS:
            return False
        return is_restless or size == was or now - self._shown_at > _RESTLESS_SECONDS

    def screen(self, patterns: Sequence[tuple[Activity, re.Pattern[str]]]) -> Shown:
        """What its screen shows: a dialog of its agent, or what was configured to look for."""
        self._size_shown, self._shown_at = self._size, time.monotonic()
        lines = self._lines()
        if self.agent.dialogs:
            return Shown(on_screen(self.agent, lines))
        for activity, pattern in patterns:
            for line in reversed(lines[-_LAST_LINES:]):
                if pattern.search(line[:_LONGEST_LINE]):
                    return Shown(Live(activity=activity, said=line.strip()))
        return Shown(None)

    def _search(self, start: Start) -> Live | None:
        """Find the process that has a state file: it is the first one, or below it where a script leads to it."""
        now = time.monotonic()
        own = (self.row.pid, self.row.start_time)
        candidates = [own]
        if now >= self._search_at:
            self._search_at = now + _SEARCH_SECONDS
            candidates += [each for each in process.tree(self.row.pid) if each[0] != self.row.pid]
        for candidate in candidates:
            file = self.agent.state_file(candidate, start)
            if file is not None and (seen := _signature(file)) is not None:
                live = self._read(start, candidate, file, seen)
                if live is not None:
                    return live
        return None

    def _read(self, start: Start, of: Process, file: Path, seen: Signature) -> Live | None:
        """A file that is half written says nothing, and is read again."""
        live = self.agent.live([of], start)
        if live is None:
            self._seen = None
            return None
        self._process, self._file, self._seen = of, file, seen
        if live.at is None:
            return Live(activity=live.activity, session_id=live.session_id, said=live.said, at=_modified(seen))
        return live

    def _lines(self) -> list[str]:
        if not self.row.tty:
            return read_tail(self._log, _TAIL_BYTES).decode(errors="replace").splitlines()
        return screen_lines(self._log, self.row.terminal_rows, self.row.terminal_columns)


def screen_lines(log: Path, rows: int, columns: int) -> list[str]:
    """What the terminal of a run shows now."""
    return snapshot(read_tail(log, _TAIL_BYTES), rows, columns)


def on_screen(agent: Agent, lines: Sequence[str]) -> Live | None:
    """What the agent does, by the words of it that stand on its screen."""
    for words, activity in agent.dialogs:
        if found := next((line for line in lines if words in line), None):
            return Live(activity=activity, said=found.strip(" │|").lstrip("?>●› "))
    return None


def compiled(patterns: Mapping[str, str]) -> list[tuple[Activity, re.Pattern[str]]]:
    """The configured patterns, in the order in which they count."""
    return [(activity, re.compile(patterns[word])) for word, activity in _WORDS.items() if word in patterns]


def _signature(file: Path | None) -> Signature | None:
    if file is not None:
        with suppress(OSError):
            found = os.stat(file)
            return found.st_mtime_ns, found.st_size, found.st_ino
    return None


def _modified(seen: Signature) -> datetime:
    return datetime.fromtimestamp(seen[0] / 1e9, UTC)


def _size(log: Path) -> int:
    try:
        return os.stat(log).st_size
    except OSError:
        return -1
