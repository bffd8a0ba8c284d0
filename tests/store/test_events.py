"""The event log: one chain, and what is done to it that nobody may do."""

import asyncio
import itertools
import threading
from collections.abc import Callable
from datetime import timedelta
from typing import Any

import apsw
import pytest

from stratavore.errors import Conflict
from stratavore.store import events
from stratavore.store.database import Row, Tx
from tests.books import ACTOR, NOW, Books

BUSY = "runner.started"


def fill(books: Books, count: int = 10, *, runners: int = 3, seconds_apart: float = 1.0) -> None:
    """Events about some runners, and nothing else."""

    def append(tx: Tx) -> None:
        tx.execute("DELETE FROM events")
        tx.execute("DELETE FROM sqlite_sequence WHERE name = 'events'")
        tx.execute("DELETE FROM aggregates")
        for number in range(count):
            at = NOW + timedelta(seconds=number * seconds_apart)
            events.append(tx, BUSY, f"r{number % runners}", {"n": number}, actor=ACTOR, now=at)

    books.do(append)


def forge(books: Books, *statements: str) -> None:
    """Do what the schema refuses to let happen."""

    def change(tx: Tx) -> None:
        tx.execute("DROP TRIGGER IF EXISTS events_are_append_only")
        for statement in statements:
            tx.execute(statement)

    books.do(change)


def test_what_is_appended_is_read_as_it_was(books: Books) -> None:
    fill(books, 1)
    [event] = books.events()
    assert (event.seq, event.aggregate_type, event.aggregate_id, event.aggregate_seq) == (
        1,
        "runner",
        "r0",
        1,
    )
    assert (event.type, event.payload, event.actor, event.at) == (BUSY, {"n": 0}, ACTOR, NOW)
    assert (event.schema_version, event.generation, event.previous_hash) == (1, 1, events.GENESIS)
    assert events.last_seq(books.rows) == 1


def test_each_aggregate_counts_for_itself(books: Books) -> None:
    fill(books, 7)
    numbers = [(event.aggregate_id, event.aggregate_seq) for event in books.events()]
    assert numbers == [("r0", 1), ("r1", 1), ("r2", 1), ("r0", 2), ("r1", 2), ("r2", 2), ("r0", 3)]


def test_each_event_holds_the_hash_of_the_one_before(books: Books) -> None:
    fill(books)
    found = books.events()
    assert all(later.previous_hash == earlier.hash for earlier, later in itertools.pairwise(found))
    assert len({event.hash for event in found}) == len(found)


def test_an_untouched_chain_holds(books: Books) -> None:
    assert events.first_broken(books.rows) is None
    fill(books, 2500)  # more than one page of the check
    assert events.first_broken(books.rows) is None


@pytest.mark.parametrize(
    ("column", "forged"),
    [
        ("event_id", "'other'"),
        ("aggregate_type", "'project'"),
        ("aggregate_id", "'r9'"),
        ("aggregate_seq", "99"),
        ("type", "'runner.stopped'"),
        ("schema_version", "2"),
        ("payload", "'{}'"),
        ("at", "'2031-01-01T00:00:00.000Z'"),
        ("actor", "'somebody else'"),
        ("generation", "2"),
        ("previous_hash", "hash"),
        ("hash", "previous_hash"),
    ],
)
@pytest.mark.parametrize("seq", [1, 5, 10])
def test_whatever_is_changed_in_an_event_is_found(books: Books, column: str, forged: str, seq: int) -> None:
    fill(books)
    forge(books, f"UPDATE events SET {column} = {forged} WHERE seq = {seq}")
    assert events.first_broken(books.rows) == seq


def test_every_column_of_an_event_was_forged_above(books: Books) -> None:
    columns = {row["name"] for row in books.rows.all("SELECT name FROM pragma_table_info('events')")}
    marks: Any = test_whatever_is_changed_in_an_event_is_found.pytestmark  # type: ignore[attr-defined]
    [forged] = [mark.args[1] for mark in marks if mark.args[0] == ("column", "forged")]
    assert columns == {name for name, _ in forged} | {"seq"}


