"""What OpenCode records: the SQLite database `opencode.db`, which is only ever read.

Rule 1: a call is (model, created, completed): a fork copies messages under new ids, with the same times.
Rule 2: only a completed message is a call: before that its tokens grow.
Rule 3: a row changes after it was written, so the cursor is the time of the change. It looks back a little each time,
because rows become visible a little after the time that they bear, and remembers what it saw there.
Rule 4: a sub-agent's conversation belongs to the one at the root of its parents. Nothing names what a fork was forked
from: it is the conversation that has a message of the same time, where that is older than the fork.

Seen with 1.18.
"""

import os
import sqlite3
import stat
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import closing, contextmanager
from datetime import datetime
from pathlib import Path
from typing import Any, NamedTuple

import msgspec

from stratavore.agents import decoding
from stratavore.agents.decoding import Milliseconds, Word, decode, tokens
from stratavore.agents.limits import resets_at
from stratavore.agents.opencode_turns import turns_in
from stratavore.agents.records import LONGEST_LINE, BadLine, Call, Fact, Limit, Note, Polled, Tokens, Turn
from stratavore.model import Activity

_LOOK_BACK_MS = 10_000
_PATIENCE_SECONDS = 5.0
_DEEPEST = 32
_INTERRUPTED = "MessageAbortedError"

_SESSIONS = """
    SELECT id, directory, title, time_updated FROM session
     WHERE time_updated > :since AND parent_id IS NULL ORDER BY time_updated, id
"""
_MESSAGES = """
    SELECT id, session_id, time_updated, data FROM message
     WHERE (time_updated, id) > (:since, :id) AND length(data) <= :longest
     ORDER BY time_updated, id LIMIT :limit
"""
_LATEST = "SELECT data FROM message WHERE session_id = ? ORDER BY time_created DESC, id DESC LIMIT 1"
_PARENT = "SELECT parent_id FROM session WHERE id = ?"
_BEGAN = "SELECT time_created FROM session WHERE id = ?"
_SAID_AT = "SELECT session_id FROM message WHERE time_created = ? AND session_id <> ? ORDER BY id LIMIT 1"
_TURNS = """
    SELECT m.data, p.data FROM message AS m JOIN part AS p ON p.message_id = m.id
     WHERE m.session_id = ? AND length(m.data) + length(p.data) <= ? ORDER BY m.time_created, m.id, p.id
"""


class _Cache(msgspec.Struct):
    read: Tokens | None = None
    write: Tokens | None = None


class _Used(msgspec.Struct):
    input: Tokens = 0
    output: Tokens = 0
    reasoning: Tokens | None = None
    cache: _Cache | None = None


class _Time(msgspec.Struct):
    created: Milliseconds | None = None
    completed: Milliseconds | None = None


class _Error(msgspec.Struct):
    name: str | None = None
    data: Any = None


class _Message(msgspec.Struct, rename="camel"):
    role: str | None = None
    model_id: Word | None = msgspec.field(default=None, name="modelID")
    tokens: _Used | None = None
    cost: float | None = None
    time: _Time | None = None
    finish: str | None = None
    error: _Error | None = None


class _Cursor(msgspec.Struct):
    """`last` is the last row that was read, by the time of its change and its id; `floor` how far a look back may go,
    `until` how far everything had been seen once; `recent` are the rows that a look back meets again, with the time of
    their change and whether they were counted as a message."""

    last: tuple[int, str] = (-1, "")
    floor: tuple[int, str] = (-1, "")
    until: int = -1
    recent: dict[str, tuple[int, bool]] = {}


class _Row(NamedTuple):
    """One message as the database has it."""

    id: str
    session_id: str
    updated: int
    data: bytes


_message = msgspec.json.Decoder(_Message)


class OpenCodeRecords:
    """`home` is `opencode` in XDG_DATA_HOME, or in `~/.local/share`."""

    mark = "opencode.db"

    def path(self, home: Path) -> Path:
        return home / "opencode.db"

    def poll(self, home: Path, cursor: str, *, now: datetime, limit: int = 1000) -> Polled:
        kept = msgspec.json.decode(cursor, type=_Cursor) if cursor else _Cursor()
        with _opened(self.path(home)) as database:
            if database is None:
                return Polled((), cursor, False)
            return _Look(database, kept, now).poll(limit)

    def turns(self, home: Path, session_id: str) -> Iterator[Turn]:
        with _opened(self.path(home)) as database:
            rows = [] if database is None else _ask(database, _TURNS, (session_id, LONGEST_LINE))
        for message, part in rows:
            yield from turns_in(_bytes(message), _bytes(part))


