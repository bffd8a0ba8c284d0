"""Budgets: what may be used in each of their periods, and what was.

Rule 1: what was used is booked into the period that it was used in, however late it is told; less is booked only where
the ledger's own row says less than it did.
Rule 2: all that is booked, marked and told of a crossing is one transaction with the ledger's own rows.
Rule 3: a budget counts from the beginning of the period in which it was set.
Rule 4: a call that turns out to be another's (its conversation is a fork of one that is read later) stays booked where
it was told first; a budget that is set again counts its present period anew, by whose each call is then.
"""

from collections import defaultdict
from collections.abc import Collection, Sequence
from datetime import datetime
from typing import Any

from msgspec import structs

from stratavore.clock import iso
from stratavore.errors import NotFound
from stratavore.model import Budget, BudgetHistory, BudgetInPeriods, BudgetPeriod, BudgetScope, OnExceeded
from stratavore.money import usd_of
from stratavore.store import allowances, budget_rows, events, reservations
from stratavore.store.budget_rows import BudgetRow
from stratavore.store.database import Row, Rows, Tx
from stratavore.store.reservations import Estimate
from stratavore.store.rows import column
from stratavore.store.usage import Charge

_TOKENS = "input_tokens + output_tokens + cache_write_5m_tokens + cache_write_1h_tokens + cache_read_tokens"
_OF_SCOPE = {
    BudgetScope.GLOBAL: "1",
    BudgetScope.PROJECT: "project_id = :project_id",
    BudgetScope.RUNNER: "runner_id = :runner_id",
}


def charge(tx: Tx, charges: Sequence[Charge], *, now: datetime) -> None:
    """Book what the ledger was told of just now, and tell of each threshold and limit that it crosses."""
    _charge(tx, [(each, frozenset()) for each in charges], now)


def charge_runners(tx: Tx, charges: Sequence[tuple[Charge, int | None]], *, now: datetime) -> None:
    """The same for calls whose runner is known only now: they are booked for everything and the project beside them."""
    _charge(tx, [(each, frozenset({None, project_id})) for each, project_id in charges], now)


def _charge(tx: Tx, charges: Sequence[tuple[Charge, frozenset[Any]]], now: datetime) -> None:
    """Book each charge for all whom it bounds, but for those for whom it is booked already."""
    projects = {each.project_id for each, _ in charges if each.project_id is not None}
    runners = {each.runner_id for each, _ in charges if each.runner_id is not None}
    bounding = [each for each in budget_rows.find_bounding(tx, projects, runners) if each.unit != "percent"]
    if not charges or not bounding:
        return
    booked = _Booking(tx, bounding, now)
    for each, but in charges:
        booked.add(each, but)
    booked.store()


class _Booking:
    """What one batch of charges adds to which periods."""

    def __init__(self, tx: Tx, bounding: Sequence[BudgetRow], now: datetime) -> None:
        self._tx, self._now = tx, now
        self._zone = budget_rows.zone_of(tx)
        self._budgets = {budget.id: budget for budget in bounding}
        self._by_target: dict[Any, list[BudgetRow]] = defaultdict(list)
        for budget in bounding:
            self._by_target[budget.project_id or budget.runner_id].append(budget)
        self._since = {budget.id: _since(tx, budget) for budget in bounding}
        self._spans: dict[int, tuple[str, str | None, str]] = {}
        self._sums: dict[tuple[int, str], list[int]] = defaultdict(lambda: [0, 0])
        self._of_runner: dict[str, list[Any]] = {}

    def add(self, each: Charge, but: frozenset[Any]) -> None:
        """Add a charge to every budget that bounds it, but for these."""
        at = budget_rows.settle_time(each.at, self._now)
        moment = iso(at)
        targets = {None, each.project_id, each.runner_id} - but
        for target in targets:
            for budget in self._by_target.get(target, ()):
                if moment < self._since[budget.id]:
                    continue
                sums = self._sums[budget.id, self._period(budget, at, moment)]
                sums[0] += each.tokens
                sums[1] += each.nano_usd
        if each.runner_id is not None:
            known = self._of_runner.setdefault(each.runner_id, [0, 0, at])
            self._of_runner[each.runner_id] = [known[0] + each.tokens, known[1] + each.nano_usd, max(known[2], at)]

    def store(self) -> None:
        """Book the sums, shrink what is held for those who used it, and mark what was crossed."""
        for (budget_id, starts_at), (tokens, nano_usd) in self._sums.items():
            self._tx.execute(
                "UPDATE budget_periods SET used_tokens = MAX(0, used_tokens + ?),"
                " used_nano_usd = MAX(0, used_nano_usd + ?)"
                " WHERE budget_id = ? AND starts_at = ?",
                (tokens, nano_usd, budget_id, starts_at),
            )
            budget_rows.mark(self._tx, self._budgets[budget_id], starts_at, now=self._now)
        for runner_id, (tokens, nano_usd, last) in self._of_runner.items():
            used = Estimate(max(0, tokens), max(0, nano_usd))
            reservations.settle(self._tx, runner_id, used, since=last)

    def _period(self, budget: BudgetRow, at: datetime, moment: str) -> str:
        """The period of `at`; neighbours in a file are most often of the same one."""
        starts_at, ends_at, key = self._spans.get(budget.id, ("~", None, ""))
        if starts_at <= moment and (ends_at is None or moment < ends_at):
            return key
        key = budget_rows.open_period(self._tx, budget, at, self._zone)
        row = budget_rows.get_period(self._tx, budget.id, key)
        self._spans[budget.id] = (row["starts_at"], row["ends_at"], key)
        return key


