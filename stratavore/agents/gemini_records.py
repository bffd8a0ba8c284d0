"""What Gemini CLI records: `tmp/<project>/chats/session-<time>-<id's first eight>.jsonl`; the files of sub-agents stand
in `chats/<parent's id>/`.

Rule 1: a message is written again when more of it is known: a call is (session, id of the message).
Rule 2: `$set` repeats what was said: nothing but the id and the summary of the conversation is read from it.
Rule 3: cached input is a part of the input there; thoughts are not part of the output, tools not part of the input.
Rule 4: whether a turn is over stands nowhere: an answer that is followed by nothing may still run a tool.

Seen with 0.61.
"""

from collections import deque
from collections.abc import Iterable, Iterator, Sequence
from datetime import datetime
from pathlib import Path
from typing import Any

import msgspec

from stratavore.agents import decoding, listing
from stratavore.agents.decoding import Moment, Word, decode, tokens
from stratavore.agents.gemini_turns import said_in, turns_of
from stratavore.agents.limits import resets_at
from stratavore.agents.records import Call, Fact, Limit, LineReader, Note, RecordFile, Tokens, Turn
from stratavore.model import Activity

_REMEMBERED = 16
_NOT_SAID = ("<session_context>", "<hook_context>")
_QUOTA = ("quota", "RESOURCE_EXHAUSTED", "rate limit", "Rate limit")


_ABSENT = msgspec.Raw()


class _Used(msgspec.Struct):
    input: Tokens = 0
    output: Tokens = 0
    cached: Tokens | None = None
    thoughts: Tokens | None = None
    tool: Tokens | None = None


class _Set(msgspec.Struct):
    session_id: Word | None = msgspec.field(default=None, name="sessionId")
    summary: Any = None


class _Line(msgspec.Struct, rename="camel"):
    session_id: Word | None = None
    kind: str | None = None
    start_time: Moment | None = None
    id: Word | None = None
    type: str | None = None
    timestamp: Moment | None = None
    model: Word | None = None
    tokens: _Used | None = None
    tool_calls: msgspec.Raw = _ABSENT
    content: msgspec.Raw = msgspec.Raw()
    changed: _Set | None = msgspec.field(default=None, name="$set")


class _Memory(msgspec.Struct):
    session_id: str | None = None
    owner_id: str | None = None
    is_subagent: bool = False
    is_titled: bool = False
    seen: list[str] = []


_line = msgspec.json.Decoder(_Line)


class GeminiRecords:
    """`home` is `.gemini` in GEMINI_CLI_HOME, or in the user's home."""

    mark = "tmp/*/chats"

    def list_files(self, home: Path, session_id: str | None = None) -> Iterator[RecordFile]:
        if session_id is not None and not listing.is_name(session_id):
            return
        for project in listing.folders(home / "tmp"):
            chats = project / "chats"
            found = _all_of(chats) if session_id is None else _one_of(chats, session_id)
            yield from sorted(found, key=lambda file: file.path)

    def reader(self, file: RecordFile, memory: str = "") -> LineReader:
        return _Reader(file, memory)


