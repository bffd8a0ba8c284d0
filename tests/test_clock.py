"""Times as text, and ids."""

import random
from datetime import UTC, datetime, timedelta, timezone

import pytest

from stratavore import clock

NOW = datetime(2031, 5, 6, 7, 8, 9, 123_456, UTC)


def test_time_is_stored_with_milliseconds_in_utc() -> None:
    assert clock.iso(NOW) == "2031-05-06T07:08:09.123Z"
    assert clock.iso(NOW.astimezone(timezone(timedelta(hours=-7)))) == "2031-05-06T07:08:09.123Z"
    assert clock.iso(NOW.replace(microsecond=0)) == "2031-05-06T07:08:09.000Z"


def test_the_order_of_the_texts_is_the_order_of_the_times() -> None:
    chance = random.Random(7)
    times = [NOW + timedelta(milliseconds=chance.randrange(-(10**12), 10**12)) for _ in range(500)]
    assert [clock.iso(time) for time in sorted(times)] == sorted(clock.iso(time) for time in times)


def test_a_moment_comes_back_from_its_milliseconds() -> None:
    assert clock.from_unix_ms(0) == datetime(1970, 1, 1, tzinfo=UTC)
    assert clock.iso(clock.from_unix_ms(1_935_990_489_123)) == clock.iso(
        datetime(1970, 1, 1, tzinfo=UTC) + timedelta(milliseconds=1_935_990_489_123)
    )


def test_an_event_id_is_a_uuid_of_version_7_that_begins_with_its_time() -> None:
    for _ in range(200):
        text = clock.new_event_id(NOW)
        assert [len(part) for part in text.split("-")] == [8, 4, 4, 4, 12]
        assert text[14] == "7"
        assert text[19] in "89ab"
        assert int(text.replace("-", "")[:12], 16) == int(NOW.timestamp() * 1000)


def test_ids_are_ten_letters_that_cannot_be_mistaken_and_differ() -> None:
    ids = {clock.new_runner_id() for _ in range(10_000)}
    assert len(ids) == 10_000
    assert all(len(found) == 10 and set(found) <= set("abcdefghijklmnopqrstuvwxyz234567") for found in ids)
    assert len({clock.new_event_id(NOW) for _ in range(10_000)}) == 10_000


def test_the_boot_clock_goes_on_and_chance_is_a_share() -> None:
    system = clock.SystemClock()
    assert system.boottime() <= system.boottime()
    assert system.now().tzinfo is UTC
    assert all(0 <= clock.chance() < 1 for _ in range(100))


@pytest.mark.parametrize("moment", [datetime(2031, 1, 1, 23, 59, 59, 999_999, UTC)])
def test_a_time_is_never_rounded_into_the_next_second(moment: datetime) -> None:
    assert clock.iso(moment) == "2031-01-01T23:59:59.999Z"