class _Look:
    """One look into the database."""

    def __init__(self, database: sqlite3.Connection, cursor: _Cursor, now: datetime) -> None:
        self._database = database
        self._present = (int(now.timestamp() * 1000), "")
        self._cursor = cursor
        self._roots: dict[str, str] = {}
        self._began: dict[str, int] = {}

    def poll(self, limit: int) -> Polled:
        before = self._cursor
        facts: list[Fact] = list(self._sessions(before.last[0] - _LOOK_BACK_MS))
        rows = self._rows(limit)
        seen = dict(before.recent)
        for row in rows:
            was = before.recent.get(row.id)
            if was is None or was[0] != row.updated:
                seen[row.id] = (row.updated, self._read(row, was, facts))
        facts += self._activities(
            {row.session_id for row in rows if before.recent.get(row.id, (-1,))[0] != row.updated}
        )
        is_more = len(rows) >= limit + len(before.recent)
        after = self._after(rows, seen, is_more=is_more)
        return Polled(facts, msgspec.json.encode(after).decode(), is_more)

    def _rows(self, limit: int) -> Sequence[_Row]:
        kept = self._cursor
        since, id = max((kept.last[0] - _LOOK_BACK_MS, ""), kept.floor)
        values = {"since": since, "id": id, "longest": LONGEST_LINE, "limit": limit + len(kept.recent)}
        found = _ask(self._database, _MESSAGES, values)
        return [_Row(_text(row[0]), _text(row[1]), row[2], _bytes(row[3])) for row in found if isinstance(row[2], int)]

    def _after(self, rows: Sequence[_Row], seen: dict[str, tuple[int, bool]], *, is_more: bool) -> _Cursor:
        kept = self._cursor
        last = max([kept.last, *((row.updated, row.id) for row in rows)])
        if is_more:
            ahead = {id: was for id, was in seen.items() if was[0] > self._present[0]}  # they will be met again
            return _Cursor(last=last, floor=last, until=kept.until, recent=ahead)
        last = min(last, self._present)  # a clock that was ahead must not hide what is written now
        recent = {id: was for id, was in seen.items() if was[0] > last[0] - _LOOK_BACK_MS}
        return _Cursor(last=last, floor=min(kept.floor, last), until=last[0], recent=recent)

    def _read(self, row: _Row, was: tuple[int, bool] | None, facts: list[Fact]) -> bool:
        """Add what a row tells; whether it is complete, and so was counted as a message."""
        try:
            said = decode(_message, row.data)
            return self._message(row, said, facts, is_counted=was is not None and was[1])
        except BadLine:
            return False  # one row of many: the others must not be lost with it

    def _message(self, row: _Row, said: _Message, facts: list[Fact], *, is_counted: bool) -> bool:
        time = said.time or _Time()
        ended = time.created if said.role == "user" else time.completed
        at = decoding.from_milliseconds(ended)
        if at is None or said.role not in ("user", "assistant"):
            return False
        root = self._root(row.session_id)
        is_subagent = root != row.session_id
        if not is_subagent and time.created is not None:
            facts += self._fork(row.session_id, time.created)
        if said.role == "assistant":
            facts += self._calls(said, time, root, at, is_subagent=is_subagent)
        is_new = not is_counted and ended is not None and ended > self._cursor.until - _LOOK_BACK_MS
        if is_new and not is_subagent:
            failed = _limits(said.error, root, at) if said.error else ()
            facts += failed if said.error else [Note(session_id=root, at=at, is_message=True)]
        return True

    def _calls(self, said: _Message, time: _Time, root: str, at: datetime, *, is_subagent: bool) -> Iterator[Call]:
        used = said.tokens or _Used()
        cache = used.cache or _Cache()
        read, written = cache.read or 0, cache.write or 0
        answered = tokens(used.output + (used.reasoning or 0))
        if used.input or answered or read or written:
            model = said.model_id or "unknown"
            yield Call(
                key=f"{model}/{time.created}/{time.completed}",
                session_id=root,
                at=at,
                model=model,
                input_tokens=used.input,
                output_tokens=answered,
                cache_write_5m_tokens=written,
                cache_read_tokens=read,
                cost_usd=said.cost if said.cost and 0 < said.cost < 10**6 else None,
                is_subagent=is_subagent,
            )

    def _fork(self, session_id: str, said_at: int) -> Iterator[Note]:
        """What a conversation was forked from, if it begins with a message that is older than itself; told once."""
        if session_id in self._began:
            return
        found = [began for (began,) in _ask(self._database, _BEGAN, (session_id,)) if isinstance(began, int)]
        self._began[session_id] = found[0] if found else 0
        if said_at < self._began[session_id]:
            for (parent,) in _ask(self._database, _SAID_AT, (said_at, session_id)):
                yield Note(session_id=session_id, parent_id=_text(parent))

    def _sessions(self, since: int) -> Iterator[Note]:
        for row in _ask(self._database, _SESSIONS, {"since": since}):
            yield Note(session_id=_text(row[0]), cwd=decoding.path(_text(row[1])), title=decoding.title(_text(row[2])))

    def _activities(self, sessions: set[str]) -> Iterator[Note]:
        """What the last message of each conversation says: others are changed after it, too."""
        for session_id in sorted(sessions):
            if self._root(session_id) == session_id:
                for (data,) in _ask(self._database, _LATEST, (session_id,)):
                    yield from _activity(session_id, _bytes(data))

    def _root(self, session_id: str) -> str:
        if session_id not in self._roots:
            root = session_id
            for _ in range(_DEEPEST):
                parents = [_text(parent) for (parent,) in _ask(self._database, _PARENT, (root,)) if parent]
                if not parents:
                    break
                root = parents[0]
            self._roots[session_id] = root
        return self._roots[session_id]