class _Reader:
    """Reads one chat."""

    def __init__(self, file: RecordFile, memory: str) -> None:
        fresh = _Memory(owner_id=file.session_id, is_subagent=file.is_subagent)
        self._kept = msgspec.json.decode(memory, type=_Memory) if memory else fresh

    @property
    def memory(self) -> str:
        return msgspec.json.encode(self._kept).decode()

    def read(self, line: bytes, offset: int) -> Sequence[Fact]:
        return list(self._facts(line, offset))

    def _facts(self, line: bytes, offset: int) -> Iterable[Fact]:
        said = decode(_line, line)
        if said.changed is not None:
            return self._patch(said.changed)
        match said.type:
            case None:
                self._begin(said)
            case "gemini":
                return self._answer(said)
            case "user":
                return self._prompt(said)
            case "error" | "info" | "warning":
                return self._notice(said)
        return ()

    def turns(self, line: bytes) -> Iterable[Turn]:
        return turns_of(line)

    def _begin(self, said: _Line) -> None:
        """A header stands at the beginning, and again after each resume."""
        if said.session_id:
            self._kept.session_id = said.session_id
            self._kept.is_subagent = self._kept.is_subagent or said.kind == "subagent"
            if not self._kept.is_subagent:
                self._kept.owner_id = said.session_id

    def _patch(self, changed: _Set) -> Iterator[Fact]:
        if changed.session_id:
            self._begin(_Line(session_id=changed.session_id))
        title = decoding.title(changed.summary) if isinstance(changed.summary, str) else None
        if title and self._owner and not self._kept.is_subagent:
            self._kept.is_titled = True
            yield Note(session_id=self._owner, title=title)

    @property
    def _owner(self) -> str | None:
        """The conversation that what is said belongs to."""
        return self._kept.owner_id or self._kept.session_id

    def _answer(self, said: _Line) -> Iterator[Fact]:
        owner, at = self._owner, decoding.moment(said.timestamp)
        if not owner or not said.id:
            return
        if said.tokens is not None:
            yield from self._call(said, said.tokens, said.id, owner, at)
        if not self._kept.is_subagent:
            is_at_work = said.tool_calls is not _ABSENT
            yield Note(
                session_id=owner,
                at=at,
                is_message=self._is_new(said.id),
                activity=Activity.WORKING if is_at_work else Activity.UNKNOWN,
                said="tool result" if is_at_work else "answer",
            )

    def _call(self, said: _Line, used: _Used, message_id: str, owner: str, at: datetime) -> Iterator[Call]:
        cached = min(used.cached or 0, used.input)
        new = tokens(used.input - cached + (used.tool or 0))
        answered = tokens(used.output + (used.thoughts or 0))
        if new or answered or cached:
            yield Call(
                key=f"{self._kept.session_id or owner}/{message_id}",
                session_id=owner,
                at=at,
                model=said.model or "unknown",
                input_tokens=new,
                output_tokens=answered,
                cache_read_tokens=cached,
                is_subagent=self._kept.is_subagent,
            )

    def _prompt(self, said: _Line) -> Iterator[Fact]:
        """What a tool answered is told as the user's, too."""
        owner = self._owner
        if not owner or self._kept.is_subagent:
            return
        at = decoding.moment(said.timestamp)
        text = said_in(said.content)
        if text.startswith(_NOT_SAID):
            return
        title = None if self._kept.is_titled else decoding.title(text)
        self._kept.is_titled = self._kept.is_titled or title is not None
        yield Note(
            session_id=owner,
            at=at,
            title=title,
            is_message=bool(text) and (said.id is None or self._is_new(said.id)),
            activity=Activity.WORKING,
            said="prompt" if text else "tool result",
        )

    def _notice(self, said: _Line) -> Iterator[Fact]:
        owner = self._owner
        if not owner or self._kept.is_subagent or said.type != "error":
            return
        at, text = decoding.moment(said.timestamp), said_in(said.content)
        yield Note(session_id=owner, at=at, activity=Activity.WAITING_INPUT, said=decoding.title(text) or "error")
        if any(word in text for word in _QUOTA):
            yield Limit(session_id=owner, at=at, resets_at=resets_at(text, at), said=decoding.title(text) or "quota")

    def _is_new(self, message_id: str) -> bool:
        if message_id in self._kept.seen:
            return False
        self._kept.seen = [*deque(self._kept.seen, _REMEMBERED - 1), message_id]
        return True


def _all_of(chats: Path) -> Iterator[RecordFile]:
    for name in listing.names(chats, ".jsonl"):
        yield RecordFile(chats / name, None)
    for parent in listing.folders(chats):
        yield from _subagents(parent)


def _one_of(chats: Path, session_id: str) -> Iterator[RecordFile]:
    """Its name holds only the beginning of the id; who else begins so says it in the first line."""
    for name in listing.names(chats, f"-{session_id[:8]}.jsonl"):
        yield RecordFile(chats / name, None)
    yield from _subagents(chats / session_id)


def _subagents(parent: Path) -> Iterator[RecordFile]:
    for name in listing.names(parent, ".jsonl"):
        yield RecordFile(parent / name, parent.name, is_subagent=True)
