"""What may be asked about usage."""

from datetime import datetime
from typing import Annotated

from msgspec import Meta

from stratavore.model import UsageBy
from stratavore.protocol.base import Request


class ShowUsage(Request, frozen=True):
    """What was used since a moment, by whom, by what or when."""

    by: UsageBy = UsageBy.DAY
    since: Annotated[datetime, Meta(tz=True)] | None = None
    project: str | None = None
