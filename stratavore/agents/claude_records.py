"""What Claude Code records: `projects/<directory>/<session>.jsonl`, and below `<session>/` the files of its sub-agents.

Rule 1: there is one line per block of an answer, each with the usage of the whole: a call is its `message.id`.
Rule 2: `toolUseResult` repeats what a sub-agent used, and `cost-state` adds up: neither is a call. A `cost-state` is
written at `/clear` and at a clean end, never at a kill; a fork's begins with its parent's sum, and nothing marks it.
Rule 3: a fork copies lines under its own `sessionId`. Where a line says `forkedFrom` it is
believed; else nothing marks it.

Seen with 2.1.197 and 2.1.330.
"""

import hashlib
import os
from collections.abc import Iterable, Iterator, Sequence
from datetime import datetime
from pathlib import Path
from typing import Any

import msgspec

from stratavore.agents import decoding, listing
from stratavore.agents.claude_turns import ClaudeTurns
from stratavore.agents.decoding import Moment, Word, decode
from stratavore.agents.limits import resets_at
from stratavore.agents.records import FAST, WEAK, Call, Fact, Limit, LineReader, Note, RecordFile, Tokens, Turn
from stratavore.model import Activity

_SYNTHETIC = "<synthetic>"
_INTERRUPTED = "[Request interrupted"
_NOT_SAID = ("<command-name>", "<local-command-", "<bash-", "<task-notification", "<tick>", _INTERRUPTED)
"""How user lines begin that no person said to the model."""

_TITLES = ("summary", "ai-title")
"""Lines that tell what a conversation is about; the later word of this list outranks the earlier one, and both the
first prompt."""
_NAMES = ("custom-title", "agent-name")
"""Lines that name it: both are written for `/rename`, and for the `--name` that it is started with."""

_REMEMBERED = 16
"""Answers whose blocks may still follow: blocks of one answer stand close together."""


_ABSENT = msgspec.Raw()


class _Creation(msgspec.Struct):
    ephemeral_5m_input_tokens: Tokens | None = None
    ephemeral_1h_input_tokens: Tokens | None = None


class _Usage(msgspec.Struct):
    input_tokens: Tokens | None = None
    output_tokens: Tokens | None = None
    cache_creation_input_tokens: Tokens | None = None
    cache_read_input_tokens: Tokens | None = None
    cache_creation: _Creation | None = None
    speed: str | None = None


class _Message(msgspec.Struct):
    id: Word | None = None
    model: Word | None = None
    stop_reason: str | None = None
    usage: _Usage | None = None
    content: msgspec.Raw = msgspec.Raw()


class _Origin(msgspec.Struct):
    session_id: Word | None = msgspec.field(default=None, name="sessionId")


class _Line(msgspec.Struct, rename="camel"):
    type: str | None = None
    subtype: str | None = None
    session_id: Word | None = None
    timestamp: Moment | None = None
    request_id: Word | None = None
    message: _Message | None = None
    cwd: str | None = None
    is_sidechain: bool | None = None
    is_meta: bool | None = None
    is_compact_summary: bool | None = None
    is_api_error_message: bool | None = None
    api_error_status: int | None = None
    error: Any = None
    forked_from: _Origin | None = None
    tool_use_result: msgspec.Raw = _ABSENT
    custom_title: str | None = None
    agent_name: str | None = None
    ai_title: str | None = None
    summary: str | None = None


class _Memory(msgspec.Struct):
    """`rank` is that of the title that was told: 1 is the first prompt, more those of _TITLES."""

    seen: list[str] = []
    rank: int = 0
    parent: str | None = None


class _Block(msgspec.Struct):
    type: str | None = None
    text: str | None = None


_line = msgspec.json.Decoder(_Line)
_blocks = msgspec.json.Decoder(str | list[_Block | str] | None)


class ClaudeRecords:
    """`home` is CLAUDE_CONFIG_DIR, or `~/.claude`."""

    mark = "projects"

    def list_files(self, home: Path, session_id: str | None = None) -> Iterator[RecordFile]:
        if session_id is not None and not listing.is_name(session_id):
            return
        for folder in listing.folders(home / "projects"):
            found = _all_of(folder) if session_id is None else _one_of(folder, session_id)
            yield from sorted(found, key=lambda file: file.path)

    def reader(self, file: RecordFile, memory: str = "") -> LineReader:
        return _Reader(file, memory)


