"""What lines of Codex's rollouts say, written by hand: as 0.169 writes them, and older ones as ccusage reads them."""

from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import msgspec
import pytest

from stratavore.agents import RECORDS
from stratavore.agents.records import Call, Note, RecordFile, Records, Turn
from stratavore.model import Activity
from tests.agents.telling import Told, classes, of_lines

JSON = dict[str, Any]
T, CHILD, OTHER = (f"01a20573-3b13-7361-b9f4-{letter * 12}" for letter in "abc")
AT = datetime(2026, 11, 22, 22, 49, 27, tzinfo=UTC)


def line(kind: str, payload: JSON, *, after_seconds: float = 0) -> JSON:
    at = (AT + timedelta(seconds=after_seconds)).isoformat().replace("+00:00", "Z")
    return {"timestamp": at, "ordinal": 1, "type": kind, "payload": payload}


def event(kind: str, *, after_seconds: float = 0, **fields: Any) -> JSON:
    return line("event_msg", {"type": kind, **fields}, after_seconds=after_seconds)


def usage(new: int, cached: int = 0, out: int = 0, written: int = 0) -> JSON:
    return {
        "input_tokens": new,
        "cached_input_tokens": cached,
        "cache_write_input_tokens": written,
        "output_tokens": out,
        "reasoning_output_tokens": out // 2,
        "total_tokens": new + out,
    }


def record(id: str, used: JSON) -> JSON:
    return line(
        "token_usage_record", {"thread_id": T, "response_id": id, "usage": used, "thread_token_usage": usage(9**6)}
    )


def count(total: JSON, last: JSON | None, *, after_seconds: float = 0, limits: JSON | None = None) -> JSON:
    info = {"total_token_usage": total, "last_token_usage": last, "model_context_window": 258400}
    return event("token_count", after_seconds=after_seconds, info=info, rate_limits=limits)


META = line("session_meta", {"id": T, "session_id": T, "cwd": "/p", "source": "cli", "originator": "codex_tui"})
CONTEXT = line("turn_context", {"turn_id": "1", "model": "gpt-5.5", "cwd": "/p"})


def codex(*lines: object) -> Told:
    return of_lines("codex", *lines, file=RecordFile(Path(f"rollout-x-{T}.jsonl"), T))


def test_a_record_is_a_call_in_disjoint_classes() -> None:
    """Cached input is a part of the input there, and reasoning one of the output."""
    (call,) = codex(META, CONTEXT, record("resp_1", usage(100, 60, 20, 15))).of(Call)
    assert call == Call(
        key="resp_1",
        session_id=T,
        at=AT,
        model="gpt-5.5",
        input_tokens=25,
        output_tokens=20,
        cache_write_5m_tokens=15,
        cache_read_tokens=60,
    )


def test_what_stands_beside_a_record_or_repeats_it_is_no_second_call() -> None:
    used = usage(100, 60, 20)
    told = codex(META, CONTEXT, record("resp_1", used), count(used, used), record("resp_1", used))
    assert list(told.calls) == ["resp_1"]
    assert codex(META, record("resp_1", usage(0))).calls == {}


def test_older_versions_count_only_what_changed_the_totals() -> None:
    first, both = usage(100, 60, 20), usage(150, 60, 30)
    told = codex(
        META,
        CONTEXT,
        count(usage(0), usage(0)),
        count(first, first, after_seconds=5),
        count(first, first, after_seconds=6),  # only the rate limits changed
        count(both, None, after_seconds=9),
        event("token_count", info=None, rate_limits=None),
    )
    assert sorted(told.calls.values()) == [(40, 20, 0, 0, 60), (50, 10, 0, 0, 0)]


def test_the_same_file_read_twice_has_the_same_keys() -> None:
    lines = (META, CONTEXT, count(usage(9), usage(9), after_seconds=5))
    assert codex(*lines).calls == codex(*lines).calls


