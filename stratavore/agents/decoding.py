"""Bytes that an agent wrote, decoded: a value of the wanted type, or BadLine.

Rule 1: whatever the bytes are, nothing but BadLine is raised.
Rule 2: text that is broken in itself (bytes that are no UTF-8; half of a surrogate pair, which agents write where they
cut a text) does not take the numbers beside it along.
"""

import re
from datetime import UTC, datetime
from typing import Annotated, TypeVar

import msgspec

from stratavore.agents.records import LARGEST_CALL, BadLine

T = TypeVar("T")

Word = Annotated[str, msgspec.Meta(max_length=200)]
"""An id, or a name of something."""

Milliseconds = Annotated[int, msgspec.Meta(ge=0, le=10**13)]
"""A moment, since 1970."""

Moment = Annotated[datetime, msgspec.Meta(tz=True)]

LONGEST_TITLE = 200
LONGEST_PATH = 4096

_YEARS = range(2000, 2200)
_LONE_HIGH = rb"\\u[dD][89abAB][0-9a-fA-F]{2}(?!\\u[dD][c-fC-F][0-9a-fA-F]{2})"
_LONE_LOW = rb"(?<!\\u[dD][89abAB][0-9a-fA-F]{2})\\u[dD][c-fC-F][0-9a-fA-F]{2}"
_LONE = re.compile(_LONE_HIGH + b"|" + _LONE_LOW)


def decode(decoder: "msgspec.json.Decoder[T]", line: bytes | msgspec.Raw) -> T:
    """The value that stands in the JSON text.

    Raises:
        BadLine: there is none.
    """
    try:
        return decoder.decode(line)
    except RecursionError:
        raise BadLine("nested too deeply") from None
    except (msgspec.MsgspecError, ValueError) as error:
        mended = _mended(bytes(line))
        if mended is None:
            raise BadLine(str(error)) from None
    try:
        return decoder.decode(mended)
    except (msgspec.MsgspecError, ValueError, RecursionError) as error:
        raise BadLine(str(error)) from None


def moment(value: datetime | None) -> datetime:
    """The time of a line, in UTC.

    Raises:
        BadLine: it has none, or one that no agent can have met.
    """
    if value is None:
        raise BadLine("no timestamp")
    if value.year not in _YEARS:
        raise BadLine("a time that cannot be")
    return value if value.tzinfo is UTC else value.astimezone(UTC)


def from_seconds(seconds: float | None) -> datetime | None:
    """A moment that was given in seconds since 1970; None if there is none, or none that can be."""
    if seconds is None or not 946_684_800 <= seconds < 7_258_118_400:
        return None
    return datetime.fromtimestamp(seconds, UTC)


def from_milliseconds(milliseconds: int | None) -> datetime | None:
    """A moment that was given in milliseconds since 1970; None if there is none, or none that can be."""
    return None if milliseconds is None else from_seconds(milliseconds / 1000)


def tokens(count: int) -> int:
    """A number of tokens that was made of others.

    Raises:
        BadLine: no call can have used so many.
    """
    if not 0 <= count <= LARGEST_CALL:
        raise BadLine("more tokens than a call can use")
    return count


def title(text: str | None) -> str | None:
    """The first line of a text, cut; None if nothing is left."""
    first, *_ = (text or "").strip()[: 4 * LONGEST_TITLE].splitlines() or [""]
    return first.strip()[:LONGEST_TITLE] or None


def path(text: str | None) -> str | None:
    """A directory that a line names; None if it is none."""
    return text if text and text.startswith("/") and len(text) <= LONGEST_PATH and "\0" not in text else None


def _mended(line: bytes) -> bytes | None:
    """The line with its broken letters replaced; None if that was not what is wrong with it."""
    text = _LONE.sub(rb"\\ufffd", line)
    try:
        text.decode()
    except UnicodeDecodeError:
        text = text.decode(errors="replace").encode()
    return text if text != line else None
