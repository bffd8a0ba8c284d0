"""What the readers say of everything that an agent left in its account directory."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import TypeVar

import msgspec

from stratavore.agents import RECORDS
from stratavore.agents.records import BadLine, Call, Fact, Limit, Note, RecordDatabase, RecordFile, Turn, Window
from tests.standins.answers import Bill

F = TypeVar("F", Call, Note, Limit, Window)

Classes = tuple[int, int, int, int, int]


def classes(call: Call) -> Classes:
    """The tokens of a call, class by class, in the order of a stand-in's `Usage`."""
    writes = call.cache_write_5m_tokens, call.cache_write_1h_tokens
    return call.input_tokens, call.output_tokens, *writes, call.cache_read_tokens


@dataclass
class Told:
    """All facts, and all lines that could not be read."""

    facts: list[Fact] = field(default_factory=list)
    bad: list[str] = field(default_factory=list)

    @property
    def calls(self) -> Mapping[str, Classes]:
        """By their keys: of what was told repeatedly, the maximum of each class."""
        found: dict[str, Classes] = {}
        for call in self.of(Call):
            before = found.get(call.key, (0, 0, 0, 0, 0))
            a, b, c, d, e = (max(pair) for pair in zip(before, classes(call), strict=True))
            found[call.key] = (a, b, c, d, e)
        return found

    def of(self, kind: type[F]) -> list[F]:
        return [fact for fact in self.facts if isinstance(fact, kind)]

    @property
    def notes(self) -> list[Note]:
        return self.of(Note)

    @property
    def limits(self) -> list[Limit]:
        return self.of(Limit)

    @property
    def windows(self) -> list[Window]:
        return self.of(Window)

    def messages(self, session_id: str) -> int:
        """How many messages of people and of the agent a conversation has."""
        return sum(note.is_message for note in self.notes if note.session_id == session_id)

    def title(self, session_id: str) -> str | None:
        titles = [note.title for note in self.notes if note.session_id == session_id and note.title]
        return titles[-1] if titles else None

    def name(self, session_id: str) -> str | None:
        names = [note.name for note in self.notes if note.session_id == session_id and note.name]
        return names[-1] if names else None

    def missing(self, billed: Sequence[Bill]) -> list[Bill]:
        """What was billed, and is no call."""
        left = list(self.calls.values())
        for bill in billed:
            if bill.usage[:5] in left:
                left.remove(bill.usage[:5])
        return [bill for bill in billed if bill.usage[:5] not in self.calls.values()]

    def invented(self, billed: Sequence[Bill]) -> dict[str, Classes]:
        """What is a call, and was not billed."""
        usages = [bill.usage[:5] for bill in billed]
        return {key: used for key, used in self.calls.items() if used not in usages}


def tell(kind: str, home: Path) -> Told:
    """Read everything from the beginning."""
    records = RECORDS[kind]
    told = Told()
    if isinstance(records, RecordDatabase):
        cursor, is_more = "", True
        while is_more:
            found = records.poll(home, cursor, now=datetime.now(UTC), limit=3)
            told.facts += found.facts
            cursor, is_more = found.cursor, found.is_more
        return told
    for file in records.list_files(home):
        read_into(told, kind, file, file.path.read_bytes())
    return told


def read_into(told: Told, kind: str, file: RecordFile, content: bytes) -> None:
    """Read one file, by a new reader for each line, as if the daemon had been killed in between."""
    records = RECORDS[kind]
    assert not isinstance(records, RecordDatabase)
    memory, offset = "", 0
    for line in content.split(b"\n")[:-1]:
        reader = records.reader(file, memory)
        try:
            told.facts += reader.read(line, offset)
        except BadLine as error:
            told.bad.append(f"{error}: {line[:200]!r}")
        memory = reader.memory
        offset += len(line) + 1


def of_lines(kind: str, *lines: object, file: RecordFile | None = None) -> Told:
    """What the reader says of one file with these lines, given as objects or as bytes."""
    texts = [line if isinstance(line, bytes) else msgspec.json.encode(line) for line in lines]
    told = Told()
    read_into(told, kind, file or RecordFile(Path("session.jsonl"), None), b"".join(text + b"\n" for text in texts))
    return told


def turns(kind: str, home: Path, session_id: str) -> Iterator[Turn]:
    """A conversation, for people."""
    records = RECORDS[kind]
    if isinstance(records, RecordDatabase):
        yield from records.turns(home, session_id)
        return
    for file in records.list_files(home, session_id):
        if not file.is_subagent:
            reader = records.reader(file)
            for line in file.path.read_bytes().split(b"\n")[:-1]:
                yield from reader.turns(line)
