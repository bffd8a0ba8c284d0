"""Times, sizes and shares as people read them. JSON never passes here."""

from datetime import UTC, datetime
from typing import Any

from stratavore import wording
from stratavore.wording import clock_time, local_time, moment

__all__ = [
    "UNKNOWN",
    "ago",
    "clock_time",
    "count",
    "ending",
    "local_time",
    "moment",
    "percent",
    "plural",
    "size",
    "span",
    "tokens",
    "usd",
]

UNKNOWN = "-"

_SPANS = ((86400, "d"), (3600, "h"), (60, "m"), (1, "s"))


def ago(iso: str | None, now: datetime | None = None) -> str:
    """`3m ago`; the time itself is in the JSON."""
    if iso is None:
        return UNKNOWN
    seconds = ((now or datetime.now(UTC)) - moment(iso)).total_seconds()
    return f"{span(seconds)} ago" if seconds >= 1 else f"in {span(-seconds)}" if seconds <= -1 else "now"


def span(seconds: float) -> str:
    """The largest unit that fits, whole: `45s`, `3m`, `2h`, `5d`."""
    for length, unit in _SPANS:
        if seconds >= length:
            return f"{int(seconds // length)}{unit}"
    return "0s"


def size(count: int | None) -> str:
    """Bytes with three significant digits: `999 B`, `1.21 GiB`."""
    if count is None:
        return UNKNOWN
    amount, unit = float(count), "B"
    for larger in ("KiB", "MiB", "GiB", "TiB"):
        if amount < 1000:
            break
        amount, unit = amount / 1024, larger
    return f"{count} B" if unit == "B" else f"{amount:.3g} {unit}"


def count(number: int | None) -> str:
    """A large number with three significant digits: `999`, `12.3k`, `1.21M`."""
    if number is None:
        return UNKNOWN
    amount, unit = float(number), ""
    for larger in ("k", "M", "G"):
        if amount < 1000:
            break
        amount, unit = amount / 1000, larger
    return f"{amount:.3g}{unit}" if unit else str(number)


def usd(amount: float | None) -> str:
    """US dollars, without their name."""
    return UNKNOWN if amount is None else wording.usd(amount)


def percent(share: float | None) -> str:
    return UNKNOWN if share is None else f"{share:.1f}%"


def plural(count: int, noun: str) -> str:
    return f"{count} {noun}" if count == 1 else f"{count} {noun}{'es' if noun.endswith('s') else 's'}"


def tokens(count: int) -> str:
    return f"{count:,} token{'' if count == 1 else 's'}"


def ending(runner: dict[str, Any]) -> str:
    """How a runner's last run ended, in a few words; empty while it lives."""
    if runner.get("exit_code") is not None:
        how = f"exit {runner['exit_code']}"
    elif runner.get("exit_signal") is not None:
        how = _signal_name(runner["exit_signal"])
    else:
        how = ""
    reason = (runner.get("end_reason") or "").replace("_", " ")
    return ", ".join(part for part in (how, "" if reason == "exited" and how else reason) if part)


def _signal_name(number: int) -> str:
    from signal import Signals

    try:
        return Signals(number).name
    except ValueError:  # a real-time signal
        return f"signal {number}"
