"""What Codex records: `sessions/YYYY/MM/DD/rollout-<time>-<thread>.jsonl`, later perhaps in `archived_sessions/`.

Rule 1: a call is a `token_usage_record`, by its `response_id`. Older versions wrote only `token_count`, which newer
ones write beside it: it counts only as long as the file has no record.
Rule 2: `token_count` is told again when only the rate limits changed, and forks of older versions began with a copy of
their parent's: what does not change the totals, and what stands in the first second of a fork, is no call.
Rule 3: cached input is a part of the input there, and reasoning a part of the output.

Seen with 0.169; older forms as ccusage reads them.
"""

import re
from collections.abc import Iterable, Iterator, Sequence
from datetime import datetime, timedelta
from pathlib import Path
from typing import Annotated, Any

import msgspec

from stratavore.agents import decoding, listing
from stratavore.agents.codex_turns import CodexTurns
from stratavore.agents.decoding import Moment, Word, decode
from stratavore.agents.records import BadLine, Call, Fact, Limit, LineReader, Note, RecordFile, Tokens, Turn, Window
from stratavore.foreign import head_of
from stratavore.model import Activity

_NAME = re.compile(r"rollout-.*-([0-9a-f]{8}(?:-[0-9a-f]{4}){3}-[0-9a-f]{12})\.jsonl")
_COPYING = timedelta(seconds=1)
_WINDOWS = {"5h": range(295, 306), "7d": range(10075, 10086)}
"""Minutes of a window; versions differ by one."""

_LONGEST_HEADER = 256 * 1024
_NO_TURN = ("thread_rollback_failed", "active_turn_not_steerable")
"""Errors of something else than a turn."""


class _Usage(msgspec.Struct):
    input_tokens: Tokens = 0
    cached_input_tokens: Tokens | None = None
    cache_write_input_tokens: Tokens | None = None
    output_tokens: Tokens = 0


_Sum = Annotated[int, msgspec.Meta(ge=0, le=2**53)]


class _Total(msgspec.Struct):
    """Of a whole conversation: it may be more than a call can use."""

    input_tokens: _Sum = 0
    cached_input_tokens: _Sum | None = None
    cache_write_input_tokens: _Sum | None = None
    output_tokens: _Sum = 0


class _Info(msgspec.Struct):
    total_token_usage: _Total | None = None
    last_token_usage: _Usage | None = None


class _Window(msgspec.Struct):
    used_percent: float | None = None
    window_minutes: int | None = None
    resets_at: float | None = None
    resets_in_seconds: float | None = None


class _RateLimits(msgspec.Struct):
    primary: _Window | None = None
    secondary: _Window | None = None


class _Item(msgspec.Struct):
    type: str | None = None


class _Meta(msgspec.Struct):
    id: Word | None = None
    session_id: Word | None = None
    cwd: str | None = None
    source: Any = None
    forked_from_id: Word | None = None
    parent_thread_id: Word | None = None


class _Context(msgspec.Struct):
    model: Word | None = None
    cwd: str | None = None


class _Record(msgspec.Struct):
    response_id: Word | None = None
    usage: _Usage | None = None


class _Failure(msgspec.Struct):
    message: str | None = None
    codex_error_info: Any = None


class _Event(msgspec.Struct):
    type: str | None = None
    info: _Info | None = None
    rate_limits: _RateLimits | None = None
    item: _Item | None = None
    message: Any = None
    thread_name: str | None = None
    error: _Failure | None = None
    codex_error_info: Any = None
    reason: Any = None


class _Line(msgspec.Struct):
    type: str | None = None
    timestamp: Moment | None = None
    payload: msgspec.Raw = msgspec.Raw()


class _Memory(msgspec.Struct):
    session_id: str | None = None
    model: str = "unknown"
    began: datetime | None = None
    is_copying: bool = False
    is_subagent: bool = False
    has_records: bool = False
    totals: tuple[int, int, int, int] = (0, 0, 0, 0)
    resets_at: datetime | None = None
    is_titled: bool = False
    failure: str | None = None
    """The error of the present turn."""


class _Header(msgspec.Struct):
    payload: _Meta | None = None


_line = msgspec.json.Decoder(_Line)
_meta = msgspec.json.Decoder(_Meta)
_context = msgspec.json.Decoder(_Context)
_record = msgspec.json.Decoder(_Record)
_event = msgspec.json.Decoder(_Event)
_header = msgspec.json.Decoder(_Header)


