"""What the agents' messages say of the time at which their provider goes on.

Sources: Claude Code 2.1.330 (`resets 3:40am (Europe/Berlin)`, `resets Nov 25, 5am (UTC)`; older: `reached|1735689600`),
Gemini CLI 0.61 (`reset after 3h12m5s`).
"""

import re
from datetime import UTC, datetime, timedelta
from zoneinfo import ZoneInfo

from stratavore.agents.decoding import from_seconds

_MONTHS = "jan feb mar apr may jun jul aug sep oct nov dec".split()
_SECONDS = re.compile(r"\|(\d{10})\b")
_AFTER = re.compile(r"\bresets? (?:after|in) ((?:\d{1,4}\s?[dhms]\s?){1,4})", re.IGNORECASE)
_SPAN = re.compile(r"(\d{1,4})\s?([dhms])", re.IGNORECASE)
_AT = re.compile(
    r"\bresets (?:at )?(?:(?P<month>[A-Z][a-z]{2}) (?P<day>\d{1,2}),? (?:(?P<year>\d{4}),? )?(?:at )?)?"
    r"(?P<hour>\d{1,2})(?::(?P<minute>\d{2}))?\s?(?P<half>[ap])m \((?P<zone>[A-Za-z][\w+/-]{0,60})\)"
)


def resets_at(text: str, now: datetime) -> datetime | None:
    """When the limit that a message of the time `now` tells of ends; None if the message does not say."""
    if found := _SECONDS.search(text):
        return from_seconds(int(found[1]))
    if found := _AFTER.search(text):
        units = {"d": 86400, "h": 3600, "m": 60, "s": 1}
        return now + timedelta(seconds=sum(int(n) * units[unit.lower()] for n, unit in _SPAN.findall(found[1])))
    found = _AT.search(text)
    try:
        return found and _wall_time(found, now)
    except (ValueError, OverflowError, LookupError, OSError):  # no such day, no such zone
        return None


def _wall_time(found: re.Match[str], now: datetime) -> datetime | None:
    zone = ZoneInfo(found["zone"])
    local = now.astimezone(zone)
    hour = int(found["hour"]) % 12 + (12 if found["half"] == "p" else 0)
    then = local.replace(hour=hour, minute=int(found["minute"] or 0), second=0, microsecond=0)
    if not found["month"]:
        return (then if then > local else then + timedelta(days=1)).astimezone(UTC)
    year = int(found["year"] or local.year)
    then = then.replace(year=year, month=_MONTHS.index(found["month"].lower()) + 1, day=int(found["day"]))
    if then < local and not found["year"]:
        then = then.replace(year=year + 1)
    return then.astimezone(UTC)
