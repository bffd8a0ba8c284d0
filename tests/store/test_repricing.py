"""Calls whose price is another by now: they cost what it says, wherever costs are added up."""

from datetime import timedelta
from typing import Any

from stratavore.clock import iso
from stratavore.config import ModelPrice
from stratavore.ledger.prices import Prices
from stratavore.model import BudgetPeriod, BudgetScope, OnExceeded
from stratavore.store import budgets, repricing, runners
from tests.books import ACTOR, NOW, Books

DAY = timedelta(days=1)
SONNET = "claude-sonnet-4-5-20250929"


def budget(books: Books, limit_usd: float) -> int:
    columns: dict[str, Any] = {
        "scope": BudgetScope.GLOBAL, "project_id": None, "runner_id": None, "period": BudgetPeriod.DAILY,
        "limit_tokens": None, "limit_nano_usd": round(limit_usd * 1e9), "limit_percent": None, "warn": [],
        "on_exceeded": OnExceeded.BLOCK,
    }  # fmt: skip
    return books.do(lambda tx: budgets.put(tx, columns, actor=ACTOR, now=NOW - DAY))


def used(books: Books, runner_id: str, *calls: tuple[str, str, int | None]) -> None:
    """Calls of 1000 tokens of input yesterday, by key, model and what they were booked with; nothing is charged."""
    for key, model, cost in calls:
        books.sql(
            "INSERT INTO usage SELECT 'claude', ?, NULL, ?, 1, ?, ?, 1000, 0, 0, 0, 0, ?, NULL, NULL, 'transcript',"
            " 'f', 0",
            key, runner_id, iso(NOW - DAY if key < "m" else NOW), model, cost,
        )  # fmt: skip
    books.sql(
        "INSERT INTO runner_usage (runner_id, calls, tokens, cost_nano_usd, unpriced_calls) SELECT runner_id, COUNT(*),"
        " SUM(input_tokens), COALESCE(SUM(cost_nano_usd), 0), COUNT(*) - COUNT(cost_nano_usd) FROM usage GROUP BY 1"
    )


def start(books: Books, *, dies: bool = False, **said: float) -> None:
    """What a daemon does at its start under this configuration: `[prices]` with so much for input and output."""
    names = {"sonnet": "claude-sonnet-4-5"}
    prices = Prices({names.get(name, name): ModelPrice(input=usd, output=usd) for name, usd in said.items()})
    changed = repricing.find(books.rows, prices, now=NOW)
    books.do(lambda tx: repricing.begin(tx, changed))
    place: repricing.Place | None = repricing.START
    while place is not None:
        after = place
        place = books.do(lambda tx: repricing.price_slice(tx, prices, changed, after, rows=1, now=NOW))  # noqa: B023
        if dies:
            return
    books.do(lambda tx: repricing.finish(tx, prices))


def costs(books: Books) -> dict[str, int | None]:
    """Of each call; what is added up must agree with it."""
    found: dict[str, int | None] = dict(books.rows.tuples("SELECT key, cost_nano_usd FROM usage"))
    row = books.rows.one("SELECT cost_nano_usd, unpriced_calls FROM runner_usage")
    assert row == {
        "cost_nano_usd": sum(each or 0 for each in found.values()),
        "unpriced_calls": list(found.values()).count(None),
    }
    return found


def test_what_had_no_price_costs_once_there_is_one(books: Books) -> None:
    runner, number = books.runner(), budget(books, 5e-9)
    used(books, runner.id, ("x", "new", None), ("y", "unknown", None), ("z", "old", 7))
    for _ in range(2):
        start(books, new=1)
        assert costs(books) == {"x": 1_000_000, "y": None, "z": 7}
        shown = budgets.get_shown(books.rows, number, now=NOW)
        assert (round(shown.used_usd * 1e9), shown.used_tokens, shown.exceeded) == (1_000_000, 0, True)


def test_a_runner_of_whose_calls_none_has_a_price_costs_what_nobody_knows(books: Books) -> None:
    runner = books.runner()
    used(books, runner.id, ("x", "new", None), ("y", "unknown", None))
    assert runners.get_runner(books.rows, runner.id).cost_usd is None
    start(books, new=1)
    assert runners.get_runner(books.rows, runner.id).cost_usd == 0.001


def test_a_configured_price_that_is_corrected_holds_for_what_was_booked_and_lets_go(books: Books) -> None:
    runner, number = books.runner(), budget(books, 1)
    used(books, runner.id, ("a", "mystery", None), ("y", "mystery", None), ("z", "table", 7))
    start(books, mystery=3000)
    assert budgets.get_shown(books.rows, number, now=NOW).exceeded
    start(books, mystery=3)
    assert costs(books) == {"a": 3_000_000, "y": 3_000_000, "z": 7}
    assert not budgets.get_shown(books.rows, number, now=NOW).exceeded
    assert [(each.used_usd, each.exceeded_at) for each in budgets.list_history(books.rows, number)] == [
        (0.003, None), (0.003, None),
    ]  # fmt: skip
    start(books)
    assert costs(books) == {"a": None, "y": None, "z": 7}
    assert budgets.get_shown(books.rows, number, now=NOW).used_usd == 0


def test_what_the_configuration_says_replaces_the_table_and_leaves_it_again(books: Books) -> None:
    runner = books.runner()
    used(books, runner.id, ("a", SONNET, 5), ("z", "claude-sonnet-4-5", 5))
    start(books)
    assert costs(books) == {"a": 5, "z": 5}, "what the table booked stays"
    start(books, sonnet=0)
    assert costs(books) == {"a": 0, "z": 0}
    start(books)
    assert costs(books) == {"a": 3_000_000, "z": 3_000_000}


def test_what_is_interrupted_is_done_again_even_if_the_configuration_says_what_it_did(books: Books) -> None:
    runner = books.runner()
    used(books, runner.id, ("a", "mystery", None), ("z", "mystery", None))
    start(books, mystery=1)
    start(books, mystery=3000, dies=True)
    assert costs(books) == {"a": 3_000_000_000, "z": 1_000_000}
    start(books, mystery=1)
    assert costs(books) == {"a": 1_000_000, "z": 1_000_000}
