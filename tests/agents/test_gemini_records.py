"""What lines of Gemini CLI's chats say, written by hand after real ones of 0.61."""

from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import msgspec
import pytest

from stratavore.agents import RECORDS
from stratavore.agents.records import Call, RecordFile, Records, Turn
from stratavore.model import Activity
from tests.agents.telling import Told, of_lines

JSON = dict[str, Any]
S, CHILD = (f"{letter * 8}-0000-4000-8000-000000000000" for letter in "ab")
AT = datetime(2026, 11, 22, 22, 49, 31, 726000, tzinfo=UTC)
HEADER = {"sessionId": S, "projectHash": "9c", "startTime": "2026-11-22T22:49:31.398Z", "kind": "main"}
TOKENS = {"input": 100, "output": 20, "cached": 60, "thoughts": 5, "tool": 3, "total": 128}


def message(kind: str, id: str, content: object, **fields: Any) -> JSON:
    return {"id": id, "timestamp": "2026-11-22T22:49:31.726Z", "type": kind, "content": content} | fields


def answer(id: str = "a1", content: str = "there are two", **fields: Any) -> JSON:
    return message("gemini", id, content, **({"tokens": TOKENS, "model": "gemini-2.5-flash"} | fields))


def prompt(id: str = "u1", text: str = "list them") -> JSON:
    return message("user", id, [{"text": text}])


TOOL = {"name": "run_shell_command", "args": {"command": "ls"}, "resultDisplay": "a b", "result": []}


def gemini(*lines: object) -> Told:
    return of_lines("gemini", *lines)


def test_an_answer_is_a_call_in_disjoint_classes() -> None:
    (call,) = gemini(HEADER, answer()).of(Call)
    assert call == Call(
        key=f"{S}/a1",
        session_id=S,
        at=AT,
        model="gemini-2.5-flash",
        input_tokens=43,
        output_tokens=25,
        cache_read_tokens=60,
    )


def test_a_message_that_is_written_again_is_one_call_and_one_message() -> None:
    told = gemini(HEADER, prompt(), answer(content="", tokens=None), answer(content=""), answer(toolCalls=[TOOL]))
    assert told.calls == {f"{S}/a1": (43, 25, 0, 0, 60)}
    assert told.messages(S) == 2


def test_what_a_patch_repeats_is_no_call_and_a_resume_changes_nothing() -> None:
    patch = {"$set": {"messages": [answer("a2")], "lastUpdated": "x"}}
    told = gemini(HEADER, answer(), patch, HEADER, {"$set": {"sessionId": S}}, patch, answer())
    assert list(told.calls) == [f"{S}/a1"]


def test_the_summary_is_the_title_else_the_first_prompt() -> None:
    assert gemini(HEADER, prompt(), prompt("u2", "second")).title(S) == "list them"
    assert gemini(HEADER, prompt(), {"$set": {"summary": "About them"}}).title(S) == "About them"
    assert gemini(HEADER, prompt("u0", "<session_context>\nToday"), prompt()).title(S) == "list them"


def test_whether_a_turn_is_over_is_not_known() -> None:
    result = message("user", "u2", [{"functionResponse": {"name": "x", "response": {"output": "a"}}}])
    failed = message("error", "e1", "[API Error: 500]")
    told = gemini(HEADER, prompt(), answer(), answer(toolCalls=[TOOL]), result, failed)
    assert [note.activity for note in told.notes] == [
        Activity.WORKING,
        Activity.UNKNOWN,
        Activity.WORKING,
        Activity.WORKING,
        Activity.WAITING_INPUT,
    ]
    assert told.messages(S) == 2
    assert [note.said for note in told.notes] == ["prompt", "answer", "tool result", "tool result", "[API Error: 500]"]


def test_a_used_up_quota_is_a_limit() -> None:
    text = "You have exhausted your capacity on this model. Your quota will reset after 3h12m5s."
    (limit,) = gemini(HEADER, message("error", "e", text)).limits
    assert (limit.session_id, limit.resets_at) == (S, AT + timedelta(hours=3, minutes=12, seconds=5))


def test_a_sub_agents_call_is_its_parents_and_says_nothing_else() -> None:
    file = RecordFile(Path(f"chats/{S}/{CHILD}.jsonl"), S, is_subagent=True)
    told = of_lines("gemini", HEADER | {"sessionId": CHILD, "kind": "subagent"}, prompt(), answer(), file=file)
    assert [(call.key, call.session_id, call.is_subagent) for call in told.of(Call)] == [(f"{CHILD}/a1", S, True)]
    assert told.notes == []


@pytest.mark.parametrize("used", [{"input": -1}, {"output": 10**9, "thoughts": 10**9}, {"cached": 2.5}])
def test_what_no_call_can_have_used_is_a_broken_line(used: JSON) -> None:
    told = gemini(HEADER, answer(tokens=TOKENS | used), answer("a2"))
    assert list(told.calls) == [f"{S}/a2"]
    assert len(told.bad) == 1


def test_people_read_what_was_said_with_roles_and_tools() -> None:
    lines = [HEADER, prompt("u0", "<session_context>"), prompt(), answer(toolCalls=[TOOL], content=""), answer("a2")]
    reader = records().reader(RecordFile(Path("x"), None))
    assert [turn for each in lines for turn in reader.turns(msgspec.json.encode(each))] == [
        Turn(role="user", at=AT, text="list them"),
        Turn(role="assistant", at=AT, text='{"command":"ls"}', tool="run_shell_command"),
        Turn(role="tool", at=AT, text="a b", tool="run_shell_command"),
        Turn(role="assistant", at=AT, text="there are two"),
    ]


def records() -> Records:
    found = RECORDS["gemini"]
    assert isinstance(found, Records)
    return found


def test_files_are_found_with_those_of_sub_agents(tmp_path: Path) -> None:
    chats = tmp_path / "tmp" / "project" / "chats"
    (chats / S).mkdir(parents=True)
    main, other = chats / "session-2026-11-22T22-49-aaaaaaaa.jsonl", chats / "session-2026-11-22T22-50-cccccccc.jsonl"
    child = chats / S / f"{CHILD}.jsonl"
    for path in (main, other, child):
        path.write_bytes(b"")
    of_one = [RecordFile(child, S, is_subagent=True), RecordFile(main, None)]
    assert list(records().list_files(tmp_path, S)) == of_one
    assert list(records().list_files(tmp_path)) == [*of_one, RecordFile(other, None)]
    assert list(records().list_files(tmp_path, "../" + S)) == []
