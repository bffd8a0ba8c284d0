"""Room in budgets: whatever happens in whatever order, what is granted fits, and nothing is counted twice or lost."""

import tempfile
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from datetime import timedelta
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from stratavore import booking
from stratavore.errors import BudgetExceeded
from stratavore.model import OnExceeded
from stratavore.restart import Pace
from stratavore.store import budget_rows, budgets, installation, reservations
from stratavore.store.database import Tx
from stratavore.store.reservations import Estimate
from stratavore.store.usage import Charge
from tests.books import ACTOR, BOOT, MOMENT, NOW, Books

PACE = Pace(1.0, 1.0, 0.0, 1.0)
LIMIT = 1000
COLUMNS: dict[str, Any] = {
    "scope": "global",
    "project_id": None,
    "runner_id": None,
    "period": "daily",
    "limit_tokens": LIMIT,
    "limit_nano_usd": None,
    "limit_percent": None,
    "on_exceeded": OnExceeded.BLOCK,
}


def put(books: Books, **columns: Any) -> int:
    return books.do(lambda tx: budgets.put(tx, {**COLUMNS, **columns}, actor=ACTOR, now=NOW))


def take(tx: Tx, key: str, tokens: int, runner_id: str = "", *, now: Any = NOW) -> None:
    """What a launch does, once its run is inserted."""
    bounding = budget_rows.find_bounding(tx, [1], [runner_id])
    reservations.give(tx, reservations.admit(tx, bounding, Estimate(tokens, 0), now=now), [key])


class Spending(RuleBasedStateMachine):
    """A daily and an hourly budget of everything, and the runs that live under them."""

    def __init__(self) -> None:
        super().__init__()
        self._stack = ExitStack()
        directory = self._stack.enter_context(tempfile.TemporaryDirectory(dir=_memory()))
        self.books = self._stack.enter_context(Books.open(Path(directory) / "state.db"))
        self.books.sql("UPDATE projects SET max_runners = 1000")
        self.books.do(lambda tx: installation.begin(tx, BOOT, timezone="Europe/Berlin", now=NOW))
        self.now = NOW
        self.living: list[str] = []
        self.charged = 0
        self.seen: dict[tuple[int, str], int] = {}

    @initialize()
    def set_budgets(self) -> None:
        self.numbers = [put(self.books, period=period) for period in ("daily", "hourly")]

    @rule(tokens=st.integers(0, 600))
    def launch(self, tokens: int) -> None:
        row = self.books.runner()
        try:
            self.books.do(lambda tx: take(tx, row.key, tokens, now=self.now))
        except BudgetExceeded:
            assert any(self._left(number) < max(tokens, 1) for number in self.numbers), "refused with room"
            self.books.sql("DELETE FROM runners WHERE id = ?", row.id)
            return
        self.living.append(row.key)
        for number in self.numbers:
            assert self._left(number) >= 0, "granted beyond the limit"

    @precondition(lambda self: self.living)
    @rule(which=st.integers(0, 99), tokens=st.integers(0, 800), late=st.integers(-30, 7200))
    def charge(self, which: int, tokens: int, late: int) -> None:
        key = self.living[which % len(self.living)]
        at = max(self.now - timedelta(seconds=late), NOW)
        call = Charge(key.partition(".")[0], 1, "claude", "m", at, tokens, 0, True)
        self.books.do(lambda tx: budgets.charge(tx, [call], now=self.now))
        self.charged += tokens

    @precondition(lambda self: self.living)
    @rule(which=st.integers(0, 99))
    def end(self, which: int) -> None:
        key = self.living.pop(which % len(self.living))
        moment = MOMENT._replace(now=self.now)
        self.books.do(lambda tx: booking.book_not_started(tx, key, "it ended", moment, PACE))

    @rule(by=st.integers(1, 500), which=st.integers(0, 1))
    def extend(self, by: int, which: int) -> None:
        self.books.do(lambda tx: budgets.extend(tx, self.numbers[which], by, actor=ACTOR, now=self.now))

    @rule(minutes=st.integers(-90, 600))
    def let_time_pass(self, minutes: int) -> None:
        self.now = max(self.now + timedelta(minutes=minutes), NOW)

    @rule(zone=st.sampled_from(["UTC", "America/New_York", "Asia/Kathmandu"]))
    def move(self, zone: str) -> None:
        self.books.do(lambda tx: installation.begin(tx, BOOT, timezone=zone, now=NOW))

    @invariant()
    def what_is_reserved_is_what_is_held(self) -> None:
        periods = self.books.rows.all("SELECT * FROM budget_periods ORDER BY budget_id, starts_at")
        held = {
            (row["budget_id"], row["starts_at"]): row["tokens"]
            for row in self.books.rows.all(
                "SELECT budget_id, starts_at, SUM(tokens) AS tokens FROM reservations GROUP BY 1, 2"
            )
        }
        for row in periods:
            key = (row["budget_id"], row["starts_at"])
            assert row["reserved_tokens"] == held.pop(key, 0) >= 0
            assert row["used_tokens"] >= self.seen.get(key, 0), "somebody unspent something"
            self.seen[key] = row["used_tokens"]
            assert (row["exceeded_at"] is not None) == (row["used_tokens"] >= LIMIT + row["extra_tokens"])
        assert not held
        for one, two in pairwise(periods):
            assert one["budget_id"] != two["budget_id"] or one["ends_at"] <= two["starts_at"], "periods overlap"

    @invariant()
    def nothing_is_lost_and_nothing_counted_twice(self) -> None:
        for number in getattr(self, "numbers", ()):
            used = self.books.rows.scalar("SELECT SUM(used_tokens) FROM budget_periods WHERE budget_id = ?", (number,))
            assert used == self.charged

    @invariant()
    def nothing_is_held_for_what_has_ended(self) -> None:
        held = {row["run_key"] for row in self.books.rows.all("SELECT run_key FROM reservations")}
        assert held <= set(self.living)

    def _left(self, number: int) -> float:
        room = reservations.room_in(self.books.rows, budgets.get(self.books.rows, number), now=self.now)
        return room.limit - room.used - room.reserved

    def teardown(self) -> None:
        self._stack.close()


