"""Calls whose runner, or whose project, is found out late.

An agent that makes its own session ids has called its API before anybody knows in which conversation it is. Such calls
are booked for their directory's project, and for the runner as soon as it is known. What was used in a directory
before it was a project's is the project's as soon as it is one.
"""

from collections.abc import Collection
from datetime import datetime

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


def belong_to(tx: Tx, project_id: int, path: str) -> None:
    """What was used in that directory in conversations that are no project's is the new project's.

    Nothing is booked: it bounds everything and its runner already, and the project has no budget yet.
    """
    tx.execute(
        "UPDATE usage INDEXED BY usage_session SET project_id = ?"
        " WHERE project_id IS NULL AND session IN (SELECT value FROM json_each(?))",
        (project_id, column(sessions.belong_to(tx, project_id, path))),
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
