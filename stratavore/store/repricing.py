"""Calls whose price is another now than when they were booked.

Rule 1: a cost that was booked by the dated table stays, whatever becomes of the table; what had no price gets one.
Rule 2: what the configuration says of a model holds for all its calls, whenever they were made: where it says something
else than it did, or nothing more, they are priced again, in the sums and in budgets too.
Rule 3: what the configuration said is known from `configured_prices`; a price that is being changed stands there as
unknown, so that what a kill interrupts is done again.
"""

from collections.abc import Collection, Mapping
from datetime import datetime
from typing import NamedTuple, Protocol

import msgspec

from stratavore.clock import iso
from stratavore.store import budgets
from stratavore.store.database import Rows, Tx
from stratavore.store.rows import column
from stratavore.store.usage import Charge, Entry, Price, book_runners, cost

_COLUMNS = ", ".join(Entry._fields)
SLICE_ROWS = 5000
_UNKNOWN = ""


class PriceList(Protocol):
    """Prices, and which of them the configuration says."""

    @property
    def configured(self) -> Mapping[str, Price]: ...
    def __call__(self, model: str, at: str, prompt_tokens: int = 0) -> Price | None: ...
    def deciding(self, model: str, said: Collection[str]) -> str | None:
        """The one of these names by which the configuration decides what that model costs, if it does."""


class Changed(NamedTuple):
    """What is to be done: `names` in the configuration that say something else than they did, the models whose calls
    they decide (`said`), and those that had no price and have one (`new`)."""

    names: frozenset[str]
    said: frozenset[str]
    new: frozenset[str]

    @property
    def is_nothing(self) -> bool:
        return not any(self)


Place = tuple[str, str]
"""Up to which call prices were looked at: agent and key."""
START: Place = ("", "")


def find(rows: Rows, prices: PriceList, *, now: datetime) -> Changed:
    """What is to be priced again. If it is something: `begin`, then `price_slice` to the end, then `finish`."""
    was, said = dict(rows.tuples("SELECT model, price FROM configured_prices")), _texts(prices)
    changed = {name for name in {*was, *said} if was.get(name) != said.get(name)}
    used = rows.tuples("SELECT DISTINCT model FROM usage") if changed else []
    unpriced = rows.tuples("SELECT DISTINCT model FROM usage WHERE cost_nano_usd IS NULL")
    return Changed(
        frozenset(changed),
        frozenset(model for (model,) in used if {prices.deciding(model, was), prices.deciding(model, said)} & changed),
        frozenset(model for (model,) in unpriced if prices(model, iso(now), 0) is not None),
    )


def begin(tx: Tx, changed: Changed) -> None:
    """What the configuration said is unknown from here on, until `finish`."""
    tx.execute_many(
        "INSERT OR REPLACE INTO configured_prices VALUES (?, ?)", [(name, _UNKNOWN) for name in changed.names]
    )


def price_slice(
    tx: Tx, prices: PriceList, changed: Changed, after: Place, *, rows: int = SLICE_ROWS, now: datetime
) -> Place | None:
    """Price some of their calls again, those that stand behind that place; returns up to where, None at the end."""
    if not changed.said and not changed.new:
        return None
    found = tx.tuples(
        f"SELECT {_COLUMNS} FROM usage WHERE (agent, key) > (?, ?) AND (+model IN (SELECT value FROM json_each(?))"
        " OR (+cost_nano_usd IS NULL AND +model IN (SELECT value FROM json_each(?)))) ORDER BY agent, key LIMIT ?",
        (*after, column(list(changed.said)), column(list(changed.new)), rows),
    )
    were = [Entry(*row) for row in found]
    moved = [(old, new) for old, new in ((old, _priced(old, prices)) for old in were) if old != new]
    tx.execute_many(
        "UPDATE usage SET cost_nano_usd = ? WHERE agent = ? AND key = ?",
        [(new.cost_nano_usd, new.agent, new.key) for _, new in moved],
    )
    book_runners(tx, [old for old, _ in moved], [new for _, new in moved])
    budgets.charge(tx, [_charge(old, new) for old, new in moved], now=now)
    return (were[-1].agent, were[-1].key) if len(were) == rows else None


def finish(tx: Tx, prices: PriceList) -> None:
    """All were priced: from now on this is what the configuration said."""
    tx.execute("DELETE FROM configured_prices")
    tx.execute_many("INSERT INTO configured_prices VALUES (?, ?)", list(_texts(prices).items()))


def _texts(prices: PriceList) -> dict[str, str]:
    return {name: msgspec.json.encode(price).decode() for name, price in prices.configured.items()}


def _priced(entry: Entry, prices: PriceList) -> Entry:
    found = prices(entry.model, entry.at, entry.prompt_tokens)
    return entry._replace(cost_nano_usd=None if found is None else cost(entry.counts, found))


def _charge(old: Entry, new: Entry) -> Charge:
    """What it costs more, or less: the tokens were charged when it was booked."""
    more = (new.cost_nano_usd or 0) - (old.cost_nano_usd or 0)
    is_priced = new.cost_nano_usd is not None
    at = datetime.fromisoformat(new.at)
    return Charge(new.runner_id, new.project_id, new.agent, new.model, at, 0, more, is_priced)
