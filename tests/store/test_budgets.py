"""Budgets: what is booked into which period, and what is told of it."""

from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from stratavore.clock import iso
from stratavore.errors import NotFound
from stratavore.model import Budget, BudgetHistory, OnExceeded
from stratavore.store import attribution, budgets, installation
from stratavore.store.usage import Charge
from tests.books import ACTOR, BOOT, NOW, Books
from tests.store.test_usage import CALL, enter, like, session, told

CALL_TOKENS = CALL.input_tokens + CALL.output_tokens + CALL.cache_write_5m_tokens + CALL.cache_write_1h_tokens
CALL_TOKENS += CALL.cache_read_tokens


@pytest.fixture(autouse=True)
def zone(books: Books) -> None:
    books.do(lambda tx: installation.begin(tx, BOOT, timezone="UTC", now=NOW))


def put(books: Books, scope: str = "global", period: str = "daily", *, now: datetime = NOW, **columns: Any) -> int:
    given = {
        "scope": scope,
        "project_id": None,
        "runner_id": None,
        "period": period,
        "limit_tokens": None,
        "limit_nano_usd": None,
        "limit_percent": None,
        "warn": [75, 90],
        "on_exceeded": OnExceeded.BLOCK,
        **columns,
    }
    if not any(given[f"limit_{unit}"] is not None for unit in ("tokens", "nano_usd", "percent")):
        given["limit_tokens"] = 1000
    return books.do(lambda tx: budgets.put(tx, given, actor=ACTOR, now=now))


def charge(books: Books, tokens: int, *, now: datetime = NOW, **fields: Any) -> None:
    given = {
        "runner_id": None,
        "project_id": 1,
        "agent": "claude",
        "model": "m",
        "at": now,
        "tokens": tokens,
        "nano_usd": tokens * 1000,
        "is_priced": True,
        **fields,
    }
    books.do(lambda tx: budgets.charge(tx, [Charge(**given)], now=now))


def shown(books: Books, budget_id: int, now: datetime = NOW) -> Budget:
    return budgets.get_shown(books.rows, budget_id, now=now)


def history(books: Books, budget_id: int) -> list[BudgetHistory]:
    return budgets.list_history(books.rows, budget_id)


def test_a_call_is_booked_into_every_budget_that_bounds_it(books: Books) -> None:
    other, row = books.project("q"), books.runner()
    whole, project, foreign = put(books), put(books, "project", project_id=1), put(books, "project", project_id=other)
    own = put(books, "runner", runner_id=row.id, limit_nano_usd=10**9)
    charge(books, 100, runner_id=row.id)
    charge(books, 10, project_id=1)
    charge(books, 1, project_id=None)
    assert [shown(books, each).used_tokens for each in (whole, project, foreign, own)] == [111, 110, 0, 100]
    assert shown(books, own).used_usd == pytest.approx(0.0001)


def test_each_threshold_and_the_limit_are_told_once_a_period(books: Books) -> None:
    number = put(books)
    for _ in range(12):
        charge(books, 100)
    assert books.told(str(number)) == ["budget.set", "budget.warning", "budget.warning", "budget.exceeded"]
    [low, high, over] = [event.payload for event in books.events() if event.aggregate_id == str(number)][1:]
    assert (low["percent"], low["used"], high["percent"], high["used"]) == (75, 800, 90, 900)
    assert (over["used"], over["limit"], over["on_exceeded"]) == (1000, 1000, "block")
    assert shown(books, number).exceeded
    tomorrow = NOW + timedelta(days=1)
    assert (shown(books, number, tomorrow).used_tokens, shown(books, number, tomorrow).exceeded) == (0, False)
    charge(books, 1000, now=tomorrow)
    assert books.told(str(number)).count("budget.exceeded") == 2
    assert [(each.used_tokens, each.exceeded_at) for each in history(books, number)] == [(1000, tomorrow), (1200, NOW)]