@pytest.mark.parametrize(
    ("gone", "broken"),
    [("seq = 1", 2), ("seq = 5", 6), ("seq IN (3, 4, 5)", 6), ("seq < 10", 10), ("seq = 10", 10), ("seq > 6", 7),
     ("1", 1)],
)  # fmt: skip
def test_a_missing_event_is_found_at_its_place(books: Books, gone: str, broken: int) -> None:
    fill(books)
    forge(books, f"DELETE FROM events WHERE {gone}")
    assert events.first_broken(books.rows) == broken


def test_an_inserted_event_is_found(books: Books) -> None:
    fill(books)
    forge(books, "DELETE FROM events WHERE seq = 5", _COPY.format(seq=5, of=4))
    assert events.first_broken(books.rows) == 5


def test_two_exchanged_events_are_found(books: Books) -> None:
    fill(books)
    moved = [f"UPDATE events SET seq = {new} WHERE seq = {old}" for old, new in ((4, 99), (5, 4), (99, 5))]
    forge(books, *moved)
    assert events.first_broken(books.rows) == 4


@pytest.mark.parametrize("change", ["SET actor = 'me'", "SET seq = 77", "SET payload = payload"])
def test_an_event_cannot_be_updated(books: Books, change: str) -> None:
    fill(books)
    with pytest.raises(apsw.ConstraintError, match="append-only"):
        books.sql(f"UPDATE events {change} WHERE seq = 3")
    assert events.first_broken(books.rows) is None


def test_what_is_rolled_back_leaves_no_gap(books: Books) -> None:
    fill(books)

    def half(tx: Tx) -> None:
        events.append(tx, BUSY, "r0", {}, actor=ACTOR, now=NOW)
        raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        books.do(half)
    books.do(lambda tx: events.append(tx, BUSY, "r0", {}, actor=ACTOR, now=NOW))
    assert events.last_seq(books.rows) == 11
    assert events.first_broken(books.rows) is None


def test_a_page_begins_after_what_was_seen(books: Books) -> None:
    fill(books)
    assert seqs(books, since=7) == [8, 9, 10]
    assert seqs(books, since=2, limit=3) == [3, 4, 5]
    assert seqs(books, since=10) == []
    assert seqs(books, newest=True, limit=3) == [8, 9, 10]
    assert seqs(books, newest=True, limit=3, since=8) == [9, 10]


def test_one_runner_has_its_own_story(books: Books) -> None:
    fill(books)
    assert [event.seq for event in events.list_of_runner(books.rows, "r1", limit=10)] == [2, 5, 8]
    assert [event.seq for event in events.list_of_runner(books.rows, "r1", limit=2)] == [5, 8]


def test_pruning_takes_the_oldest_and_the_chain_goes_on(books: Books) -> None:
    fill(books)
    assert prune(books, before=4.5) == 5
    assert seqs(books) == [6, 7, 8, 9, 10]
    assert events.first_broken(books.rows) is None
    books.do(lambda tx: events.append(tx, BUSY, "r0", {}, actor=ACTOR, now=NOW))
    assert books.events()[-1].aggregate_seq == 5  # the count goes on too
    assert events.first_broken(books.rows) is None


def test_after_everything_was_pruned_the_chain_goes_on(books: Books) -> None:
    fill(books)
    last = books.events()[-1].hash
    assert prune(books, before=1000) == 10
    assert events.first_broken(books.rows) is None
    books.do(lambda tx: events.append(tx, BUSY, "r0", {}, actor=ACTOR, now=NOW))
    [event] = books.events()
    assert (event.seq, event.previous_hash) == (11, last)
    assert events.first_broken(books.rows) is None


def test_pruning_keeps_so_many_rows_whatever_their_age(books: Books) -> None:
    fill(books)
    assert prune(books, before=0, keep_rows=4) == 6
    assert prune(books, before=0, keep_rows=4) == 0


def test_pruning_takes_no_more_than_it_may_at_once(books: Books) -> None:
    fill(books)
    assert [prune(books, before=1000, at_most=4) for _ in range(4)] == [4, 4, 2, 0]
    assert events.first_broken(books.rows) is None


