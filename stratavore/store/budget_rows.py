"""Budgets as rows: which ones bound a runner, which period an instant belongs to, and what crossing a limit leaves.

Rule 1: an instant belongs to the period that is recorded for it; only where none is, one is made of the calendar. So a
new time zone, or a clock that jumps, neither splits a period nor counts anything twice.
Rule 2: a threshold is told once a period, a crossing too, in the transaction that books what was used; again only
where the limit was raised meanwhile.
Rule 3: what lies in the future of our clock belongs to the present.
"""

from collections.abc import Collection
from datetime import UTC, datetime, tzinfo
from typing import Any

import msgspec

from stratavore.clock import iso
from stratavore.errors import BudgetExceeded
from stratavore.model import BudgetPeriod, BudgetScope, OnExceeded
from stratavore.periods import CALENDAR, period_of, zone_called
from stratavore.store import events, installation
from stratavore.store.database import Row, Rows, Tx
from stratavore.store.rows import column, load
from stratavore.wording import budget_title, extending, local_time

ACTOR = "budgets"
_FIRST = datetime(1970, 1, 1, tzinfo=UTC)


class BudgetRow(msgspec.Struct, frozen=True):
    """A row of `budgets`, and the name of what it bounds."""

    id: int
    scope: BudgetScope
    project_id: int | None
    runner_id: str | None
    name: str | None
    period: BudgetPeriod
    limit_tokens: int | None
    limit_nano_usd: int | None
    limit_percent: float | None
    warn: list[int]
    on_exceeded: OnExceeded
    created_at: datetime

    @property
    def unit(self) -> str:
        """What is counted: `tokens`, `nano_usd`, or `percent` of an account's window. Columns are named after it."""
        if self.limit_tokens is not None:
            return "tokens"
        return "nano_usd" if self.limit_nano_usd is not None else "percent"

    @property
    def limit(self) -> float:
        """In that unit."""
        return next(each for each in (self.limit_tokens, self.limit_nano_usd, self.limit_percent) if each is not None)

    @property
    def title(self) -> str:
        """The budget in words."""
        return budget_title(self.period, self.scope, self.name)

    def told(self) -> dict[str, Any]:
        """The budget, as events name it."""
        return {"scope": self.scope.value, "name": self.name, "period": self.period.value, "unit": self.unit}


_BUDGET = """
SELECT b.*, COALESCE(p.name, r.name) AS name
  FROM budgets AS b LEFT JOIN projects AS p ON p.id = b.project_id LEFT JOIN runners AS r ON r.id = b.runner_id
"""


def find_all(rows: Rows) -> list[BudgetRow]:
    """Every budget, by its number."""
    return [load(BudgetRow, row) for row in rows.all(_BUDGET + "ORDER BY b.id")]


def find(rows: Rows, budget_id: int) -> BudgetRow | None:
    """The budget of that number, if there is one."""
    row = rows.one_or_none(_BUDGET + "WHERE b.id = ?", (budget_id,))
    return None if row is None else load(BudgetRow, row)


def find_bounding(rows: Rows, project_ids: Collection[int], runner_ids: Collection[str]) -> list[BudgetRow]:
    """The budgets that bound any of these, the global ones included."""
    found = rows.all(
        _BUDGET + "WHERE b.scope = 'global' OR b.project_id IN (SELECT value FROM json_each(:projects))"
        " OR b.runner_id IN (SELECT value FROM json_each(:runners)) ORDER BY b.id",
        {"projects": column(list(project_ids)), "runners": column(list(runner_ids))},
    )
    return [load(BudgetRow, row) for row in found]


def zone_of(rows: Rows) -> tzinfo:
    """By whose clock days begin."""
    try:
        return zone_called(installation.timezone(rows))
    except ValueError:  # a zone that another machine knew
        return zone_called("")


def settle_time(at: datetime, now: datetime) -> datetime:
    """The moment at which something is booked that says it was `at`: agents' clocks and files may say anything."""
    return min(max(at, _FIRST), now)