class _Reader:
    """Reads one transcript."""

    def __init__(self, file: RecordFile, memory: str) -> None:
        self._file = file
        self._turns = ClaudeTurns()
        self._kept = msgspec.json.decode(memory, type=_Memory) if memory else _Memory()

    @property
    def memory(self) -> str:
        return msgspec.json.encode(self._kept).decode()

    def read(self, line: bytes, offset: int) -> Sequence[Fact]:
        return list(self._facts(line, offset))

    def _facts(self, line: bytes, offset: int) -> Iterable[Fact]:
        said = decode(_line, line)
        match said.type:
            case "assistant":
                return self._assistant(said, line, offset)
            case "user":
                return self._user(said)
            case "system":
                return self._system(said)
            case str(kind) if kind in _TITLES:
                return self._title(said, kind)
            case str(kind) if kind in _NAMES:
                return self._name(said)
        return ()

    def turns(self, line: bytes) -> Iterable[Turn]:
        return self._turns.read(line)

    def _assistant(self, said: _Line, line: bytes, offset: int) -> Iterator[Fact]:
        message = said.message
        session_id = said.session_id or self._file.session_id
        if message is None or not session_id:
            return
        at = decoding.moment(said.timestamp)
        if said.is_api_error_message or message.model == _SYNTHETIC:
            yield from self._failed(said, session_id, at)
            return
        if call := self._call(said, message, session_id, at, line, offset):
            yield call
        if not self._is_subagent(said):
            yield self._answer(said, message, session_id, at)

    def _call(
        self, said: _Line, message: _Message, session_id: str, at: datetime, line: bytes, offset: int
    ) -> Call | None:
        usage = message.usage
        if usage is None:
            return None
        written = usage.cache_creation_input_tokens or 0
        classes = usage.cache_creation or _Creation()
        written_1h = classes.ephemeral_1h_input_tokens or 0
        written_5m = max(classes.ephemeral_5m_input_tokens or 0, written - written_1h)
        new, answered, read = usage.input_tokens or 0, usage.output_tokens or 0, usage.cache_read_input_tokens or 0
        if not (new or answered or read or written_1h or written_5m):
            return None
        return Call(
            key=message.id or said.request_id or _weak_key(session_id, offset, line),
            session_id=session_id,
            at=at,
            model=f"{message.model or 'unknown'}{FAST if usage.speed == 'fast' else ''}",
            input_tokens=new,
            output_tokens=answered,
            cache_write_5m_tokens=written_5m,
            cache_write_1h_tokens=written_1h,
            cache_read_tokens=read,
            request_id=said.request_id,
            is_subagent=self._is_subagent(said),
        )

    def _answer(self, said: _Line, message: _Message, session_id: str, at: datetime) -> Note:
        is_over = message.stop_reason in ("end_turn", "stop_sequence", "max_tokens", "refusal")
        return Note(
            session_id=session_id,
            at=at,
            cwd=decoding.path(said.cwd),
            is_message=self._is_new(message.id),
            parent_id=self._parent(said),
            activity=Activity.IDLE if is_over else Activity.WORKING,
            said=decoding.title(message.stop_reason) or "",
        )

    def _failed(self, said: _Line, session_id: str, at: datetime) -> Iterator[Fact]:
        if self._is_subagent(said):
            return
        text = _text(said.message)
        activity = Activity.WAITING_INPUT if said.is_api_error_message else Activity.IDLE
        yield Note(session_id=session_id, at=at, activity=activity, said=decoding.title(text) or "")
        is_limit = said.error == "rate_limit" or said.api_error_status == 429 or "limit reached" in text
        if said.is_api_error_message and is_limit:
            yield Limit(
                session_id=session_id, at=at, resets_at=resets_at(text, at), said=decoding.title(text) or "rate limit"
            )

    def _user(self, said: _Line) -> Iterator[Fact]:
        session_id = said.session_id or self._file.session_id
        if said.message is None or not session_id or said.timestamp is None or self._is_subagent(said):
            return
        if said.is_meta or said.is_compact_summary:
            return
        at = decoding.moment(said.timestamp)
        prompt = "" if said.tool_use_result is not _ABSENT else _text(said.message)
        if prompt.startswith(_INTERRUPTED):
            yield Note(session_id=session_id, at=at, activity=Activity.IDLE, said="interrupted")
        elif not prompt.startswith(_NOT_SAID):
            title = decoding.title(prompt) if self._kept.rank == 0 else None
            self._kept.rank = 1 if title else self._kept.rank
            yield Note(
                session_id=session_id,
                at=at,
                cwd=decoding.path(said.cwd),
                title=title,
                is_message=bool(prompt),
                parent_id=self._parent(said),
                activity=Activity.WORKING,
                said="prompt" if prompt else "tool result",
            )

    def _system(self, said: _Line) -> Iterator[Fact]:
        session_id = said.session_id or self._file.session_id
        if said.subtype == "turn_duration" and session_id and not self._is_subagent(said):
            at = decoding.moment(said.timestamp)
            yield Note(session_id=session_id, at=at, activity=Activity.IDLE, said="turn_duration")

    def _title(self, said: _Line, kind: str) -> Iterator[Fact]:
        """A summary at the head of a file is that of the conversation before."""
        rank = 2 + _TITLES.index(kind)
        title = decoding.title(said.ai_title if kind == "ai-title" else said.summary)
        session_id = said.session_id or self._file.session_id
        is_others = kind == "summary" and not self._kept.seen
        if title is None or not session_id or rank < self._kept.rank or is_others or self._file.is_subagent:
            return
        self._kept.rank = rank
        yield Note(session_id=session_id, title=title)

    def _name(self, said: _Line) -> Iterator[Fact]:
        name = decoding.title(said.custom_title or said.agent_name)
        session_id = said.session_id or self._file.session_id
        if name is not None and session_id and not self._file.is_subagent:
            yield Note(session_id=session_id, name=name)

    def _is_subagent(self, said: _Line) -> bool:
        return self._file.is_subagent or bool(said.is_sidechain)

    def _is_new(self, message_id: str | None) -> bool:
        """Whether this is the first block of an answer."""
        seen = self._kept.seen
        if message_id is None or message_id in seen:
            return message_id is None
        seen.append(message_id)
        del seen[:-_REMEMBERED]
        return True

    def _parent(self, said: _Line) -> str | None:
        """Told once; the lines that were copied say it each."""
        parent = said.forked_from.session_id if said.forked_from else None
        if parent is None or parent == self._kept.parent:
            return None
        self._kept.parent = parent
        return parent


