"""Calls of a model that gets a price: they cost something from then on, wherever costs are added up."""

from typing import Any

from stratavore.model import BudgetPeriod, BudgetScope, OnExceeded
from stratavore.store import budgets, repricing
from stratavore.store.usage import Price
from tests.books import ACTOR, NOW, Books

PRICE = Price(1_000_000_000, 0, 0, 0, 0)
"""One dollar for a million tokens of input."""


def test_what_had_no_price_costs_once_there_is_one(books: Books) -> None:
    runner = books.runner()
    columns: dict[str, Any] = {
        "scope": BudgetScope.GLOBAL, "project_id": None, "runner_id": None, "period": BudgetPeriod.DAILY,
        "limit_tokens": None, "limit_nano_usd": 5, "limit_percent": None, "warn": [], "on_exceeded": OnExceeded.BLOCK,
    }  # fmt: skip
    budget = books.do(lambda tx: budgets.put(tx, columns, actor=ACTOR, now=NOW))
    for key, model, cost in (("a", "new", None), ("b", "unknown", None), ("c", "old", 7)):
        books.sql(
            "INSERT INTO usage SELECT 'claude', ?, NULL, ?, 1, '2031-05-06T07:08:09.000Z', ?, 1000, 0, 0, 0, 0, ?,"
            " NULL, NULL, 'transcript', 'f', 0",
            key, runner.id, model, cost,
        )  # fmt: skip
    books.sql(
        "INSERT INTO runner_usage (runner_id, calls, tokens, cost_nano_usd, unpriced_calls) VALUES (?, 3, 3000, 7, 2)",
        runner.id,
    )

    def prices(model: str, at: str, prompt_tokens: int) -> Price | None:
        return None if model == "unknown" else PRICE

    assert books.do(lambda tx: repricing.price_again(tx, prices, now=NOW)) == 1
    assert books.do(lambda tx: repricing.price_again(tx, prices, now=NOW)) == 0
    costs = dict(books.rows.tuples("SELECT key, cost_nano_usd FROM usage"))
    assert costs == {"a": 1_000_000, "b": None, "c": 7}
    assert books.rows.one("SELECT calls, tokens, cost_nano_usd, unpriced_calls FROM runner_usage") == {
        "calls": 3, "tokens": 3000, "cost_nano_usd": 1_000_007, "unpriced_calls": 1,
    }  # fmt: skip
    shown = budgets.get_shown(books.rows, budget, now=NOW)
    assert (round(shown.used_usd * 1e9), shown.used_tokens, shown.exceeded) == (1_000_000, 0, True)
