"""Who may not go on, and why: the rung of the ladder that each such runner stands on.

Rule 1: a row follows from what is booked, at any moment; it is kept so that a grace outlives the daemon, and each step
is told once.
Rule 2: whoever changes one tells it in the same transaction.
"""

from datetime import datetime
from typing import NamedTuple

import msgspec

from stratavore.clock import iso
from stratavore.model import OnExceeded
from stratavore.store import windows
from stratavore.store.database import Rows, Tx
from stratavore.store.rows import load

_HOLDING = ("block", "stop")
"""The rungs on which the agent's hooks let nothing pass."""


class Block(NamedTuple):
    """That a runner may not go on. The rungs are `warn` (nothing can hold its agent), `wait` (between two runs, for
    room), `block` and `stop`."""

    runner_id: str
    budget_id: int | None
    rung: str
    reason: str

    @property
    def verdict(self) -> str | None:
        """What the agent's hooks are to answer; None: it may go on."""
        return _verdict(self.rung, self.reason)


class Standing(msgspec.Struct, frozen=True):
    """A row of `blocks`."""

    runner_id: str
    budget_id: int | None
    rung: str
    reason: str
    since: datetime
    since_boottime: float
    boot_id: str

    @property
    def verdict(self) -> str | None:
        """What the agent's hooks are to answer; None: it may go on."""
        return _verdict(self.rung, self.reason)


class Excess(msgspec.Struct, frozen=True):
    """Why a living runner should not go on: `kind` is exceeded, unpriced or turns; the figures are in `unit`."""

    runner_id: str
    kind: str
    agent: str
    budget_id: int | None
    scope: str
    name: str | None
    period: str
    unit: str
    used: float
    limit: float
    resets_at: str | None
    on_exceeded: OnExceeded
    model: str | None


def _verdict(rung: str, reason: str) -> str | None:
    """Told to a person who sees nothing else of us."""
    return f"Stratavore: {reason}" if rung in _HOLDING else None


# The present period of a budget: the newest that has begun. A run's own is the newest there is.
_PRESENT = """
  FROM budgets AS b
  JOIN budget_periods AS p ON p.budget_id = b.id
   AND p.starts_at = (SELECT MAX(o.starts_at) FROM budget_periods AS o WHERE o.budget_id = b.id AND o.starts_at <= :now)
   AND (p.ends_at IS NULL OR p.ends_at > :now)
"""
# Each scope by itself, so that each finds its runners by an index: 1000 runners may have 1000 budgets of their own.
_SCOPES = (
    "b.scope = 'global'",
    "b.scope = 'project' AND r.project_id = b.project_id",
    "b.scope = 'runner' AND r.id = b.runner_id",
)
_OF_BUDGET = """
 CROSS JOIN runners AS r ON r.alive = 1 AND {scope}
  JOIN runs AS n ON n.runner_id = r.id AND n.number = r.run AND n.ended_at IS NULL
  LEFT JOIN projects AS j ON j.id = b.project_id
"""
_NAMED = "b.id AS budget_id, b.scope, COALESCE(j.name, CASE WHEN b.scope = 'runner' THEN r.name END) AS name, b.period"
_UNIT = "CASE WHEN b.limit_tokens IS NOT NULL THEN 'tokens' ELSE 'nano_usd' END AS unit"
_EXCEEDED = f"""
SELECT r.id AS runner_id, 'exceeded' AS kind, r.agent, {_NAMED}, {_UNIT},
       CASE WHEN b.limit_tokens IS NOT NULL THEN p.used_tokens ELSE p.used_nano_usd END AS used,
       COALESCE(b.limit_tokens + p.extra_tokens, b.limit_nano_usd + p.extra_nano_usd) AS "limit",
       p.ends_at AS resets_at, b.on_exceeded, NULL AS model
{_PRESENT}
   AND (p.used_tokens >= b.limit_tokens + p.extra_tokens OR p.used_nano_usd >= b.limit_nano_usd + p.extra_nano_usd)
{_OF_BUDGET}
 WHERE b.on_exceeded <> 'warn'
"""
_UNPRICED = f"""
SELECT r.id AS runner_id, 'unpriced' AS kind, r.agent, {_NAMED}, 'nano_usd' AS unit,
       p.used_nano_usd AS used, b.limit_nano_usd + p.extra_nano_usd AS "limit",
       p.ends_at AS resets_at, b.on_exceeded,
       (SELECT u.model FROM usage AS u WHERE u.runner_id = r.id AND u.at >= p.starts_at AND u.cost_nano_usd IS NULL
         ORDER BY u.at DESC LIMIT 1) AS model
{_PRESENT}
   AND b.limit_nano_usd IS NOT NULL
  CROSS JOIN runner_usage AS c ON c.unpriced_calls > 0
  JOIN runners AS r ON r.id = c.runner_id AND r.alive = 1 AND {{scope}}
  JOIN runs AS n ON n.runner_id = r.id AND n.number = r.run AND n.ended_at IS NULL
  LEFT JOIN projects AS j ON j.id = b.project_id
 WHERE b.on_exceeded <> 'warn' AND r.allow_unpriced = 0
"""
_ALLOWANCE = f"""
SELECT r.id AS runner_id, 'exceeded' AS kind, r.agent, {_NAMED}, 'percent' AS unit, w.used_percent AS used,
       b.limit_percent + COALESCE(p.extra_percent, 0) AS "limit", w.resets_at, b.on_exceeded, NULL AS model
  FROM budgets AS b
  JOIN account_windows AS w ON w.name = b.period AND {windows.COUNTS}
  LEFT JOIN budget_periods AS p ON p.budget_id = b.id AND p.starts_at <= :now AND p.ends_at > :now
{_OF_BUDGET}
 WHERE b.limit_percent IS NOT NULL AND b.on_exceeded <> 'warn'
   AND w.used_percent >= b.limit_percent + COALESCE(p.extra_percent, 0)
   AND EXISTS (SELECT 1 FROM session_runs AS e JOIN sessions AS s ON s.number = e.session
                WHERE e.run_key = n.key AND s.agent = w.agent AND s.home = w.home)
"""
_TURNS = """
SELECT r.id AS runner_id, 'turns' AS kind, r.agent, NULL AS budget_id, 'runner' AS scope, r.name, 'run' AS period,
       'turns' AS unit, COUNT(*) AS used, r.max_turns AS "limit", NULL AS resets_at, r.on_exceeded, NULL AS model
  FROM runners AS r JOIN runs AS n ON n.runner_id = r.id AND n.number = r.run AND n.ended_at IS NULL
  JOIN usage AS u ON u.runner_id = r.id AND u.at >= n.created_at AND u.is_subagent = 0
   AND u.source <> 'otlp' -- until a transcript tells of it, a call may be a hidden one: a title, a compaction
 WHERE r.alive = 1 AND r.max_turns IS NOT NULL AND r.on_exceeded <> 'warn'
 GROUP BY r.id HAVING COUNT(*) >= r.max_turns
"""


