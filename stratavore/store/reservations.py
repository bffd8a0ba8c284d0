"""Estimates, held against budgets for runs that have not spent them yet.

Rule 1: what is granted fits into every budget at that moment: each is taken by a conditional UPDATE, in the transaction
that inserts the run.
Rule 2: `reserved_…` of a period is the sum of the reservations in it; a reservation is always in the present period as
soon as its budget is looked at.
Rule 3: a reservation belongs to a run: it shrinks by what the run uses, and is gone when the run has ended.
"""

from collections.abc import Collection, Iterable, Sequence
from datetime import datetime, timedelta
from statistics import median
from typing import NamedTuple

from stratavore.clock import iso
from stratavore.errors import BudgetExceeded
from stratavore.model import BudgetPeriod
from stratavore.money import usd_of
from stratavore.store import budget_rows
from stratavore.store.budget_rows import BudgetRow, bounds_at, open_period, period_at, zone_of
from stratavore.store.database import Rows, Tx
from stratavore.store.rows import column
from stratavore.wording import usd

_PAST_RUNS = 21


class Estimate(NamedTuple):
    """What one run is expected to use."""

    tokens: int
    nano_usd: int


class Room(NamedTuple):
    """How a budget stands in its present period, in its own unit."""

    used: float
    reserved: float
    limit: float
    starts_at: str
    resets_at: str | None

    @property
    def left(self) -> float:
        """What may still be granted; never negative."""
        return max(0.0, self.limit - self.used - self.reserved)


class Hold(NamedTuple):
    """What is held against one budget for each of the runs that are granted together."""

    budget_id: int
    starts_at: str
    tokens: int
    nano_usd: int


class Grant(NamedTuple):
    """How many runs fit, and what is held for each of them."""

    runs: int
    holds: tuple[Hold, ...]


def median_of_past(rows: Rows, project_id: int, agent: str) -> Estimate:
    """The median of the last runs of that agent in that project that used anything; zero where there was none."""
    found = rows.all(
        "SELECT SUM(u.input_tokens + u.output_tokens + u.cache_write_5m_tokens + u.cache_write_1h_tokens"
        " + u.cache_read_tokens) AS tokens, COALESCE(SUM(u.cost_nano_usd), 0) AS nano_usd"
        " FROM (SELECT n.key, n.runner_id, n.started_at, n.ended_at FROM runs AS n JOIN runners AS r"
        " ON r.id = n.runner_id WHERE r.project_id = :project AND r.agent = :agent AND n.ended_at IS NOT NULL"
        " AND n.started_at IS NOT NULL AND EXISTS (SELECT 1 FROM usage WHERE runner_id = n.runner_id"
        " AND at BETWEEN n.started_at AND n.ended_at) ORDER BY n.ended_at DESC LIMIT :most) AS n"
        " JOIN usage AS u ON u.runner_id = n.runner_id AND u.at BETWEEN n.started_at AND n.ended_at GROUP BY n.key",
        {"project": project_id, "agent": agent, "most": _PAST_RUNS},
    )
    if not found:
        return Estimate(0, 0)
    return Estimate(int(median(row["tokens"] for row in found)), int(median(row["nano_usd"] for row in found)))


def room_in(rows: Rows, budget: BudgetRow, *, now: datetime, beside: str = "") -> Room:
    """How a budget of tokens or money stands; what is held for the run `beside` is not counted."""
    unit, period = budget.unit, period_at(rows, budget, now)
    reserved = rows.scalar(
        f"SELECT COALESCE(SUM({unit}), 0) FROM reservations WHERE budget_id = ? AND run_key <> ?", (budget.id, beside)
    )
    if period is None:
        return Room(0, reserved, budget.limit, *bounds_at(rows, budget, now, zone_of(rows)))
    limit = budget.limit + period[f"extra_{unit}"]
    return Room(period[f"used_{unit}"], reserved, limit, period["starts_at"], period["ends_at"])


def fitting(budget: BudgetRow, room: Room, wish: Estimate) -> float:
    """How many runs of that estimate the room takes: whole, or without end where nothing is expected of them."""
    each = _share(budget, wish)
    if room.left <= 0:
        return 0
    return room.left // each if each else float("inf")


