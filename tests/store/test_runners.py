"""Runners: how they are named and found, and when they hold a slot."""

from datetime import timedelta
from typing import Any

import apsw
import pytest

from stratavore.clock import iso
from stratavore.errors import Ambiguous, Conflict, NotFound, QuotaExceeded
from stratavore.lifecycle import State
from stratavore.model import Desired, RestartPolicy, RunnerState
from stratavore.store import projects, runners
from stratavore.store.supervision import Supervised
from tests.books import ACTOR, BOOT, NOW, Books


def settle(books: Books, row: Supervised) -> None:
    books.do(lambda tx: runners.settle(tx, row.id))


def ended(books: Books, **columns: Any) -> Supervised:
    row = books.runner_in(State.FAILED, **columns)
    settle(books, row)
    return books.supervised(row.id)


def back_off(books: Books, row: Supervised, *, at: float = 2000.0) -> None:
    books.do(
        lambda tx: runners.schedule_retry(
            tx, row.id, row.whose(), at=NOW, at_boottime=at, boot_id=BOOT, failures=2, now=NOW
        )
    )


def found(books: Books, reference: str) -> str:
    return runners.resolve(books.rows, reference)


def test_every_column_makes_the_round_trip(books: Books) -> None:
    row = books.runner(
        agent="claude",
        desired=Desired.PAUSED,
        restart_policy=RestartPolicy.ALWAYS,
        max_restarts=9,
        tty=False,
        terminal_rows=50,
        terminal_columns=132,
        extra_argv=["a b", "☃"],
        cwd="/some where",
        umask=0o077,
        prompt="first\nprompt",
        session_id="abc",
        stop_grace_seconds=1.5,
        max_seconds=60.0,
    )
    assert (row.agent, row.desired, row.tty, row.session_id) == ("claude", Desired.PAUSED, False, "abc")
    assert (row.stop_grace_seconds, row.max_seconds) == (1.5, 60.0)
    assert (row.alive, row.then_start, row.run) == (True, False, 1)
    recipe = books.recipe(row.id)
    assert (recipe.agent, recipe.restart_policy, recipe.max_restarts) == ("claude", RestartPolicy.ALWAYS, 9)
    assert (recipe.tty, recipe.terminal_rows, recipe.terminal_columns) == (False, 50, 132)
    assert (recipe.extra_argv, recipe.cwd, recipe.umask, recipe.prompt) == (
        ["a b", "☃"], "/some where", 0o077, "first\nprompt",
    )  # fmt: skip
    assert (recipe.session_id, recipe.stop_grace_seconds, recipe.max_seconds) == ("abc", 1.5, 60.0)


