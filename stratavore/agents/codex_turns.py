"""A rollout of Codex as people read it: the items of the conversation, but not what Codex itself tells the model."""

from collections.abc import Iterator
from datetime import datetime
from typing import Any

import msgspec

from stratavore.agents import decoding
from stratavore.agents.decoding import Moment, decode
from stratavore.agents.records import Turn

_NOT_SAID = ("<environment_context>", "<user_instructions>", "# AGENTS.md instructions", "<permissions instructions>")


class _Item(msgspec.Struct):
    type: str | None = None
    role: str | None = None
    content: Any = None
    name: str | None = None
    call_id: str | None = None
    arguments: Any = None
    input: Any = None
    action: Any = None
    output: Any = None


class _Line(msgspec.Struct):
    type: str | None = None
    timestamp: Moment | None = None
    payload: msgspec.Raw = msgspec.Raw()


_line = msgspec.json.Decoder(_Line)
_item = msgspec.json.Decoder(_Item)


class CodexTurns:
    """Reads one rollout in order: what a tool answers does not say which tool it is."""

    def __init__(self) -> None:
        self._tools: dict[str, str] = {}

    def read(self, line: bytes) -> Iterator[Turn]:
        """What was said in one line.

        Raises:
            BadLine: the line is broken.
        """
        said = decode(_line, line)
        if said.type != "response_item":
            return
        item = decode(_item, said.payload)
        at = decoding.moment(said.timestamp) if said.timestamp else None
        if item.type == "message" and item.role in ("user", "assistant"):
            yield from _message(item, at, item.role)
        elif item.type in ("function_call", "custom_tool_call", "local_shell_call"):
            tool = self._tools[item.call_id or ""] = item.name or "shell"
            wish = item.arguments or item.input or item.action
            yield Turn(role="assistant", at=at, text=_text(wish), tool=tool)
        elif item.type in ("function_call_output", "custom_tool_call_output"):
            tool = self._tools.pop(item.call_id or "", "?")
            yield Turn(role="tool", at=at, text=_text(item.output), tool=tool)


def _message(item: _Item, at: datetime | None, role: str) -> Iterator[Turn]:
    text = _text(item.content)
    if text and not text.startswith(_NOT_SAID):
        yield Turn(role=role, at=at, text=text)


def _text(said: Any) -> str:
    """What stands in a value of which some is text."""
    if isinstance(said, str):
        return said
    if isinstance(said, list):
        return "\n".join(filter(None, map(_part, said)))
    if isinstance(said, dict) and isinstance(said.get("content"), str):
        return str(said["content"])
    return "" if said is None else msgspec.json.encode(said).decode()


def _part(part: Any) -> str:
    if not isinstance(part, dict):
        return str(part)
    return str(part.get("text") or f"[{part.get('type')}]")
