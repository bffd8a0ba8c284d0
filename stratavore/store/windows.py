"""How much of each account's allowance is used, as its agent told it last."""

from collections.abc import Iterable
from datetime import datetime
from typing import NamedTuple

from stratavore.agents.records import Window
from stratavore.clock import iso
from stratavore.store.database import Rows, Tx


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
