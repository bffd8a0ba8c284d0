"""The verbs on budgets.

Rule 1: what a verb changes is in force at once: who may go on now, or no longer, is judged before it is answered.
Rule 2: nobody inside a runner changes them, whatever the configuration allows it (see `auth`).
"""

from collections.abc import Mapping
from typing import Any

from stratavore.agents import AGENTS, NamedProfile, resolve_or_shell
from stratavore.context import Asker, Context
from stratavore.errors import Invalid
from stratavore.model import Acknowledged, Budget, BudgetHistory, BudgetInPeriods, BudgetScope
from stratavore.money import nano
from stratavore.protocol import ExtendBudget, ListBudgets, Nothing, RemoveBudget, SetBudget
from stratavore.store import budgets, projects, runners
from stratavore.store.database import Rows, Tx


async def list_budgets(context: Context, asker: Asker, request: ListBudgets) -> list[Budget]:
    """The budgets, as they stand now."""
    now = context.clock.now()
    return budgets.list_budgets(context.rows, all=request.all, unmetered=_unmetered(context), now=now)


async def get_budget(context: Context, asker: Asker, request: Nothing, budget: str) -> BudgetInPeriods:
    """One budget, and what was used in its periods."""
    return budgets.get_in_periods(context.rows, budget, unmetered=_unmetered(context), now=context.clock.now())


async def list_budget_history(context: Context, asker: Asker, request: Nothing, budget: str) -> list[BudgetHistory]:
    """What was used of a budget in each of its periods, the newest first."""
    return budgets.list_history(context.rows, budget)


async def set_budget(context: Context, asker: Asker, request: SetBudget) -> Budget:
    """Bound what everything, a project or a runner may use; what it used in the present period counts already.

    Raises:
        NotFound, Ambiguous: no such project or runner, or several runners.
    """
    now = context.clock.now()

    def put(tx: Tx) -> int:
        return budgets.put(tx, _columns(tx, request), actor=str(asker), now=now)

    number = await context.write(put)
    await context.house.judged()
    return _shown(context, number)


async def extend_budget(context: Context, asker: Asker, request: ExtendBudget, budget: str) -> Budget:
    """Raise a limit for its present period; who was blocked by it goes on at once.

    Raises:
        NotFound: there is no such budget.
        Invalid: it counts something else.
    """
    unit, by = _amount(request)
    now = context.clock.now()

    def extend(tx: Tx) -> None:
        known = budgets.get(tx, budget)
        if known.unit != unit:
            words = {"tokens": "--tokens", "nano_usd": "--usd", "percent": "--percent"}
            raise Invalid(f"{known.title} is not counted so", remedy=f"say {words[known.unit]}")
        budgets.extend(tx, known.id, by, actor=str(asker), now=now)

    await context.write(extend)
    await context.house.judged()
    return _shown(context, budget)


async def remove_budget(context: Context, asker: Asker, request: RemoveBudget, budget: str) -> Acknowledged:
    """Forget a budget and its history; who was blocked by it goes on at once.

    Raises:
        NotFound: there is no such budget.
    """
    if request.dry_run:
        budgets.get(context.rows, budget)
        return Acknowledged()
    now = context.clock.now()
    await context.write(lambda tx: budgets.remove(tx, budgets.get(tx, budget).id, actor=str(asker), now=now))
    await context.house.judged()
    return Acknowledged()


def unmetered_agents(profiles: Mapping[str, NamedProfile]) -> frozenset[str]:
    """The agents, and profiles, of whose use nobody tells."""
    return frozenset(name for name in {*AGENTS, *profiles} if not resolve_or_shell(name, profiles).is_metered)


def _shown(context: Context, budget: int | str) -> Budget:
    return budgets.get_shown(context.rows, budget, unmetered=_unmetered(context), now=context.clock.now())


def _unmetered(context: Context) -> frozenset[str]:
    return unmetered_agents(context.config.agents)


def _columns(rows: Rows, request: SetBudget) -> dict[str, Any]:
    name = request.name or ""
    columns: dict[str, Any] = {
        "scope": request.scope,
        "project_id": projects.get_row(rows, name)["id"] if request.scope is BudgetScope.PROJECT else None,
        "runner_id": runners.resolve(rows, name) if request.scope is BudgetScope.RUNNER else None,
        "period": request.period,
        "limit_tokens": request.tokens,
        "limit_nano_usd": None if request.usd is None else nano(request.usd),
        "limit_percent": request.percent,
    }
    if request.warn is not None:
        columns["warn"] = sorted(set(request.warn))
    if request.on_exceeded is not None:
        columns["on_exceeded"] = request.on_exceeded
    return columns


def _amount(request: ExtendBudget) -> tuple[str, float]:
    if request.tokens is not None:
        return "tokens", request.tokens
    if request.usd is not None:
        return "nano_usd", nano(request.usd)
    return "percent", request.percent or 0.0