class CodexRecords:
    """`home` is CODEX_HOME, or `~/.codex`."""

    mark = "sessions/[0-9][0-9][0-9][0-9]"

    def __init__(self) -> None:
        self._parents: dict[Path, str | None] = {}

    def list_files(self, home: Path, session_id: str | None = None) -> Iterator[RecordFile]:
        """The rollout of a sub-agent names its parent in its first line, so that is read where one is asked for."""
        began = False
        for path in _rollouts(home):
            found = _NAME.fullmatch(path.name)
            thread = found[1] if found else None
            began = began or thread == session_id
            if session_id in (None, thread):
                yield RecordFile(path, thread)
            elif began and self._parent(home, path) == session_id:
                yield RecordFile(path, session_id, is_subagent=True)

    def reader(self, file: RecordFile, memory: str = "") -> LineReader:
        return _Reader(file, memory)

    def _parent(self, home: Path, path: Path) -> str | None:
        """The conversation whose sub-agent wrote a rollout; None if that was a person's. It never changes."""
        if path not in self._parents:
            header = head_of(home, path, _LONGEST_HEADER).partition(b"\n")
            if not header[1]:
                return None
            self._parents[path] = _parent_in(header[0])
        return self._parents[path]


class _Reader:
    """Reads one rollout."""

    def __init__(self, file: RecordFile, memory: str) -> None:
        self._kept = msgspec.json.decode(memory, type=_Memory) if memory else _Memory(session_id=file.session_id)
        self._is_subagent = file.is_subagent
        self._turns = CodexTurns()

    @property
    def memory(self) -> str:
        return msgspec.json.encode(self._kept).decode()

    def read(self, line: bytes, offset: int) -> Sequence[Fact]:
        return list(self._facts(line, offset))

    def _facts(self, line: bytes, offset: int) -> Iterable[Fact]:
        said = decode(_line, line)
        match said.type:
            case "session_meta":
                return self._begin(said)
            case "turn_context":
                self._kept.model = decode(_context, said.payload).model or self._kept.model
            case "token_usage_record":
                return self._record(said)
            case "event_msg":
                return self._event(said)
        return ()

    def turns(self, line: bytes) -> Iterable[Turn]:
        return self._turns.read(line)

    def _begin(self, said: _Line) -> Iterator[Fact]:
        """The first one is the file's own; those after it were copied."""
        if self._kept.began is not None:
            return
        meta, at = decode(_meta, said.payload), decoding.moment(said.timestamp)
        parent = _spawned_by(meta)
        self._kept.began = at
        self._kept.is_subagent = parent is not None
        self._kept.is_copying = parent is not None or meta.forked_from_id is not None
        self._kept.session_id = parent or meta.id or self._kept.session_id
        if parent is None and self._kept.session_id:
            cwd = decoding.path(meta.cwd)
            yield Note(session_id=self._kept.session_id, at=at, cwd=cwd, parent_id=meta.forked_from_id)

    def _record(self, said: _Line) -> Iterator[Fact]:
        record = decode(_record, said.payload)
        if record.response_id and record.usage:
            self._kept.has_records = True
            yield from self._call(record.response_id, decoding.moment(said.timestamp), record.usage)

    def _event(self, said: _Line) -> Iterator[Fact]:
        event = decode(_event, said.payload)
        match event.type:
            case "token_count":
                yield from self._count(event, decoding.moment(said.timestamp))
            case "task_started" | "turn_started":
                self._kept.failure = None
                yield from self._note(said, activity=Activity.WORKING, said=event.type)
            case "task_complete" | "turn_complete" | "turn_aborted":
                yield from self._end(said, event)
            case "error":
                message = event.message if isinstance(event.message, str) else None
                yield from self._fail(said, _Failure(message, event.codex_error_info))
            case "user_message":
                yield from self._prompt(said, event.message)
            case "agent_message":
                yield from self._note(said, is_message=True)
            case "item_completed" if event.item and event.item.type == "UserMessage":
                yield from self._prompt(said, None)
            case "item_completed" if event.item and event.item.type == "AgentMessage":
                yield from self._note(said, is_message=True)
            case "thread_name_updated":
                self._kept.is_titled = True
                yield from self._note(said, title=decoding.title(event.thread_name))
            case _:
                pass

    def _count(self, event: _Event, at: datetime) -> Iterator[Fact]:
        if event.rate_limits:
            yield from self._windows(event.rate_limits, at)
        if not event.info or not event.info.total_token_usage or self._kept.has_records:
            return
        before, totals = self._kept.totals, _classes(event.info.total_token_usage)
        self._kept.totals = totals
        if totals == before or self._is_copy(at):
            return
        usage = event.info.last_token_usage or _difference(before, totals)
        key = f"{at.isoformat()}|{self._kept.model}|{totals}|{_classes(usage)}"
        yield from self._call(key, at, usage)

    def _call(self, key: str, at: datetime, usage: _Usage) -> Iterator[Call]:
        everything, cached, written, answered = _classes(usage)
        new = everything - cached - written
        if new < 0:
            # Whether writes are a part of the input was not seen yet: then they come on top of it.
            new = max(0, everything - cached)
        if self._kept.session_id and any((everything, cached, written, answered)):
            yield Call(
                key=key,
                session_id=self._kept.session_id,
                at=at,
                model=self._kept.model,
                input_tokens=new,
                output_tokens=answered,
                cache_write_5m_tokens=written,
                cache_read_tokens=cached,
                is_subagent=self._kept.is_subagent or self._is_subagent,
            )

    def _windows(self, limits: _RateLimits, at: datetime) -> Iterator[Window]:
        self._kept.resets_at = None
        for window in (limits.primary, limits.secondary):
            if window is None or window.used_percent is None or not 0 <= window.used_percent <= 1000:
                continue
            resets_at = decoding.from_seconds(window.resets_at)
            if resets_at is None and window.resets_in_seconds is not None:
                resets_at = decoding.from_seconds(at.timestamp() + window.resets_in_seconds)
            if window.used_percent >= 100 and resets_at:
                self._kept.resets_at = max(resets_at, self._kept.resets_at or resets_at)
            for name, minutes in _WINDOWS.items():
                if window.window_minutes in minutes:
                    yield Window(at=at, name=name, used_percent=window.used_percent, resets_at=resets_at)

    def _end(self, said: _Line, event: _Event) -> Iterator[Fact]:
        """The end of a turn names its error; in older versions the line before it does."""
        if event.error:
            yield from self._fail(said, event.error)
        elif self._kept.failure is not None and event.type != "turn_aborted":
            yield from self._note(said, activity=Activity.WAITING_INPUT, said=self._kept.failure)
        else:
            yield from self._note(said, activity=Activity.IDLE, said=event.type)

    def _fail(self, said: _Line, failure: _Failure) -> Iterator[Fact]:
        if str(failure.codex_error_info) in _NO_TURN:
            return
        self._kept.failure = decoding.title(failure.message) or "error"
        yield from self._note(said, activity=Activity.WAITING_INPUT, said=self._kept.failure)
        yield from self._limit(said, failure)

    def _limit(self, said: _Line, failure: _Failure) -> Iterator[Limit]:
        if "usage_limit_exceeded" not in str(failure.codex_error_info):
            return
        session_id = self._kept.session_id
        if session_id and not self._kept.is_subagent:
            text = decoding.title(failure.message) or "usage limit"
            at = decoding.moment(said.timestamp)
            yield Limit(session_id=session_id, at=at, resets_at=self._kept.resets_at, said=text)

    def _prompt(self, said: _Line, message: object) -> Iterator[Note]:
        """The first prompt is the title, as in Codex's own list."""
        text = message if isinstance(message, str) else _prompt_in(said)
        title = None if self._kept.is_titled else decoding.title(text)
        self._kept.is_titled = self._kept.is_titled or title is not None
        yield from self._note(said, is_message=True, title=title)

    def _note(self, line: _Line, **words: Any) -> Iterator[Note]:
        at = decoding.moment(line.timestamp)
        is_its_own = not self._kept.is_subagent and not self._is_subagent and not self._is_copy(at)
        if self._kept.session_id and is_its_own:
            yield Note(session_id=self._kept.session_id, at=at, **words)

    def _is_copy(self, at: datetime) -> bool:
        """Whether a line stands in the copied head of a fork."""
        if self._kept.is_copying and self._kept.began and at - self._kept.began > _COPYING:
            self._kept.is_copying = False
        return self._kept.is_copying


