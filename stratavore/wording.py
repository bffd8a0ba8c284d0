"""Moments and money as people read them, in the terminal and inside an agent."""

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
