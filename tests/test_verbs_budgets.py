"""The verbs on budgets, against a daemon."""

from collections.abc import AsyncIterator
from typing import Any

import msgspec
import pytest
import pytest_asyncio
from msgspec import structs

from stratavore.auth import permit
from stratavore.context import Asker
from stratavore.errors import Forbidden, Invalid, NotFound
from stratavore.model import Budget, BudgetInPeriods, OnExceeded
from stratavore.protocol import BY_NAME
from tests.house import House, together

INSIDE = Asker("cli", 0, 1, "k3m9x2abcd")


@pytest_asyncio.fixture(loop_scope="module")
async def clean(shared: House) -> AsyncIterator[House]:
    """The shared house, in which no budget is left."""
    yield shared
    for budget in await shared.ask("list_budgets"):
        await shared.ask("remove_budget", str(budget.id))


async def put(house: House, **fields: Any) -> Budget:
    given = {"scope": "global", "period": "daily", "tokens": 1000, **fields}
    budget: Budget = await house.ask("set_budget", **given)
    return budget


@together
async def test_a_budget_is_what_was_said_and_else_the_defaults(clean: House) -> None:
    plain = await put(clean)
    assert (plain.limit_tokens, plain.limit_usd, plain.limit_percent) == (1000, None, None)
    assert (plain.warn, plain.on_exceeded, plain.exceeded, plain.name) == ([75, 90], OnExceeded.BLOCK, False, None)
    await clean.project("said")
    fields = {"scope": "project", "name": "said", "period": "monthly", "tokens": None, "usd": 2.5}
    said = await put(clean, **fields, warn=[90, 50, 90], on_exceeded="stop")
    assert (said.name, said.period, said.limit_usd) == ("said", "monthly", 2.5)
    assert (said.warn, said.on_exceeded) == ([50, 90], OnExceeded.STOP)
    assert [each.id for each in await clean.ask("list_budgets")] == [plain.id, said.id]
    periods = await clean.ask("list_budget_history", str(said.id))
    assert len(periods) == 1
    assert await clean.ask("get_budget", str(said.id)) == BudgetInPeriods(**structs.asdict(said), periods=periods)


@together
async def test_set_again_it_keeps_what_is_left_out(clean: House) -> None:
    first = await put(clean, warn=[50], on_exceeded="warn")
    again = await put(clean, tokens=7)
    assert (again.id, again.limit_tokens, again.warn, again.on_exceeded) == (first.id, 7, [50], OnExceeded.WARN)


@together
async def test_a_runner_has_a_budget_until_it_is_removed(clean: House) -> None:
    await clean.project("owner")
    runner = await clean.running("owner", name="owned")
    budget = await put(clean, scope="runner", name="owned", period="hourly")
    assert (budget.name, budget.unmetered) == ("owned", ["owned"])
    await clean.ask("kill_runners", runner.id)
    await clean.over(runner.id)
    await clean.ask("remove_runners", runner.id)
    assert await clean.ask("list_budgets") == []


@together
async def test_that_of_the_runs_of_an_ended_runner_is_listed_only_with_all(clean: House) -> None:
    await clean.project("brief")
    runner = await clean.launch("brief", "sleep 1000", budget_tokens=1000)
    [own] = await clean.ask("list_budgets")
    await clean.ask("stop_runners", runner.id)
    await clean.over(runner.id)
    assert await clean.ask("list_budgets") == []
    assert [each.id for each in await clean.ask("list_budgets", all=True)] == [own.id]
    await clean.ask("remove_budget", str(own.id))


@together
async def test_it_is_raised_in_its_own_unit(clean: House) -> None:
    budget = await put(clean)
    assert (await clean.ask("extend_budget", str(budget.id), tokens=500)).limit_tokens == 1500
    with pytest.raises(Invalid, match="not counted so") as caught:
        await clean.ask("extend_budget", str(budget.id), usd=1.0)
    assert "--tokens" in caught.value.remedy


@together
async def test_what_nobody_set_is_not_found(clean: House) -> None:
    for verb in ("get_budget", "list_budget_history", "remove_budget"):
        for name in ("7", "x", "-1", "9" * 30, "٣"):
            with pytest.raises(NotFound, match="no budget"):
                await clean.ask(verb, name)
    with pytest.raises(NotFound):
        await put(clean, scope="project", name="ghost")
    with pytest.raises(NotFound):
        await put(clean, scope="runner", name="ghost")
    assert await clean.ask("list_budgets") == []


@pytest.mark.parametrize(
    "fields",
    [
        {"name": "x"},
        {"scope": "project"},
        {"usd": 1.0},
        {"tokens": None},
        {"tokens": None, "percent": 5.0},
        {"period": "5h"},
        {"period": "run"},
        {"tokens": -1},
        {"tokens": 0},
        {"tokens": 10**30},
        {"tokens": None, "usd": 0},
        {"tokens": None, "period": "5h", "percent": 0},
        {"tokens": None, "usd": float("inf")},
        {"warn": [0]},
        {"warn": [101]},
    ],
)
def test_what_is_no_budget_is_refused(fields: dict[str, Any]) -> None:
    with pytest.raises(msgspec.ValidationError):
        msgspec.convert({"scope": "global", "period": "daily", "tokens": 1, **fields}, BY_NAME["set_budget"].request)


@together
async def test_whether_it_could_be_removed_can_be_asked(clean: House) -> None:
    budget = await put(clean)
    await clean.ask("remove_budget", str(budget.id), dry_run=True)
    assert len(await clean.ask("list_budgets")) == 1
    with pytest.raises(NotFound):
        await clean.ask("remove_budget", "77", dry_run=True)


@pytest.mark.parametrize("may_control", [False, True])
@pytest.mark.parametrize("verb", ["set_budget", "extend_budget", "remove_budget"])
def test_nobody_inside_a_runner_changes_what_it_may_spend(verb: str, may_control: bool) -> None:
    with pytest.raises(Forbidden, match="inside runner"):
        permit(INSIDE, BY_NAME[verb], runners_may_control=may_control)
    permit(INSIDE._replace(runner=None), BY_NAME[verb], runners_may_control=False)


@pytest.mark.parametrize("verb", ["list_budgets", "get_budget", "list_budget_history"])
def test_whoever_is_inside_may_see_how_much_is_left(verb: str) -> None:
    permit(INSIDE, BY_NAME[verb], runners_may_control=False)
