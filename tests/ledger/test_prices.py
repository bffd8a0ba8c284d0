"""What a model costs, when, and that nobody guesses."""

import tomllib
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from stratavore.agents.records import FAST
from stratavore.config import ModelPrice
from stratavore.ledger import prices
from stratavore.ledger.prices import Prices
from stratavore.store.usage import Price, cost

NOW = "2026-03-04T05:06:07.000Z"
TABLE = tomllib.loads(Path(prices.__file__).with_name("prices.toml").read_text())
OPUS = Price(5_000_000_000, 25_000_000_000, 6_250_000_000, 10_000_000_000, 500_000_000)


@pytest.mark.parametrize(
    "model",
    [
        "claude-opus-4-8",
        "claude-opus-4-8[1m]",
        "claude-opus-4-8-20260115",
        "claude-opus-4-8-20260115[1m]",
        "claude-opus-4-8-latest",
    ],
)
def test_a_dated_or_extended_id_costs_what_the_model_costs(model: str) -> None:
    assert Prices()(model, NOW) == OPUS


@pytest.mark.parametrize(
    ("model", "times"), [("claude-opus-4-8", 2), ("claude-opus-4-8-20260115", 2), ("claude-opus-4-6", 6)]
)
def test_what_was_served_fast_costs_a_multiple(model: str, times: int) -> None:
    assert Prices()(f"{model}{FAST}", NOW) == Price(*(each * times for each in OPUS))


def test_where_the_multiple_is_not_known_nobody_guesses() -> None:
    assert Prices()(f"claude-opus-4-5{FAST}", NOW) is None
    said = {"claude-opus-4-8": ModelPrice(input=1, output=1), f"claude-opus-4-5{FAST}": ModelPrice(input=3, output=3)}
    configured = Prices(said)
    doubled, own = configured(f"claude-opus-4-8{FAST}", NOW), configured(f"claude-opus-4-5{FAST}", NOW)
    assert doubled is not None
    assert own is not None
    assert (doubled.input, own.input) == (2 * 10**9, 3 * 10**9)


@pytest.mark.parametrize(
    "model",
    ["", "claude-opus-4-9", "claude-opus", "xclaude-opus-4-8", "claude-opus-4-8-turbo", "gpt-5-2x", "claude-opus-4-81"],
)
def test_a_model_that_is_only_like_a_known_one_has_no_price(model: str) -> None:
    assert Prices()(model, NOW) is None
    assert not Prices().has(model, NOW)


def test_a_price_holds_from_its_day_on() -> None:
    table = Prices()
    before, after = table("o3-2025-04-16", "2025-06-09T23:59:59.999Z"), table("o3", "2025-06-10T00:00:00.000Z")
    assert before is not None
    assert after is not None
    assert (before.input, after.input) == (10 * 10**9, 2 * 10**9)


def test_a_large_prompt_may_cost_more() -> None:
    table = Prices()
    small, large = table("gemini-2.5-pro", NOW, 200_000), table("gemini-2.5-pro", NOW, 200_001)
    assert small is not None
    assert large is not None
    assert (small.output, large.output) == (10 * 10**9, 15 * 10**9)
    assert table("claude-opus-4-8", NOW, 900_000) == OPUS


def test_the_configuration_says_otherwise() -> None:
    table = Prices({"claude-opus-4-8": ModelPrice(input=1, output=2.5), "mine": ModelPrice()})
    assert table("claude-opus-4-8-20260115", NOW) == Price(10**9, 2_500_000_000, 10**9, 10**9, 10**9)
    assert table("mine", NOW) == Price(0, 0, 0, 0, 0)
    assert table("claude-opus-4-5", NOW) == OPUS


def test_a_class_without_a_price_of_its_own_costs_as_input_does() -> None:
    price = Prices()("gpt-5", NOW)
    assert price is not None
    assert price.cache_write_5m == price.cache_write_1h == price.input


def test_a_cost_is_whole_billionths() -> None:
    assert cost((1, 0, 0, 0, 0), OPUS) == 5000
    assert cost((0, 0, 0, 0, 1), Price(0, 0, 0, 0, 12_500_000)) == 13  # 12.5, rounded
    assert cost((10**9,) * 5, OPUS) == 10**9 * (5000 + 25000 + 6250 + 10000 + 500)


@given(st.lists(st.integers(0, 10**9), min_size=5, max_size=5))
def test_a_cost_never_depends_on_floating_point(counts: list[int]) -> None:
    assert abs(cost(counts, OPUS) * 10**6 - sum(n * each for n, each in zip(counts, OPUS, strict=True))) <= 10**6 // 2


def test_no_model_has_two_prices_of_one_day() -> None:
    days = [(model, row.get("since", "")) for row in TABLE["price"] for model in row["models"]]
    assert len(days) == len(set(days))


def test_the_table_says_when_and_whence() -> None:
    text = Path(prices.__file__).with_name("prices.toml").read_text()
    assert Prices().as_of == TABLE["as_of"]
    assert f"As of {TABLE['as_of']}" in text
    assert "Source" in text