def test_an_event_from_a_clock_that_was_wrong_takes_nothing_younger_with_it(books: Books) -> None:
    """A machine without a battery believes that it is 1970 until it has asked the network."""
    fill(books, 9)
    books.do(lambda tx: events.append(tx, BUSY, "r0", {}, actor=ACTOR, now=NOW - timedelta(days=20_000)))
    assert prune(books, before=2.5) == 3
    assert seqs(books) == [4, 5, 6, 7, 8, 9, 10]


def test_what_is_put_in_before_a_checkpoint_is_found(books: Books) -> None:
    fill(books)
    prune(books, before=4.5)
    forge(books, _COPY.format(seq=3, of=6))
    assert events.first_broken(books.rows) == 3


def test_a_loss_right_after_a_checkpoint_is_found(books: Books) -> None:
    fill(books)
    prune(books, before=4.5)
    forge(books, "DELETE FROM events WHERE seq = 6")
    assert events.first_broken(books.rows) == 7


@pytest.mark.parametrize("payload", [{}, {"text": "naïve ☃ \x1b[31m \u2028"}, {"deep": [{"a": None}]}, {"n": 2**60}])
def test_any_payload_keeps_the_chain(books: Books, payload: dict[str, Any]) -> None:
    books.do(lambda tx: events.append(tx, BUSY, "r0", payload, actor=ACTOR, now=NOW))
    assert books.events()[-1].payload == payload
    assert events.first_broken(books.rows) is None


def test_a_payload_that_is_too_large_is_refused_with_its_change(books: Books) -> None:
    def change(tx: Tx) -> None:
        tx.execute("UPDATE projects SET description = 'changed'")
        events.append(tx, "project.edited", "p", {"x": "y" * 300_000}, actor=ACTOR, now=NOW)

    with pytest.raises(apsw.ConstraintError):
        books.do(change)
    assert books.rows.scalar("SELECT description FROM projects") == ""


def test_a_hash_is_of_everything_but_the_seq(books: Books) -> None:
    fill(books, 1)
    row: Row = books.rows.one("SELECT * FROM events")
    assert events.digest(row) == row["hash"]
    assert events.digest({**row, "seq": 99}) == row["hash"]


_COPY = """
INSERT INTO events SELECT {seq}, 'forged', aggregate_type, aggregate_id, 99, type, schema_version, payload, at, actor,
       generation, hash, hash FROM events WHERE seq = {of}
"""


def seqs(books: Books, **fields: Any) -> list[int]:
    return [event.seq for event in events.list_events(books.rows, **fields)]


def prune(books: Books, *, before: float, keep_rows: int = 1000, at_most: int = 1000) -> int:
    """Prune what is older than so many seconds after NOW."""
    doomed: Callable[[Tx], int] = lambda tx: events.prune(  # noqa: E731
        tx, before=NOW + timedelta(seconds=before), keep_rows=keep_rows, at_most=at_most, now=NOW
    )
    return books.do(doomed)


async def test_the_chain_holds_when_a_neighbour_in_the_batch_is_taken_back(books: Books) -> None:
    entered, gate = threading.Event(), threading.Event()

    def hold(tx: Tx) -> None:
        entered.set()
        gate.wait()

    def append(number: int) -> Callable[[Tx], None]:
        def write(tx: Tx) -> None:
            events.append(tx, BUSY, "r0", {"n": number}, actor=ACTOR, now=NOW)
            if number == 1:
                raise Conflict("taken back")

        return write

    holding = asyncio.ensure_future(books.database.write(hold))
    await asyncio.to_thread(entered.wait)
    batch = [asyncio.ensure_future(books.database.write(append(number))) for number in range(3)]
    await asyncio.sleep(0)  # they queue up behind the one that is held, so they are one batch
    gate.set()
    await asyncio.gather(holding, *batch, return_exceptions=True)
    assert [type(each.exception()) for each in batch] == [type(None), Conflict, type(None)]
    assert [event.payload["n"] for event in books.events() if event.type == BUSY] == [0, 2]
    assert events.first_broken(books.rows) is None
