"""What may be asked about permission requests."""

from typing import Annotated

import msgspec
from msgspec import Meta

from stratavore.protocol.base import Request, Seconds, Text
from stratavore.routes import LONGEST_WAIT_SECONDS


class ListApprovals(Request, frozen=True):
    """The open ones; with `all` the decided ones, too."""

    all: bool = False


class AskApproval(Request, frozen=True):
    """A hook of an agent asks, under an id of its own, and again until it is answered or its time is over.

    `said` is what the agent gave it.
    """

    id: Annotated[str, Meta(pattern=r"^[0-9a-f]{16}(?!\n)$")]
    said: msgspec.Raw
    expires_seconds: Seconds
    wait_seconds: Annotated[float, Meta(ge=0, le=LONGEST_WAIT_SECONDS)] = 0


class DecideApproval(Request, frozen=True):
    """The answer to a request. `for_session`: to all like it in this conversation."""

    allow: bool
    for_session: bool = False
    reason: Text | None = None

    def __post_init__(self) -> None:
        if self.for_session and not self.allow:
            raise ValueError("only an approval can be for the session")
