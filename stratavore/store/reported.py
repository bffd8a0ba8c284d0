"""What agents report at their exits that a run cost: it tells of calls that stand in no file."""

from datetime import datetime
from typing import NamedTuple

from stratavore.clock import iso
from stratavore.store.database import Rows, Tx


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


def keep(tx: Tx, ended: Ended, nano_usd: int) -> None:
    """Keep with its conversation what the agent said that the run cost, in billionths of a US dollar.

    What the run spent in other conversations is taken off; what is kept is never negative.
    """
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
