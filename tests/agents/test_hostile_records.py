"""Whatever stands in a file, a reader says something, or nothing, or BadLine."""

import json
import subprocess
from collections.abc import Callable, Iterable
from contextlib import suppress
from datetime import UTC
from pathlib import Path
from typing import Any

import msgspec
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from stratavore.agents import RECORDS, listing
from stratavore.agents.decoding import decode
from stratavore.agents.limits import resets_at
from stratavore.agents.records import LARGEST_CALL, BadLine, Call, Fact, Limit, Note, RecordFile, Records, Window
from stratavore.clock import iso
from tests.agents import test_claude_records as claude
from tests.agents import test_codex_records as codex
from tests.agents import test_gemini_records as gemini
from tests.agents.telling import classes

REAL: dict[str, list[Any]] = {
    "claude": [
        claude.prompt(),
        claude.answer(),
        claude.answer(forkedFrom={"sessionId": "s"}),
        claude.error("You've hit your limit · resets Nov 25, 5am (Asia/Tokyo)", error="rate_limit"),
        claude.prompt([{"type": "tool_result", "content": [{"type": "text", "text": "x"}]}]),
        claude.named("custom-title", "customTitle", "Mine"),
        claude.line("system", subtype="turn_duration"),
    ],
    "codex": [
        codex.META,
        codex.CONTEXT,
        codex.record("resp_1", codex.usage(100, 60, 20)),
        codex.count(codex.usage(100), codex.usage(9), limits=codex.limits(50)),
        codex.count(codex.usage(200), None, limits=codex.limits(100)),
        codex.event("task_complete", error={"message": "x", "codex_error_info": "usage_limit_exceeded"}),
        codex.event("item_completed", item={"type": "UserMessage", "content": [{"text": "do it"}]}),
        codex.event("user_message", message="x"),
        codex.line("response_item", {"type": "function_call", "name": "x", "arguments": "{}"}),
        codex.line("response_item", {"type": "message", "role": "user", "content": [{"text": "x"}]}),
    ],
    "gemini": [
        gemini.HEADER,
        gemini.prompt(),
        gemini.answer(),
        gemini.answer(toolCalls=[gemini.TOOL]),
        gemini.message("error", "e", "quota will reset after 3h12m5s"),
        {"$set": {"summary": "x", "sessionId": "y"}},
    ],
}
BOMBS = {
    "depth of arrays": b"[" * 100_000,
    "depth of objects": b'{"a":' * 100_000,
    "deep but whole": b'{"message":' + b"[" * 50_000 + b"]" * 50_000 + b"}",
    "a number of 5000 digits": b'{"type":"assistant","message":{"usage":{"input_tokens":' + b"9" * 5000 + b"}}}",
    "a number of 4000 digits": b'{"timestamp":' + b"9" * 4000 + b"}",
    "NULs": b"\0" * 10_000,
    "no UTF-8": b'{"type":"\xff\xfe"}',
    "half a pair": b'{"type":"\\ud800"}',
    "NaN": b'{"type":NaN}',
    "infinity": b'{"payload":{"used_percent":1e999}}',
    "nothing": b"",
    "blanks": b"   ",
    "a list": b"[1,2]",
    "a number": b"5",
    "null": b"null",
    "another key each": b"{" + b",".join(b'"%d":%d' % (n, n) for n in range(20_000)) + b"}",
}

strange = st.one_of(
    st.none(),
    st.booleans(),
    st.integers(),
    st.integers(min_value=-(2**200), max_value=2**200),
    st.floats(),
    st.text(max_size=20),
    st.just("9" * 5000),
    st.builds(list),
    st.builds(dict),
    st.builds(lambda: [[[[]]]]),
    st.sampled_from(["2026-11-22T22:49:27Z", "0001-01-01T00:00:00+14:00", "9999-12-31T23:59:59-14:00", "\ud800", "\0"]),
)


def reader_of(kind: str) -> Any:
    records = RECORDS[kind]
    assert isinstance(records, Records)
    return records.reader(RecordFile(Path("x.jsonl"), "s"))


def check(fact: Fact) -> None:
    """What others rely on, whatever was read."""
    match fact:
        case Call():
            assert all(type(count) is int and 0 <= count <= LARGEST_CALL for count in classes(fact))
            assert 0 < len(fact.key) < 1000
            assert len(fact.model) <= 200
        case Note():
            assert fact.title is None or 0 < len(fact.title) <= 200
            assert len(fact.said) <= 200
            fact.said.encode()
        case Limit():
            assert len(fact.said) <= 200
            assert fact.resets_at is None or fact.resets_at.tzinfo is UTC
        case Window():
            assert 0 <= fact.used_percent <= 1000
            assert fact.resets_at is None or fact.resets_at.tzinfo is UTC
    at = fact.at
    assert at is None or (at.tzinfo is UTC and iso(at))


