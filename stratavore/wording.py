"""Moments, money and budgets as people read them, in the terminal and inside an agent."""

from datetime import datetime


def moment(iso: str) -> datetime:
    """The moment of a stored or answered time."""
    return datetime.fromisoformat(iso)


def clock_time(iso: str) -> str:
    """The time on the clock that it was told by, to the second."""
    return moment(iso).strftime("%Y-%m-%d %H:%M:%S")


def local_time(iso: str) -> str:
    """The time where the reader is, to the second."""
    return clock_time(moment(iso).astimezone().isoformat())


def usd(amount: float) -> str:
    """US dollars, without their name; cents, and what is less than a dollar to a hundredth of a cent."""
    if amount and amount < 0.0001:
        return "<0.0001"
    return f"{amount:,.2f}" if amount >= 1 or amount == 0 else f"{amount:.4f}"


def bounded(scope: str, name: str | None) -> str:
    """What a budget bounds: `project demo`; the global one has no name."""
    return "everything" if name is None else f"{scope} {name}"


def budget_title(period: str, scope: str, name: str | None) -> str:
    """A budget in words: `the daily budget of project demo`."""
    return f"the {period} budget of {bounded(scope, name)}"


def extending(budget: int, unit: str) -> str:
    """What a person types to raise a limit that is counted in `unit`; the amount is an example."""
    amount = {"tokens": "--tokens 500k", "nano_usd": "--usd 5"}.get(unit, "--percent 10")
    return f"`stratavore budget extend {budget} {amount}`"