class TestReferences:
    """A name, an id, or a prefix that leaves no doubt."""

    def test_by_id_by_name_and_by_prefix_of_either(self, books: Books) -> None:
        row = books.runner(id="k3m9x2abcd", name="feature-login")
        for reference in ("k3m9x2abcd", "feature-login", "k3", "feat", "feature-logi"):
            assert found(books, reference) == row.id

    @pytest.mark.parametrize("reference", ["", "ghost", "K3", "%", "_", "k3m9x2abcdx", "*", "k3m9?"])
    def test_what_fits_nothing_is_not_found(self, books: Books, reference: str) -> None:
        books.runner(id="k3m9x2abcd", name="feature-login")
        with pytest.raises(NotFound):
            found(books, reference)

    def test_a_prefix_of_several_lists_them(self, books: Books) -> None:
        books.runner(id="aaa1", name="web-1")
        books.runner(id="bbb1", name="web-2")
        with pytest.raises(Ambiguous, match=r"web fits several runners: web-1 \(aaa1\), web-2 \(bbb1\)"):
            found(books, "web")

    def test_a_prefix_of_very_many_lists_some(self, books: Books) -> None:
        books.project("many", max_runners=100)
        for number in range(20):
            books.runner("many", name=f"web-{number:02}")
        with pytest.raises(Ambiguous, match=r"web-07 \(runner0008\), …$"):
            found(books, "web")

    def test_exact_goes_before_prefix(self, books: Books) -> None:
        short = books.runner(name="web")
        books.runner(name="web-2")
        assert found(books, "web") == short.id

    def test_an_id_goes_before_a_name(self, books: Books) -> None:
        row = books.runner(id="abc", name="one")
        books.runner(name="abc")
        assert found(books, "abc") == row.id

    def test_a_prefix_of_the_living_goes_before_the_ended(self, books: Books) -> None:
        ended(books, name="web-old")
        living = books.runner(name="web-new")
        assert found(books, "web") == living.id
        assert found(books, "web-old") != living.id

    def test_of_several_ended_ones_of_a_name_the_newest_is_meant(self, books: Books) -> None:
        for second in (1, 3, 2):
            ended(books, id=f"r{second}", name="web", created_at=iso(NOW + timedelta(seconds=second)))
        assert found(books, "web") == "r3"
        living = books.runner(name="web", created_at=iso(NOW))
        assert found(books, "web") == living.id

    def test_who_changes_something_is_asked_which_of_several_ended_ones_of_a_name(self, books: Books) -> None:
        for number in (1, 2):
            ended(books, id=f"r{number}", name="web")
        refused = r"several ended runners are called web: .*r[12] \(of p, launched 20.*, r[12] \(of p"
        with pytest.raises(Ambiguous, match=refused):
            runners.resolve_all(books.rows, "web", None, strict=True)
        assert runners.resolve_all(books.rows, "r1,r2", None, strict=True) == ["r1", "r2"]
        living = books.runner(name="web")
        assert runners.resolve(books.rows, "web", strict=True) == living.id

    def test_a_list_is_in_its_order_and_without_repetition(self, books: Books) -> None:
        first, second = books.runner(id="aaa", name="web-1"), books.runner(id="bbb", name="web-2")
        assert runners.resolve_all(books.rows, "web-2,aaa,web-1,bbb", None) == [second.id, first.id]
        with pytest.raises(NotFound):
            runners.resolve_all(books.rows, "web-2,ghost", None)

    def test_a_star_is_all_that_live(self, books: Books) -> None:
        books.project("q")
        first, other = books.runner(), books.runner("q")
        ended(books)
        assert runners.resolve_all(books.rows, "*", None) == [first.id, other.id]
        assert runners.resolve_all(books.rows, "*", "q") == [other.id]
        with pytest.raises(NotFound):
            runners.resolve_all(books.rows, "*", "ghost")


class TestNames:
    """A name is one living runner's."""

    def test_two_that_live_cannot_share_one(self, books: Books) -> None:
        books.runner(name="web")
        with pytest.raises(Conflict, match="a runner called web lives"):
            books.runner(name="web")
        assert books.slots() == 1  # the slot that the second one took was given back

    def test_the_name_of_an_ended_one_is_free(self, books: Books) -> None:
        ended(books, name="web")
        assert books.runner(name="web").alive

    def test_the_schema_knows_it_too(self, books: Books) -> None:
        first, second = books.runner(name="web"), books.runner(name="api")
        with pytest.raises(apsw.ConstraintError):
            books.sql("UPDATE runners SET name = ? WHERE id = ?", first.name, second.id)

    def test_a_new_name_must_be_free(self, books: Books) -> None:
        row, other = books.runner(name="web"), books.runner(name="api")
        with pytest.raises(Conflict):
            rename(books, row, "api")
        rename(books, row, "web2")
        assert books.supervised(row.id).name == "web2"
        assert books.told(row.id) == ["runner.launched", "runner.renamed"]
        settle(books, other)
        rename(books, row, "api")
        with pytest.raises(Conflict, match="a runner called api lives"):
            rename(books, ended(books), "api")

    def test_the_same_name_is_no_news(self, books: Books) -> None:
        row = books.runner(name="web")
        rename(books, row, "web")
        assert books.told(row.id) == ["runner.launched"]

    def test_free_names_count_on_and_pass_over_what_lives(self, books: Books) -> None:
        project_id = int(projects.get_row(books.rows, "p")["id"])
        books.runner(name="p-3")
        books.sql("UPDATE projects SET launches = 4")
        assert books.do(lambda tx: runners.free_names(tx, project_id, 3)) == ["p-2", "p-4", "p-5"]

    def test_a_free_name_of_a_long_project_is_a_name(self, books: Books) -> None:
        name = "x" * 64
        project_id = books.project(name)
        [free] = books.do(lambda tx: runners.free_names(tx, project_id, 1))
        assert len(free) <= 64


