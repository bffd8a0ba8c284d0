"""Calendar periods: they tile time in every zone, whatever its clocks do."""

from datetime import UTC, date, datetime, timedelta
from itertools import pairwise
from zoneinfo import ZoneInfo

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from stratavore.model import BudgetPeriod
from stratavore.periods import CALENDAR, beginning_of, period_of, zone_called

ZONES = [
    "UTC",
    "Europe/Berlin",
    "America/New_York",
    "America/Havana",  # goes back to midnight: it comes twice
    "America/Sao_Paulo",  # jumped over midnight
    "America/Asuncion",
    "Asia/Beirut",
    "Asia/Kathmandu",  # 5:45
    "Australia/Lord_Howe",  # half an hour of summer time
    "Pacific/Apia",  # left out 30 December 2011
    "Africa/Casablanca",
    "America/St_Johns",  # changed its clocks at one minute past midnight
    "America/Toronto",  # in 1919 it jumped from 23:30 to 00:30
    "Antarctica/Troll",  # two hours
]
instants = st.integers(0, 141 * 366 * 86_400_000).map(
    lambda ms: datetime(1919, 1, 1, tzinfo=UTC) + timedelta(milliseconds=ms)
)
zones = st.sampled_from(ZONES).map(ZoneInfo)
LONGEST = {
    BudgetPeriod.HOURLY: timedelta(hours=1),
    BudgetPeriod.DAILY: timedelta(hours=27),
    BudgetPeriod.WEEKLY: timedelta(days=8),
    BudgetPeriod.MONTHLY: timedelta(days=32),
}


def jump_near(zone: ZoneInfo, at: datetime) -> datetime:
    """The last moment before `at` at which the zone's clocks jumped; `at` if they did not for a year."""
    for hours in range(0, 24 * 366, 12):
        after = at - timedelta(hours=hours)
        before = after - timedelta(hours=12)
        if before.astimezone(zone).utcoffset() != after.astimezone(zone).utcoffset():
            while after - before > timedelta(seconds=1):
                middle = before + (after - before) / 2
                is_before = middle.astimezone(zone).utcoffset() == before.astimezone(zone).utcoffset()
                before, after = (middle, after) if is_before else (before, middle)
            return after
    return at


@settings(deadline=None, max_examples=400)
@given(st.sampled_from(CALENDAR), instants, zones, st.booleans(), st.integers(-7200, 7200))
def test_every_instant_lies_in_one_period_and_the_periods_tile(
    period: BudgetPeriod, at: datetime, zone: ZoneInfo, near_a_jump: bool, aside: int
) -> None:
    if near_a_jump:
        at = jump_near(zone, at) + timedelta(seconds=aside)
    start, end = period_of(period, at, zone)
    assert start <= at < end
    assert end - start <= LONGEST[period]
    inside = [start, end - timedelta(microseconds=1), start + (end - start) / 2, at]
    assert {period_of(period, one, zone) for one in inside} == {(start, end)}
    assert period_of(period, end, zone)[0] == end
    assert period_of(period, start - timedelta(microseconds=1), zone)[1] == start


@settings(deadline=None)
@given(st.sampled_from(CALENDAR), instants, zones)
def test_a_period_begins_where_the_clock_shows_its_beginning(
    period: BudgetPeriod, at: datetime, zone: ZoneInfo
) -> None:
    """Or where the clock jumps: that is seen by the offset just before."""
    start, _ = period_of(period, at, zone)
    local, before = start.astimezone(zone), (start - timedelta(seconds=1)).astimezone(zone)
    if local.utcoffset() != before.utcoffset():
        return
    assert (local.minute, local.second, local.microsecond) == (0, 0, 0)
    if period is not BudgetPeriod.HOURLY:
        assert local.hour == 0
    if period is BudgetPeriod.WEEKLY:
        assert local.weekday() == 0
    if period is BudgetPeriod.MONTHLY:
        assert local.day == 1


@pytest.mark.parametrize(
    ("zone", "day", "hours"),
    [
        ("Europe/Berlin", (2031, 3, 30), 23),
        ("Europe/Berlin", (2031, 10, 26), 25),
        ("Europe/Berlin", (2031, 5, 6), 24),
        ("America/Sao_Paulo", (2018, 11, 4), 23),  # its midnight is missing
        ("America/Havana", (2024, 11, 3), 25),  # its midnight comes twice
    ],
)
def test_a_day_has_the_hours_that_it_has(zone: str, day: tuple[int, int, int], hours: int) -> None:
    where = ZoneInfo(zone)
    start, end = period_of(BudgetPeriod.DAILY, datetime(*day, 12, tzinfo=where), where)
    assert end - start == timedelta(hours=hours)
    at, edges = start, [start]
    while at < end:
        at = period_of(BudgetPeriod.HOURLY, at, where)[1]
        edges.append(at)
    assert len(edges) - 1 == hours
    assert {later - earlier for earlier, later in pairwise(edges)} == {timedelta(hours=1)}


def test_the_day_that_was_left_out_is_in_no_period() -> None:
    apia = ZoneInfo("Pacific/Apia")
    _, end = period_of(BudgetPeriod.DAILY, datetime(2011, 12, 29, 12, tzinfo=apia), apia)
    start, _ = period_of(BudgetPeriod.DAILY, datetime(2011, 12, 31, 12, tzinfo=apia), apia)
    assert end == start


def test_half_an_hour_that_is_left_over_is_a_period_of_its_own() -> None:
    howe = ZoneInfo("Australia/Lord_Howe")
    jump = datetime(2031, 4, 5, 15, 0, tzinfo=UTC)  # 2:00 becomes 1:30
    assert period_of(BudgetPeriod.HOURLY, jump, howe) == (jump, jump + timedelta(minutes=30))


@pytest.mark.parametrize("period", [BudgetPeriod.RUN, BudgetPeriod.FIVE_HOURS, BudgetPeriod.SEVEN_DAYS])
def test_what_is_no_calendar_period_is_refused(period: BudgetPeriod) -> None:
    with pytest.raises(ValueError, match="no calendar period"):
        period_of(period, datetime(2031, 1, 1, tzinfo=UTC), UTC)


def test_a_zone_is_named_as_the_database_names_it() -> None:
    assert zone_called("Europe/Berlin") == ZoneInfo("Europe/Berlin")
    for name in ("Europe/Nowhere", "Europe", "../etc/passwd", "/etc/localtime", "a\0b"):
        with pytest.raises(ValueError, match="no time zone"):
            zone_called(name)


def test_the_machines_own_zone_changes_its_clocks_too(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TZ", ":America/New_York")
    zone_called.cache_clear()
    try:
        zone = zone_called("")
        start, end = period_of(BudgetPeriod.DAILY, datetime(2031, 3, 9, 12, tzinfo=UTC), zone)
        assert end - start == timedelta(hours=23)
        monkeypatch.setenv("TZ", "no such zone")
        zone_called.cache_clear()
        assert zone_called("") == UTC
        monkeypatch.delenv("TZ")
        zone_called.cache_clear()
        assert period_of(BudgetPeriod.DAILY, datetime(2031, 3, 9, 12, tzinfo=UTC), zone_called(""))
    finally:
        zone_called.cache_clear()


def test_a_day_begins_by_the_clock_of_its_zone() -> None:
    day = date(2026, 11, 23)
    assert beginning_of(day, ZoneInfo("Asia/Kathmandu")) == datetime(2026, 11, 22, 18, 15, tzinfo=UTC)
    assert beginning_of(date.max, UTC).year == 9999
    assert beginning_of(date.min, UTC).year == 1
