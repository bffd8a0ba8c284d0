"""Prices that have changed, at the start of a daemon: a slice of the ledger at a time.

Rule: where nothing changed nothing is written; what a failure interrupts is done at the next start.
"""

import asyncio
from collections.abc import Callable
from datetime import datetime

from stratavore.ledger.prices import Prices
from stratavore.store import repricing
from stratavore.store.database import Database


async def price_again(database: Database, prices: Prices, on_priced: Callable[[], None], *, now: datetime) -> None:
    """Let every call cost what the configuration says now, or what the table says if it has no price yet."""
    changed = await asyncio.to_thread(lambda: repricing.find(database.reader(), prices, now=now))
    if changed.is_nothing:
        return
    await database.write(lambda tx: repricing.begin(tx, changed))
    place: repricing.Place | None = repricing.START
    while place is not None:
        place = await _slice(database, prices, changed, place, now)
    await database.write(lambda tx: repricing.finish(tx, prices))
    on_priced()


async def _slice(
    database: Database, prices: Prices, changed: repricing.Changed, after: repricing.Place, now: datetime
) -> repricing.Place | None:
    return await database.write(lambda tx: repricing.price_slice(tx, prices, changed, after, now=now))
