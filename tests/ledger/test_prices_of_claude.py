"""Our price table and the pinned Claude Code: what one turn cost is the same number by both."""

import json
import tomllib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from stratavore import ledger
from stratavore.agents.records import FAST
from stratavore.ledger.prices import Prices
from stratavore.store.usage import cost
from tests.agents.bench import Bench
from tests.programs import needs, once_more
from tests.standins import messages
from tests.standins.server import Standin

pytestmark = [needs("claude"), once_more(), pytest.mark.timeout(60)]

TABLE = tomllib.loads((Path(ledger.__file__).parent / "prices.toml").read_text())
FASTER = {model for row in TABLE["price"] if "fast" in row for model in row["models"]}
MODELS = [model for row in TABLE["price"] for model in row["models"] if model.startswith("claude-")]
FORGOTTEN = {
    "claude-3-5-haiku", "claude-3-5-sonnet", "claude-3-7-sonnet", "claude-3-opus", "claude-opus-4", "claude-opus-4-0",
    "claude-opus-4-1", "claude-sonnet-4",
}  # fmt: skip
"""Claude Code takes another model, or another name, for these."""

IN_CI = {"claude-opus-5-5", "claude-sonnet-5-5", "claude-haiku-5-5"}


@pytest.fixture
def standin() -> Iterator[Standin]:
    with messages.serve(pause_seconds=0) as standin:
        yield standin


def models(names: set[str]) -> list[Any]:
    """Those that are not checked in CI are behind the marker."""
    return [pytest.param(model, marks=() if model in IN_CI else pytest.mark.long) for model in sorted(names)]


@pytest.mark.parametrize("model", models({*MODELS} - FORGOTTEN))
def test_claude_itself_computes_what_the_table_says(model: str, standin: Standin, tmp_path: Path) -> None:
    costs_the_same(model, "", standin, tmp_path)


@pytest.mark.parametrize("model", models(FASTER))
def test_also_for_what_was_served_fast(model: str, standin: Standin, tmp_path: Path) -> None:
    costs_the_same(model, FAST, standin, tmp_path)


def costs_the_same(model: str, speed: str, standin: Standin, tmp_path: Path) -> None:
    done = Bench("claude", tmp_path, standin).headless(
        prompt="count to 7 fast" if speed else "count to 7", extra=("--model", model, "--output-format", "json")
    )
    said: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
    assert [*said["modelUsage"]] == [model]
    usage = said["usage"]
    written = usage["cache_creation"]
    counts = (
        usage["input_tokens"], usage["output_tokens"], written["ephemeral_5m_input_tokens"],
        written["ephemeral_1h_input_tokens"], usage["cache_read_input_tokens"],
    )  # fmt: skip
    assert all(counts), "the stand-in bills every class"
    price = Prices()(f"{model}{speed}", "2026-11-22T00:00:00.000Z", sum(counts))
    assert price is not None
    assert cost(counts, price) == pytest.approx(said["total_cost_usd"] * 1e9, abs=1)
