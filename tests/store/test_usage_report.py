"""What the ledger adds up to, by whatever one asks."""

from datetime import UTC, datetime, timedelta, tzinfo
from typing import Any
from zoneinfo import ZoneInfo

import pytest
from hypothesis import given
from hypothesis import strategies as st

from stratavore.agents.records import Call
from stratavore.clock import iso
from stratavore.errors import NotFound
from stratavore.model import Usage, UsageBy, UsageTotal
from stratavore.store import usage
from stratavore.store.usage import Price
from stratavore.store.usage_report import blocks, report
from tests.books import NOW, Books

PRICE = Price(*(n * 10**9 for n in (1, 2, 3, 4, 5)))
BERLIN = ZoneInfo("Europe/Berlin")


def called(books: Books, at: datetime = NOW, *, agent: str = "claude", model: str = "known", **fields: object) -> None:
    """One call of 1, 2, 3, 4 and 5 tokens of the five classes: 55 millionths of a dollar."""
    count = books.rows.scalar("SELECT COUNT(*) FROM usage")
    call = Call(
        key=f"k{count}",
        session_id="",
        at=at,
        model=model,
        input_tokens=1,
        output_tokens=2,
        cache_write_5m_tokens=3,
        cache_write_1h_tokens=4,
        cache_read_tokens=5,
    )
    books.do(
        lambda tx: usage.record(
            tx, agent, "/a", [call], numbers={}, price=lambda model, at, n: PRICE if model == "known" else None
        )
    )
    for column, value in fields.items():
        books.sql(f"UPDATE usage SET {column} = ? WHERE key = ?", value, call.key)


def asked(books: Books, by: UsageBy, *, zone: tzinfo = UTC, **fields: Any) -> Usage:
    return report(books.rows, by, zone=zone, **fields)


def keys(found: Usage) -> dict[str, int]:
    """The number of calls by key, in the order of the rows."""
    return {row.key: row.calls for row in found.rows}


def test_a_row_is_the_sum_of_its_calls_and_the_total_the_sum_of_the_rows(books: Books) -> None:
    called(books)
    called(books)
    called(books, model="strange")
    found = asked(books, UsageBy.MODEL)
    known, strange = found.rows
    assert (known.key, known.calls, known.cost_usd, known.unpriced_calls) == ("known", 2, 110e-6, 0)
    assert (strange.key, strange.calls, strange.cost_usd, strange.unpriced_calls) == ("strange", 1, None, 1)
    assert found.total == UsageTotal(
        calls=3,
        input_tokens=3,
        output_tokens=6,
        cache_write_5m_tokens=9,
        cache_write_1h_tokens=12,
        cache_read_tokens=15,
        cost_usd=110e-6,
        unpriced_calls=1,
    )


def test_a_total_of_only_unpriced_calls_has_no_cost(books: Books) -> None:
    called(books, model="strange")
    assert asked(books, UsageBy.DAY).total.cost_usd is None


def test_nothing_adds_up_to_nothing(books: Books) -> None:
    for by in UsageBy:
        found = asked(books, by)
        assert (found.rows, found.total.calls, found.total.cost_usd) == ([], 0, 0)


def test_a_day_is_one_of_the_zone_that_is_asked_for(books: Books) -> None:
    for text in (
        "2026-03-28T22:59:59.999Z",
        "2026-03-28T23:00:00.000Z",
        "2026-03-29T21:59:59Z",
        "2026-03-29T22:00:00Z",
    ):
        called(books, datetime.fromisoformat(text))
    assert keys(asked(books, UsageBy.DAY, zone=BERLIN)) == {"2026-03-28": 1, "2026-03-29": 2, "2026-03-30": 1}
    assert keys(asked(books, UsageBy.DAY)) == {"2026-03-28": 2, "2026-03-29": 2}


def test_an_hour_that_comes_twice_is_two(books: Books) -> None:
    for text in ("2026-10-25T00:30:00Z", "2026-10-25T01:30:00Z", "2026-10-25T01:45:00Z"):
        called(books, datetime.fromisoformat(text))
    found = asked(books, UsageBy.HOUR, zone=BERLIN)
    assert list(keys(found).items()) == [("2026-10-25T02:00+02:00", 1), ("2026-10-25T02:00+01:00", 2)]


