"""What OpenCode's database says, in tables as 1.18 makes them."""

import json
import os
import sqlite3
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest

from stratavore.agents import RECORDS
from stratavore.agents.records import BadLine, Call, Fact, Limit, Note, RecordDatabase, Turn
from stratavore.model import Activity

START = 1795387779000
NOW = datetime.fromtimestamp(START / 1000 + 86400, UTC)
SCHEMA = """
    CREATE TABLE session (id text PRIMARY KEY, parent_id text, directory text NOT NULL, title text NOT NULL,
                          time_created integer NOT NULL, time_updated integer NOT NULL);
    CREATE TABLE message (id text PRIMARY KEY, session_id text NOT NULL, time_created integer NOT NULL,
                          time_updated integer NOT NULL, data text NOT NULL);
    CREATE TABLE part (id text PRIMARY KEY, message_id text NOT NULL, session_id text NOT NULL, data text NOT NULL);
"""


class Store:
    """OpenCode's side of the database; moments are milliseconds after START. It is in WAL mode, as OpenCode's."""

    def __init__(self, home: Path) -> None:
        self.home = home
        self.database = sqlite3.connect(home / "opencode.db", isolation_level=None)
        self.database.execute("PRAGMA journal_mode = WAL")
        self.database.executescript(SCHEMA)

    def session(self, id: str, *, at: int = 0, parent: str | None = None, title: str = "About") -> None:
        values = (id, parent, "/p", title, START + at, START + at)
        self.database.execute("INSERT OR REPLACE INTO session VALUES (?, ?, ?, ?, ?, ?)", values)

    def put(self, id: str, session: str, data: object, *, created: int, updated: int) -> None:
        text = data if isinstance(data, bytes | str) else json.dumps(data)
        values = (id, session, START + created, START + updated, text)
        self.database.execute("INSERT OR REPLACE INTO message VALUES (?, ?, ?, ?, ?)", values)

    def prompt(self, id: str, session: str, *, at: int, updated: int | None = None) -> None:
        data = {"role": "user", "time": {"created": START + at}}
        self.put(id, session, data, created=at, updated=updated or at)

    def answer(
        self, id: str, session: str, *, at: int, done: int | None, row_at: int | None = None, **more: Any
    ) -> None:
        time = {"created": START + at} | ({} if done is None else {"completed": START + done})
        tokens = {"input": 7, "output": 5, "reasoning": 2, "cache": {"read": 100, "write": 9}}
        data = {"role": "assistant", "modelID": "m", "providerID": "p", "time": time, "tokens": tokens, "cost": 0.25}
        finish = {} if done is None else {"finish": "stop"}
        row = at if row_at is None else row_at
        self.put(id, session, data | finish | more, created=row, updated=max(row, done or at))


@pytest.fixture
def store(tmp_path: Path) -> Iterator[Store]:
    made = Store(tmp_path)
    yield made
    made.database.close()


def records() -> RecordDatabase:
    found = RECORDS["opencode"]
    assert isinstance(found, RecordDatabase)
    return found


class Poller:
    """One who asks again and again."""

    def __init__(self, home: Path, limit: int = 1000) -> None:
        self.home = home
        self.limit = limit
        self.cursor = ""
        self.now = NOW

    def poll(self) -> list[Fact]:
        facts: list[Fact] = []
        is_more = True
        while is_more:
            found = records().poll(self.home, self.cursor, now=self.now, limit=self.limit)
            facts += found.facts
            self.cursor, is_more = found.cursor, found.is_more
        return facts


def keys(facts: list[Fact]) -> list[str]:
    return [fact.key for fact in facts if isinstance(fact, Call)]


def messages(facts: list[Fact]) -> int:
    return sum(isinstance(fact, Note) and fact.is_message for fact in facts)


@pytest.mark.parametrize("limit", [2, 1000])
def test_a_clock_that_was_ahead_hides_nothing_that_is_written_afterwards(store: Store, limit: int) -> None:
    store.session("ses_1")
    ahead = 7 * 86400 * 1000
    for number in range(5):
        store.prompt(f"msg_u{number}", "ses_1", at=ahead + number)
        store.answer(f"msg_{number}", "ses_1", at=ahead + number, done=ahead + 100 + number)
    poller = Poller(store.home, limit)
    assert messages(poller.poll()) == 10
    store.prompt("msg_now_u", "ses_1", at=0)
    store.answer("msg_now", "ses_1", at=86400_000 + 1000, done=86400_000 + 2000)
    poller.now = datetime.fromtimestamp(START / 1000 + 86400 + 3, UTC)
    found = poller.poll()
    assert (len(keys(found)), messages(found)) == (1, 1)
    assert messages(poller.poll()) == 0


