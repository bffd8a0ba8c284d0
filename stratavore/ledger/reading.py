"""One turn at one file: what its next lines say.

Rule 1: a line that is broken, or over which a reader stumbles, is counted, told once a file, and harms no other.
Rule 2: nothing is kept here: the piece that comes out holds where it began and where it ends.
"""

import logging
from collections.abc import Sequence
from datetime import datetime
from typing import NamedTuple

from stratavore.agents import RECORDS
from stratavore.agents.records import (
    BadLine,
    Call,
    Fact,
    Limit,
    LineReader,
    Note,
    RecordDatabase,
    RecordFile,
    Records,
    Window,
)
from stratavore.foreign import Refused
from stratavore.ledger.tail import TURN_BYTES, Slice, Tails
from stratavore.ledger.watching import Followed
from stratavore.store.tails import Tail

log = logging.getLogger(__name__)


class Piece(NamedTuple):
    """What one turn brought: from `was` to `now`, if it is anything."""

    file: Followed
    was: Tail
    now: Tail
    calls: Sequence[Call] = ()
    notes: Sequence[Note | Limit] = ()
    windows: Sequence[Window] = ()
    bytes: int = 0
    is_more: bool = False
    is_gone: bool = False
    is_anew: bool = False
    """Another file stands there now: it is read from its beginning."""

    @property
    def is_nothing(self) -> bool:
        """Neither did it say anything, nor is there a step to remember."""
        return self.now.step == self.was.step and self.now.is_skipping == self.was.is_skipping


def read(tails: Tails, file: Followed, was: Tail, *, now: datetime) -> Piece:
    """The next lines of a file, or the next rows of a database, of which none counts as later than `now`."""
    records = RECORDS[file.home.agent]
    if file.record is None:
        assert isinstance(records, RecordDatabase)
        return _poll(records, file, was, now)
    assert not isinstance(records, RecordDatabase)
    try:
        found = tails.read(file.home.path, was, limit=TURN_BYTES, finish=file.is_finishing)
    except FileNotFoundError:
        return Piece(file, was, was, is_gone=True)
    except (Refused, OSError) as refusal:  # it stays followed: else it would be found, and refused, again and again
        _tell(file, "a file of an agent is not read", refusal)
        return Piece(file, was, was)
    is_at_end = found.tail.size_seen <= found.tail.offset
    file.has_rest = not (found.is_more or is_at_end or found.tail.is_skipping)
    return _parsed(records, file, file.record, was, found)


def _parsed(records: Records, file: Followed, record: RecordFile, was: Tail, found: Slice) -> Piece:
    reader = _reader(records, file, record, found.tail.memory)
    facts: list[Fact] = []
    bad_lines = 0
    for offset, line in found.lines:
        try:
            facts += reader.read(line, offset)
        except BadLine as problem:
            bad_lines += 1
            _tell(file, "a line of an agent's file is broken", problem)
        except Exception as bug:
            bad_lines += 1
            _tell_bug(file, "a line of an agent's file was not understood", bug)
    now = found.tail._replace(
        session_id=record.session_id or was.session_id,
        bad_lines=found.tail.bad_lines + bad_lines,
        memory=reader.memory,
    )
    size = sum(len(line) for _, line in found.lines) or max(0, now.offset - was.offset)
    piece = _sorted(file, was, now, facts)
    return piece._replace(bytes=size, is_more=found.is_more, is_gone=found.is_gone, is_anew=found.is_anew)


def _reader(records: Records, file: Followed, record: RecordFile, memory: str) -> LineReader:
    """A reader that goes on; without what it should remember, if another version wrote that down."""
    try:
        return records.reader(record, memory)
    except Exception as bug:
        _tell_bug(file, "what was remembered of an agent's file was not understood", bug)
        return records.reader(record, "")


def _poll(records: RecordDatabase, file: Followed, was: Tail, now: datetime) -> Piece:
    try:
        found = records.poll(file.home.path, was.cursor, now=now)
    except BadLine as problem:
        _tell(file, "a database of an agent is not understood", problem)
        return Piece(file, was, was)
    except Exception as bug:
        _tell_bug(file, "a database of an agent was not understood", bug)
        return Piece(file, was, was)
    return _sorted(file, was, was._replace(cursor=found.cursor), found.facts)._replace(is_more=found.is_more)


def _sorted(file: Followed, was: Tail, now: Tail, facts: Sequence[Fact]) -> Piece:
    calls: list[Call] = []
    notes: list[Note | Limit] = []
    windows: list[Window] = []
    for fact in facts:
        match fact:
            case Call():
                calls.append(fact)
            case Window():
                windows.append(fact)
            case _:
                notes.append(fact)
    return Piece(file, was, now, calls, notes, windows)


def _tell_bug(file: Followed, what: str, bug: Exception) -> None:
    """Once a file."""
    if not file.is_told:
        log.error(what, extra={"path": str(file.path), "agent": file.home.agent}, exc_info=bug)
    file.is_told = True


def _tell(file: Followed, what: str, problem: Exception) -> None:
    """Once a file."""
    if not file.is_told:
        log.warning(what, extra={"path": str(file.path), "agent": file.home.agent, "why": str(problem)})
    file.is_told = True