def refusal(budget: BudgetRow, room: Room, wish: Estimate, count: int) -> BudgetExceeded:
    """Why `count` runs of that estimate are not granted."""
    unit, each = budget.unit, _share(budget, wish)
    amounts = f"{amount(room.limit, unit)}: {amount(room.used, unit)} are used"
    if room.reserved:
        amounts += f", {amount(room.reserved, unit)} reserved"
    if room.left > 0:
        amounts += f", {amount(each * count, unit)} more are expected of {'it' if count == 1 else f'{count} runs'}"
    return budget_rows.refusal(budget, amounts, room.resets_at)


def check(rows: Rows, bounding: Sequence[BudgetRow], wish: Estimate, *, now: datetime, beside: str = "") -> None:
    """Refuse what `admit` would refuse now to one run; the run `beside` gives its place up for it.

    Raises:
        BudgetExceeded: it does not fit.
    """
    for budget in bounding:
        room = room_in(rows, budget, now=now, beside=beside)
        if budget.period is BudgetPeriod.RUN and beside:
            continue  # its next run begins with nothing used
        if fitting(budget, room, wish) < 1:
            raise refusal(budget, room, wish, 1)


def admit(
    tx: Tx, bounding: Sequence[BudgetRow], wish: Estimate, *, count: int = 1, partial: bool = False, now: datetime
) -> Grant:
    """Take room for `count` runs in every one of these budgets; with `partial`, for as many as fit.

    What is taken must be given to the runs with `hold` in the same transaction.

    Raises:
        BudgetExceeded: not all (with `partial`: none) fit; it names the budget that refuses.
    """
    for budget in bounding:
        open_present(tx, budget, now=now)
    rooms = [room_in(tx, budget, now=now) for budget in bounding]
    granted = count
    for budget, room in zip(bounding, rooms, strict=True):
        fits = fitting(budget, room, wish)
        if fits < (1 if partial else count):
            raise refusal(budget, room, wish, 1 if partial else count)
        granted = int(min(granted, fits))
    holds = []
    for budget, room in zip(bounding, rooms, strict=True):
        hold = Hold(budget.id, room.starts_at, *_capped(budget, wish))
        if not _take(tx, budget, hold, granted):
            raise refusal(budget, room, wish, granted)
        holds.append(hold)
    return Grant(granted, tuple(holds))


def give(tx: Tx, grant: Grant, run_keys: Iterable[str]) -> None:
    """Let what was granted belong to the runs of these keys, one share of tokens and billionths of a dollar each.

    There must be as many as were granted, each without a reservation of its own, in the transaction of `admit`.
    """
    tx.execute_many(
        "INSERT INTO reservations (run_key, budget_id, starts_at, tokens, nano_usd) VALUES (?, ?, ?, ?, ?)",
        [(key, *hold) for key in run_keys for hold in grant.holds if hold.tokens or hold.nano_usd],
    )


def own_limits(rows: Rows, runner_id: str) -> Estimate:
    """What one run of the runner may use by its own budgets; 0 where there is none."""
    row = rows.one(
        "SELECT COALESCE(MIN(limit_tokens), 0) AS tokens, COALESCE(MIN(limit_nano_usd), 0) AS nano_usd FROM budgets"
        " WHERE runner_id = ? AND period = 'run'",
        (runner_id,),
    )
    return Estimate(row["tokens"], row["nano_usd"])


def begin_run_of(tx: Tx, runner_id: str, *, now: datetime) -> None:
    """The next run of a runner begins: its budgets for one run are whole again."""
    found = tx.all(
        "SELECT b.id, MAX(p.starts_at) AS last FROM budgets AS b LEFT JOIN budget_periods AS p ON p.budget_id = b.id"
        " WHERE b.runner_id = ? AND b.period = 'run' GROUP BY b.id",
        (runner_id,),
    )
    for row in found:
        # After a clock that went back the new run is behind the last all the same.
        start = max(iso(now), _next_millisecond(row["last"])) if row["last"] else iso(now)
        tx.execute("UPDATE budget_periods SET ends_at = ? WHERE budget_id = ? AND ends_at IS NULL", (start, row["id"]))
        tx.execute("INSERT INTO budget_periods (budget_id, starts_at) VALUES (?, ?)", (row["id"], start))