def test_what_comes_late_is_booked_into_the_period_that_it_is_of_and_not_told(books: Books) -> None:
    number, tomorrow = put(books), NOW + timedelta(days=1)
    charge(books, 5, now=tomorrow)
    charge(books, 5000, at=NOW + timedelta(seconds=1), now=tomorrow)
    assert [each.used_tokens for each in history(books, number)] == [5, 5000]
    assert books.told(str(number)) == ["budget.set"]


def test_what_was_used_before_the_budget_was_set_counts_only_in_its_own_period(books: Books) -> None:
    number = put(books)
    charge(books, 7, at=NOW - timedelta(hours=1))
    charge(books, 50, at=NOW - timedelta(days=1))
    assert [each.used_tokens for each in history(books, number)] == [7]


def test_a_call_of_the_future_is_booked_now(books: Books) -> None:
    """Else a file that lies about its time would spend for ever."""
    number = put(books)
    charge(books, 1000, at=datetime(9999, 12, 31, 23, 59, tzinfo=UTC))
    charge(books, 1, at=datetime(1, 1, 1, tzinfo=UTC))
    assert [each.used_tokens for each in history(books, number)] == [1000]


def test_a_clock_that_goes_back_counts_nothing_twice(books: Books) -> None:
    number = put(books)
    later = NOW + timedelta(days=3)
    charge(books, 100, now=later)
    charge(books, 10, now=NOW)
    charge(books, 1, now=later)
    used = [each.used_tokens for each in history(books, number)]
    assert used == [101, 10]


def test_another_time_zone_splits_no_period(books: Books) -> None:
    number = put(books)
    books.do(lambda tx: installation.begin(tx, BOOT, timezone="Pacific/Auckland", now=NOW))
    for hours in range(0, 72, 3):
        charge(books, 1, now=NOW + timedelta(hours=hours))
    found = sorted(history(books, number), key=lambda each: each.starts_at)
    assert [later.starts_at for later in found[1:]] == [earlier.ends_at for earlier in found[:-1]]
    assert sum(each.used_tokens for each in found) == 24


def test_setting_it_again_changes_it_and_keeps_what_was_used(books: Books) -> None:
    row = books.runner()
    number = put(books)
    charge(books, 600, runner_id=row.id)
    books.sql(
        "INSERT INTO usage SELECT 'claude', 'k', NULL, ?, 1, ?, 'm', 600, 0, 0, 0, 0, 1, NULL, NULL, 'otlp', '', 0",
        row.id,
        "2031-05-06T07:08:09.000Z",
    )
    assert put(books, limit_tokens=500) == number
    assert (shown(books, number).used_tokens, shown(books, number).exceeded) == (600, True)
    assert put(books, limit_nano_usd=1) != number
    assert not shown(books, put(books, limit_tokens=10_000)).exceeded
    assert books.told(str(number))[-1] == "budget.set"


def test_more_for_this_period_lifts_it_until_the_next(books: Books) -> None:
    number = put(books)
    charge(books, 1000)
    books.do(lambda tx: budgets.extend(tx, number, 500, actor=ACTOR, now=NOW))
    found = shown(books, number)
    assert (found.limit_tokens, found.exceeded, found.warned) == (1500, False, [])
    charge(books, 500)
    assert books.told(str(number)).count("budget.exceeded") == 2
    assert shown(books, number, NOW + timedelta(days=1)).limit_tokens == 1000


def test_a_budget_that_is_removed_takes_its_history_along(books: Books) -> None:
    number = put(books)
    books.do(lambda tx: budgets.remove(tx, number, actor=ACTOR, now=NOW))
    assert budgets.list_budgets(books.rows, now=NOW) == []
    assert books.told(str(number)) == ["budget.set", "budget.removed"]
    with pytest.raises(NotFound, match="no budget"):
        books.do(lambda tx: budgets.remove(tx, number, actor=ACTOR, now=NOW))


