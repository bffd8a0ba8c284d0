"""Which files of agents are worth a look.

Rule 1: files of a runner that was poked or whose output grew, and files that grew lately, are looked at in every turn;
all others one after the other, each every few seconds; new ones are found in every sweep. There is no inotify: it
loses what happens while nobody listens. A directory does not tell that a file in it grew.
Rule 2: what is older than this installation, and was never read, is left to `import`.
Rule 3: times and sizes only select; what a file holds is found out by reading it.

All of it waits for the disk: it runs beside the event loop, in one thread.
"""

from collections.abc import Collection, Iterable, Iterator
from pathlib import Path
from typing import NamedTuple

from stratavore.agents import RECORDS
from stratavore.agents.records import RecordDatabase, RecordFile
from stratavore.ledger.homes import Home, signature
from stratavore.store.tails import Tail

SWEEP_SECONDS = 30.0
_ROUND_SECONDS = 4.0
_ROUND_AT_ONCE = 250
"""Files of the round that are looked at in one turn: a look at a thousand takes 5 ms."""
_HOT_SECONDS = 3.0
_LATELY_SECONDS = 60.0
_LIST_SECONDS = 1.0
_QUIET_SECONDS = 2.0
"""A last line without an end is taken as whole when nothing came behind it for so long."""

_SIZE, _MTIME = 2, 3
_Signature = tuple[int, ...]


class Followed:
    """One file that is followed, or a database (`record` is None)."""

    __slots__ = ("changed_at", "has_rest", "home", "is_finishing", "is_told", "path", "record", "seen", "tail")

    def __init__(self, home: Home, path: Path, record: RecordFile | None) -> None:
        self.home = home
        self.path = path
        self.record = record
        self.seen: tuple[_Signature | None, ...] = ()
        self.changed_at = float("-inf")
        self.has_rest = False
        """Something without an end stands behind what was read."""
        self.is_finishing = False
        """That is to be taken for a line."""
        self.is_told = False
        """Its broken lines stand in the log."""
        self.tail: Tail | None = None
        """How far it was read, while it is being read."""


class Inhabitant(NamedTuple):
    """A living runner whose agent keeps files: where, in which conversation, and the file of its output."""

    id: str
    home: Home
    session_id: str | None
    log: Path


class _Hot:
    __slots__ = ("listed_at", "log_bytes", "paths", "session_id", "until")

    def __init__(self) -> None:
        self.until = self.listed_at = float("-inf")
        self.log_bytes = -1
        self.session_id: str | None = None
        self.paths: set[Path] = set()