def settle(tx: Tx, runner_id: str, used: Estimate, *, since: datetime) -> None:
    """The runner used so much: what is held for its present run, if that began at or before `since`, is less now."""
    found = tx.all(
        "SELECT v.* FROM reservations AS v JOIN runs AS n ON n.key = v.run_key"
        " WHERE n.runner_id = ? AND n.ended_at IS NULL AND n.created_at <= ?",
        (runner_id, iso(since)),
    )
    for row in found:
        less = Estimate(min(row["tokens"], used.tokens), min(row["nano_usd"], used.nano_usd))
        _free(tx, row["budget_id"], row["starts_at"], less)
        tx.execute(
            "UPDATE reservations SET tokens = tokens - ?, nano_usd = nano_usd - ? WHERE run_key = ? AND budget_id = ?",
            (*less, row["run_key"], row["budget_id"]),
        )


def release_all(tx: Tx, run_keys: Collection[str]) -> None:
    """These runs have ended: what is still held for them is free."""
    found = tx.all(
        "SELECT * FROM reservations WHERE run_key IN (SELECT value FROM json_each(?))", (column(list(run_keys)),)
    )
    for row in found:
        _free(tx, row["budget_id"], row["starts_at"], Estimate(row["tokens"], row["nano_usd"]))
    if found:
        tx.execute(
            "DELETE FROM reservations WHERE run_key IN (SELECT value FROM json_each(?))", (column(list(run_keys)),)
        )


def open_present(tx: Tx, budget: BudgetRow, *, now: datetime) -> str:
    """The present period, by its beginning; what is held in another moves into it."""
    starts_at = open_period(tx, budget, now, zone_of(tx))
    elsewhere = tx.all(
        "SELECT starts_at, SUM(tokens) AS tokens, SUM(nano_usd) AS nano_usd FROM reservations"
        " WHERE budget_id = ? AND starts_at <> ? GROUP BY starts_at",
        (budget.id, starts_at),
    )
    for row in elsewhere:
        moved = Estimate(row["tokens"], row["nano_usd"])
        _free(tx, budget.id, row["starts_at"], moved)
        _free(tx, budget.id, starts_at, Estimate(-moved.tokens, -moved.nano_usd))
    if elsewhere:
        tx.execute("UPDATE reservations SET starts_at = ? WHERE budget_id = ?", (starts_at, budget.id))
    return starts_at


def amount(value: float, unit: str) -> str:
    """A figure of that unit in words: `12,000 tokens`, `1.50 USD`."""
    match unit:
        case "tokens":
            return f"{value:,.0f} tokens"
        case "nano_usd":
            return f"{usd(usd_of(value))} USD"
        case _:
            return f"{value:g} %"


def _next_millisecond(moment: str) -> str:
    return iso(datetime.fromisoformat(moment) + timedelta(milliseconds=1))


def _share(budget: BudgetRow, wish: Estimate) -> int:
    held = _capped(budget, wish)
    return held.tokens if budget.unit == "tokens" else held.nano_usd


def _capped(budget: BudgetRow, wish: Estimate) -> Estimate:
    """Of a run's own budget no more is held than it is: it is there to be smaller than what is usual."""
    if budget.period is not BudgetPeriod.RUN:
        return wish
    if budget.unit == "tokens":
        return Estimate(min(wish.tokens, int(budget.limit)), wish.nano_usd)
    return Estimate(wish.tokens, min(wish.nano_usd, int(budget.limit)))


def _take(tx: Tx, budget: BudgetRow, hold: Hold, count: int) -> bool:
    unit, each = budget.unit, hold.tokens if budget.unit == "tokens" else hold.nano_usd
    return bool(
        tx.execute(
            "UPDATE budget_periods SET reserved_tokens = reserved_tokens + :tokens,"
            " reserved_nano_usd = reserved_nano_usd + :nano_usd WHERE budget_id = :id AND starts_at = :starts_at"
            f" AND used_{unit} + reserved_{unit} + :each <= :limit + extra_{unit}"
            f" AND used_{unit} + reserved_{unit} < :limit + extra_{unit}",
            {
                "tokens": hold.tokens * count,
                "nano_usd": hold.nano_usd * count,
                "id": budget.id,
                "starts_at": hold.starts_at,
                "each": each * count,
                "limit": int(budget.limit),
            },
        )
    )


def _free(tx: Tx, budget_id: int, starts_at: str, less: Estimate) -> None:
    tx.execute(
        "UPDATE budget_periods SET reserved_tokens = reserved_tokens - ?, reserved_nano_usd = reserved_nano_usd - ?"
        " WHERE budget_id = ? AND starts_at = ?",
        (*less, budget_id, starts_at),
    )