def read_safely(kind: str, lines: Iterable[bytes]) -> None:
    reader = reader_of(kind)
    for line in lines:
        for ask in (lambda line: reader.read(line, 7), reader.turns):
            ask_safely(ask, line)
    assert isinstance(RECORDS[kind], Records)
    RECORDS[kind].reader(RecordFile(Path("x.jsonl"), "s"), reader.memory)  # type: ignore[union-attr]


def ask_safely(ask: Callable[[bytes], Iterable[Any]], line: bytes) -> None:
    try:
        said = list(ask(line))
    except BadLine:
        return
    for each in said:
        if isinstance(each, Call | Note | Limit | Window):
            check(each)
        else:
            each.text.encode()


kinds = pytest.mark.parametrize("kind", list(REAL))


@kinds
@settings(max_examples=200, deadline=None)
@given(line=st.binary(max_size=300))
def test_arbitrary_bytes(kind: str, line: bytes) -> None:
    read_safely(kind, [line])


@kinds
@settings(max_examples=300, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(data=st.data())
def test_real_lines_with_something_strange_in_one_place(kind: str, data: st.DataObject) -> None:
    lines = [json.loads(json.dumps(line)) for line in REAL[kind]]
    for _ in range(data.draw(st.integers(1, 3))):
        target = data.draw(st.sampled_from(lines))
        replace_somewhere(target, data)
    read_safely(kind, [json.dumps(line).encode() for line in lines])


def replace_somewhere(value: Any, data: st.DataObject) -> None:
    """Put something strange in the place of one value at any depth."""
    while True:
        places = list(value) if isinstance(value, dict) else list(range(len(value)))
        if not places:
            return
        place = data.draw(st.sampled_from(places))
        inner = value[place]
        if not isinstance(inner, dict | list) or not inner or data.draw(st.booleans()):
            value[place] = data.draw(strange)
            return
        value = inner


@kinds
@settings(max_examples=300, deadline=None)
@given(data=st.data())
def test_real_lines_with_broken_bytes(kind: str, data: st.DataObject) -> None:
    lines = []
    for line in REAL[kind]:
        text = bytearray(json.dumps(line, ensure_ascii=False).encode())
        for _ in range(data.draw(st.integers(0, 2))):
            text[data.draw(st.integers(0, len(text) - 1))] = data.draw(st.integers(0, 255))
        lines.append(bytes(text[: data.draw(st.integers(0, len(text)))]) if data.draw(st.booleans()) else bytes(text))
    read_safely(kind, lines)


@kinds
@pytest.mark.parametrize("bomb", BOMBS)
def test_a_bomb_says_nothing_and_harms_no_other_line(kind: str, bomb: str) -> None:
    reader = reader_of(kind)
    for line in (BOMBS[bomb], *(json.dumps(line).encode() for line in REAL[kind])):
        ask_safely(lambda line: reader.read(line, 7), line)
        ask_safely(reader.turns, line)
    calls = [fact for line in REAL[kind] for fact in reader_of(kind).read(json.dumps(line).encode(), 0)]
    assert calls


@settings(max_examples=300, deadline=None)
@given(
    text=st.one_of(
        st.text(), st.from_regex(r"resets? ?(at|after|in)? ?[A-Za-z0-9 ,:]{0,20}(am|pm) \([A-Za-z/+-]{1,20}\)")
    )
)
def test_a_message_tells_an_end_or_none(text: str) -> None:
    found = resets_at(text, codex.AT)
    assert found is None or found.tzinfo is UTC


def test_no_broken_memory_is_made_of_a_hostile_line() -> None:
    """What is kept between lines is bounded, whatever they were."""
    for kind, lines in REAL.items():
        reader = reader_of(kind)
        for number in range(200):
            for line in lines:
                text = json.dumps(line).replace("msg_1", f"msg_{number}").replace("a1", f"a{number}")
                with suppress(BadLine):
                    reader.read(text.encode(), 0)
        assert len(reader.memory) < 8000


def test_a_decoder_names_what_is_wrong() -> None:

    with pytest.raises(BadLine, match="nested too deeply"):
        decode(msgspec.json.Decoder(), BOMBS["depth of arrays"])


def test_directories_without_end_are_not_followed(tmp_path: Path) -> None:
    (tmp_path / "near.jsonl").touch()
    deep = tmp_path
    try:
        with suppress(OSError):  # a path can be no longer
            for _ in range(1500):
                deep = deep / "d"
                deep.mkdir()
        assert len(deep.parts) > 1000
        assert list(listing.files_below(tmp_path, ".jsonl")) == [tmp_path / "near.jsonl"]
    finally:  # what clears away after tests descends by recursion
        subprocess.run(["rm", "-r", tmp_path / "d"], check=True)