def _memory() -> str | None:
    """Where flushes cost nothing."""
    return "/dev/shm" if Path("/dev/shm").is_dir() else None


Spending.TestCase.settings = settings(max_examples=40, stateful_step_count=40, deadline=None)
TestSpending = Spending.TestCase


def reserved(books: Books, number: int) -> list[tuple[str, int]]:
    found = books.rows.all(
        "SELECT starts_at, reserved_tokens FROM budget_periods WHERE budget_id = ? ORDER BY starts_at", (number,)
    )
    return [(row["starts_at"], row["reserved_tokens"]) for row in found]


def test_the_rest_of_a_reservation_moves_into_the_new_period(books: Books) -> None:
    books.do(lambda tx: installation.begin(tx, BOOT, timezone="UTC", now=NOW))
    number, row = put(books), books.runner()
    books.do(lambda tx: take(tx, row.key, 700))
    call = Charge(row.id, 1, "claude", "m", NOW, 200, 0, True)
    books.do(lambda tx: budgets.charge(tx, [call], now=NOW))
    assert [held for _, held in reserved(books, number)] == [500]
    other, tomorrow = books.runner(), NOW + timedelta(days=1)
    books.do(lambda tx: take(tx, other.key, 500, now=tomorrow))
    assert [held for _, held in reserved(books, number)] == [0, 1000]
    third = books.runner()
    with pytest.raises(BudgetExceeded):
        books.do(lambda tx: take(tx, third.key, 1, now=tomorrow))


def test_the_tightest_of_several_refuses(books: Books) -> None:
    row = books.runner()
    wide, narrow = put(books, limit_tokens=10_000), put(books, scope="project", project_id=1, limit_tokens=100)
    with pytest.raises(BudgetExceeded, match="the daily budget of project p is 100 tokens") as caught:
        books.do(lambda tx: take(tx, row.key, 200))
    assert (caught.value.budget, caught.value.exit_code) == (narrow, 10)
    assert caught.value.resets_at is not None
    assert "it resets at 2031-05-0" in caught.value.remedy
    assert [held for _, held in reserved(books, wide)] == [0]


def test_what_expects_nothing_needs_some_room_all_the_same(books: Books) -> None:
    put(books)
    one = books.runner()
    books.do(lambda tx: take(tx, one.key, 0))
    call = Charge(one.id, 1, "claude", "m", NOW, LIMIT, 0, True)
    books.do(lambda tx: budgets.charge(tx, [call], now=NOW))
    two = books.runner()
    with pytest.raises(BudgetExceeded):
        books.do(lambda tx: take(tx, two.key, 0))


def test_a_call_of_an_earlier_run_takes_nothing_from_what_is_held_for_this_one(books: Books) -> None:
    put(books)
    row = books.runner()
    books.do(lambda tx: take(tx, row.key, 500))
    call = Charge(row.id, 1, "claude", "m", NOW - timedelta(minutes=5), 200, 0, True)
    books.do(lambda tx: budgets.charge(tx, [call], now=NOW))
    assert books.rows.scalar("SELECT tokens FROM reservations") == 500


def test_many_takers_at_once_get_exactly_what_fits(books: Books) -> None:
    books.sql("UPDATE projects SET max_runners = 100")
    number = put(books)
    keys = [books.runner().key for _ in range(50)]
    with ThreadPoolExecutor(20) as pool:
        granted = list(pool.map(lambda key: _try(books, key), keys))
    assert sum(granted) == 10
    assert [held for _, held in reserved(books, number)] == [LIMIT]


def test_a_transaction_that_fails_holds_nothing(books: Books) -> None:
    number, row = put(books), books.runner()

    def begin(tx: Tx) -> None:
        take(tx, row.key, 500)
        raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        books.do(begin)
    assert [held for _, held in reserved(books, number)] == [0]


def test_a_restore_makes_what_is_reserved_anew(books: Books) -> None:
    number, row = put(books), books.runner()
    books.do(lambda tx: take(tx, row.key, 500))
    books.sql("UPDATE budget_periods SET reserved_tokens = 7, used_tokens = 7")
    books.do(lambda tx: budgets.recount_all(tx, now=NOW))
    assert [held for _, held in reserved(books, number)] == [500]
    assert budgets.get_shown(books.rows, number, now=NOW).used_tokens == 0


def _try(books: Books, key: str) -> int:
    try:
        books.do(lambda tx: take(tx, key, 100))
    except BudgetExceeded:
        return 0
    return 1
