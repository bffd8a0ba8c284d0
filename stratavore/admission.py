"""Whether there is money for a run: what it will probably use, held against every budget that bounds it.

Rule 1: the decision falls in the transaction that inserts the run. What is asked before only spares work.
Rule 2: of whose use nobody tells nothing is expected: it is let in, and shown as unmetered.
Rule 3: who cannot be judged is refused: where the ledger cannot be read, nothing is launched.
Rule 4: a model without a price is refused under a budget of money where we know its name, unless that was allowed.
"""

from collections.abc import Sequence
from datetime import datetime
from typing import NamedTuple

from stratavore.agents import Agent, Profile, named_model
from stratavore.clock import iso
from stratavore.config import Config
from stratavore.errors import BudgetExceeded, UnpricedModel
from stratavore.money import nano
from stratavore.store import allowances, budget_rows, reservations
from stratavore.store.allowances import Account
from stratavore.store.budget_rows import BudgetRow
from stratavore.store.database import Rows, Tx
from stratavore.store.reservations import Estimate, Grant
from stratavore.store.usage import Prices


class Wish(NamedTuple):
    """What is asked for: runs of an agent in a project, and what is known of them beforehand.

    `expected` is None where nobody tells what it uses; `unpriced` is its model, if that is known and has no price;
    `account` is whose allowance it uses, if that is known.
    """

    project_id: int
    runner_id: str | None
    expected: Estimate | None
    unpriced: str | None = None
    account: Account | None = None


def wish(
    rows: Rows,
    config: Config,
    agent: tuple[str, Agent, Profile],
    price: Prices,
    *,
    project_id: int,
    runner_id: str | None = None,
    extra: Sequence[str] = (),
    allow_unpriced: bool = False,
    own: Estimate | None = None,
    account: Account | None = None,
    now: datetime,
) -> Wish:
    """What a run of that agent (its name, itself, its profile) asks for; `own` is all it may use (0: no limit).

    A model that is named and has no price is refused under a budget of money.
    """
    name, kind, profile = agent
    if not kind.is_metered:
        return Wish(project_id, runner_id, None)
    model = None if allow_unpriced else named_model(kind, profile, extra)
    is_unpriced = model is not None and price(model, iso(now), 0) is None
    expected = _expected(rows, config, project_id, name, own)
    return Wish(project_id, runner_id, expected, model if is_unpriced else None, account)


def find_refusal(rows: Rows, asked: Wish, *, now: datetime, beside: str = "") -> BudgetExceeded | None:
    """Why `grant` would refuse one run now, if it would; the run `beside` gives its place up for it."""
    bounding = _bounding(rows, asked)
    try:
        _refuse_unbounded(rows, bounding, asked, now=now)
        if asked.expected is not None:
            reservations.check(rows, _counted(bounding), asked.expected, now=now, beside=beside)
    except BudgetExceeded as refusal:
        return refusal
    return None


def grant(tx: Tx, asked: Wish, *, count: int = 1, partial: bool = False, now: datetime) -> Grant:
    """Hold what `count` runs will probably use; with `partial`, for as many as fit. `reservations.give` it to them.

    Raises:
        BudgetExceeded: a budget has no room for it, or cannot bound it.
    """
    bounding = _bounding(tx, asked)
    _refuse_unbounded(tx, bounding, asked, now=now)
    if asked.expected is None:
        return Grant(count, ())
    return reservations.admit(tx, _counted(bounding), asked.expected, count=count, partial=partial, now=now)


def _bounding(rows: Rows, asked: Wish) -> list[BudgetRow]:
    runners = [] if asked.runner_id is None else [asked.runner_id]
    return budget_rows.find_bounding(rows, [asked.project_id], runners)


def _counted(bounding: Sequence[BudgetRow]) -> list[BudgetRow]:
    """Those in which room can be held."""
    return [each for each in bounding if each.unit != "percent"]


def _refuse_unbounded(rows: Rows, bounding: Sequence[BudgetRow], asked: Wish, *, now: datetime) -> None:
    """Refuse what no reservation could bound: a model without a price, an account that has used its window."""
    _refuse_unpriced(bounding, asked)
    allowances.refuse_used_up(rows, bounding, asked.account, now=now)


def _refuse_unpriced(bounding: Sequence[BudgetRow], asked: Wish) -> None:
    if asked.unpriced is None:
        return
    for budget in bounding:
        if budget.unit == "nano_usd":
            refusal = UnpricedModel(f"{budget.title} cannot bound {asked.unpriced[:100]}, which has no price")
            refusal.budget = budget.id
            raise refusal


def _expected(rows: Rows, config: Config, project_id: int, agent: str, own: Estimate | None) -> Estimate:
    """As configured, else the median of what was; never more than the run itself may use."""
    said = config.budgets
    past = reservations.median_of_past(rows, project_id, agent)
    tokens, nano_usd = said.estimate_tokens or past.tokens, nano(said.estimate_usd) or past.nano_usd
    if own is not None:
        tokens, nano_usd = min(tokens, own.tokens or tokens), min(nano_usd, own.nano_usd or nano_usd)
    return Estimate(tokens, nano_usd)
