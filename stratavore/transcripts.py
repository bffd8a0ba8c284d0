"""What was said in a conversation, for people: part by part, from the file that holds it.

Rule 1: a part is small, however large the whole is; a line that cannot be read is passed over, and says so.
Rule 2: where the file goes on is a number that the asker gives back: nothing is kept here between two parts.
"""

from collections.abc import Iterator
from itertools import islice
from pathlib import Path
from typing import IO

from stratavore import archive, foreign
from stratavore.agents import RECORDS
from stratavore.agents.records import LONGEST_LINE, BadLine, LineReader, RecordDatabase, RecordFile, Records, Turn
from stratavore.errors import NotFound
from stratavore.model import Transcript, TranscriptTurn
from stratavore.resumable import transcript_of
from stratavore.store.session_views import SessionRow

_PART_TURNS = 500
_PART_BYTES = 512 * 1024
_COPY_TURNS, _COPY_BYTES = 20_000, 8 * 1024 * 1024
"""Of a copy, which is unpacked and checked again for each part."""
_LONGEST_TEXT = 64 * 1024
"""Of one turn; the rest is left out, which is said."""


def read(row: SessionRow, after: str) -> Transcript:
    """The part of the conversation after that place.

    Raises:
        NotFound: there is nothing of it, or it cannot be read.
    """
    transcript, start = transcript_of(row), int(after or 0)
    if transcript is None:
        return _read_copy(row, start)
    records = RECORDS[row.agent]
    if isinstance(records, RecordDatabase):
        turns = islice(records.turns(Path(row.home), row.id), start, start + _PART_TURNS)
        found = [_public(turn) for turn in turns]
        return Transcript(turns=found, next=str(start + len(found)) if len(found) == _PART_TURNS else None)
    try:
        fd = foreign.open_below(Path(row.home), transcript)
    except (OSError, foreign.Refused) as problem:
        raise NotFound(f"the transcript cannot be read: {problem}", remedy="look at its file") from None
    with open(fd, "rb") as file:
        return read_lines(records, RecordFile(transcript, row.id), file, start)


def _read_copy(row: SessionRow, start: int) -> Transcript:
    if row.archive_path is None or row.archive_sha256 is None:
        raise NotFound(f"session {row.id} has no transcript: nothing was said in it, or its agent removed it")
    records, path = RECORDS[row.agent], Path(row.archive_path)
    with archive.opened_transcript(path, row.archive_sha256, row.id) as file:
        if not isinstance(records, RecordDatabase):
            return read_lines(records, RecordFile(path, row.id), file, start, turns=_COPY_TURNS, size=_COPY_BYTES)
    raise NotFound(
        f"the copy of session {row.id} is in {row.agent}'s own form",
        remedy=f"`stratavore sessions export {row.id}` shows it, `stratavore resume {row.id}` puts it back",
    )


def read_lines(
    records: Records,
    which: RecordFile,
    file: IO[bytes],
    start: int,
    *,
    turns: int = _PART_TURNS,
    size: int = _PART_BYTES,
) -> Transcript:
    """The part of a file of lines that begins at the byte `start`: so many turns, or so many bytes of lines."""
    file.seek(start)
    reader, found = records.reader(which), list[TranscriptTurn]()
    for line, at in _lines(file, start):
        found += _turns(reader, line)
        if len(found) >= turns or at - start >= size:
            return Transcript(turns=found, next=str(at))
    return Transcript(turns=found, next=None)


def _lines(file: IO[bytes], start: int) -> Iterator[tuple[bytes, int]]:
    """The whole lines from here on, without their ends, each with the place behind it."""
    at = start
    while line := file.readline(LONGEST_LINE):
        at += len(line)
        while line and not line.endswith(b"\n") and len(line) == LONGEST_LINE:  # too long: passed over
            rest = file.readline(LONGEST_LINE)
            at += len(rest)
            line = b"\n" if not rest or rest.endswith(b"\n") else rest
        yield line.rstrip(b"\n"), at


def _turns(reader: LineReader, line: bytes) -> list[TranscriptTurn]:
    if not line.strip():
        return []
    try:
        return [_public(turn) for turn in reader.turns(line)]
    except BadLine:
        return [TranscriptTurn(role="system", at=None, text="(a line that cannot be read)", tool=None)]


def _public(turn: Turn) -> TranscriptTurn:
    text = turn.text
    if len(text) > _LONGEST_TEXT:
        text = f"{text[:_LONGEST_TEXT]}\n(… {len(turn.text) - _LONGEST_TEXT} characters more)"
    return TranscriptTurn(role=turn.role, at=turn.at, text=text, tool=turn.tool)