def _since(rows: Rows, budget: BudgetRow) -> str:
    """From when on it counts: the beginning of its first period; a run's own spending all is its own."""
    if budget.period is BudgetPeriod.RUN:
        return ""
    first = rows.scalar("SELECT MIN(starts_at) FROM budget_periods WHERE budget_id = ?", (budget.id,))
    return str(first or iso(budget.created_at))


def put(tx: Tx, columns: dict[str, Any], *, actor: str, now: datetime) -> int:
    """Make a budget out of its columns, or change the one that there is of the same scope, period and unit.

    What was used in its present period already counts. Returns its number.
    """
    values = {name: column(value) for name, value in columns.items()}
    known = tx.scalar(
        "SELECT id FROM budgets WHERE scope = :scope AND project_id IS :project_id AND runner_id IS :runner_id"
        " AND period = :period AND (limit_tokens IS NULL) = (:limit_tokens IS NULL)"
        " AND (limit_nano_usd IS NULL) = (:limit_nano_usd IS NULL)",
        values,
    )
    if known is None:
        values = {"on_exceeded": OnExceeded.BLOCK.value, **values, "created_at": iso(now)}
        tx.execute(
            f"INSERT INTO budgets ({', '.join(values)}) VALUES ({', '.join(':' + name for name in values)})", values
        )
        known = tx.last_insert_id()
    else:
        changed = ", ".join(f"{name} = :{name}" for name in values)
        tx.execute(f"UPDATE budgets SET {changed} WHERE id = :id", {**values, "id": known})
    budget = get(tx, int(known))
    told = {**budget.told(), "limit": budget.limit, "warn": budget.warn, "on_exceeded": budget.on_exceeded.value}
    events.append(tx, "budget.set", str(budget.id), told, actor=actor, now=now)
    if budget.unit == "percent":
        allowances.mark(tx, budget, now=now)
    else:
        starts_at = reservations.open_present(tx, budget, now=now)
        _recount(tx, budget, budget_rows.get_period(tx, budget.id, starts_at), now)
        budget_rows.mark(tx, budget, starts_at, now=now)
    return budget.id


def get(rows: Rows, budget_id: int | str) -> BudgetRow:
    """The budget of that number; raises NotFound."""
    is_number = str(budget_id).isascii() and str(budget_id).isdigit() and len(str(budget_id)) < 18
    found = budget_rows.find(rows, int(budget_id)) if is_number else None
    if found is None:
        raise NotFound(f"there is no budget {budget_id}", remedy="`stratavore budget list` shows them")
    return found


def remove(tx: Tx, budget_id: int, *, actor: str, now: datetime) -> None:
    """Forget a budget and its history; raises NotFound."""
    budget = get(tx, budget_id)
    tx.execute("DELETE FROM budgets WHERE id = ?", (budget_id,))
    events.append(tx, "budget.removed", str(budget_id), budget.told(), actor=actor, now=now)