def _weak_key(session_id: str, offset: int, line: bytes) -> str:
    return WEAK + hashlib.sha256(f"{session_id} {offset} ".encode(errors="replace") + line).hexdigest()


def _text(message: _Message | None) -> str:
    """What stands in the text blocks of a message."""
    if message is None or not bytes(message.content):
        return ""
    content = decode(_blocks, message.content)
    if content is None or isinstance(content, str):
        return content or ""
    return "\n".join(
        block if isinstance(block, str) else block.text or ""
        for block in content
        if isinstance(block, str) or block.type == "text"
    )


def _all_of(folder: Path) -> Iterator[RecordFile]:
    """The transcripts of one working directory."""
    for name in listing.names(folder, ".jsonl"):
        # Older versions put the files of sub-agents here; their lines say whose they are.
        is_subagent = name.startswith("agent-")
        yield RecordFile(folder / name, None if is_subagent else name.removesuffix(".jsonl"), is_subagent)
    for conversation in listing.folders(folder):
        yield from _subagents(conversation)


def _one_of(folder: Path, session_id: str) -> Iterator[RecordFile]:
    """The transcripts of one conversation, if it is of this working directory."""
    if os.path.lexists(main := folder / f"{session_id}.jsonl"):
        yield RecordFile(main, session_id)
    yield from _subagents(folder / session_id)


def _subagents(conversation: Path) -> Iterator[RecordFile]:
    for path in listing.files_below(conversation / "subagents", ".jsonl"):
        yield RecordFile(path, conversation.name, is_subagent=True)
