"""What may be asked about conversations."""

from typing import Annotated

from msgspec import Meta

from stratavore.protocol.base import Request, Seconds

Cursor = Annotated[str, Meta(max_length=40, pattern=r"^[0-9]*$")]


class ListSessions(Request, frozen=True):
    """Which conversations, the newest first. `since_seconds`: those in which something was said so long ago at most."""

    project: str | None = None
    agent: str | None = None
    since_seconds: Seconds | None = None
    foreign: bool = False
    """Only those in which no runner of ours ever was."""
    resumable: bool = False
    """Only those that can be resumed now."""
    limit: Annotated[int, Meta(ge=1, le=10_000)] = 1000
    offset: Annotated[int, Meta(ge=0)] = 0


class ReadTranscript(Request, frozen=True):
    """A part of what was said; `after` is the `next` of the part before."""

    after: Cursor = ""
