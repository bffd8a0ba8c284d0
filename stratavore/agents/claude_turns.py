"""A transcript of Claude Code as people read it."""

from collections.abc import Iterator
from datetime import datetime
from typing import Any

import msgspec

from stratavore.agents import decoding
from stratavore.agents.decoding import Moment, decode
from stratavore.agents.records import Turn


class _Block(msgspec.Struct):
    type: str | None = None
    text: str | None = None
    thinking: str | None = None
    name: str | None = None
    id: str | None = None
    tool_use_id: str | None = None
    input: msgspec.Raw = msgspec.Raw()
    content: msgspec.Raw = msgspec.Raw()


_Content = str | list[_Block | str] | None


class _Message(msgspec.Struct):
    content: _Content = None


class _Line(msgspec.Struct, rename="camel"):
    type: str | None = None
    timestamp: Moment | None = None
    message: _Message | None = None
    content: Any = None
    is_meta: bool | None = None


class _Kind(msgspec.Struct):
    type: str | None = None


_kind = msgspec.json.Decoder(_Kind)
_line = msgspec.json.Decoder(_Line)
_content: "msgspec.json.Decoder[_Content]" = msgspec.json.Decoder(_Content)


class ClaudeTurns:
    """Reads one transcript in order: what a tool answers does not say which tool it is."""

    def __init__(self) -> None:
        self._tools: dict[str, str] = {}

    def read(self, line: bytes) -> Iterator[Turn]:
        """What was said in one line.

        Raises:
            BadLine: the line is broken.
        """
        kind = decode(_kind, line).type
        if kind not in ("user", "assistant", "system"):
            return
        said = decode(_line, line)
        if said.is_meta:
            return
        at = decoding.moment(said.timestamp) if said.timestamp else None
        if kind == "system":
            if isinstance(said.content, str) and said.content:
                yield Turn(role="system", at=at, text=said.content)
        elif said.message is not None:
            yield from self._message(kind, at, said.message.content)

    def _message(self, role: str, at: datetime | None, content: _Content) -> Iterator[Turn]:
        for block in [content] if isinstance(content, str) else content or ():
            if isinstance(block, str):
                yield Turn(role=role, at=at, text=block)
            elif block.type == "text" and block.text:
                yield Turn(role=role, at=at, text=block.text)
            elif block.type == "tool_use":
                tool = self._tools[block.id or ""] = block.name or "?"
                yield Turn(role=role, at=at, text=bytes(block.input).decode(errors="replace"), tool=tool)
            elif block.type == "tool_result":
                tool = self._tools.pop(block.tool_use_id or "", "?")
                yield Turn(role="tool", at=at, text=_result(block.content), tool=tool)


def _result(content: msgspec.Raw) -> str:
    """What a tool said: a text, or blocks of which some are."""
    if not bytes(content):
        return ""
    said = decode(_content, content)
    if said is None or isinstance(said, str):
        return said or ""
    return "\n".join(block if isinstance(block, str) else block.text or f"[{block.type}]" for block in said)
