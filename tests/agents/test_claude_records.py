"""What lines of Claude Code's transcripts say, written by hand after real ones."""

from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import msgspec
import pytest

from stratavore.agents import RECORDS
from stratavore.agents.records import WEAK, Call, Note, RecordFile, Records, Turn
from stratavore.model import Activity
from tests.agents.telling import classes, of_lines

JSON = dict[str, Any]
S, FORK, PARENT = (f"{letter * 8}-0000-4000-8000-000000000000" for letter in "abc")
AT = datetime(2026, 11, 22, 13, 58, 8, 533000, tzinfo=UTC)
USAGE = {
    "input_tokens": 12,
    "cache_creation_input_tokens": 150,
    "cache_read_input_tokens": 2000,
    "output_tokens": 34,
    "cache_creation": {"ephemeral_1h_input_tokens": 50, "ephemeral_5m_input_tokens": 100},
}


def line(kind: str, **fields: Any) -> JSON:
    head = {"type": kind, "sessionId": S, "timestamp": "2026-11-22T13:58:08.533Z", "cwd": "/p", "isSidechain": False}
    return head | {"uuid": "0da2"} | fields


def answer(text: str = "Hello", *, id: str | None = "msg_1", **fields: Any) -> JSON:
    message: JSON = {
        "id": id,
        "role": "assistant",
        "model": "claude-opus-4-8",
        "stop_reason": "end_turn",
        "usage": USAGE,
    }
    message["content"] = [{"type": "text", "text": text}]
    return line("assistant", requestId="req_1", message=message | fields.pop("message", {}), **fields)


def prompt(content: object = "do it", **fields: Any) -> JSON:
    return line("user", message={"role": "user", "content": content}, **fields)


def claude(*lines: object, file: RecordFile | None = None) -> Any:
    return of_lines("claude", *lines, file=file)


def test_an_answer_is_a_call_in_disjoint_classes() -> None:
    (call,) = claude(answer()).of(Call)
    assert call == Call(
        key="msg_1",
        session_id=S,
        at=AT,
        model="claude-opus-4-8",
        input_tokens=12,
        output_tokens=34,
        cache_write_5m_tokens=100,
        cache_write_1h_tokens=50,
        cache_read_tokens=2000,
        request_id="req_1",
    )


def test_each_block_of_an_answer_is_a_line_and_all_are_one_call_and_one_message() -> None:
    """Versions differ in whether the first lines have the final usage: the maximum is it."""
    early = answer(message={"usage": USAGE | {"output_tokens": 1}, "stop_reason": None})
    told = claude(prompt(), early, answer("a"), answer("b"))
    assert told.calls == {"msg_1": (12, 34, 100, 50, 2000)}
    assert told.messages(S) == 2


def test_cache_writes_of_no_said_class_are_of_the_shorter_one() -> None:
    usage = {"input_tokens": 1, "output_tokens": 2, "cache_creation_input_tokens": 7, "cache_read_input_tokens": None}
    (call,) = claude(answer(message={"usage": usage})).of(Call)
    assert classes(call) == (1, 2, 7, 0, 0)


def test_without_ids_the_line_itself_is_the_key_and_is_marked_as_weak() -> None:
    by_request = claude(answer(id=None)).of(Call)
    assert [call.key for call in by_request] == ["req_1"]
    nameless = answer(id=None) | {"requestId": None}
    keys = [call.key for call in claude(nameless, nameless).of(Call)]
    assert [key.startswith(WEAK) for key in keys] == [True, True]
    assert len(set(keys)) == 2, "two lines are two calls, wherever they stand"
    assert keys == [call.key for call in claude(nameless, nameless).of(Call)]


def test_a_call_that_was_served_fast_says_so_behind_its_model() -> None:
    (plain,) = claude(answer(message={"usage": {**USAGE, "speed": "standard"}})).of(Call)
    (fast,) = claude(answer(message={"usage": {**USAGE, "speed": "fast"}})).of(Call)
    assert fast.model == f"{plain.model}[fast]"


def test_what_repeats_the_usage_of_others_is_no_call() -> None:
    result = prompt([{"type": "tool_result", "tool_use_id": "t"}], toolUseResult={"usage": USAGE, "totalTokens": 9})
    total = {"type": "cost-state", "sessionId": S, "modelUsage": {"m": {"inputTokens": 9}}}
    nothing = answer(message={"usage": {"input_tokens": 0, "output_tokens": 0}})
    synthetic = answer(message={"model": "<synthetic>"})
    assert claude(result, total, nothing, synthetic, {"type": "new-kind", "message": {"usage": USAGE}}).calls == {}


def test_a_sub_agents_call_is_its_parents_and_says_nothing_else() -> None:
    inside = answer(isSidechain=True, agentId="x")
    told = claude(prompt(isSidechain=True), inside)
    assert [(call.session_id, call.is_subagent) for call in told.of(Call)] == [(S, True)]
    assert told.notes == []
    file = RecordFile(Path("agent-x.jsonl"), PARENT, is_subagent=True)
    (call,) = claude(answer(sessionId=None), file=file).of(Call)
    assert (call.session_id, call.is_subagent) == (PARENT, True)


