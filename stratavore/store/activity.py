"""What living runners do, as it was believed last: in the columns of their samples, so no event tells of it."""

from collections.abc import Collection, Mapping, Sequence
from datetime import datetime

import msgspec

from stratavore.clock import iso
from stratavore.model import Activity, Health, ShimId
from stratavore.store.database import Row, Rows, Tx
from stratavore.store.rows import column, load


class Watched(msgspec.Struct, frozen=True):
    """A run with a process: what is needed to look what it does, and what was believed of that last."""

    id: str
    name: str
    project: str
    agent: str
    key: str
    shim: ShimId
    session_id: str | None
    tty: bool
    terminal_rows: int
    terminal_columns: int
    created_at: datetime
    pid: int
    start_time: int
    prompt_taken: bool
    spool_offset: int
    activity: Activity | None
    activity_since: datetime | None
    activity_source: str | None
    waiting_for: str | None
    limit_resets_at: datetime | None

    def whose(self) -> dict[str, str]:
        """The runner, as events name it."""
        return {"name": self.name, "project": self.project, "agent": self.agent}


_WATCHED = """
SELECT r.id, r.name, p.name AS project, r.agent, n.key, n.shim, r.session_id, r.tty, r.terminal_rows,
       r.terminal_columns, n.created_at, n.pid, n.start_time, r.prompt_taken, r.spool_offset,
       CASE WHEN s.activity_since >= n.created_at THEN s.activity END AS activity,
       CASE WHEN s.activity_since >= n.created_at THEN s.activity_since END AS activity_since,
       CASE WHEN s.activity_since >= n.created_at THEN s.activity_source END AS activity_source,
       CASE WHEN s.activity_since >= n.created_at THEN s.waiting_for END AS waiting_for, s.limit_resets_at
  FROM runners AS r
  JOIN projects AS p ON p.id = r.project_id
  JOIN runs AS n ON n.runner_id = r.id AND n.number = r.run AND n.ended_at IS NULL AND n.pid IS NOT NULL
  LEFT JOIN samples AS s ON s.runner_id = r.id
 WHERE r.alive = 1
"""


def list_watched(rows: Rows, *, but: Collection[str] = ()) -> list[Watched]:
    """The runs that have a process as far as we know, but for those of these agents."""
    found = rows.all(
        _WATCHED + " AND r.agent NOT IN (SELECT value FROM json_each(?))",
        (column(list(but)),),
    )
    return [load(Watched, row) for row in found]


def tell(
    tx: Tx,
    runner_id: str,
    *,
    activity: Activity,
    since: datetime | None,
    source: str | None,
    waiting_for: str | None,
    limit_resets_at: datetime | None,
    now: datetime,
) -> None:
    """This is believed of the runner now; it counts as seen, too."""
    values: Row = {
        "id": runner_id,
        "now": iso(now),
        "health": Health.UNKNOWN.value,
        "activity": activity.value,
        "since": column(since),
        "source": source,
        "waiting_for": waiting_for,
        "limit_resets_at": column(limit_resets_at),
    }
    tx.execute(
        "INSERT INTO samples (runner_id, seen_at, health, activity, activity_since, activity_source, waiting_for,"
        " limit_resets_at) SELECT :id, :now, :health, :activity, :since, :source, :waiting_for, :limit_resets_at"
        " WHERE EXISTS (SELECT 1 FROM runners WHERE id = :id)"
        " ON CONFLICT (runner_id) DO UPDATE SET seen_at = MAX(seen_at, excluded.seen_at),"
        " activity = excluded.activity, activity_since = excluded.activity_since,"
        " activity_source = excluded.activity_source, waiting_for = excluded.waiting_for,"
        " limit_resets_at = excluded.limit_resets_at",
        values,
    )


def beat(tx: Tx, runner_ids: Collection[str], *, now: datetime) -> None:
    """They were heard of."""
    tx.execute(
        "UPDATE samples SET seen_at = MAX(seen_at, ?) WHERE runner_id IN (SELECT value FROM json_each(?))",
        (iso(now), column(list(runner_ids))),
    )


def set_offsets(tx: Tx, offsets: Mapping[str, int]) -> None:
    """So far their spools were read."""
    tx.execute_many(
        "UPDATE runners SET spool_offset = ? WHERE id = ?",
        [(offset, runner_id) for runner_id, offset in offsets.items()],
    )


def get_offset(rows: Rows, runner_id: str) -> int | None:
    """How far the spool of a runner was read; None if there is no such runner."""
    found = rows.scalar("SELECT spool_offset FROM runners WHERE id = ?", (runner_id,))
    return None if found is None else int(found)


def note_prompts_taken(tx: Tx, runner_ids: Sequence[str]) -> None:
    """Their agents took the first prompt: no restart gives it again."""
    tx.execute(
        "UPDATE runners SET prompt_taken = 1 WHERE id IN (SELECT value FROM json_each(?)) AND prompt_taken = 0",
        (column(list(runner_ids)),),
    )


class Limited(msgspec.Struct, frozen=True):
    """A runner that shall be told to go on, for its provider does again."""

    id: str
    key: str
    name: str
    project: str
    agent: str
    limit_resets_at: datetime


def list_limit_over(rows: Rows, *, now: datetime) -> list[Limited]:
    """Those of the living runs with a terminal that were to be continued by that moment."""
    found = rows.all(
        "SELECT r.id, n.key, r.name, p.name AS project, r.agent, s.limit_resets_at"
        " FROM samples AS s"
        " JOIN runners AS r ON r.id = s.runner_id AND r.alive = 1 AND r.restart_policy = 'on-limit-reset' AND r.tty = 1"
        " JOIN projects AS p ON p.id = r.project_id"
        " JOIN runs AS n ON n.runner_id = r.id AND n.number = r.run AND n.state = 'running'"
        " WHERE s.limit_resets_at <= ?",
        (iso(now),),
    )
    return [load(Limited, row) for row in found]


def set_limit(tx: Tx, runner_id: str, resets_at: datetime | None) -> None:
    """Remember when its provider goes on; None: it does."""
    tx.execute("UPDATE samples SET limit_resets_at = ? WHERE runner_id = ?", (column(resets_at), runner_id))