class TestSlots:
    """`alive` and the count of the project change together, whatever happens twice."""

    def test_to_settle_twice_frees_one_slot(self, books: Books) -> None:
        row = books.runner_in(State.FAILED)
        assert books.slots() == 1
        settle(books, row)
        settle(books, row)
        assert books.slots() == 0
        assert not books.supervised(row.id).alive

    def test_to_settle_calls_off_what_was_planned(self, books: Books) -> None:
        row = books.runner_in(State.FAILED)
        back_off(books, row)
        settle(books, row)
        row = books.supervised(row.id)
        assert (row.retry_at_boottime, row.retry_boot_id, row.then_start) == (None, None, False)

    def test_an_ended_one_takes_a_slot_again(self, books: Books) -> None:
        row = ended(books)
        books.do(lambda tx: runners.revive(tx, row))
        assert books.supervised(row.id).alive
        assert books.slots() == 1

    def test_but_only_within_the_quota(self, books: Books) -> None:
        row = ended(books)
        for _ in range(5):
            books.runner()
        with pytest.raises(QuotaExceeded):
            books.do(lambda tx: runners.revive(tx, row))
        assert books.slots() == 5

    def test_and_only_while_its_name_is_free(self, books: Books) -> None:
        row = ended(books, name="web")
        books.runner(name="web")
        with pytest.raises(Conflict, match="another runner is called web"):
            books.do(lambda tx: runners.revive(tx, row))
        assert books.slots() == 1
        assert not books.supervised(row.id).alive

    def test_a_living_one_is_not_forgotten(self, books: Books) -> None:
        row = books.runner()
        with pytest.raises(Conflict, match="is alive"):
            remove(books, row)
        settle(books, row)
        remove(books, row)
        assert not runners.exists(books.rows, row.id)
        assert books.rows.all("SELECT 1 FROM runs") == []
        assert books.told(row.id)[-1] == "runner.removed"

    def test_what_was_forgotten_meanwhile_is_not_found(self, books: Books) -> None:
        row = ended(books)
        remove(books, row)
        with pytest.raises(NotFound):
            remove(books, row)
        with pytest.raises(NotFound):
            rename(books, row, "other")


class TestBackoff:
    """Between two runs."""

    def test_it_is_a_state_of_the_runner(self, books: Books) -> None:
        row = books.runner_in(State.FAILED)
        back_off(books, row)
        shown = runners.get_runner(books.rows, row.id)
        assert (shown.state, shown.retry_at, shown.pid) == (RunnerState.BACKOFF, NOW, None)
        row = books.supervised(row.id)
        assert (row.state, row.retry_at_boottime, row.retry_boot_id) == (State.FAILED, 2000.0, BOOT)
        assert books.run(row.key).failures == 2
        assert books.told(row.id)[-1] == "runner.backing_off"
        assert runners.count_by_state(books.rows) == {"backoff": 1}

    def test_a_new_run_leaves_it(self, books: Books) -> None:
        row = books.runner_in(State.FAILED)
        back_off(books, row)
        books.do(lambda tx: runners.begin_again(tx, row.id, by_itself=True))
        assert books.supervised(row.id).retry_at_boottime is None
        assert runners.get_runner(books.rows, row.id).restarts == 1
        assert books.run(row.key).failures == 2

    def test_a_person_who_starts_it_forgives_the_failures(self, books: Books) -> None:
        row = books.runner_in(State.FAILED)
        back_off(books, row)
        books.do(lambda tx: runners.begin_again(tx, row.id, by_itself=False))
        assert books.run(row.key).failures == 0

    def test_it_is_called_off_once(self, books: Books) -> None:
        row = books.runner_in(State.FAILED)
        back_off(books, row)
        books.do(lambda tx: runners.call_off_retry(tx, row, actor=ACTOR, now=NOW))
        assert books.told(row.id)[-1] == "runner.retry_called_off"
        assert books.slots() == 0
        gone = books.supervised(row.id)
        books.do(lambda tx: runners.call_off_retry(tx, gone, actor=ACTOR, now=NOW))
        assert books.told(row.id).count("runner.retry_called_off") == 1

    def test_an_ended_one_cannot_wait_for_a_run(self, books: Books) -> None:
        with pytest.raises(apsw.ConstraintError):
            back_off(books, ended(books))


