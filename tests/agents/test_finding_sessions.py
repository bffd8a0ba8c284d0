"""Agents that make their own session ids: a conversation is theirs only if the traces leave no doubt."""

import json
import os
import sqlite3
from collections.abc import Callable, Mapping
from datetime import UTC, datetime
from pathlib import Path

import pytest
from msgspec.structs import replace

from stratavore.agents import AGENTS, Start, Traces

STARTED = datetime(2026, 3, 1, 12, 0, tzinfo=UTC).timestamp()
A, B = "01a20410-520b-7cb0-bc60-d72d12519fa1", "01a20410-520b-7cb0-bc60-d72d12519fa2"


def keep_codex(home: Path, session_id: str, cwd: str, began: float, *, parent: str | None = None) -> Path:
    path = home / f".codex/sessions/2026/03/01/rollout-2026-03-01T12-00-00-{session_id}.jsonl"
    path.parent.mkdir(parents=True, exist_ok=True)
    when = datetime.fromtimestamp(began, UTC).isoformat().replace("+00:00", "Z")
    source: object = {"subagent": parent} if parent else "cli"
    meta = {"id": session_id, "cwd": cwd, "timestamp": when, "source": source}
    path.write_text(json.dumps({"type": "session_meta", "payload": meta}) + "\n{}\n")
    os.utime(path, (began, began))
    return path


def keep_opencode(home: Path, session_id: str, cwd: str, began: float, *, parent: str | None = None) -> Path:
    path = home / ".local/share/opencode/opencode.db"
    path.parent.mkdir(parents=True, exist_ok=True)
    with sqlite3.connect(path) as database:
        database.execute("CREATE TABLE IF NOT EXISTS session (id, directory, time_created, parent_id, time_updated)")
        values = (session_id, cwd, int(began * 1000), parent, int(began * 1000))
        database.execute("INSERT INTO session VALUES (?, ?, ?, ?, ?)", values)
    database.close()
    return path


Keep = Callable[..., Path]
KEEPERS: Mapping[str, Keep] = {"codex": keep_codex, "opencode": keep_opencode}

both = pytest.mark.parametrize("name", list(KEEPERS))
since_start = Traces(since=STARTED)


@pytest.fixture
def start(tmp_path: Path) -> Start:
    return Start(name="x", cwd="/project", runner_dir=tmp_path, env={"HOME": str(tmp_path)})


@both
def test_the_only_conversation_since_the_start_is_the_runs(name: str, start: Start, tmp_path: Path) -> None:
    keep, agent = KEEPERS[name], AGENTS[name]
    keep(tmp_path, A, "/project", STARTED + 5)
    assert agent.find_session(start, since_start) == A
    assert agent.can_resume(replace(start, session_id=A))
    assert not agent.can_resume(replace(start, session_id=B))


@both
def test_a_conversation_that_may_be_anothers_is_left_alone(name: str, start: Start, tmp_path: Path) -> None:
    """Two writers in one conversation would spoil it; a fresh start does no harm."""
    keep, agent = KEEPERS[name], AGENTS[name]
    keep(tmp_path, A, "/project", STARTED + 5)
    keep(tmp_path, B, "/project", STARTED + 9)
    assert agent.find_session(start, since_start) is None
    assert agent.find_session(start, replace(since_start, taken=frozenset({A}))) == B


@both
def test_what_is_older_elsewhere_or_a_sub_agents_is_not_the_runs(name: str, start: Start, tmp_path: Path) -> None:
    keep, agent = KEEPERS[name], AGENTS[name]
    keep(tmp_path, A, "/project", STARTED - 5)
    keep(tmp_path, A.replace("0", "1"), "/elsewhere", STARTED + 5)
    keep(tmp_path, B, "/project", STARTED + 5, parent=A)
    assert agent.find_session(start, since_start) is None


@both
@pytest.mark.parametrize("content", [b"{half", b"[" * 100_000])
def test_a_damaged_file_is_no_conversation(name: str, content: bytes, start: Start, tmp_path: Path) -> None:
    path = KEEPERS[name](tmp_path, A, "/project", STARTED + 5)
    path.write_bytes(content)
    assert AGENTS[name].find_session(start, since_start) is None


def test_codex_holds_its_conversation_open(start: Start, tmp_path: Path) -> None:
    """So it is known for certain while it lives, whoever else is in the same directory."""
    keep_codex(tmp_path, A, "/project", STARTED + 5)
    with keep_codex(tmp_path, B, "/project", STARTED + 9).open("a"):
        found = AGENTS["codex"].find_session(start, replace(since_start, processes=[(os.getpid(), 1)]))
    assert found == B


def test_opencode_says_its_conversation_as_it_ends(start: Start) -> None:
    for tail in (
        "  Continue  \x1b[1mopencode -s ses_1a2b\x1b[0m",
        '{"type":"text","sessionID":"ses_1a2b","part":{}}',
    ):
        assert AGENTS["opencode"].find_session(start, Traces(since=STARTED, output_tail=tail)) == "ses_1a2b"