def test_a_completed_message_is_a_call_in_disjoint_classes(store: Store) -> None:
    store.session("ses_1")
    store.answer("msg_1", "ses_1", at=100, done=900)
    (call,) = [fact for fact in Poller(store.home).poll() if isinstance(fact, Call)]
    assert call == Call(
        key=f"m/{START + 100}/{START + 900}",
        session_id="ses_1",
        at=datetime.fromtimestamp((START + 900) / 1000, UTC),
        model="m",
        input_tokens=7,
        output_tokens=7,
        cache_write_5m_tokens=9,
        cache_read_tokens=100,
        cost_usd=0.25,
    )


def test_what_completes_after_it_was_seen_is_told_then_and_once(store: Store) -> None:
    store.session("ses_1")
    store.prompt("msg_1", "ses_1", at=100)
    store.answer("msg_2", "ses_1", at=200, done=None)
    poller = Poller(store.home)
    first = poller.poll()
    assert (keys(first), messages(first)) == ([], 1)
    store.answer("msg_2", "ses_1", at=200, done=60_000)
    store.prompt("msg_1", "ses_1", at=100, updated=60_001)  # it is touched again when the turn is over
    second = poller.poll()
    assert (len(keys(second)), messages(second)) == (1, 1)
    third = poller.poll()
    assert (keys(third), messages(third)) == ([], 0)


def test_what_becomes_visible_behind_others_is_not_missed(store: Store) -> None:
    """Two processes write: a transaction may end after one that began later."""
    store.session("ses_1")
    store.answer("msg_1", "ses_1", at=100, done=5000)
    poller = Poller(store.home)
    assert len(keys(poller.poll())) == 1
    store.answer("msg_2", "ses_1", at=200, done=4000)
    late = poller.poll()
    assert (keys(late), messages(late)) == ([f"m/{START + 200}/{START + 4000}"], 1)
    assert keys(poller.poll()) == []


