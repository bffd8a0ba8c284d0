"""Every call is in the ledger once, whatever tells of it, how often, and in which order."""

import itertools
from collections.abc import Sequence
from datetime import timedelta

import msgspec
import pytest

from stratavore.agents.records import Call
from stratavore.clock import iso
from stratavore.store import usage
from stratavore.store.database import Row, Tx
from stratavore.store.usage import Charge, Price, Source
from tests.books import NOW, Books

PRICE = Price(*(n * 10**9 for n in (5, 25, 6, 10, 1)))
CALL = Call(
    key="msg_1",
    session_id="s1",
    at=NOW,
    model="known",
    input_tokens=1,
    output_tokens=20,
    cache_write_5m_tokens=300,
    cache_write_1h_tokens=4000,
    cache_read_tokens=50000,
    request_id="req_1",
)
COST = 1 * 5000 + 20 * 25000 + 300 * 6000 + 4000 * 10000 + 50000 * 1000


def price(model: str, at: str, prompt_tokens: int) -> Price | None:
    return PRICE if model == "known" else None


def like(call: Call = CALL, /, **fields: object) -> Call:
    return msgspec.structs.replace(call, **fields)


def session(books: Books, id: str, parent: str | None = None, project: int | None = None) -> int:
    """A conversation's number."""
    books.sql(
        "INSERT INTO sessions (agent, id, home, is_foreign, parent_id, project_id) VALUES ('claude', ?, '/h', 1, ?, ?)"
        " ON CONFLICT DO NOTHING",
        id,
        parent,
        project,
    )
    return int(books.rows.scalar("SELECT number FROM sessions WHERE id = ?", (id,)))


def enter(books: Books, number: int, runner_id: str, since: str, until: str | None = None) -> None:
    books.sql(
        "INSERT INTO session_runs (session, run_key, runner_id, from_at, until_at) VALUES (?, ?, ?, ?, ?)",
        number,
        f"{runner_id}.1",
        runner_id,
        since,
        until,
    )


def told(
    books: Books,
    *calls: Call,
    path: str = "/a.jsonl",
    source: Source = Source.TRANSCRIPT,
    runner_id: str | None = None,
) -> list[Charge]:
    def record(tx: Tx) -> list[Charge]:
        rows = tx.all("SELECT id, number FROM sessions")
        numbers = {row["id"]: row["number"] for row in rows}
        return usage.record(tx, "claude", path, calls, numbers=numbers, price=price, source=source, runner_id=runner_id)

    return books.do(record)


def ledger(books: Books) -> list[Row]:
    return books.rows.all("SELECT * FROM usage ORDER BY key")


def counts(row: Row) -> tuple[int, ...]:
    names = ("input", "output", "cache_write_5m", "cache_write_1h", "cache_read")
    return tuple(row[f"{name}_tokens"] for name in names)


def test_a_call_is_booked_with_its_cost(books: Books) -> None:
    number = session(books, "s1")
    [charge] = told(books, CALL)
    [row] = ledger(books)
    assert counts(row) == (1, 20, 300, 4000, 50000)
    assert (row["session"], row["at"], row["model"], row["source"]) == (number, iso(NOW), "known", "transcript")
    assert row["cost_nano_usd"] == COST
    assert charge == Charge(None, None, "claude", "known", NOW, 54321, COST, True)


def test_the_same_again_adds_nothing(books: Books) -> None:
    told(books, CALL)
    before = ledger(books)
    assert told(books, CALL) == []
    assert told(books, CALL, like(at=NOW + timedelta(seconds=3))) == []
    assert ledger(books) == before


def test_a_later_larger_telling_adds_only_the_difference(books: Books) -> None:
    told(books, like(output_tokens=1))
    [charge] = told(books, CALL)
    assert (charge.tokens, charge.nano_usd) == (19, 19 * 25000)
    [row] = ledger(books)
    assert (counts(row), row["cost_nano_usd"]) == ((1, 20, 300, 4000, 50000), COST)


def test_each_class_keeps_its_own_maximum(books: Books) -> None:
    told(books, like(input_tokens=9, output_tokens=1))
    told(books, like(input_tokens=2, output_tokens=8))
    [row] = ledger(books)
    assert counts(row)[:2] == (9, 8)


def test_lines_of_one_call_in_one_slice_are_one_charge(books: Books) -> None:
    charges = told(books, like(output_tokens=1), like(output_tokens=7), CALL)
    assert [charge.tokens for charge in charges] == [54321]
    assert len(ledger(books)) == 1


def test_a_model_without_a_price_has_no_cost(books: Books) -> None:
    [charge] = told(books, like(model="strange"))
    assert (charge.nano_usd, charge.is_priced) == (0, False)
    assert ledger(books)[0]["cost_nano_usd"] is None


def test_the_agents_own_figure_is_kept_beside_ours(books: Books) -> None:
    told(books, like(cost_usd=0.25))
    [row] = ledger(books)
    assert (row["cost_nano_usd"], row["agent_cost_nano_usd"]) == (COST, 250_000_000)


def test_the_runner_that_was_in_the_conversation_at_that_moment_made_the_call(books: Books) -> None:
    first, second = books.runner(), books.runner()
    number = session(books, "s1")
    enter(books, number, first.id, iso(NOW), iso(NOW + timedelta(seconds=9)))
    enter(books, number, second.id, iso(NOW + timedelta(seconds=10)))
    moments = [-1, 0, 9, 10, 99]
    told(books, *(like(key=f"k{n:02}", at=NOW + timedelta(seconds=n), request_id=None) for n in moments))
    found = {row["key"]: row["runner_id"] for row in ledger(books)}
    assert found == {"k-1": None, "k00": first.id, "k09": first.id, "k10": second.id, "k99": second.id}