def test_a_restore_counts_anew_from_the_ledger(books: Books) -> None:
    number = put(books)
    charge(books, 600)
    books.do(lambda tx: budgets.recount_all(tx, now=NOW))
    assert shown(books, number).used_tokens == 0, "the ledger knows of nothing"


def test_a_call_that_turns_out_to_be_anothers_is_counted_anew_where_a_budget_is_set_again(
    books: Books,
) -> None:
    runners = {name: books.runner().id for name in ("parent", "fork")}
    for name, runner_id in runners.items():
        enter(books, session(books, name, parent="parent" if name == "fork" else None), runner_id, iso(NOW))
    numbers = {name: put(books, "runner", runner_id=runner_id) for name, runner_id in runners.items()}
    whole = put(books)

    def used() -> list[int]:
        return [shown(books, each).used_tokens for each in (numbers["parent"], numbers["fork"], whole)]

    for name, path in (("fork", "/a/fork.jsonl"), ("parent", "/z/parent.jsonl")):
        charges = told(books, like(session_id=name), path=path)
        books.do(lambda tx, charges=charges: budgets.charge(tx, charges, now=NOW))  # type: ignore[misc]
    assert (books.shown(runners["parent"]).tokens, books.shown(runners["fork"]).tokens) == (CALL_TOKENS, 0)
    assert used() == [0, CALL_TOKENS, CALL_TOKENS], "nothing is booked twice, and nothing is taken back"
    for name, runner_id in runners.items():
        assert put(books, "runner", runner_id=runner_id) == numbers[name]
    assert used() == [CALL_TOKENS, 0, CALL_TOKENS]


def test_a_global_budget_counts_what_no_project_and_no_runner_used_as_if_it_were_set_again(books: Books) -> None:
    daily, runner_id = put(books), books.runner().id
    hourly, numbers = put(books, period="hourly"), [session(books, name) for name in ("nobodys", "runners")]
    books.sql("UPDATE sessions SET project_id = NULL, cwd = '/new'")
    for name in ("nobodys", "runners"):
        charges = told(books, like(key=name, request_id=name, session_id=name), path=f"/{name}.jsonl")
        books.do(lambda tx, charges=charges: budgets.charge(tx, charges, now=NOW))  # type: ignore[misc]

    def used() -> list[int]:
        return [shown(books, each).used_tokens for each in (daily, hourly)]

    assert used() == [2 * CALL_TOKENS, 2 * CALL_TOKENS], "of nobody yet"
    enter(books, numbers[1], runner_id, iso(NOW))
    books.do(lambda tx: attribution.attribute(tx, numbers, now=NOW))
    books.project("new")
    assert used() == [2 * CALL_TOKENS, 2 * CALL_TOKENS], "whoever's it turns out to be"
    assert [put(books), put(books, period="hourly")] == [daily, hourly]
    assert used() == [2 * CALL_TOKENS, 2 * CALL_TOKENS], "as the ledger adds up"


def test_a_threshold_is_told_again_where_the_limit_was_raised_meanwhile(books: Books) -> None:
    number = put(books, warn=[75])
    charge(books, 800)
    books.do(lambda tx: budgets.extend(tx, number, 1000, actor=ACTOR, now=NOW))
    charge(books, 600)
    charge(books, 200)
    assert books.told(str(number)) == ["budget.set", "budget.warning", "budget.extended", "budget.warning"]


def test_what_is_told_of_a_call_after_midnight_is_of_the_day_that_the_ledger_has_it_in(books: Books) -> None:
    number, day = put(books), timedelta(days=1)
    for at, now in ((NOW, NOW), (NOW + day, NOW + day)):
        output_tokens = CALL.output_tokens + (now - NOW) // day
        charges = told(books, like(at=at, output_tokens=output_tokens))
        books.do(lambda tx, charges=charges, now=now: budgets.charge(tx, charges, now=now))  # type: ignore[misc]
    assert [each.used_tokens for each in history(books, number)] == [CALL_TOKENS + 1]
