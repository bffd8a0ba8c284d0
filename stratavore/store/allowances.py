"""Budgets of accounts' own windows: how much of each is used, as their agents told last.

Rule 1: an account's window bounds only the runners that use that account.
"""

from collections.abc import Sequence
from datetime import datetime
from typing import NamedTuple

from stratavore.clock import iso
from stratavore.errors import BudgetExceeded
from stratavore.model import BudgetPeriod
from stratavore.store import budget_rows, windows
from stratavore.store.budget_rows import BudgetRow
from stratavore.store.database import Rows, Tx

Account = tuple[str, str]
"""The kind of agent, and its account directory."""


class Allowance(NamedTuple):
    """How much of one account's window is used, and when it begins anew."""

    account: Account
    used_percent: float
    resets_at: str | None


def list_allowances(rows: Rows, period: BudgetPeriod, *, now: datetime) -> list[Allowance]:
    """The windows of that length that count now."""
    found = rows.all(
        "SELECT w.agent, w.home, w.used_percent, w.resets_at FROM account_windows AS w"
        f" WHERE w.name = :name AND {windows.COUNTS}",
        {"name": period.value, **windows.moments(now)},
    )
    return [Allowance((row["agent"], row["home"]), row["used_percent"], row["resets_at"]) for row in found]


def fullest(rows: Rows, budget: BudgetRow, *, now: datetime) -> Allowance | None:
    """The window that is used most; None if nobody told of one."""
    found = list_allowances(rows, budget.period, now=now)
    return max(found, key=lambda each: each.used_percent, default=None)


def open_present(tx: Tx, budget: BudgetRow, *, now: datetime) -> str:
    """The period for which an extension holds: until the windows that count now are reset."""
    period = budget_rows.period_at(tx, budget, now)
    if period is not None:
        return str(period["starts_at"])
    resets = [each.resets_at for each in list_allowances(tx, budget.period, now=now) if each.resets_at is not None]
    ends_at = max(resets, default=iso(now + windows.LENGTHS[budget.period]))
    tx.execute(
        "INSERT INTO budget_periods (budget_id, starts_at, ends_at) VALUES (?, ?, ?) ON CONFLICT DO NOTHING",
        (budget.id, iso(now), ends_at),
    )
    return iso(now)


def mark(tx: Tx, budget: BudgetRow, *, now: datetime) -> None:
    """Tell of what was newly reached."""
    found = fullest(tx, budget, now=now)
    if found is not None:
        budget_rows.mark(tx, budget, open_present(tx, budget, now=now), used_percent=found.used_percent, now=now)


def note(tx: Tx, *, now: datetime) -> None:
    """An agent told of its account's windows: tell of what they newly reached."""
    for budget in budget_rows.find_all(tx):
        if budget.unit == "percent":
            mark(tx, budget, now=now)


def refuse_used_up(rows: Rows, bounding: Sequence[BudgetRow], account: Account | None, *, now: datetime) -> None:
    """Refuse a run whose account has used what one of these budgets allows it.

    Raises:
        BudgetExceeded: it has.
    """
    for budget in bounding:
        if budget.unit != "percent" or account is None:
            continue
        period = budget_rows.period_at(rows, budget, now)
        limit = budget.limit if period is None else budget_rows.limit_in(budget, period)
        for each in list_allowances(rows, budget.period, now=now):
            if each.account == account and each.used_percent >= limit:
                raise _refusal(budget, each, limit)


def _refusal(budget: BudgetRow, used: Allowance, limit: float) -> BudgetExceeded:
    amounts = f"{limit:g} % of the account's window: {used.used_percent:g} % are used"
    return budget_rows.refusal(budget, amounts, used.resets_at)
