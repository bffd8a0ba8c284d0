"""The status line of Claude Code 2.1.330: how ours is asked for, and what it tells of the account (status_line.py).

Rule 1: whatever has another shape says nothing, and hides nothing that stands beside it.
"""

import shlex
from collections.abc import Iterator, Sequence
from datetime import datetime
from typing import Any

import msgspec

from stratavore.agents.decoding import decode, from_seconds
from stratavore.agents.records import BadLine, Window

EVENT = "StatusLine"
_WINDOWS = {"five_hour": "5h", "seven_day": "7d"}
_MOST_PERCENT = 1000
"""Of Claude's own figures none is far above 100."""


class _Said(msgspec.Struct):
    rate_limits: dict[str, msgspec.Raw] = {}


class _Window(msgspec.Struct):
    used_percentage: float
    resets_at: float | None = None


_SAID, _WINDOW = msgspec.json.Decoder(_Said), msgspec.json.Decoder(_Window)


def settings(command: Sequence[str], *arguments: str) -> dict[str, Any]:
    """What asks for it, in place of the user's own; nothing without a command. The shell makes way for it."""
    if not command:
        return {}
    return {"statusLine": {"type": "command", "command": "exec " + shlex.join((*command, *arguments))}}


def windows(text: bytes, at: datetime) -> tuple[Window, ...]:
    """How much of the account's windows is used, as far as it is told."""
    return tuple(_windows(text, at))


def _windows(text: bytes, at: datetime) -> Iterator[Window]:
    try:
        limits = decode(_SAID, text).rate_limits
    except BadLine:
        return
    for theirs, name in _WINDOWS.items():
        try:
            found = decode(_WINDOW, limits.get(theirs, b""))
        except BadLine:
            continue
        if 0 <= found.used_percentage <= _MOST_PERCENT:
            resets_at = from_seconds(found.resets_at)
            yield Window(at=at, name=name, used_percent=found.used_percentage, resets_at=resets_at)