class TestLists:
    """Which runners a list shows."""

    def test_the_living_unless_more_is_asked_for(self, books: Books) -> None:
        books.project("q")
        living, other, gone = books.runner(), books.runner("q"), ended(books)
        assert listed(books) == [living.id, other.id]
        assert listed(books, all=True) == [living.id, other.id, gone.id]
        assert listed(books, project="q") == [other.id]
        assert listed(books, state="failed") == [gone.id]
        assert listed(books, state="starting", project="p") == [living.id]
        assert listed(books, ids=[gone.id]) == [gone.id]
        assert listed(books, ids=[]) == []

    def test_pages(self, books: Books) -> None:
        rows = [books.runner() for _ in range(5)]
        assert listed(books, limit=2, offset=2) == [row.id for row in rows[2:4]]

    def test_old_ends_can_be_pruned_and_nothing_else(self, books: Books) -> None:
        gone = ended(books)
        books.runner_in(State.FAILED)
        assert runners.list_prunable(books.rows, before=NOW) == []
        assert runners.list_prunable(books.rows, before=NOW + timedelta(seconds=1)) == [gone.id]

    def test_those_that_are_not_yet_where_they_are_waited_for(self, books: Books) -> None:
        rows = [books.runner_in(State.RUNNING), books.runner_in(State.FAILED), books.runner()]
        ids = [row.id for row in rows]
        assert runners.count_outside(books.rows, ids, ["running"]) == 2
        assert runners.count_outside(books.rows, ids, ["running", "failed", "starting"]) == 0
        back_off(books, rows[1])
        assert runners.count_outside(books.rows, ids, ["running", "failed", "starting"]) == 1
        assert runners.count_outside(books.rows, ids, ["backoff"]) == 2

    def test_who_has_not_taken_its_prompt_is_not_idle_yet(self, books: Books) -> None:
        row = books.runner_in(State.RUNNING)
        books.sql(
            "INSERT INTO samples (runner_id, seen_at, health, activity, activity_since, activity_source)"
            " VALUES (?, '2999', 'ok', 'idle', '2999', 'hook')",
            row.id,
        )
        assert runners.count_outside(books.rows, [row.id], [], ["idle"]) == 0
        books.sql("UPDATE runners SET prompt = 'do it'")
        assert runners.count_outside(books.rows, [row.id], [], ["idle"]) == 1
        assert runners.get_runner(books.rows, row.id).prompt_pending
        books.sql("UPDATE samples SET activity_source = 'screen'")
        assert runners.count_outside(books.rows, [row.id], [], ["idle"]) == 0, "of it nobody would tell"
        books.sql("UPDATE samples SET activity_source = 'state file', activity = 'working'")
        assert runners.count_outside(books.rows, [row.id], [], ["working"]) == 0
        books.sql("UPDATE samples SET activity = 'idle'")
        books.sql("UPDATE runners SET prompt_taken = 1")
        assert runners.count_outside(books.rows, [row.id], [], ["idle"]) == 0

    def test_the_output_of_all_runs_is_one_number(self, books: Books) -> None:
        row = books.runner_in(State.FAILED)
        assert runners.get_runner(books.rows, row.id).dropped_bytes is None
        books.sql("UPDATE runs SET output_bytes = 100, dropped_bytes = 7")
        found = runners.get_runner(books.rows, row.id)
        assert (found.output_bytes, found.dropped_bytes) == (100, 7)
        books.sql(
            "INSERT INTO runs (key, runner_id, number, shim, state, created_at, ended_at, end_reason, output_bytes)"
            " VALUES ('x', ?, 2, 's', 'failed', ?, ?, 'exited', 11)", row.id, iso(NOW), iso(NOW),
        )  # fmt: skip
        books.sql("UPDATE runners SET run = 2")
        found = runners.get_runner(books.rows, row.id)
        assert (found.output_bytes, found.dropped_bytes) == (111, 7)


def rename(books: Books, row: Supervised, name: str) -> None:
    books.do(lambda tx: runners.rename(tx, row.id, name, actor=ACTOR, now=NOW))


def remove(books: Books, row: Supervised) -> None:
    books.do(lambda tx: runners.remove(tx, row.id, actor=ACTOR, now=NOW))


def listed(books: Books, **fields: Any) -> list[str]:
    return [runner.id for runner in runners.list_runners(books.rows, **fields)]


def test_a_directory_has_who_is_in_it_and_if_asked_who_is_below(books: Books) -> None:
    at, below, beside = (books.runner(cwd=cwd).id for cwd in ("/p", "/p/deep", "/pp"))
    assert [row.id for row in runners.list_in(books.rows, "/p")] == [at]
    assert [row.id for row in runners.list_in(books.rows, "/p", below=True)] == [at, below]
    assert [row.id for row in runners.list_in(books.rows, "/", below=True)] == [at, below, beside]
