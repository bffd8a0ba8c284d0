"""Text that a program shall read as pasted, and the frame that carries it with its submit key.

Rule 1: pasted text cannot end the paste: whatever could is removed before.
Rule 2: pasted text holds no control but tab and line feed, so that it can press no key.
"""

import re
from collections.abc import Sequence
from typing import NamedTuple

from stratavore.terminal import keys
from stratavore.terminal.modes import Modes

BEGIN, END = b"\x1b[200~", b"\x1b[201~"
_LINE_END = re.compile("\r\n?")
_MARKER = re.compile("(?:\x1b\\[|\x9b)20[01]~")
_CONTROL = re.compile("[\x00-\x08\x0b-\x1f\x7f-\x9f]")


class Pause(NamedTuple):
    """Nothing for so long."""

    seconds: float


Part = bytes | Pause


def paste(text: str, *, bracketed: bool) -> bytes:
    """`text` as a terminal would paste it: where the program asked for no bracket, a line end is pasted as Enter."""
    clean = _CONTROL.sub("", _without_markers(_LINE_END.sub("\n", text)))
    data = clean.encode("utf-8", "replace")
    return BEGIN + data + END if bracketed else data.replace(b"\n", b"\r")


def parts(text: str | None, names: Sequence[str], *, modes: Modes, submit: str, pause_seconds: float) -> list[Part]:
    """What `send` types, in one frame: the text pasted, the submit key, each named key, with pauses between.

    Raises:
        Invalid: no such key.
    """
    typed = []
    if text is not None:
        typed.append(paste(text, bracketed=modes.bracketed_paste))
        names = [submit, *names] if submit else names
    typed += [keys.encode(name, application_cursor=modes.application_cursor) for name in names]
    found: list[Part] = []
    for data in filter(None, typed):
        found += [Pause(pause_seconds), data] if found else [data]
    return found


def _without_markers(text: str) -> str:
    """Removing a marker can make another out of its two sides, so until none is left."""
    while (clean := _MARKER.sub("", text)) != text:
        text = clean
    return text