def test_what_a_fork_copied_has_the_same_key_and_a_branch_says_where_it_comes_from() -> None:
    told = claude(answer(sessionId=FORK, forkedFrom={"sessionId": S, "messageUuid": "u"}))
    assert list(told.calls) == ["msg_1"]
    assert [note.parent_id for note in told.notes] == [S]


@pytest.mark.parametrize(
    ("said", "activity", "is_message"),
    [
        (prompt(), Activity.WORKING, True),
        (prompt([{"type": "text", "text": "and this"}, {"type": "image"}]), Activity.WORKING, True),
        (prompt([{"type": "tool_result", "content": "x"}], toolUseResult={"stdout": "x"}), Activity.WORKING, False),
        (prompt([{"type": "tool_result", "content": "x"}]), Activity.WORKING, False),
        (prompt([{"type": "text", "text": "[Request interrupted by user]"}]), Activity.IDLE, False),
        (prompt("[Request interrupted by user for tool use]"), Activity.IDLE, False),
        (prompt("<command-name>/cost</command-name>"), None, False),
        (prompt("<local-command-stdout>x</local-command-stdout>"), None, False),
        (prompt("Caveat", isMeta=True), None, False),
        (prompt("This session is being continued", isCompactSummary=True), None, False),
        (answer(message={"stop_reason": "tool_use"}), Activity.WORKING, True),
        (answer(), Activity.IDLE, True),
        (line("system", subtype="turn_duration", durationMs=5), Activity.IDLE, False),
        (line("system", subtype="local_command", content="x"), None, False),
    ],
)
def test_a_line_tells_what_the_agent_does_from_there_on(
    said: JSON, activity: Activity | None, is_message: bool
) -> None:
    notes = claude(said).notes
    assert [note.activity for note in notes] == ([] if activity is None else [activity])
    assert any(note.is_message for note in notes) == is_message


def test_words_that_go_on_and_on_are_cut() -> None:
    told = claude(answer(message={"stop_reason": "x" * 10_000}))
    assert [note.said for note in told.notes] == ["x" * 200]
    assert list(told.calls) == ["msg_1"]


def error(text: str, **fields: Any) -> JSON:
    content = {"content": [{"type": "text", "text": text}], "model": "<synthetic>", "usage": {"input_tokens": 0}}
    return answer(message=content, isApiErrorMessage=True, **fields)


@pytest.mark.parametrize(
    ("said", "resets_at"),
    [
        (error("Claude AI usage limit reached|1795400000"), datetime.fromtimestamp(1795400000, UTC)),
        (
            error("You've hit your session limit · resets 3:40pm (UTC)", error="rate_limit"),
            datetime(2026, 11, 22, 15, 40, tzinfo=UTC),
        ),
        (
            error("You've hit your weekly limit · resets Nov 25, 5am (Asia/Tokyo)", apiErrorStatus=429),
            datetime(2026, 11, 24, 20, tzinfo=UTC),
        ),
        (error("API Error: Request rejected (429) · slow down", apiErrorStatus=429), None),
    ],
)
def test_a_limit_of_the_provider_is_told_with_its_end_where_the_line_says_it(
    said: JSON, resets_at: datetime | None
) -> None:
    told = claude(said)
    assert [(limit.session_id, limit.resets_at) for limit in told.limits] == [(S, resets_at)]
    assert [note.activity for note in told.notes] == [Activity.WAITING_INPUT]


def test_another_error_is_no_limit() -> None:
    told = claude(error("API Error: 500", error="server_error", apiErrorStatus=500))
    assert told.limits == []
    assert [(note.activity, note.said) for note in told.notes] == [(Activity.WAITING_INPUT, "API Error: 500")]


def named(kind: str, key: str, text: str) -> JSON:
    return {"type": kind, key: text, "sessionId": S}


def test_the_title_is_claudes_own_or_else_the_first_prompt() -> None:
    summary, generated = named("summary", "summary", "Sums up"), named("ai-title", "aiTitle", "About it")
    assert claude(prompt("do it\nnow"), answer(), prompt("and that")).title(S) == "do it"
    assert claude(prompt("<command-name>/init"), prompt(isMeta=True), prompt("do it")).title(S) == "do it"
    assert claude(prompt(), answer(), summary, prompt("more")).title(S) == "Sums up"
    assert claude(generated, prompt(), answer(), summary).title(S) == "About it"


def test_a_name_stands_beside_the_title_whoever_gave_it() -> None:
    chosen, own_name = named("custom-title", "customTitle", "Mine"), named("agent-name", "agentName", "worker")
    told = claude(own_name, prompt(), chosen, answer())
    assert (told.title(S), told.name(S)) == ("do it", "Mine")
    assert claude(named("custom-title", "customTitle", "a" * 900 + "\nb")).name(S) == "a" * 200


