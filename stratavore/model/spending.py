"""What agents used and what they may use, as the API tells of it."""

from datetime import datetime
from enum import StrEnum

from stratavore.model.base import Public


class UsageBy(StrEnum):
    """By what usage is added up."""

    DAY = "day"
    HOUR = "hour"
    PROJECT = "project"
    SESSION = "session"
    RUNNER = "runner"
    MODEL = "model"
    AGENT = "agent"
    BLOCK = "block"
    """Claude's five-hour windows."""


class UsageTotal(Public, frozen=True):
    """Calls of agents' APIs, added up. The classes of tokens are disjoint for every agent.

    `cost_usd` is that of the priced calls, None where there are only unpriced ones; `unpriced_calls` are those of
    models without a price.
    """

    calls: int
    input_tokens: int
    output_tokens: int
    cache_write_5m_tokens: int
    cache_write_1h_tokens: int
    cache_read_tokens: int
    cost_usd: float | None
    unpriced_calls: int


class UsageRow(UsageTotal, frozen=True):
    """The same for one `key`: a day, a project, a model …"""

    key: str


class Usage(Public, frozen=True):
    """A report of usage."""

    rows: list[UsageRow]
    total: UsageTotal


class BudgetScope(StrEnum):
    """Whose spending a budget bounds."""

    GLOBAL = "global"
    PROJECT = "project"
    RUNNER = "runner"


class BudgetPeriod(StrEnum):
    """In which span a budget is spent; `run` is one run of a runner, `5h` and `7d` are windows of the account."""

    HOURLY = "hourly"
    DAILY = "daily"
    WEEKLY = "weekly"
    MONTHLY = "monthly"
    RUN = "run"
    FIVE_HOURS = "5h"
    SEVEN_DAYS = "7d"


class OnExceeded(StrEnum):
    """The last rung of the ladder."""

    WARN = "warn"
    BLOCK = "block"
    STOP = "stop"


class Budget(Public, frozen=True):
    """A limit on spending, and how much of it is left in its present period."""

    id: int
    scope: BudgetScope
    name: str | None
    """The project or the runner; None for the global one."""
    period: BudgetPeriod
    limit_tokens: int | None
    limit_usd: float | None
    limit_percent: float | None
    """One of the three is the limit, what `extend` added in this period included."""
    used_tokens: int
    used_usd: float
    """Of the priced calls."""
    unpriced_calls: int
    """How many calls of the present period are of models without a price: `used_usd` leaves them out."""
    used_percent: float | None
    """Of the account's window, as the agent told it last; None for a budget of tokens or money."""
    reserved_tokens: int
    reserved_usd: float
    starts_at: datetime
    resets_at: datetime | None
    warn: list[int]
    warned: list[int]
    on_exceeded: OnExceeded
    exceeded: bool
    blocked: list[str]
    """Names of the runners that may not go on because of it."""
    unmetered: list[str]
    """Names of the living runners that it should bound, and of whose use nobody tells."""


class BudgetHistory(Public, frozen=True):
    """What was used of a budget in one of its periods."""

    starts_at: datetime
    ends_at: datetime | None
    used_tokens: int
    used_usd: float
    exceeded_at: datetime | None


class BudgetInPeriods(Budget, frozen=True):
    """A budget, and what was used in each of its periods, the newest first."""

    periods: list[BudgetHistory]
