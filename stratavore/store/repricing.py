"""Calls of models that had no price when they were booked, and have one now.

Rule: a cost that was booked stays, whatever prices do; only what had none is given one, with all that follows from it.
"""

from datetime import datetime

from stratavore.clock import iso
from stratavore.store import budgets
from stratavore.store.database import Tx
from stratavore.store.rows import column
from stratavore.store.usage import Charge, Entry, Prices, book_runners, cost

_COLUMNS = ", ".join(Entry._fields)


def price_again(tx: Tx, price: Prices, *, now: datetime) -> int:
    """Give the calls a cost whose models have a price by now, in the sums and budgets too; returns how many."""
    models = [model for (model,) in tx.tuples("SELECT DISTINCT model FROM usage WHERE cost_nano_usd IS NULL")]
    known = [model for model in models if price(model, iso(now), 0) is not None]
    if not known:
        return 0
    found = tx.tuples(
        f"SELECT {_COLUMNS} FROM usage WHERE cost_nano_usd IS NULL AND model IN (SELECT value FROM json_each(?))",
        (column(known),),
    )
    were = [Entry(*row) for row in found]
    are = [entry for entry in (_priced(entry, price) for entry in were) if entry.cost_nano_usd is not None]
    tx.execute_many(
        "UPDATE usage SET cost_nano_usd = ? WHERE agent = ? AND key = ?",
        [(entry.cost_nano_usd, entry.agent, entry.key) for entry in are],
    )
    priced = {(entry.agent, entry.key) for entry in are}
    book_runners(tx, [entry for entry in were if (entry.agent, entry.key) in priced], are)
    budgets.charge(tx, [_charge(entry) for entry in are], now=now)
    return len(are)


def _priced(entry: Entry, price: Prices) -> Entry:
    found = price(entry.model, entry.at, entry.prompt_tokens)
    return entry if found is None else entry._replace(cost_nano_usd=cost(entry.counts, found))


def _charge(entry: Entry) -> Charge:
    """Its cost alone: the tokens were charged when it was booked."""
    at = datetime.fromisoformat(entry.at)
    return Charge(
        entry.runner_id, entry.project_id, entry.agent, entry.model, at, 0, entry.cost_nano_usd or 0, is_priced=True
    )
