"""Calls whose runner is found out late.

An agent that makes its own session ids has called its API before anybody knows in which conversation it is. Such calls
are booked for their directory's project, and for the runner as soon as it is known.
"""

from collections.abc import Collection
from datetime import datetime
from typing import NamedTuple

from stratavore.clock import iso
from stratavore.store import budgets, sessions
from stratavore.store.database import Rows, Tx
from stratavore.store.rows import column
from stratavore.store.usage import Charge, Entry, book_runners

_COLUMNS = ", ".join(Entry._fields)

Entrance = tuple[int, str, str]
"""A run in a conversation: its number, the run, since when."""


def list_entrances(rows: Rows, *, since: datetime) -> set[Entrance]:
    """The runs that are in a conversation, or were at that moment."""
    found = rows.tuples(
        "SELECT session, run_key, from_at FROM session_runs WHERE until_at IS NULL OR until_at >= ?", (iso(since),)
    )
    return {(number, run_key, from_at) for number, run_key, from_at in found}


class Ended(NamedTuple):
    """A run that left a conversation."""

    session: int
    run_key: str
    runner_id: str
    from_at: str
    until_at: str
    agent: str
    id: str
    home: str
    cwd: str | None


def list_ended(rows: Rows, *, since: datetime, until: datetime) -> list[Ended]:
    """The runs that left a conversation between these moments."""
    found = rows.tuples(
        "SELECT h.session, h.run_key, h.runner_id, h.from_at, h.until_at, s.agent, s.id, s.home, s.cwd"
        " FROM session_runs AS h JOIN sessions AS s ON s.number = h.session"
        " WHERE h.until_at >= ? AND h.until_at < ?",
        (iso(since), iso(until)),
    )
    return [Ended(*row) for row in found]


def report(tx: Tx, ended: Ended, nano_usd: int) -> None:
    """Keep what the agent said that the run cost, without what the run spent in other conversations."""
    elsewhere = tx.scalar(
        "SELECT COALESCE(SUM(cost_nano_usd), 0) FROM usage AS u JOIN session_runs AS h ON h.session = u.session"
        " AND h.run_key = :run AND u.at >= h.from_at AND u.at <= COALESCE(h.until_at, u.at)"
        " WHERE u.runner_id = :runner AND u.session <> :session",
        {"run": ended.run_key, "runner": ended.runner_id, "session": ended.session},
    )
    tx.execute(
        "UPDATE sessions SET reported_nano_usd = MAX(0, ? - ?) WHERE number = ?",
        (nano_usd, elsewhere, ended.session),
    )


def attribute(tx: Tx, numbers: Collection[int], *, now: datetime) -> int:
    """Give the calls of these conversations that are nobody's to the runners that made them; returns how many."""
    nobodys = tx.tuples(
        f"SELECT {_COLUMNS} FROM usage INDEXED BY usage_session"
        " WHERE session IN (SELECT value FROM json_each(?)) AND runner_id IS NULL",
        (column(list(numbers)),),
    )
    were = [Entry(*row) for row in nobodys]
    are = [entry for entry in (_attributed(tx, entry) for entry in were) if entry.runner_id is not None]
    tx.execute_many(
        "UPDATE usage SET runner_id = ?, project_id = ? WHERE agent = ? AND key = ?",
        [(entry.runner_id, entry.project_id, entry.agent, entry.key) for entry in are],
    )
    book_runners(tx, (), are)
    projects = {entry.key: entry.project_id for entry in were}
    budgets.charge_runners(tx, [(_charge(entry), projects[entry.key]) for entry in are], now=now)
    return len(are)


def _attributed(tx: Tx, entry: Entry) -> Entry:
    runner_id = None if entry.session is None else sessions.runner_at(tx, entry.session, entry.at)
    if runner_id is None:
        return entry
    project_id = tx.scalar("SELECT project_id FROM runners WHERE id = ?", (runner_id,))
    return entry._replace(runner_id=runner_id, project_id=project_id or entry.project_id)


def _charge(entry: Entry) -> Charge:
    cost = entry.cost_nano_usd
    at = datetime.fromisoformat(entry.at)
    return Charge(
        entry.runner_id, entry.project_id, entry.agent, entry.model, at, entry.tokens, cost or 0, cost is not None
    )