def list_excesses(rows: Rows, *, now: datetime) -> list[Excess]:
    """Why living runners should not go on, by what is booked: each budget and limit that says so, for each of them."""
    found, moments = rows.all(_TURNS), windows.moments(now)
    for question in (_EXCEEDED, _UNPRICED, _ALLOWANCE):
        for scope in _SCOPES:
            found += rows.all(question.replace("{scope}", scope), moments)
    return [load(Excess, row) for row in found if row["kind"] != "unpriced" or row["model"] is not None]


def list_all(rows: Rows) -> dict[str, Standing]:
    """Every row, by its runner."""
    return {row["runner_id"]: load(Standing, row) for row in rows.all("SELECT * FROM blocks")}


def find(rows: Rows, runner_id: str) -> Standing | None:
    """Where that runner stands; None if it may go on."""
    found = rows.one_or_none("SELECT * FROM blocks WHERE runner_id = ?", (runner_id,))
    return None if found is None else load(Standing, found)


def names_of_held(rows: Rows) -> list[str]:
    """The names of the living runners that may not go on."""
    found = rows.all(
        "SELECT r.name FROM blocks AS b JOIN runners AS r ON r.id = b.runner_id WHERE r.alive = 1 AND b.rung != 'warn'"
    )
    return [row["name"] for row in found]


def next_rollover(rows: Rows, *, now: datetime) -> datetime | None:
    """When the first of the present periods ends in which somebody is held; None if none does."""
    found = rows.scalar(
        "SELECT MIN(p.ends_at) FROM budget_periods AS p WHERE p.ends_at > :now AND p.starts_at <= :now"
        " AND p.budget_id IN (SELECT budget_id FROM blocks)",
        {"now": iso(now)},
    )
    return None if found is None else datetime.fromisoformat(found)


def put(tx: Tx, block: Block, *, boottime: float, boot_id: str, now: datetime) -> bool:
    """The runner stands on this rung now, over this budget; returns whether it did not before.

    The time on the rung begins then: `now` by the calendar, `boottime` in seconds since the boot `boot_id`.
    """
    return bool(
        tx.execute(
            "INSERT INTO blocks (runner_id, budget_id, rung, reason, since, since_boottime, boot_id)"
            " VALUES (:runner, :budget, :rung, :reason, :since, :boottime, :boot)"
            " ON CONFLICT (runner_id) DO UPDATE SET budget_id = :budget, rung = :rung, reason = :reason,"
            " since = :since, since_boottime = :boottime, boot_id = :boot"
            " WHERE rung <> :rung OR budget_id IS NOT :budget",
            {
                "runner": block.runner_id,
                "budget": block.budget_id,
                "rung": block.rung,
                "reason": block.reason,
                "since": iso(now),
                "boottime": boottime,
                "boot": boot_id,
            },
        )
    )


def reword(tx: Tx, block: Block) -> None:
    """It stands on the same rung, and there is more to say."""
    tx.execute("UPDATE blocks SET reason = ? WHERE runner_id = ?", (block.reason, block.runner_id))


def remove(tx: Tx, runner_id: str) -> None:
    """It may go on, or is no more."""
    tx.execute("DELETE FROM blocks WHERE runner_id = ?", (runner_id,))
