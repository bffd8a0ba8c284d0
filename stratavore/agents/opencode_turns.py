"""A conversation of OpenCode as people read it: messages are made of parts."""

from collections.abc import Iterator
from typing import Any

import msgspec

from stratavore.agents import decoding
from stratavore.agents.decoding import Milliseconds, decode
from stratavore.agents.records import BadLine, Turn


class _Time(msgspec.Struct):
    created: Milliseconds | None = None


class _Message(msgspec.Struct):
    role: str | None = None
    time: _Time | None = None


class _State(msgspec.Struct):
    input: msgspec.Raw = msgspec.Raw()
    output: Any = None
    error: Any = None


class _Part(msgspec.Struct):
    type: str | None = None
    text: str | None = None
    tool: str | None = None
    state: _State | None = None
    synthetic: bool | None = None


_message = msgspec.json.Decoder(_Message)
_part = msgspec.json.Decoder(_Part)


def turns_in(message: bytes, part: bytes) -> Iterator[Turn]:
    """What was said in one part of a message; nothing if it is broken: the others must not be lost with it."""
    try:
        head, said = decode(_message, message), decode(_part, part)
    except BadLine:
        return
    at = decoding.from_milliseconds(head.time.created if head.time else None)
    role = head.role if head.role in ("user", "assistant") else "system"
    if said.type == "text" and said.text and not said.synthetic:
        yield Turn(role=role, at=at, text=said.text)
    elif said.type == "tool" and said.state is not None:
        name = said.tool or "?"
        yield Turn(role=role, at=at, text=bytes(said.state.input).decode(errors="replace"), tool=name)
        answer = said.state.output if said.state.output is not None else said.state.error
        if answer is not None:
            yield Turn(role="tool", at=at, text=str(answer), tool=name)