def extend(tx: Tx, budget_id: int, by: float, *, actor: str, now: datetime) -> None:
    """Raise the limit by so much of its unit, for its present period only; raises NotFound."""
    budget = get(tx, budget_id)
    room = allowances if budget.unit == "percent" else reservations
    starts_at = room.open_present(tx, budget, now=now)
    extra = f"extra_{budget.unit}"
    tx.execute(
        f"UPDATE budget_periods SET {extra} = {extra} + ? WHERE budget_id = ? AND starts_at = ?",
        (by, budget_id, starts_at),
    )
    if budget.unit == "percent":
        allowances.mark(tx, budget, now=now)
    else:
        budget_rows.mark(tx, budget, starts_at, now=now)
    events.append(tx, "budget.extended", str(budget_id), {**budget.told(), "by": by}, actor=actor, now=now)


def recount_all(tx: Tx, *, now: datetime) -> None:
    """Make every period's use anew from the ledger, and what is reserved from the reservations: after a restore."""
    for budget in budget_rows.find_all(tx):
        if budget.unit == "percent":
            continue
        reservations.open_present(tx, budget, now=now)
        for period in tx.all("SELECT * FROM budget_periods WHERE budget_id = ?", (budget.id,)):
            _recount(tx, budget, period, now)
            budget_rows.mark(tx, budget, period["starts_at"], now=now)
    tx.execute(
        "UPDATE budget_periods SET (reserved_tokens, reserved_nano_usd) = (SELECT COALESCE(SUM(v.tokens), 0),"
        " COALESCE(SUM(v.nano_usd), 0) FROM reservations AS v WHERE v.budget_id = budget_periods.budget_id"
        " AND v.starts_at = budget_periods.starts_at)"
    )


def list_budgets(
    rows: Rows, *, all: bool = False, unmetered: Collection[str] = ("shell",), now: datetime
) -> list[Budget]:
    """How the budgets stand in their present periods; of the use of the agents `unmetered` nobody tells.

    Those of the runs of ended runners are left out, unless `all` is said.
    """
    living = {runner_id for (runner_id,) in rows.tuples("SELECT id FROM runners WHERE alive = 1")}
    found = budget_rows.find_all(rows)
    return [
        _shown(rows, budget, unmetered, now)
        for budget in found
        if all or budget.period is not BudgetPeriod.RUN or budget.runner_id in living
    ]


def list_bounding(rows: Rows, project_id: int, *, now: datetime) -> list[Budget]:
    """How the budgets stand that would bound a new runner of a project."""
    return [_shown(rows, budget, (), now) for budget in budget_rows.find_bounding(rows, [project_id], [])]


def get_shown(rows: Rows, budget_id: int | str, *, unmetered: Collection[str] = ("shell",), now: datetime) -> Budget:
    """How one budget stands; raises NotFound."""
    return _shown(rows, get(rows, budget_id), unmetered, now)


def get_in_periods(
    rows: Rows, budget_id: int | str, *, unmetered: Collection[str] = ("shell",), now: datetime
) -> BudgetInPeriods:
    """How one budget stands, and its history; raises NotFound."""
    shown = get_shown(rows, budget_id, unmetered=unmetered, now=now)
    return BudgetInPeriods(**structs.asdict(shown), periods=list_history(rows, budget_id))


def list_history(rows: Rows, budget_id: int | str) -> list[BudgetHistory]:
    """What was used in each period of a budget, the newest first; raises NotFound."""
    budget = get(rows, budget_id)
    found = rows.all("SELECT * FROM budget_periods WHERE budget_id = ? ORDER BY starts_at DESC", (budget.id,))
    return [
        BudgetHistory(
            starts_at=datetime.fromisoformat(row["starts_at"]),
            ends_at=_moment(row["ends_at"]),
            used_tokens=row["used_tokens"],
            used_usd=usd_of(row["used_nano_usd"]),
            exceeded_at=_moment(row["exceeded_at"]),
        )
        for row in found
    ]