def _activity(session_id: str, data: bytes) -> Iterator[Note]:
    try:
        said = decode(_message, data)
    except BadLine:
        return
    time = said.time or _Time()
    is_over = said.role == "assistant" and time.completed is not None and said.finish != "tool-calls"
    ms = time.completed if is_over else time.created
    at = decoding.from_milliseconds(ms)
    if at is not None and said.role in ("user", "assistant"):
        failure = _failure(said.error) if said.error and is_over else None
        activity = Activity.WAITING_INPUT if failure else Activity.IDLE if is_over else Activity.WORKING
        word = failure or (said.error.name if said.error else said.finish) or said.role
        yield Note(session_id=session_id, at=at, activity=activity, said=word[:200])


def _failure(error: _Error) -> str | None:
    """The error in its own words; None for one that is a person's interruption."""
    if error.name == _INTERRUPTED:
        return None
    data = error.data if isinstance(error.data, dict) else {}
    text = data.get("message")
    return decoding.title(text if isinstance(text, str) else None) or error.name or "error"


def _limits(error: _Error, session_id: str, at: datetime) -> Iterator[Limit]:
    data = error.data if isinstance(error.data, dict) else {}
    if data.get("statusCode") == 429:
        text = str(data.get("message") or "")[:10_000]
        yield Limit(
            session_id=session_id, at=at, resets_at=resets_at(text, at), said=decoding.title(text) or "rate limit"
        )


@contextmanager
def _opened(path: Path) -> "Iterator[sqlite3.Connection | None]":
    """The database, for reading; None if there is none, or what stands there is not ours.

    Raises:
        BadLine: it cannot be read.
    """
    try:
        seen = path.lstat()
    except OSError:
        yield None
        return
    if not stat.S_ISREG(seen.st_mode) or seen.st_uid != os.geteuid():
        yield None
        return
    try:
        with closing(sqlite3.connect(f"{path.absolute().as_uri()}?mode=ro", uri=True, timeout=1)) as database:
            database.text_factory = bytes
            database.set_progress_handler(_deadline(), 10_000)
            yield database
    except sqlite3.Error as error:
        raise BadLine(str(error)) from None


def _deadline() -> Callable[[], bool]:
    """What stops a question that has no end: whose database it is may have put views in the place of its tables."""
    ends = time.monotonic() + _PATIENCE_SECONDS
    return lambda: time.monotonic() > ends


def _ask(database: sqlite3.Connection, sql: str, values: Any) -> list[tuple[Any, ...]]:
    return database.execute(sql, values).fetchall()


def _text(value: object) -> str:
    """A text of the database, whatever type the row gave it."""
    return value.decode(errors="replace") if isinstance(value, bytes) else "" if value is None else str(value)


def _bytes(value: object) -> bytes:
    return value if isinstance(value, bytes) else _text(value).encode()
