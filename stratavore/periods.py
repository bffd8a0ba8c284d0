"""The calendar periods of budgets: hours, days, weeks and months as a clock on the wall shows them.

Rule 1: pure. The periods of a zone tile time: every instant lies in exactly one of each kind.
Rule 2: a day begins when the clock first shows its midnight, or jumps over it: it may have 23 or 25 hours.
Rule 3: an hour ends when the clock shows the next one, or jumps: where an hour comes twice it is two periods.
Rule 4: `run`, `5h` and `7d` are no calendar periods: a run has its own beginning, an account tells its own windows.
"""

import os
from collections.abc import Callable
from datetime import UTC, date, datetime, time, timedelta, tzinfo
from functools import lru_cache
from pathlib import Path
from zoneinfo import ZoneInfo

from stratavore.model import BudgetPeriod

CALENDAR = (BudgetPeriod.HOURLY, BudgetPeriod.DAILY, BudgetPeriod.WEEKLY, BudgetPeriod.MONTHLY)
"""The periods that `period_of` knows."""

Span = tuple[datetime, datetime]
"""From the first instant, included, to the last, excluded; both UTC."""

_HOUR, _DAY, _SECOND = timedelta(hours=1), timedelta(days=1), timedelta(seconds=1)
_LOCALTIME = Path("/etc/localtime")


def period_of(period: BudgetPeriod, at: datetime, zone: tzinfo) -> Span:
    """The `period` of `zone` in which the aware `at` lies.

    Raises:
        ValueError: it is no calendar period.
    """
    at = at.astimezone(UTC)
    match period:
        case BudgetPeriod.HOURLY:
            return _hour_of(at, zone)
        case BudgetPeriod.DAILY:
            return _between(at, zone, lambda day, by: day + by * _DAY)
        case BudgetPeriod.WEEKLY:
            return _between(at, zone, lambda day, by: day - day.weekday() * _DAY + by * 7 * _DAY)
        case BudgetPeriod.MONTHLY:
            return _between(at, zone, _first_of_month)
        case _:
            raise ValueError(f"{period} is no calendar period")


def beginning_of(day: date, zone: tzinfo) -> datetime:
    """The instant at which that day begins, in UTC. At the edges of the calendar it is the day of UTC."""
    try:
        return period_of(BudgetPeriod.DAILY, datetime.combine(day, time(12), zone), zone)[0]
    except OverflowError:
        return datetime.combine(day, time(), UTC)


@lru_cache(maxsize=16)
def zone_called(name: str) -> tzinfo:
    """The zone of the time zone database that has this name; empty: this machine's.

    Raises:
        ValueError: there is none of that name.
    """
    if not name:
        return _system_zone()
    try:
        return ZoneInfo(name)
    except (OSError, ValueError, KeyError) as error:  # not there, no name of a zone, or a directory of zones
        raise ValueError(f"timezone: there is no time zone {name!r}") from error


def _system_zone() -> tzinfo:
    """What TZ says, else /etc/localtime; UTC where neither says anything (tzset(3))."""
    named = os.environ.get("TZ", "").removeprefix(":")
    if named:
        try:
            return ZoneInfo(named)
        except (OSError, ValueError, KeyError):
            return UTC
    try:
        with _LOCALTIME.open("rb") as file:
            return ZoneInfo.from_file(file)
    except (OSError, ValueError):
        return UTC


def _first_of_month(day: date, by: int) -> date:
    years, month = divmod(day.month - 1 + by, 12)
    return date(day.year + years, month + 1, 1)


def _between(at: datetime, zone: tzinfo, beginning: Callable[[date, int], date]) -> Span:
    """The span between two beginnings; `beginning(day, n)` is the first day of the n-th period after that of `day`."""
    today = at.astimezone(zone).date()
    # A clock that was put back over midnight shows yesterday's date again, and zones have left out whole days.
    edges = sorted({_midnight(beginning(today, by), zone) for by in (-1, 0, 1, 2)})
    return max(edge for edge in edges if edge <= at), min(edge for edge in edges if edge > at)


def _midnight(day: date, zone: tzinfo) -> datetime:
    """The first instant at which the clock shows the beginning of `day`, or something later."""
    wall = datetime.combine(day, time())
    first = wall.replace(tzinfo=zone, fold=0).astimezone(UTC)
    if _wall(first, zone) == wall:
        return first
    # The clock jumps over it: PEP 495 gives the instants before and after the jump for the two folds.
    before = wall.replace(tzinfo=zone, fold=1).astimezone(UTC)
    return _first_instant(before, first, lambda instant: _wall(instant, zone) >= wall)


def _hour_of(at: datetime, zone: tzinfo) -> Span:
    local = at.astimezone(zone)
    offset = local.utcoffset()
    start = at - timedelta(minutes=local.minute, seconds=local.second, microseconds=local.microsecond)
    end = start + _HOUR
    if _offset(start, zone) != offset:
        start = _first_instant(start, at, lambda instant: _offset(instant, zone) == offset)
    if _offset(end - _SECOND, zone) != offset:
        end = _first_instant(at, end, lambda instant: _offset(instant, zone) != offset)
    return start, end


def _first_instant(no: datetime, yes: datetime, is_so: Callable[[datetime], bool]) -> datetime:
    """The first whole second at which it is so; it is not at `no` and is at `yes`. Clocks jump at whole seconds."""
    no, yes = no.replace(microsecond=0), yes.replace(microsecond=0)
    while yes - no > _SECOND:
        middle = no + (yes - no) // _SECOND // 2 * _SECOND
        no, yes = (no, middle) if is_so(middle) else (middle, yes)
    return yes


def _wall(instant: datetime, zone: tzinfo) -> datetime:
    return instant.astimezone(zone).replace(tzinfo=None, fold=0)


def _offset(instant: datetime, zone: tzinfo) -> timedelta | None:
    return instant.astimezone(zone).utcoffset()