@pytest.mark.parametrize("limit", [1, 2, 3, 1000])
def test_all_is_told_once_in_pieces_of_any_size(store: Store, limit: int) -> None:
    store.session("ses_1")
    for number in range(20):
        store.answer(f"msg_{number:02}", "ses_1", at=number, done=100 + number // 4)
    poller = Poller(store.home, limit)
    facts = poller.poll()
    assert sorted(keys(facts)) == sorted(f"m/{START + n}/{START + 100 + n // 4}" for n in range(20))
    assert messages(facts) == 20
    assert messages(poller.poll()) == 0


def test_a_fork_is_known_by_messages_older_than_itself_and_its_copies_have_the_old_keys(store: Store) -> None:
    store.session("ses_1")
    store.answer("msg_1", "ses_1", at=100, done=900)
    store.session("ses_2", at=5000, title="About (fork #1)")
    store.answer("msg_2", "ses_2", at=100, done=900, row_at=5000)
    store.answer("msg_3", "ses_2", at=6000, done=7000)
    facts = Poller(store.home).poll()
    assert len(set(keys(facts))) == 2
    parents = [(fact.session_id, fact.parent_id) for fact in facts if isinstance(fact, Note) and fact.parent_id]
    assert parents == [("ses_2", "ses_1")]


def test_a_sub_agents_call_is_of_the_conversation_at_the_root_and_says_nothing_else(store: Store) -> None:
    store.session("ses_1")
    store.session("ses_2", parent="ses_1")
    store.session("ses_3", parent="ses_2")
    store.answer("msg_1", "ses_3", at=100, done=900)
    facts = Poller(store.home).poll()
    assert [(f.session_id, f.is_subagent) for f in facts if isinstance(f, Call)] == [("ses_1", True)]
    assert {fact.session_id for fact in facts if isinstance(fact, Note)} == {"ses_1"}
    assert messages(facts) == 0


def test_sessions_that_are_each_others_parents_end(store: Store) -> None:
    store.session("ses_1", parent="ses_2")
    store.session("ses_2", parent="ses_1")
    store.answer("msg_1", "ses_1", at=100, done=900)
    assert len(keys(Poller(store.home).poll())) == 1


def test_title_and_directory_are_told_and_again_when_they_change(store: Store) -> None:
    store.session("ses_1", title="New session")
    poller = Poller(store.home)
    assert [(n.cwd, n.title) for n in poller.poll() if isinstance(n, Note)] == [("/p", "New session")]
    store.prompt("msg_1", "ses_1", at=40_000)
    store.session("ses_1", at=50_000, title="About it")
    assert "About it" in [note.title for note in poller.poll() if isinstance(note, Note)]


@pytest.mark.parametrize(
    ("done", "more", "activity"),
    [
        (None, {}, Activity.WORKING),
        (900, {"finish": "tool-calls"}, Activity.WORKING),
        (900, {}, Activity.IDLE),
        (900, {"error": {"name": "MessageAbortedError", "data": {}}}, Activity.IDLE),
        (900, {"error": {"name": "APIError", "data": {"message": "no key"}}}, Activity.WAITING_INPUT),
        (900, {"error": {"name": "APIError", "data": 5}}, Activity.WAITING_INPUT),
    ],
)
def test_the_last_message_tells_what_the_agent_does(
    store: Store, done: int | None, more: dict[str, Any], activity: Activity
) -> None:
    store.session("ses_1")
    store.answer("msg_2", "ses_1", at=200, done=done, **more)
    store.prompt("msg_1", "ses_1", at=100, updated=5000)
    activities = [note.activity for note in Poller(store.home).poll() if isinstance(note, Note) and note.activity]
    assert activities == [activity]


def test_a_refusal_of_the_provider_is_a_limit(store: Store) -> None:
    store.session("ses_1")
    error = {"name": "APIError", "data": {"statusCode": 429, "message": "quota will reset after 1h0m0s"}}
    store.answer("msg_1", "ses_1", at=200, done=900, error=error)
    limits = [fact for fact in Poller(store.home).poll() if isinstance(fact, Limit)]
    assert [limit.resets_at for limit in limits] == [datetime.fromtimestamp((START + 900) / 1000 + 3600, UTC)]


@pytest.mark.parametrize(
    "broken", ["{half", "[" * 100_000, b"\xff\xfe", "", "null", '{"role":"assistant","time":{"created":1e400}}', "\0"]
)
def test_a_broken_row_harms_no_other(store: Store, broken: str | bytes) -> None:
    store.session("ses_1")
    store.put("msg_0", "ses_1", broken, created=50, updated=50)
    store.answer("msg_1", "ses_1", at=100, done=900)
    store.put("msg_2", "ses_1", broken, created=950, updated=950)
    assert len(keys(Poller(store.home).poll())) == 1
    assert list(records().turns(store.home, "ses_1")) == []


def test_a_row_that_is_too_long_is_not_read(store: Store) -> None:
    store.session("ses_1")
    store.put("msg_0", "ses_1", "x" * (16 * 1024 * 1024 + 1), created=50, updated=50)
    store.answer("msg_1", "ses_1", at=100, done=900)
    assert len(keys(Poller(store.home).poll())) == 1


def test_no_database_says_nothing_and_a_damaged_one_says_so(tmp_path: Path) -> None:
    assert records().poll(tmp_path, "", now=NOW) == ((), "", False)
    (tmp_path / "opencode.db").write_bytes(b"SQLite format 3\0" + b"x" * 5000)
    with pytest.raises(BadLine):
        records().poll(tmp_path, "", now=NOW)
    with pytest.raises(BadLine):
        list(records().turns(tmp_path, "ses_1"))
    (tmp_path / "opencode.db").write_bytes(b"")
    with pytest.raises(BadLine, match="no such table"):
        records().poll(tmp_path, "", now=NOW)


def test_what_is_no_file_of_ours_is_left_alone(tmp_path: Path, store: Store) -> None:
    store.session("ses_1")
    elsewhere = tmp_path / "elsewhere"
    elsewhere.mkdir()
    (elsewhere / "opencode.db").symlink_to(tmp_path / "opencode.db")
    assert records().poll(elsewhere, "", now=NOW).facts == ()
    (elsewhere / "opencode.db").unlink()
    os.mkfifo(elsewhere / "opencode.db")
    assert records().poll(elsewhere, "", now=NOW).facts == ()


def test_nothing_is_written_into_it(store: Store) -> None:
    store.session("ses_1")
    store.answer("msg_1", "ses_1", at=100, done=900)
    before = (store.home / "opencode.db").read_bytes(), (store.home / "opencode.db-wal").read_bytes()
    Poller(store.home).poll()
    assert before == ((store.home / "opencode.db").read_bytes(), (store.home / "opencode.db-wal").read_bytes())


def test_people_read_what_was_said_with_roles_and_tools(store: Store) -> None:
    store.session("ses_1")
    store.prompt("msg_1", "ses_1", at=100)
    store.answer("msg_2", "ses_1", at=200, done=900)
    state = {"status": "completed", "input": {"command": "ls"}, "output": "a b"}
    parts = [
        ("prt_1", "msg_1", {"type": "text", "text": "list them"}),
        ("prt_2", "msg_2", {"type": "step-start"}),
        ("prt_3", "msg_2", {"type": "tool", "tool": "bash", "state": state}),
        ("prt_4", "msg_2", {"type": "text", "text": "there are two"}),
        ("prt_5", "msg_2", {"type": "text", "text": "not said", "synthetic": True}),
    ]
    for id, message, data in parts:
        store.database.execute("INSERT INTO part VALUES (?, ?, 'ses_1', ?)", (id, message, json.dumps(data)))
    first, then = (datetime.fromtimestamp((START + at) / 1000, UTC) for at in (100, 200))
    assert list(records().turns(store.home, "ses_1")) == [
        Turn(role="user", at=first, text="list them"),
        Turn(role="assistant", at=then, text='{"command": "ls"}', tool="bash"),
        Turn(role="tool", at=then, text="a b", tool="bash"),
        Turn(role="assistant", at=then, text="there are two"),
    ]