class Watch:
    """All files that are followed, and which of them are to be read."""

    def __init__(self, *, began_at: float, known: Collection[str]) -> None:
        self._began_ns = int(began_at * 1e9)
        self._known = {Path(path) for path in known}
        self._files: dict[Path, Followed] = {}
        self._lately: set[Path] = set()
        self._hot: dict[str, _Hot] = {}
        self._sweep_at = self._round_at = float("-inf")
        self._round: list[Path] = []
        self._listed: dict[Home, float] = {}

    def look(
        self,
        now: float,
        homes: Iterable[Home],
        inhabitants: Collection[Inhabitant],
        poked: Collection[str],
        *,
        everywhere: bool = False,
    ) -> list[Followed]:
        """The files that changed since the last look, as far as it is their turn, or all of them."""
        due = set(self._lately)
        if everywhere or now >= self._sweep_at:
            self._sweep_at = now + SWEEP_SECONDS
            due |= self._sweep(homes)
        due |= self._next_of_round(now)
        for runner in inhabitants:
            due |= self._files_of(runner, now, is_poked=runner.id in poked)
        self._forget({runner.id for runner in inhabitants})
        found = [self._files[path] for path in due if path in self._files]
        return [file for file in found if self._is_due(file, now)]

    def follow_all(self, home: Home) -> list[tuple[Followed, int]]:
        """All files of a home, however old, with their sizes; whoever asks reads them."""
        found = []
        for path, record in _records(home, None):
            file = self._files.get(path)
            if file is None:
                file = Followed(home, path, record)
                file.seen = _seen(file)
            there = signature(path)
            if there is not None and _is_text(path):
                self._files[path] = file
                found.append((file, there[_SIZE]))
        return found

    def drop(self, file: Followed) -> None:
        """It has gone, or is not to be read as it is; a later sweep may find it again."""
        self._files.pop(file.path, None)
        self._lately.discard(file.path)

    def _sweep(self, homes: Iterable[Home]) -> set[Path]:
        for home in homes:
            self._list(home)
        return set(self._files)

    def _next_of_round(self, now: float) -> set[Path]:
        """A part of all files; all of them in some seconds, or longer where there are thousands."""
        if not self._round and now >= self._round_at:
            self._round_at, self._round = now + _ROUND_SECONDS, list(self._files)
        size = min(_ROUND_AT_ONCE, 1 + len(self._files) // 8)
        part, self._round = self._round[-size:], self._round[:-size]
        return set(part)

    def _list(self, home: Home, session_id: str | None = None) -> set[Path]:
        """Follow what is there; returns the paths."""
        return {path for path, record in _records(home, session_id) if self._add(home, path, record)}

    def _add(self, home: Home, path: Path, record: RecordFile | None) -> bool:
        """Whether it is followed."""
        if path in self._files:
            return True
        if path not in self._known:
            seen = signature(path)
            if seen is None or seen[_MTIME] < self._began_ns or not _is_text(path):
                return False
        self._files[path] = Followed(home, path, record)
        return True

    def _files_of(self, runner: Inhabitant, now: float, *, is_poked: bool) -> set[Path]:
        hot = self._hot.setdefault(runner.id, _Hot())
        size = (signature(runner.log) or (0, 0, 0))[_SIZE]
        if is_poked or size != hot.log_bytes:
            hot.log_bytes, hot.until = size, now + _HOT_SECONDS
        if now > hot.until:
            return set()
        if hot.session_id != runner.session_id or now - hot.listed_at >= _LIST_SECONDS or not hot.paths:
            hot.session_id, hot.listed_at = runner.session_id, now
            known = runner.session_id is not None
            hot.paths = self._list(runner.home, runner.session_id) if known else self._list_once(runner.home, now)
        return hot.paths

    def _list_once(self, home: Home, now: float) -> set[Path]:
        """All that is new in a home: many who do not know their conversation yet need one list."""
        if now - self._listed.get(home, float("-inf")) >= _LIST_SECONDS:
            self._listed[home] = now
            before = set(self._files)
            return self._list(home) - before
        return set()

    def _forget(self, living: Collection[str]) -> None:
        if len(self._hot) > len(living):
            for gone in self._hot.keys() - living:
                del self._hot[gone]

    def _is_due(self, file: Followed, now: float) -> bool:
        seen = _seen(file)
        if seen != file.seen:
            file.seen, file.changed_at = seen, now
            file.is_finishing = False
            self._lately.add(file.path)
            return True
        quiet = now - file.changed_at
        if quiet > _LATELY_SECONDS:
            self._lately.discard(file.path)
        file.is_finishing = file.has_rest and quiet >= _QUIET_SECONDS
        return file.is_finishing


def _records(home: Home, session_id: str | None) -> Iterator[tuple[Path, RecordFile | None]]:
    records = RECORDS[home.agent]
    if isinstance(records, RecordDatabase):
        yield records.path(home.path), None
    else:
        for record in records.list_files(home.path, session_id):
            yield record.path, record


def _seen(file: Followed) -> tuple[_Signature | None, ...]:
    """How the file looks; of a database also that into which SQLite writes first what changes."""
    if file.record is not None:
        return (signature(file.path),)
    return signature(file.path), signature(file.path.with_name(f"{file.path.name}-wal"))


def _is_text(path: Path) -> bool:
    """Whether its name can be stored."""
    try:
        str(path).encode()
    except UnicodeEncodeError:
        return False
    return True