def _shown(rows: Rows, budget: BudgetRow, unmetered: Collection[str], now: datetime) -> Budget:
    period = budget_rows.period_at(rows, budget, now) or _unused(rows, budget, now)
    held = rows.one(
        "SELECT COALESCE(SUM(tokens), 0) AS tokens, COALESCE(SUM(nano_usd), 0) AS nano_usd FROM reservations"
        " WHERE budget_id = ?",
        (budget.id,),
    )
    unit, limit = budget.unit, budget_rows.limit_in(budget, period)
    window = allowances.fullest(rows, budget, now=now) if unit == "percent" else None
    used = period[f"used_{unit}"] if unit != "percent" else 0.0 if window is None else window.used_percent
    return Budget(
        id=budget.id,
        scope=budget.scope,
        name=budget.name,
        period=budget.period,
        limit_tokens=int(limit) if unit == "tokens" else None,
        limit_usd=usd_of(limit) if unit == "nano_usd" else None,
        limit_percent=limit if unit == "percent" else None,
        used_tokens=period["used_tokens"],
        used_usd=usd_of(period["used_nano_usd"]),
        unpriced_calls=0 if unit == "percent" else _count_unpriced(rows, budget, period["starts_at"]),
        used_percent=window and window.used_percent,
        reserved_tokens=held["tokens"],
        reserved_usd=usd_of(held["nano_usd"]),
        starts_at=datetime.fromisoformat(period["starts_at"]),
        resets_at=_moment(period["ends_at"] if window is None else window.resets_at),
        warn=budget.warn,
        warned=[share for share in budget.warn if used * 100 >= share * limit],
        on_exceeded=budget.on_exceeded,
        exceeded=used >= limit,
        blocked=_names(
            rows, "id IN (SELECT runner_id FROM blocks WHERE budget_id = :id AND rung <> 'warn')", {"id": budget.id}
        ),
        unmetered=_names(
            rows,
            "alive = 1 AND agent IN (SELECT value FROM json_each(:agents)) AND (:scope = 'global'"
            " OR project_id = :project_id OR id = :runner_id)",
            {
                "agents": column(list(unmetered)),
                "scope": budget.scope.value,
                "project_id": budget.project_id,
                "runner_id": budget.runner_id,
            },
        ),
    )


def _count_unpriced(rows: Rows, budget: BudgetRow, since: str) -> int:
    """How many calls since then, those that claim to be of the future included, have no cost."""
    found = rows.scalar(
        f"SELECT COUNT(*) FROM usage WHERE cost_nano_usd IS NULL AND at >= :since AND {_OF_SCOPE[budget.scope]}",
        {"since": since, "project_id": budget.project_id, "runner_id": budget.runner_id},
    )
    return int(found)


def _names(rows: Rows, condition: str, values: dict[str, Any]) -> list[str]:
    """Names of runners."""
    return [row["name"] for row in rows.all(f"SELECT name FROM runners WHERE {condition} ORDER BY name", values)]


def _unused(rows: Rows, budget: BudgetRow, now: datetime) -> Row:
    """The present period of a budget of which nothing was used in it yet."""
    starts_at, ends_at = budget_rows.bounds_at(rows, budget, now, budget_rows.zone_of(rows))
    nothing = dict.fromkeys(("used_tokens", "used_nano_usd", "extra_tokens", "extra_nano_usd", "extra_percent"), 0)
    return {"starts_at": starts_at, "ends_at": ends_at, **nothing}


def _recount(tx: Tx, budget: BudgetRow, period: Row, now: datetime) -> None:
    """Make the use of a period anew from the ledger; what claims to be of the future belongs to the present."""
    is_present = period["starts_at"] <= iso(now) and (period["ends_at"] is None or iso(now) < period["ends_at"])
    tx.execute(
        "UPDATE budget_periods SET (used_tokens, used_nano_usd) ="
        f" (SELECT COALESCE(SUM({_TOKENS}), 0), COALESCE(SUM(cost_nano_usd), 0) FROM usage"
        f" WHERE {_OF_SCOPE[budget.scope]} AND at >= :starts_at AND (:ends_at IS NULL OR at < :ends_at))"
        " WHERE budget_id = :id AND starts_at = :key",
        {
            "project_id": budget.project_id,
            "runner_id": budget.runner_id,
            "starts_at": period["starts_at"],
            "ends_at": None if is_present else period["ends_at"],
            "id": budget.id,
            "key": period["starts_at"],
        },
    )


def _moment(text: str | None) -> datetime | None:
    return None if text is None else datetime.fromisoformat(text)