def test_a_runners_sums_follow_the_ledger(books: Books) -> None:
    runner = books.runner()
    enter(books, session(books, "s1"), runner.id, iso(NOW))
    told(books, like(output_tokens=1))
    told(books, CALL, like(key="msg_2", model="strange", at=NOW + timedelta(seconds=5), request_id=None))
    shown = books.shown(runner.id)
    assert (shown.tokens, shown.cost_usd, shown.unpriced_calls) == (2 * 54321, COST / 1e9, 1)
    [row] = books.rows.all("SELECT calls, model, last_at FROM runner_usage")
    assert row == {"calls": 2, "model": "strange", "last_at": iso(NOW + timedelta(seconds=5))}


def test_a_call_belongs_to_the_project_of_its_runner_else_of_its_conversation(books: Books) -> None:
    other = books.project("q")
    runner = books.runner("p")
    enter(books, session(books, "s1", project=other), runner.id, iso(NOW))
    told(books, CALL, like(key="msg_0", at=NOW - timedelta(seconds=1), request_id=None))
    before, during = ledger(books)
    assert (before["project_id"], during["project_id"]) == (other, books.recipe(runner.id).project_id)


TELLINGS = [("parent", "/z/parent.jsonl"), ("fork", "/a/fork.jsonl"), ("fork2", "/b/fork2.jsonl")]


@pytest.mark.parametrize("order", list(itertools.permutations(TELLINGS)))
def test_a_call_in_forks_is_the_parents_whatever_was_read_first(books: Books, order: Sequence[tuple[str, str]]) -> None:
    runner = books.runner()
    parent = session(books, "parent")
    enter(books, parent, runner.id, iso(NOW))
    session(books, "fork", parent="parent")
    session(books, "fork2", parent="fork")
    charged = [told(books, like(session_id=id), path=path) for id, path in order]
    [row] = ledger(books)
    assert (row["session"], row["path"], row["runner_id"]) == (parent, "/z/parent.jsonl", runner.id)
    assert sum(len(each) for each in charged) == 1
    assert books.shown(runner.id).tokens == 54321


@pytest.mark.parametrize("order", [(0, 1), (1, 0)])
def test_a_call_in_files_that_know_no_parent_is_of_the_first_by_path(books: Books, order: tuple[int, int]) -> None:
    tellings = [("one", "/a.jsonl"), ("two", "/b.jsonl")]
    numbers = [session(books, id) for id, _ in tellings]
    for n in order:
        told(books, like(session_id=tellings[n][0]), path=tellings[n][1])
    [row] = ledger(books)
    assert (row["session"], row["path"]) == (numbers[0], "/a.jsonl")


def test_forks_in_a_circle_do_no_harm(books: Books) -> None:
    session(books, "one", parent="two")
    session(books, "two", parent="one")
    told(books, like(session_id="two"), path="/b.jsonl")
    told(books, like(session_id="one"), path="/a.jsonl")
    assert [row["path"] for row in ledger(books)] == ["/a.jsonl"]


def heard(books: Books, runner_id: str | None = None, **fields: object) -> list[Charge]:
    """A receiver is told of the same call: it knows no hours of cache writes, and the agent's own figure."""
    call = like(key="otlp:req_1", cache_write_5m_tokens=4300, cache_write_1h_tokens=0, cost_usd=0.1, **fields)
    return told(books, call, path="", source=Source.OTLP, runner_id=runner_id)


def test_a_file_replaces_what_a_receiver_was_told(books: Books) -> None:
    runner = books.runner()
    session(books, "s1")
    [first] = heard(books, runner.id, output_tokens=25)
    [second] = told(books, CALL)
    [row] = ledger(books)
    assert (row["key"], counts(row), row["source"]) == ("msg_1", (1, 20, 300, 4000, 50000), "transcript")
    assert (row["runner_id"], row["agent_cost_nano_usd"]) == (runner.id, 100_000_000)
    assert (first.tokens, second.tokens) == (54326, -5), "what is booked is what the ledger adds up to"
    assert second.nano_usd == 4000 * (10000 - 6000) - 5 * 25000
    assert books.shown(runner.id).tokens == 54321


def test_what_a_receiver_was_told_is_not_charged_again_where_only_the_first_line_names_the_request(
    books: Books,
) -> None:
    heard(books)
    [charge] = told(books, CALL, like(request_id=None))
    assert charge.tokens == 0
    assert [row["key"] for row in ledger(books)] == ["msg_1"]


def test_a_receiver_adds_nothing_to_what_a_file_told(books: Books) -> None:
    told(books, CALL)
    before = ledger(books)
    assert heard(books) == []
    assert ledger(books) == before


def test_a_receiver_told_twice_counts_once(books: Books) -> None:
    heard(books)
    assert heard(books) == []
    assert len(ledger(books)) == 1


def test_a_price_that_changes_changes_no_cost_of_before(books: Books) -> None:
    told(books, CALL)

    def dearer(tx: Tx) -> list[Charge]:
        double = Price(*(2 * n for n in PRICE))
        return usage.record(tx, "claude", "/a.jsonl", [CALL], numbers={}, price=lambda model, at, prompt: double)

    assert books.do(dearer) == []
    assert ledger(books)[0]["cost_nano_usd"] == COST