def test_the_history_at_the_head_of_an_older_fork_is_no_new_use() -> None:
    """It is written down again within a second, with new times."""
    meta = line("session_meta", {"id": CHILD, "cwd": "/p", "source": "cli", "forked_from_id": T})
    copied = count(usage(100), usage(100), after_seconds=0.1)
    prompt = event("user_message", message="old", after_seconds=0.1)
    new = count(usage(107), usage(7), after_seconds=30)
    told = codex(meta, META, CONTEXT, prompt, copied, new)
    assert list(told.calls.values()) == [(7, 0, 0, 0, 0)]
    assert {call.session_id for call in told.of(Call)} == {CHILD}
    assert told.notes == [Note(session_id=CHILD, at=AT, cwd="/p", parent_id=T)]


@pytest.mark.parametrize(
    "meta",
    [
        {"id": CHILD, "source": {"subagent": {"thread_spawn": {"parent_thread_id": T, "depth": 1}}}},
        {"id": CHILD, "session_id": T, "source": {"subagent": "review"}},
    ],
)
def test_a_sub_agents_call_is_its_parents_and_says_nothing_else(meta: JSON) -> None:
    told = codex(line("session_meta", meta), event("task_started"), record("resp_2", usage(5)))
    assert [(call.session_id, call.is_subagent) for call in told.of(Call)] == [(T, True)]
    assert told.notes == []


def test_a_rollout_begins_with_where_it_is() -> None:
    assert codex(META).notes == [Note(session_id=T, at=AT, cwd="/p")]


@pytest.mark.parametrize(
    ("said", "activity", "is_message"),
    [
        (event("task_started"), Activity.WORKING, False),
        (event("task_complete", last_agent_message="x"), Activity.IDLE, False),
        (event("turn_aborted", reason="interrupted"), Activity.IDLE, False),
        (
            event("task_complete", error={"message": "no key", "codex_error_info": "other"}),
            Activity.WAITING_INPUT,
            False,
        ),
        (event("error", message="no key"), Activity.WAITING_INPUT, False),
        (event("error", message="none", codex_error_info="thread_rollback_failed"), None, False),
        (event("user_message", message="do it"), None, True),
        (event("agent_message", message="done"), None, True),
        (event("item_completed", item={"type": "UserMessage", "content": [{"text": "do it"}]}), None, True),
        (event("item_completed", item={"type": "AgentMessage"}), None, True),
        (event("item_completed", item={"type": "CommandExecution"}), None, False),
        (event("something_new", item=5), None, False),
    ],
)
def test_a_line_tells_what_the_agent_does_from_there_on(
    said: JSON, activity: Activity | None, is_message: bool
) -> None:
    notes = codex(META, said).notes[1:]
    assert [note.activity for note in notes if note.activity] == ([] if activity is None else [activity])
    assert any(note.is_message for note in notes) == is_message


def test_the_first_prompt_is_the_title_unless_a_person_gave_one() -> None:
    prompts = event("user_message", message="first\nline"), event("user_message", message="second")
    assert codex(META, *prompts).title(T) == "first"
    named = event("thread_name_updated", thread_name="Mine")
    assert codex(META, named, *prompts).title(T) == "Mine"


def limits(percent: float, **fields: Any) -> JSON:
    primary = {"used_percent": percent, "window_minutes": 300, "resets_at": 1795400000} | fields
    secondary = {"used_percent": 7.5, "window_minutes": 10080, "resets_in_seconds": 60}
    return {"primary": primary, "secondary": secondary, "plan_type": "plus"}


def test_the_windows_of_the_account_are_told() -> None:
    told = codex(META, count(usage(1), usage(1), limits=limits(12.5)))
    assert [(window.name, window.used_percent, window.resets_at) for window in told.windows] == [
        ("5h", 12.5, datetime.fromtimestamp(1795400000, UTC)),
        ("7d", 7.5, AT + timedelta(minutes=1)),
    ]
    odd = (limits(-1), limits(1e300), limits(5, window_minutes=61), limits(5, window_minutes=299, resets_at=1e308))
    names = [[window.name for window in codex(META, count(usage(1), None, limits=each)).windows] for each in odd]
    assert names == [["7d"], ["7d"], ["7d"], ["5h", "7d"]]