def test_a_zone_may_be_a_quarter_of_an_hour_off(books: Books) -> None:
    for text in ("2026-01-01T18:14:59Z", "2026-01-01T18:15:00Z"):
        called(books, datetime.fromisoformat(text))
    found = asked(books, UsageBy.DAY, zone=ZoneInfo("Asia/Kathmandu"))
    assert keys(found) == {"2026-01-01": 1, "2026-01-02": 1}


def test_what_belongs_to_a_runner_a_project_a_session(books: Books) -> None:
    runner = books.runner()
    books.sql("INSERT INTO sessions (number, agent, id, home, is_foreign) VALUES (1, 'claude', 'abc', '/', 1)")
    called(books, runner_id=runner.id, project_id=books.recipe(runner.id).project_id, session=1)
    called(books, agent="codex")
    assert keys(asked(books, UsageBy.RUNNER)) == {"": 1, runner.name: 1}
    assert keys(asked(books, UsageBy.PROJECT)) == {"": 1, "p": 1}
    assert keys(asked(books, UsageBy.SESSION)) == {"": 1, "abc": 1}
    assert keys(asked(books, UsageBy.AGENT)) == {"claude": 1, "codex": 1}


def test_runners_of_one_name_are_told_apart_and_forgotten_ones_by_their_ids(books: Books) -> None:
    first = books.runner(name="worker")
    books.sql("UPDATE runners SET alive = 0")
    second = books.runner(name="worker")
    for runner_id in (first.id, second.id, "forgotten1"):
        called(books, runner_id=runner_id)
    expected = {f"worker {first.id}": 1, f"worker {second.id}": 1, "forgotten1": 1}
    assert keys(asked(books, UsageBy.RUNNER)) == expected


def test_only_what_is_asked_for(books: Books) -> None:
    project = books.project("q")
    called(books, NOW - timedelta(days=1), project_id=project)
    called(books, NOW, project_id=project)
    called(books, NOW)
    assert asked(books, UsageBy.MODEL, since=NOW).total.calls == 2
    assert asked(books, UsageBy.MODEL, project="q").total.calls == 2
    assert asked(books, UsageBy.MODEL, project="q", since=NOW).total.calls == 1
    with pytest.raises(NotFound):
        asked(books, UsageBy.MODEL, project="nowhere")


def test_the_dearest_comes_first_and_of_times_the_oldest(books: Books) -> None:
    for model in ("strange", "known", "known"):
        called(books, model=model)
    assert list(keys(asked(books, UsageBy.MODEL))) == ["known", "strange"]
    called(books, NOW - timedelta(days=2))
    days = list(keys(asked(books, UsageBy.DAY)))
    assert days == sorted(days)


def test_blocks_are_claudes_windows(books: Books) -> None:
    start = datetime(2026, 1, 1, 10, tzinfo=UTC)
    called(books, start + timedelta(minutes=20))
    called(books, start + timedelta(hours=5))
    called(books, start + timedelta(hours=5, seconds=1))
    called(books, start, agent="codex")
    found = asked(books, UsageBy.BLOCK)
    assert keys(found) == {iso(start): 2, iso(start + timedelta(hours=5)): 1}
    assert found.total.calls == 3


def test_where_a_block_begins_does_not_depend_on_what_is_asked_for(books: Books) -> None:
    start = datetime(2026, 1, 1, 10, tzinfo=UTC)
    called(books, start)
    called(books, start + timedelta(hours=4))
    assert keys(asked(books, UsageBy.BLOCK, since=start + timedelta(hours=1))) == {iso(start): 1}


@given(st.lists(st.integers(0, 3 * 86400), min_size=1).map(sorted))
def test_a_block_spans_five_hours_and_no_pause_of_more(seconds: list[int]) -> None:
    moments = [datetime(2026, 1, 1, tzinfo=UTC) + timedelta(seconds=each) for each in seconds]
    found = blocks(moments)
    assert found[0][0] == moments[0]
    for at, before in zip(moments, [None, *moments], strict=False):
        first, start = max(block for block in found if block[0] <= at)
        assert timedelta(0) <= at - start <= timedelta(hours=5)
        assert first >= start
        if before is not None and at - before > timedelta(hours=5):
            assert first == at