class _PromptItem(msgspec.Struct):
    content: list[dict[str, Any]] | None = None


class _PromptEvent(msgspec.Struct):
    item: _PromptItem | None = None


_prompt_event = msgspec.json.Decoder(_PromptEvent)


def _prompt_in(said: _Line) -> str:
    item = decode(_prompt_event, said.payload).item
    words = (part.get("text") for part in (item.content if item else None) or ())
    return "\n".join(word for word in words if isinstance(word, str))


def _classes(usage: _Usage | _Total) -> tuple[int, int, int, int]:
    """All input, the cached and the written part of it, and the output."""
    cached, written = usage.cached_input_tokens or 0, usage.cache_write_input_tokens or 0
    return usage.input_tokens, cached, written, usage.output_tokens


def _difference(before: tuple[int, int, int, int], after: tuple[int, int, int, int]) -> _Usage:
    """What was used in between; the totals begin anew where they shrink."""
    steps = [decoding.tokens(max(0, new - old)) for old, new in zip(before, after, strict=True)]
    return _Usage(*steps)


def _spawned_by(meta: _Meta) -> str | None:
    """The conversation that a sub-agent works for; None for a conversation of a person."""
    if not isinstance(meta.source, dict) or "subagent" not in meta.source:
        return None
    spawn = meta.source["subagent"]
    spawn = spawn.get("thread_spawn") if isinstance(spawn, dict) else None
    parent = spawn.get("parent_thread_id") if isinstance(spawn, dict) else None
    told = meta.session_id if meta.session_id != meta.id else None
    said = told or meta.parent_thread_id or (parent if isinstance(parent, str) else None) or meta.id
    return said if said and len(said) <= 200 else None


def _parent_in(line: bytes) -> str | None:
    try:
        meta = decode(_header, line).payload
    except BadLine:
        return None
    return _spawned_by(meta) if meta else None


def _rollouts(home: Path) -> Iterator[Path]:
    """In the order of their paths, which within `sessions` is that of time."""
    for name in listing.names(home / "archived_sessions", ".jsonl"):
        yield home / "archived_sessions" / name
    yield from listing.files_below(home / "sessions", ".jsonl")
