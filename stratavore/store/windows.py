"""How much of each account's allowance is used, as its agent told it last.

Rule 1: a window counts until it is reset, as far as was told; one whose reset nobody told, for its length.
"""

from collections.abc import Iterable
from datetime import datetime, timedelta
from typing import NamedTuple

from stratavore.agents.records import Window
from stratavore.clock import iso
from stratavore.model import BudgetPeriod
from stratavore.store.database import Rows, Tx

LENGTHS = {BudgetPeriod.FIVE_HOURS: timedelta(hours=5), BudgetPeriod.SEVEN_DAYS: timedelta(days=7)}

_SINCE = " ".join(f"WHEN '{name}' THEN :since_{name}" for name in LENGTHS)
COUNTS = f"CASE WHEN w.resets_at IS NULL THEN w.at > CASE w.name {_SINCE} END ELSE w.resets_at > :now END"
"""Whether the row `w` of `account_windows` counts at the moment that `moments` was asked for."""


class AccountWindow(NamedTuple):
    """One window of one account. `resets_at` is None where the agent did not say when."""

    agent: str
    home: str
    name: str
    used_percent: float
    resets_at: datetime | None
    at: datetime


def note_all(tx: Tx, agent: str, home: str, windows: Iterable[Window]) -> None:
    """Keep the newest of each name; what is older than what is known changes nothing."""
    tx.execute_many(
        "INSERT INTO account_windows (agent, home, name, used_percent, resets_at, at) VALUES (?, ?, ?, ?, ?, ?)"
        " ON CONFLICT (agent, home, name) DO UPDATE SET used_percent = excluded.used_percent,"
        " resets_at = excluded.resets_at, at = excluded.at WHERE excluded.at >= account_windows.at",
        [(agent, home, each.name, each.used_percent, _text(each.resets_at), iso(each.at)) for each in windows],
    )


def moments(now: datetime) -> dict[str, str]:
    """The parameters of `COUNTS`."""
    return {"now": iso(now), **{f"since_{name}": iso(now - length) for name, length in LENGTHS.items()}}


def list_windows(rows: Rows) -> list[AccountWindow]:
    """All that were ever told of, whether they were reset meanwhile or not."""
    found = rows.tuples(
        "SELECT agent, home, name, used_percent, resets_at, at FROM account_windows ORDER BY agent, home, name"
    )
    return [
        AccountWindow(agent, home, name, used, _moment(resets_at), datetime.fromisoformat(at))
        for agent, home, name, used, resets_at, at in found
    ]


def _text(moment: datetime | None) -> str | None:
    return None if moment is None else iso(moment)


def _moment(text: str | None) -> datetime | None:
    return None if text is None else datetime.fromisoformat(text)
