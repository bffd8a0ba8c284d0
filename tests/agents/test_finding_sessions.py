"""Agents that make their own session ids: a conversation is theirs only if the traces leave no doubt."""

import json
import os
import sqlite3
from collections.abc import Callable, Mapping
from datetime import UTC, datetime
from hashlib import sha256
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


def keep_gemini(home: Path, session_id: str, cwd: str, began: float) -> Path:
    path = home / f".gemini/tmp/p/chats/session-2026-03-01T12-00-{session_id[:8]}.jsonl"
    path.parent.mkdir(parents=True, exist_ok=True)
    when = datetime.fromtimestamp(began, UTC).isoformat()
    head = {"sessionId": session_id, "projectHash": sha256(cwd.encode()).hexdigest(), "startTime": when}
    path.write_text(json.dumps(head) + "\n")
    os.utime(path, (began, began))
    return path


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


@both
def test_beside_another_at_work_in_the_directory_a_new_conversation_is_nobodys(
    name: str, start: Start, tmp_path: Path
) -> None:
    keep, agent = KEEPERS[name], AGENTS[name]
    keep(tmp_path, A, "/project", STARTED + 5)
    beside = replace(since_start, rivals=1)
    assert agent.find_session(start, beside) is None
    assert agent.why_unknown(start, beside).startswith("another of its kind works in the same directory")
    assert agent.find_session(replace(start, session_id=B), beside) == B, "what is known stays"


def test_why_a_conversation_is_unknown_is_told(start: Start, tmp_path: Path) -> None:
    agent = AGENTS["codex"]
    assert agent.why_unknown(start, since_start) == "no conversation has begun in its directory since it started"
    keep_codex(tmp_path, A, "/project", STARTED + 5)
    keep_codex(tmp_path, B, "/project", STARTED + 9)
    assert agent.why_unknown(start, since_start).startswith("2 conversations began in its directory")


@pytest.mark.parametrize("name", ["opencode", "gemini"])
def test_who_is_alone_in_a_directory_is_followed_to_what_changed_last(name: str, start: Start, tmp_path: Path) -> None:
    first, second = "11111111-a", "22222222-b"
    keep: Keep = keep_gemini if name == "gemini" else keep_opencode
    agent, known = AGENTS[name], replace(start, session_id=first)
    keep(tmp_path, first, "/project", STARTED + 5)
    assert agent.find_session(known, since_start) == first
    keep(tmp_path, second, "/project", STARTED + 9)
    assert agent.find_session(known, since_start) == second
    assert agent.find_session(known, replace(since_start, rivals=1)) == first
    assert agent.find_session(known, replace(since_start, taken=frozenset({second}))) == first


def test_codex_says_by_a_lock_where_it_is_before_a_word_is_said(start: Start, tmp_path: Path) -> None:
    """And after `/new` it holds both: the newer one counts."""
    agent, locks = AGENTS["codex"], tmp_path / ".codex/thread-writer-locks"
    locks.mkdir(parents=True)
    held = replace(since_start, processes=[(os.getpid(), 1)])
    with keep_codex(tmp_path, A, "/project", STARTED + 5).open("a"):
        assert agent.find_session(start, held) == A
        with (locks / f"{B}.lock").open("w"):
            assert agent.find_session(start, held) == B
            assert (B, os.getpid()) in agent.writers(tmp_path / ".codex")
        with keep_codex(tmp_path, B, "/project", STARTED + 9, parent=A).open("a"):
            assert agent.find_session(start, held) == A, "the other is a sub-agent's"
    assert agent.writers(tmp_path / ".codex") == []


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("claude", ("claude", "--resume", A, "--fork-session", "--session-id", B)),
        ("codex", ("codex", "fork", "--no-daemon", "--", A)),
        ("opencode", ("opencode", "--session", A, "--fork")),
    ],
)
def test_a_fork_names_its_parent(name: str, expected: tuple[str, ...], start: Start) -> None:
    session_id = B if name == "claude" else None
    assert AGENTS[name].launch(replace(start, fork_of=A, session_id=session_id)).argv[: len(expected)] == expected
