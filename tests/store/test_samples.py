"""What was last measured: the newest only, of those that live only."""

from datetime import timedelta

import msgspec

from stratavore.clock import iso
from stratavore.lifecycle import State
from stratavore.model import Activity, Health
from stratavore.store import projects, runners, samples
from stratavore.store.samples import Sample
from tests.books import ACTOR, NOW, Books

SAMPLE = Sample(
    runner_id="r",
    seen_at=NOW,
    cpu_percent=12.5,
    rss_bytes=1000,
    threads=3,
    children=2,
    output_bytes=77,
    health=Health.OK,
)


def sampled(books: Books, *runner_ids: str, **fields: object) -> None:
    wanted = [msgspec.structs.replace(SAMPLE, runner_id=runner_id, **fields) for runner_id in runner_ids]
    books.do(lambda tx: samples.store(tx, wanted))


def test_a_runner_shows_what_was_measured(books: Books) -> None:
    row = books.runner_in(State.RUNNING)
    sampled(books, row.id)
    found = runners.get_runner(books.rows, row.id)
    assert (found.cpu_percent, found.rss_bytes, found.threads, found.children) == (12.5, 1000, 3, 2)
    assert (found.output_bytes, found.health) == (77, Health.OK)
    assert found.seen_at == NOW


def test_what_was_not_measured_is_unknown(books: Books) -> None:
    found = runners.get_runner(books.rows, books.runner_in(State.RUNNING).id)
    assert (found.cpu_percent, found.rss_bytes, found.threads, found.output_bytes) == (None, None, None, None)
    assert (found.activity, found.health, found.seen_at) == (Activity.UNKNOWN, Health.UNKNOWN, None)


def test_a_later_look_replaces_an_earlier_one(books: Books) -> None:
    row = books.runner_in(State.RUNNING)
    sampled(books, row.id)
    sampled(books, row.id, rss_bytes=2000, cpu_percent=None, seen_at=NOW + timedelta(seconds=10))
    found = runners.get_runner(books.rows, row.id)
    assert (found.rss_bytes, found.cpu_percent) == (2000, None)
    assert len(books.rows.all("SELECT * FROM samples")) == 1


def test_a_sample_of_one_that_is_gone_is_passed_over(books: Books) -> None:
    row = books.runner_in(State.RUNNING)
    sampled(books, "ghost", row.id)
    assert [found["runner_id"] for found in books.rows.all("SELECT * FROM samples")] == [row.id]


def test_it_is_no_event(books: Books) -> None:
    row = books.runner_in(State.RUNNING)
    before = books.events()
    sampled(books, row.id)
    assert books.events() == before


def test_what_ended_uses_nothing(books: Books) -> None:
    row = books.runner_in(State.FAILED)
    sampled(books, row.id)
    found = runners.get_runner(books.rows, row.id)
    assert (found.cpu_percent, found.rss_bytes, found.activity) == (None, None, Activity.UNKNOWN)


def test_the_sum_is_of_the_living(books: Books) -> None:
    first, second = books.runner_in(State.RUNNING), books.runner_in(State.PAUSED)
    gone = books.runner_in(State.FAILED)
    books.do(lambda tx: runners.settle(tx, gone.id))
    sampled(books, first.id, second.id, gone.id)
    assert samples.totals(books.rows, since=NOW) == {"cpu_percent": 25.0, "rss_bytes": 2000}


def test_nothing_measured_is_unknown_and_not_zero(books: Books) -> None:
    books.runner_in(State.RUNNING)
    assert samples.totals(books.rows, since=NOW) == {"cpu_percent": None, "rss_bytes": None}


def test_one_between_two_runs_uses_nothing(books: Books) -> None:
    """It holds its slot, but the process that was measured is dead: it must not bring another over the quota."""
    limit(books)
    waiting = books.runner_in(State.FAILED)
    sampled(books, waiting.id)
    assert samples.totals(books.rows, since=NOW) == {"cpu_percent": None, "rss_bytes": None}
    assert samples.by_project(books.rows, since=NOW) == []


def test_what_was_seen_too_long_ago_or_in_the_run_before_is_left_out(books: Books) -> None:
    limit(books)
    fresh, old, again = (books.runner_in(State.RUNNING) for _ in range(3))
    sampled(books, fresh.id, again.id)
    sampled(books, old.id, seen_at=NOW - timedelta(seconds=1))
    books.sql("UPDATE runs SET started_at = ? WHERE key = ?", iso(NOW + timedelta(seconds=1)), again.key)
    assert samples.totals(books.rows, since=NOW)["rss_bytes"] == 1000
    assert [row["rss_bytes"] for row in samples.by_project(books.rows, since=NOW)] == [1000]


def test_projects_with_a_quota_are_summed_up(books: Books) -> None:
    limit(books)
    books.project("free")
    rows = [
        books.runner_in(State.RUNNING),
        books.runner_in(State.RUNNING),
        books.runner_in(State.RUNNING, project="free"),
    ]
    sampled(books, *(row.id for row in rows))
    [found] = samples.by_project(books.rows, since=NOW)
    assert (found["name"], found["rss_bytes"], found["cpu_percent"]) == ("p", 2000, 25.0)
    assert (found["max_memory_bytes"], found["max_cpu_percent"], found["on_quota"]) == (1, None, "warn")


def limit(books: Books) -> None:
    books.do(lambda tx: projects.edit(tx, "p", {"max_memory_bytes": 1}, actor=ACTOR, now=NOW))