def test_a_used_up_allowance_is_a_limit_until_the_window_begins_anew() -> None:
    failure: JSON = {"message": "You’ve hit your usage limit.", "codex_error_info": "usage_limit_exceeded"}
    told = codex(META, count(usage(1), None, limits=limits(100)), event("task_complete", error=failure))
    assert [(limit.session_id, limit.resets_at) for limit in told.limits] == [
        (T, datetime.fromtimestamp(1795400000, UTC))
    ]
    assert [limit.resets_at for limit in codex(META, event("error", **failure)).limits] == [None]
    assert codex(META, event("task_complete", error={"message": "x", "codex_error_info": {"other": {}}})).limits == []


def test_a_turn_that_failed_is_told_with_its_error_until_the_next_one_begins() -> None:
    failed = event("error", message="stream disconnected\nsomewhere"), event("task_complete", last_agent_message=None)
    told = codex(META, event("task_started"), *failed, event("task_started"), event("task_complete"))
    assert [(note.activity, note.said) for note in told.notes if note.activity] == [
        (Activity.WORKING, "task_started"),
        (Activity.WAITING_INPUT, "stream disconnected"),
        (Activity.WAITING_INPUT, "stream disconnected"),
        (Activity.WORKING, "task_started"),
        (Activity.IDLE, "task_complete"),
    ]
    interrupted = codex(META, failed[0], event("turn_aborted", reason="interrupted"))
    assert [note.activity for note in interrupted.notes][-1] is Activity.IDLE


@pytest.mark.parametrize("used", [usage(-1), usage(10**9 + 1), usage(1) | {"output_tokens": True}])
def test_what_no_call_can_have_used_is_a_broken_line(used: JSON) -> None:
    told = codex(META, record("resp_1", used), record("resp_2", usage(1)))
    assert list(told.calls) == ["resp_2"]
    assert len(told.bad) == 1


def test_people_read_what_was_said_with_roles_and_tools() -> None:
    def item(kind: str, **fields: Any) -> bytes:
        return msgspec.json.encode(line("response_item", {"type": kind, **fields}))

    def message(role: str, text: str) -> bytes:
        return item("message", role=role, content=[{"type": "input_text", "text": text}])

    reader = records().reader(RecordFile(Path("x"), T))
    lines = [
        message("developer", "rules"),
        message("user", "<environment_context>\n</environment_context>"),
        message("user", "list them"),
        item("reasoning", summary=[]),
        item("function_call", name="exec_command", arguments='{"cmd": "ls"}', call_id="c1"),
        item("function_call_output", call_id="c1", output="a b"),
        message("assistant", "there are two"),
        msgspec.json.encode(event("agent_message", message="there are two")),
    ]
    assert [turn for each in lines for turn in reader.turns(each)] == [
        Turn(role="user", at=AT, text="list them"),
        Turn(role="assistant", at=AT, text='{"cmd": "ls"}', tool="exec_command"),
        Turn(role="tool", at=AT, text="a b", tool="exec_command"),
        Turn(role="assistant", at=AT, text="there are two"),
    ]


def records() -> Records:
    found = RECORDS["codex"]
    assert isinstance(found, Records)
    return found


def test_files_are_found_with_those_of_sub_agents(tmp_path: Path) -> None:
    def put(day: int, thread: str, meta: JSON) -> Path:
        path = tmp_path / f"sessions/2026/11/{day}/rollout-2026-11-{day}T22-00-00-{thread}.jsonl"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(msgspec.json.encode(line("session_meta", meta)) + b"\n")
        return path

    main = put(21, T, {"id": T, "source": "cli"})
    child = put(22, CHILD, {"id": CHILD, "session_id": T, "source": {"subagent": {"other": "x"}}})
    other = put(22, OTHER, {"id": OTHER, "source": "cli"})
    (tmp_path / "sessions/2026/11/23").symlink_to(tmp_path / "sessions/2026/11/22")
    assert list(records().list_files(tmp_path, T)) == [RecordFile(main, T), RecordFile(child, T, is_subagent=True)]
    assert list(records().list_files(tmp_path, OTHER)) == [RecordFile(other, OTHER)]
    assert [file.path for file in records().list_files(tmp_path)] == [main, child, other]
    assert classes(codex(META, record("r", usage(3, 1, 2))).of(Call)[0]) == (2, 2, 0, 0, 1)