def period_at(rows: Rows, budget: BudgetRow, at: datetime) -> Row | None:
    """The recorded period that `at` belongs to. A run's goes on until the next begins, and began with its launch."""
    moment = iso(at)
    row = rows.one_or_none(
        "SELECT * FROM budget_periods WHERE budget_id = ? AND starts_at <= ? ORDER BY starts_at DESC LIMIT 1",
        (budget.id, moment),
    )
    if budget.period is BudgetPeriod.RUN:
        return row or rows.one_or_none(
            "SELECT * FROM budget_periods WHERE budget_id = ? ORDER BY starts_at LIMIT 1", (budget.id,)
        )
    return row if row is not None and moment < row["ends_at"] else None


def bounds_at(rows: Rows, budget: BudgetRow, at: datetime, zone: tzinfo) -> tuple[str, str | None]:
    """The bounds of the period that `at` belongs to, whether it is recorded or not."""
    row = period_at(rows, budget, at)
    if row is not None:
        return row["starts_at"], row["ends_at"]
    if budget.period not in CALENDAR:
        return iso(at), None
    start, end = (iso(edge) for edge in period_of(budget.period, at, zone))
    around = rows.one(
        "SELECT (SELECT MAX(ends_at) FROM budget_periods WHERE budget_id = :id AND starts_at <= :at) AS before,"
        " (SELECT MIN(starts_at) FROM budget_periods WHERE budget_id = :id AND starts_at > :at) AS after",
        {"id": budget.id, "at": iso(at)},
    )
    return max(start, around["before"] or start), min(end, around["after"] or end)


def open_period(tx: Tx, budget: BudgetRow, at: datetime, zone: tzinfo) -> str:
    """Record the period that `at` belongs to, unless it is; returns its beginning, by which it is known."""
    starts_at, ends_at = bounds_at(tx, budget, at, zone)
    tx.execute(
        "INSERT INTO budget_periods (budget_id, starts_at, ends_at) VALUES (?, ?, ?) ON CONFLICT DO NOTHING",
        (budget.id, starts_at, ends_at),
    )
    return starts_at


def refusal(budget: BudgetRow, amounts: str, resets_at: str | None) -> BudgetExceeded:
    """Why a run is not granted: `amounts` is the limit in words, and what is gone of it."""
    when = "" if resets_at is None else f"it resets at {local_time(resets_at)}, or "
    refused = BudgetExceeded(
        f"{budget.title} is {amounts}", remedy=f"{when}{extending(budget.id, budget.unit)} makes room now"
    )
    refused.budget, refused.resets_at = budget.id, resets_at
    return refused


def get_period(rows: Rows, budget_id: int, starts_at: str) -> Row:
    """A recorded period."""
    return rows.one("SELECT * FROM budget_periods WHERE budget_id = ? AND starts_at = ?", (budget_id, starts_at))


def limit_in(budget: BudgetRow, period: Row) -> float:
    """The limit in that period, with what `extend` added."""
    return float(budget.limit + period[f"extra_{budget.unit}"])


def mark(tx: Tx, budget: BudgetRow, starts_at: str, *, used_percent: float = 0.0, now: datetime) -> None:
    """Note which thresholds and whether the limit are reached, or no longer reached; tell what is new.

    `used_percent` is the use of an account's window, which is no sum of ours.
    """
    period = get_period(tx, budget.id, starts_at)
    used = used_percent if budget.unit == "percent" else period[f"used_{budget.unit}"]
    limit, warned = limit_in(budget, period), msgspec.json.decode(period["warned"], type=list[int])
    reached = [share for share in budget.warn if used * 100 >= share * limit]
    is_exceeded, was_exceeded = used >= limit, period["exceeded_at"] is not None
    if reached == warned and is_exceeded == was_exceeded:
        return
    since = (period["exceeded_at"] or iso(now)) if is_exceeded else None
    tx.execute(
        "UPDATE budget_periods SET warned = ?, exceeded_at = ? WHERE budget_id = ? AND starts_at = ?",
        (column(reached), since, budget.id, starts_at),
    )
    if period["ends_at"] is not None and period["ends_at"] <= iso(now):
        return  # nobody can do anything about what is past
    facts = {**budget.told(), "used": used, "limit": limit, "resets_at": period["ends_at"]}
    told = [("budget.warning", {**facts, "percent": share}) for share in reached if share not in warned]
    if is_exceeded and not was_exceeded:
        told.append(("budget.exceeded", {**facts, "on_exceeded": budget.on_exceeded.value}))
    events.append_all(tx, [events.Fact(type, str(budget.id), told_of, ACTOR) for type, told_of in told], now=now)
