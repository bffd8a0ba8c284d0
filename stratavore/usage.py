"""The verb that tells what was used."""

import asyncio

from stratavore.context import Asker, Context
from stratavore.model import Usage
from stratavore.periods import beginning_of
from stratavore.protocol import ShowUsage
from stratavore.store import budget_rows, usage_report
from stratavore.store.database import Rows


async def usage(context: Context, asker: Asker, request: ShowUsage) -> Usage:
    """What agents used, added up.

    Raises:
        NotFound: no such project.
    """
    return await asyncio.to_thread(lambda: added_up(context.database.reader(), request))


def added_up(rows: Rows, request: ShowUsage) -> Usage:
    """The same from the database alone; days and hours are those of the configured time zone."""
    zone = budget_rows.zone_of(rows)
    since = request.since if request.since_day is None else beginning_of(request.since_day, zone)
    return usage_report.report(rows, request.by, zone=zone, since=since, project=request.project)
