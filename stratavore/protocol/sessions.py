"""What may be asked about conversations."""

from datetime import datetime
from typing import Annotated

from msgspec import Meta, field

from stratavore import bounds
from stratavore.protocol.base import Request
from stratavore.routes import LONGEST_WAIT_SECONDS

Cursor = Annotated[str, Meta(max_length=40, pattern=r"^[0-9]*$")]


class ListSessions(Request, frozen=True):
    """Which conversations, the newest first; with `since`, those in which something was said after that."""

    project: str | None = None
    agent: str | None = None
    since: datetime | None = None
    foreign: bool = False
    """Only those in which no runner of ours ever was."""
    resumable: bool = False
    """Only those that can be resumed now."""
    limit: Annotated[int, Meta(ge=1, le=10_000)] = 1000
    offset: Annotated[int, Meta(ge=0, le=bounds.SEQ.most)] = 0


class ReadTranscript(Request, frozen=True):
    """A part of what was said; `after` is the `next` of the part before."""

    after: Cursor = ""


class BeginImport(Request, frozen=True):
    """Read what agents left before: of one kind of agent, of one account directory, or of all that are found.

    `environment` is where the caller's agents look for their account directories.
    """

    agent: str | None = None
    path: Annotated[str, Meta(max_length=4096)] | None = None
    environment: dict[str, str] = field(default_factory=dict)


class WatchImport(Request, frozen=True):
    """How far it is: as soon as it is over, or the time is."""

    wait_seconds: Annotated[float, Meta(ge=0, le=LONGEST_WAIT_SECONDS)] = 0
