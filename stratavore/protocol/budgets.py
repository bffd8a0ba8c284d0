"""What may be asked about budgets."""

from typing import Annotated

from msgspec import Meta

from stratavore import bounds
from stratavore.model import BudgetPeriod, BudgetScope, OnExceeded
from stratavore.protocol.base import Percent, Request, Tokens, Usd

_Threshold = Annotated[int, Meta(ge=bounds.THRESHOLD.least, le=bounds.THRESHOLD.most)]
Thresholds = Annotated[list[_Threshold], Meta(max_length=bounds.MOST_THRESHOLDS)]


class ListBudgets(Request, frozen=True):
    """All budgets, but those of the runs of ended runners; with `all` they, too."""

    all: bool = False


class SetBudget(Request, frozen=True):
    """A limit on what everything, a project or a runner may use in a period: of one unit.

    `name` is the project or the runner; None for the scope `global`. One that is set again is changed, and keeps what
    is left out.
    """

    scope: BudgetScope
    period: BudgetPeriod
    name: str | None = None
    tokens: Tokens | None = None
    usd: Usd | None = None
    percent: Percent | None = None
    warn: Thresholds | None = None
    on_exceeded: OnExceeded | None = None

    def __post_init__(self) -> None:
        if (self.scope is BudgetScope.GLOBAL) != (self.name is None):
            raise ValueError("a global budget has no name, and any other has one")
        if self.period is BudgetPeriod.RUN:
            raise ValueError("a budget for one run is set by `launch --budget`")
        is_window = self.period in (BudgetPeriod.FIVE_HOURS, BudgetPeriod.SEVEN_DAYS)
        if [self.tokens, self.usd, self.percent].count(None) != 2 or is_window != (self.percent is not None):
            raise ValueError("a budget has a limit of tokens or of usd, and one of an account's window of percent")


class ExtendBudget(Request, frozen=True):
    """Raise the limit in its own unit, for the present period only."""

    tokens: Tokens | None = None
    usd: Usd | None = None
    percent: Percent | None = None

    def __post_init__(self) -> None:
        if [self.tokens, self.usd, self.percent].count(None) != 2:
            raise ValueError("say by how much: tokens, usd or percent")


class RemoveBudget(Request, frozen=True):
    """Forget a budget; with `dry_run` only say whether that could be."""

    dry_run: bool = False
