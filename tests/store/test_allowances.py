"""Budgets of accounts' windows: what agents tell of them, and whom that holds."""

from datetime import datetime, timedelta

import pytest

from stratavore.agents.records import Window
from stratavore.errors import BudgetExceeded
from stratavore.lifecycle import State
from stratavore.store import allowances, blocks, budget_rows, budgets, sessions, windows
from stratavore.wording import local_time
from tests.books import ACTOR, NOW, Books
from tests.store.test_budgets import put

HOME, OTHER = "/home/me/.codex", "/home/me/.codex-work"
RESET = NOW + timedelta(hours=2)


def tell(
    books: Books,
    used: float,
    *,
    home: str = HOME,
    at: datetime = NOW,
    resets_at: datetime | None = RESET,
    name: str = "5h",
) -> None:
    window = Window(at=at, name=name, used_percent=used, resets_at=resets_at)

    def note(tx):  # type: ignore[no-untyped-def]
        windows.note_all(tx, "codex", home, [window])
        allowances.note(tx, now=at)

    books.do(note)


def refused(books: Books, home: str, *, now: datetime = NOW) -> BudgetExceeded | None:
    try:
        allowances.refuse_used_up(books.rows, budget_rows.find_all(books.rows), ("codex", home), now=now)
    except BudgetExceeded as refusal:
        return refusal
    return None


@pytest.fixture
def number(books: Books) -> int:
    return put(books, period="5h", limit_percent=80.0)


def test_an_account_is_refused_until_its_window_is_reset(books: Books, number: int) -> None:
    tell(books, 79.0)
    assert refused(books, HOME) is None
    tell(books, 80.5)
    refusal = refused(books, HOME)
    assert refusal is not None
    assert (refusal.budget, refusal.resets_at) == (number, "2031-05-06T09:08:09.000Z")
    assert "80.5 % are used" in refusal.message
    assert f"it resets at {local_time('2031-05-06T09:08:09.000Z')}, or" in refusal.remedy
    assert refused(books, OTHER) is None, "another account has its own window"
    assert refused(books, HOME, now=RESET + timedelta(seconds=1)) is None


def test_thresholds_are_told_once_a_window(books: Books, number: int) -> None:
    for used in (50.0, 62.0, 70.0, 79.0, 85.0, 90.0):
        tell(books, used)
    assert books.told(str(number)) == ["budget.set", "budget.warning", "budget.warning", "budget.exceeded"]
    shown = budgets.get_shown(books.rows, number, now=NOW)
    assert (shown.used_percent, shown.exceeded, shown.resets_at) == (90.0, True, RESET)
    later = RESET + timedelta(hours=1)
    assert budgets.get_shown(books.rows, number, now=later).used_percent is None
    tell(books, 99.0, at=later, resets_at=later + timedelta(hours=5))
    assert books.told(str(number)).count("budget.exceeded") == 2


def test_an_extension_holds_for_this_window_only(books: Books, number: int) -> None:
    tell(books, 85.0)
    books.do(lambda tx: budgets.extend(tx, number, 10, actor=ACTOR, now=NOW))
    assert refused(books, HOME) is None
    assert budgets.get_shown(books.rows, number, now=NOW).limit_percent == 90
    later = RESET + timedelta(hours=1)
    tell(books, 85.0, at=later, resets_at=later + timedelta(hours=5))
    assert refused(books, HOME, now=later) is not None


@pytest.mark.parametrize(("window", "length"), [("5h", timedelta(hours=5)), ("7d", timedelta(days=7))])
def test_a_window_whose_reset_nobody_told_counts_for_its_length(books: Books, window: str, length: timedelta) -> None:
    put(books, period=window, limit_percent=80.0)
    row = books.runner_in(State.RUNNING, agent="codex")
    books.do(
        lambda tx: sessions.enter(
            tx, "codex", HOME, "s1", run_key=row.key, runner_id=row.id, project_id=1, cwd="/p", now=NOW
        )
    )
    tell(books, 85.0, resets_at=None, name=window)
    for now, counts in ((NOW + length - timedelta(minutes=1), True), (NOW + length, False)):
        assert (refused(books, HOME, now=now) is not None) == counts
        assert bool(blocks.list_excesses(books.rows, now=now)) == counts, "who may not begin may not go on"


def test_only_who_uses_the_account_is_held(books: Books, number: int) -> None:
    held, free = (books.runner_in(State.RUNNING, agent="codex") for _ in range(2))
    for row, home, name in ((held, HOME, "s1"), (free, OTHER, "s2")):
        books.do(
            lambda tx, row=row, home=home, name=name: sessions.enter(  # type: ignore[misc]
                tx, "codex", home, name, run_key=row.key, runner_id=row.id, project_id=1, cwd="/p", now=NOW
            )
        )
    tell(books, 85.0)
    assert [each.runner_id for each in blocks.list_excesses(books.rows, now=NOW)] == [held.id]
    assert blocks.list_excesses(books.rows, now=RESET + timedelta(seconds=1)) == []
    assert sessions.account_of(books.rows, held.id) == ("codex", HOME)