def test_a_summary_before_the_first_answer_is_that_of_another_conversation() -> None:
    file = RecordFile(Path(f"{S}.jsonl"), S)
    assert claude({"type": "summary", "summary": "Old", "leafUuid": "u"}, prompt(), file=file).title(S) == "do it"


@pytest.mark.parametrize(
    "used",
    [
        {"output_tokens": -1},
        {"output_tokens": 10**9 + 1},
        {"input_tokens": True},
        {"input_tokens": 1.5},
        {"input_tokens": "12"},
        {"cache_read_input_tokens": 2**70},
    ],
)
def test_what_no_call_can_have_used_is_a_broken_line(used: JSON) -> None:
    told = claude(answer(message={"usage": USAGE | used}), answer(id="msg_2"))
    assert len(told.bad) == 1
    assert list(told.calls) == ["msg_2"]


@pytest.mark.parametrize("at", [None, "yesterday", "0001-01-01T00:00:00+14:00", "9999-12-31T23:59:59-10:00", 12])
def test_a_call_without_a_possible_time_is_a_broken_line(at: object) -> None:
    told = claude(answer() | {"timestamp": at})
    assert told.facts == []
    assert len(told.bad) == 1


def test_broken_letters_do_not_take_the_numbers_along() -> None:
    half = b'{"aiTitle":"half of \\ud83d","type":"ai-title","sessionId":"s"}'
    assert claude(half).title("s") == "half of �"
    whole = answer("x")

    encoded = msgspec.json.encode(whole)
    assert claude(encoded.replace(b'"x"', b'"\xff\xfe"'), encoded.replace(b'"x"', b'"\\udead"')).calls == {
        "msg_1": (12, 34, 100, 50, 2000)
    }


def test_people_read_what_was_said_with_roles_and_tools() -> None:
    call = {"type": "tool_use", "id": "t1", "name": "Bash", "input": {"command": "ls"}}
    result = {
        "type": "tool_result",
        "tool_use_id": "t1",
        "content": [{"type": "text", "text": "a b"}, {"type": "image"}],
    }
    lines: list[JSON] = [
        prompt("list them"),
        answer(message={"content": [{"type": "thinking", "thinking": "hm"}]}),
        answer(message={"content": [call]}),
        prompt([result]),
        answer("there are two"),
        prompt("caveat", isMeta=True),
        {"type": "mode", "mode": "normal"},
    ]
    reader = records().reader(RecordFile(Path("x"), S))

    turns = [turn for each in lines for turn in reader.turns(msgspec.json.encode(each))]
    assert turns == [
        Turn(role="user", at=AT, text="list them"),
        Turn(role="assistant", at=AT, text='{"command":"ls"}', tool="Bash"),
        Turn(role="tool", at=AT, text="a b\n[image]", tool="Bash"),
        Turn(role="assistant", at=AT, text="there are two"),
    ]


def records() -> Records:
    found = RECORDS["claude"]
    assert isinstance(found, Records)
    return found


def put(path: Path) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(b"")
    return path


def test_files_are_found_with_those_of_sub_agents_but_not_through_links(tmp_path: Path) -> None:
    project = tmp_path / "projects" / "-p"
    main, other = put(project / f"{S}.jsonl"), put(project / f"{FORK}.jsonl")
    inner, deep = (
        put(project / S / "subagents" / "agent-1.jsonl"),
        put(project / S / "subagents" / "w" / "agent-2.jsonl"),
    )
    old = put(project / "agent-9.jsonl")
    put(project / S / "tool-results" / "x.txt")
    (tmp_path / "projects" / "elsewhere").symlink_to(project)
    of_one = [RecordFile(main, S), RecordFile(inner, S, True), RecordFile(deep, S, True)]
    assert sorted(records().list_files(tmp_path, S)) == sorted(of_one)
    everything = [*of_one, RecordFile(other, FORK), RecordFile(old, None, True)]
    found = list(records().list_files(tmp_path))
    assert set(found) == set(everything)
    assert [file.path for file in found] == sorted(file.path for file in everything)


@pytest.mark.parametrize("name", ["../x", "", ".", "..", "a/b", "*"])
def test_an_id_is_a_name_and_never_a_way(tmp_path: Path, name: str) -> None:
    put(tmp_path / "projects" / "-p" / f"{S}.jsonl")
    put(tmp_path / "projects" / "x.jsonl")
    assert list(records().list_files(tmp_path, name)) == []
    assert list(records().list_files(tmp_path / "missing", S)) == []


def test_notes_carry_where_and_when() -> None:
    assert claude(prompt()).notes == [
        Note(session_id=S, at=AT, cwd="/p", title="do it", is_message=True, activity=Activity.WORKING, said="prompt")
    ]
    assert claude(prompt(cwd="relative")).notes[0].cwd is None
