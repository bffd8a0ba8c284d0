"""What may be asked about usage."""

from datetime import date, datetime
from typing import Annotated

from msgspec import Meta

from stratavore.model import UsageBy
from stratavore.protocol.base import Request


class ShowUsage(Request, frozen=True):
    """What was used since a moment, by whom, by what or when."""

    by: UsageBy = UsageBy.DAY
    since: Annotated[datetime, Meta(tz=True)] | None = None
    since_day: date | None = None
    """In its place: since the beginning of that day, by the clock of the budgets."""
    project: str | None = None
