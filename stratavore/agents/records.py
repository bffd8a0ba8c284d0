"""What an agent's own files record, fact by fact, in the same words whatever agent wrote them.

Rule 1: the classes of tokens are disjoint: cached input is not input, reasoning is output.
Rule 2: a key names one call of the agent's API for ever: a repeat, a fork and a second reading bring the same key.
Rule 3: a line that is not understood says nothing; a line that is broken raises BadLine, and harms no other line.
Rule 4: what a line says must not depend on anything but the lines before it in the same file.
"""

from collections.abc import Iterable, Iterator, Sequence
from datetime import datetime
from pathlib import Path
from typing import Annotated, NamedTuple, Protocol, runtime_checkable

import msgspec

from stratavore.model import Activity

LARGEST_CALL = 10**9
"""Tokens of one class in one call; what claims more is a broken line."""

LONGEST_LINE = 16 * 1024 * 1024
"""Bytes of a line, or of a row; what is longer is passed over: the sums of its file are a lower bound from then on."""

Tokens = Annotated[int, msgspec.Meta(ge=0, le=LARGEST_CALL)]

WEAK = "weak:"
"""How a key begins that was made of the line itself, because the agent gave its call no id."""


class BadLine(ValueError):
    """A line that should say something and cannot be read."""


FAST = "[fast]"
"""Behind the name of a model whose provider was paid to be faster: the same model for another price."""


class Call(msgspec.Struct, frozen=True, kw_only=True):
    """One call of the model's API, with what it used. `cost_usd` is the agent's own figure, if it gives one.

    `request_id` is the provider's id of the request, by which two sources that tell of the same call are matched.
    """

    key: str
    session_id: str
    at: datetime
    model: str
    input_tokens: Tokens = 0
    output_tokens: Tokens = 0
    cache_write_5m_tokens: Tokens = 0
    cache_write_1h_tokens: Tokens = 0
    cache_read_tokens: Tokens = 0
    cost_usd: float | None = None
    request_id: str | None = None
    is_subagent: bool = False


class Note(msgspec.Struct, frozen=True, kw_only=True):
    """What else a line says of its conversation; None where it says nothing.

    `parent_id` is the conversation that it was forked from, `activity` what the agent does from this line on, with
    `said` in the agent's own words.
    """

    session_id: str
    at: datetime | None = None
    cwd: str | None = None
    title: str | None = None
    name: str | None = None
    """What a person called it, which goes before its title; or we, as we gave the agent the name of the runner."""
    is_message: bool = False
    """A message of a person or of the agent, to be counted."""
    parent_id: str | None = None
    activity: Activity | None = None
    said: str = ""


class Limit(msgspec.Struct, frozen=True, kw_only=True):
    """The provider refuses to go on before `resets_at` (None: it does not say when)."""

    session_id: str
    at: datetime
    resets_at: datetime | None
    said: str


class Window(msgspec.Struct, frozen=True, kw_only=True):
    """How much of an account's allowance is used: `name` is `5h` or `7d`."""

    at: datetime
    name: str
    used_percent: float
    resets_at: datetime | None


Fact = Call | Note | Limit | Window


class Turn(msgspec.Struct, frozen=True, kw_only=True):
    """One thing that was said in a conversation, for people.

    `role` is user, assistant, tool or system; `tool` names the tool that was called or that answers.
    """

    role: str
    at: datetime | None
    text: str
    tool: str | None = None


class RecordFile(NamedTuple):
    """A file in which an agent records, one line a record.

    `session_id` is None where only its lines tell it. A sub-agent's file belongs to its parent's conversation.
    """

    path: Path
    session_id: str | None
    is_subagent: bool = False


class LineReader(Protocol):
    """Reads one file line by line, in order."""

    def read(self, line: bytes, offset: int) -> Sequence[Fact]:
        """The facts of the line (without its end) that begins at `offset`; raises BadLine."""
        ...

    def turns(self, line: bytes) -> Iterable[Turn]:
        """What people read of the line; raises BadLine."""
        ...

    @property
    def memory(self) -> str:
        """What must be known of the lines before to read on from here; given to the next reader of the file."""
        ...


@runtime_checkable
class Records(Protocol):
    """How one agent records in files of lines. `home` is its account directory."""

    mark: str
    """What lies in its account directory, and in no other agent's: a pattern for `Path.glob`."""

    def list_files(self, home: Path, session_id: str | None = None) -> Iterator[RecordFile]:
        """All its files, or those of one conversation, sub-agents' included; in the order of their paths."""
        ...

    def reader(self, file: RecordFile, memory: str = "") -> LineReader:
        """A reader that goes on after the lines that `memory` stands for."""
        ...


class Polled(NamedTuple):
    """What a look into a database brought; `cursor` is where the next look begins."""

    facts: Sequence[Fact]
    cursor: str
    is_more: bool


@runtime_checkable
class RecordDatabase(Protocol):
    """How one agent records in a database of its own, which is only ever read. `home` is its account directory."""

    mark: str
    """What lies in its account directory, and in no other agent's: a pattern for `Path.glob`."""

    def path(self, home: Path) -> Path:
        """The database file."""
        ...

    def poll(self, home: Path, cursor: str, *, now: datetime, limit: int = 1000) -> Polled:
        """The facts after `cursor` (empty: from the beginning), at most so many; raises BadLine if it is unreadable.

        What claims to be later than `now` is read again each time: what is written after it must not be passed over.
        """
        ...

    def turns(self, home: Path, session_id: str) -> Iterator[Turn]:
        """The conversation, for people."""
        ...
