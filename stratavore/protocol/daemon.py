"""What may be asked about the daemon and of what happened."""

from typing import Annotated

from msgspec import Meta

from stratavore import bounds
from stratavore.protocol.base import Request, Seconds
from stratavore.routes import LONGEST_WAIT_SECONDS


class ListEvents(Request, frozen=True):
    """Events after `since`, oldest first; waits up to `wait_seconds` for the first one."""

    since: Annotated[int, Meta(ge=bounds.SEQ.least, le=bounds.SEQ.most)] = 0
    limit: Annotated[int, Meta(ge=bounds.EVENTS.least, le=bounds.EVENTS.most)] = 1000
    wait_seconds: Annotated[float, Meta(ge=0, le=LONGEST_WAIT_SECONDS)] = 0
    newest: bool = False
    """Without `since`: the newest `limit` events instead of the oldest."""


class StopDaemon(Request, frozen=True):
    """End the daemon. `runners` also stops every runner first; `restart` leaves no stop mark."""

    runners: bool = False
    restart: bool = False


class Prune(Request, frozen=True):
    """Remove ended runners (and their output) and events; None takes the configured retention."""

    older_than_seconds: Seconds | None = None
    dry_run: bool = False
