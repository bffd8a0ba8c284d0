"""A chat of Gemini CLI as people read it."""

from collections.abc import Iterator
from typing import Any

import msgspec

from stratavore.agents import decoding
from stratavore.agents.decoding import Moment, decode
from stratavore.agents.records import Turn

_ROLES = {"user": "user", "gemini": "assistant", "info": "system", "error": "system", "warning": "system"}


class _ToolCall(msgspec.Struct):
    name: str | None = None
    args: msgspec.Raw = msgspec.Raw()
    result: Any = None
    display: Any = msgspec.field(default=None, name="resultDisplay")


class _Part(msgspec.Struct):
    text: str | None = None


class _Line(msgspec.Struct):
    type: str | None = None
    timestamp: Moment | None = None
    content: msgspec.Raw = msgspec.Raw()
    tool_calls: list[_ToolCall] | None = msgspec.field(default=None, name="toolCalls")


_line = msgspec.json.Decoder(_Line)
_content: "msgspec.json.Decoder[str | list[_Part | str] | _Part | None]" = msgspec.json.Decoder(
    str | list[_Part | str] | _Part | None
)


def turns_of(line: bytes) -> Iterator[Turn]:
    """What was said in one line. A message with tools is written twice: its words are taken from the first.

    Raises:
        BadLine: the line is broken.
    """
    said = decode(_line, line)
    role = _ROLES.get(said.type or "")
    if role is None:
        return
    at = decoding.moment(said.timestamp) if said.timestamp else None
    text = said_in(said.content)
    if text and not said.tool_calls and not text.startswith("<session_context>"):
        yield Turn(role=role, at=at, text=text)
    for call in said.tool_calls or ():
        name = call.name or "?"
        yield Turn(role="assistant", at=at, text=bytes(call.args).decode(errors="replace"), tool=name)
        answer = call.display if isinstance(call.display, str) else msgspec.json.encode(call.result).decode()
        yield Turn(role="tool", at=at, text=answer, tool=name)


def said_in(content: msgspec.Raw) -> str:
    """The words of a message; empty where there are none, but what a tool answered."""
    if not bytes(content):
        return ""
    said = decode(_content, content)
    if said is None or isinstance(said, str):
        return said or ""
    parts = said if isinstance(said, list) else [said]
    return "\n".join(part if isinstance(part, str) else part.text or "" for part in parts)
