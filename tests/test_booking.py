"""What was learned, written down: each fact once, an end together with what follows it."""

from datetime import timedelta
from typing import Any

import msgspec
import pytest

from stratavore import booking
from stratavore.admission import Wish
from stratavore.booking import End, past_the_database
from stratavore.errors import NotFound
from stratavore.label import Label, Process
from stratavore.lifecycle import FINAL, LIVE, Cause, State
from stratavore.model import Desired, EndReason, Health, RestartPolicy
from stratavore.process import Identity
from stratavore.restart import Pace
from stratavore.shim.client import ExitRecord
from stratavore.store import projects, runners, runs, samples
from stratavore.store.samples import Sample
from stratavore.store.supervision import Supervised
from tests.books import ACTOR, BOOT, MOMENT, NOW, Books, later

PACE = Pace(first=1.0, longest=300.0, jitter=0.1, healthy_after=600.0)
WHO = Identity(BOOT, 4242, 100)
MS = int(NOW.timestamp() * 1000)
PROCESS = Process(WHO, NOW - timedelta(seconds=3), ["true"])


def end_of(
    books: Books, row: Supervised, *, good: bool | None = None, out_of_memory: bool = False, **fields: Any
) -> End:
    record = ExitRecord(
        key=row.key,
        label=books.label(row),
        pid=WHO.pid,
        start_time=WHO.start_time,
        boot_id=BOOT,
        exit_code=0,
        exit_signal=None,
        utime_seconds=1.5,
        stime_seconds=0.25,
        max_rss_bytes=1 << 20,
        output_bytes=77,
        dropped_bytes=5,
        started_at=MS,
        ended_at=MS + 2000,
        stop_by=None,
    )._replace(**fields)
    is_good = record.exit_code == 0 if good is None else good
    return End(record, is_good, out_of_memory, "the last line")


def book_end(books: Books, row: Supervised, **fields: Any) -> bool:
    end = end_of(books, row, **fields)
    return bool(books.do(lambda tx: booking.book_ends(tx, [end], MOMENT, PACE)))


def book_lost(books: Books, row: Supervised) -> None:
    books.do(lambda tx: booking.book_lost(tx, row.key, EndReason.SHIM_DIED, "why", MOMENT, PACE))


def book_not_started(books: Books, row: Supervised) -> None:
    books.do(lambda tx: booking.book_not_started(tx, row.key, "why", MOMENT, PACE))


def book_spawned(books: Books, row: Supervised) -> None:
    books.do(lambda tx: booking.book_spawned(tx, row.key, PROCESS, MOMENT))


def ask_stop(books: Books, row: Supervised, reason: EndReason = EndReason.STOPPED, by: str = ACTOR) -> None:
    """As the verb does: the wish and the change are one transaction."""

    def wish(tx: Any) -> None:
        runners.want(tx, row.id, Desired.STOPPED)
        booking.ask_stop(tx, row, reason, actor=by, now=NOW)

    books.do(wish)


def ask_restart(books: Books, row: Supervised) -> None:
    """As the verb does."""

    def wish(tx: Any) -> None:
        runners.want(tx, row.id, Desired.RUNNING, then_start=True)
        booking.ask_stop(tx, row, EndReason.STOPPED, actor=ACTOR, now=NOW)

    books.do(wish)


def stop_unasked(books: Books, row: Supervised, reason: EndReason) -> None:
    either = (Desired.RUNNING, Desired.PAUSED)
    books.do(lambda tx: booking.stop_unasked(tx, row, reason, instead_of=either, now=NOW))


def seen(books: Books, row: Supervised, after_seconds: float) -> None:
    """It was seen last so long after its start."""
    at = NOW + timedelta(seconds=after_seconds)
    sample = Sample(row.id, at, None, None, None, None, None, Health.OK)
    books.do(lambda tx: samples.store(tx, [sample]))


class TestEveryFactOnce:
    """Whoever saw something books it; all of these may run twice, in any order."""

    @pytest.mark.parametrize(
        ("state", "first"),
        [
            *((state, first) for state in sorted(LIVE) for first in (book_end, book_lost)),
            (State.STARTING, book_not_started),
            (State.STOPPING, book_not_started),
        ],
    )
    @pytest.mark.parametrize("second", [book_end, book_lost, book_not_started, book_spawned])
    def test_the_first_end_stays(self, books: Books, state: State, first: Any, second: Any) -> None:
        row = books.runner_in(state)
        first(books, row)
        before, told = books.rows.all("SELECT * FROM runs"), books.events()
        assert books.run(row.key).state in FINAL
        assert books.slots() == 0
        second(books, row)
        assert books.rows.all("SELECT * FROM runs") == before
        assert books.events() == told
        assert books.slots() == 0

    def test_a_process_is_booked_once(self, books: Books) -> None:
        row = books.runner()
        book_spawned(books, row)
        book_spawned(books, row)
        assert books.told(row.id) == ["runner.launched", "runner.started"]
        row = books.supervised(row.id)
        assert (row.state, row.pid, row.start_time, row.boot_id, row.argv) == (
            State.RUNNING, 4242, 100, BOOT, ["true"],
        )  # fmt: skip
        assert row.started_at == PROCESS.started_at
        assert books.events()[-1].at == NOW

    def test_an_end_that_comes_before_its_beginning_books_both(self, books: Books) -> None:
        row = books.runner()
        book_end(books, row, exit_code=3)
        book_spawned(books, row)
        assert books.told(row.id) == ["runner.launched", "runner.started", "runner.failed"]
        row = books.supervised(row.id)
        assert (row.pid, row.started_at, row.argv) == (4242, NOW, ["true", "argv"])

    @pytest.mark.parametrize(
        ("state", "cause", "is_booked"),
        [
            (State.RUNNING, Cause.PAUSED, True),
            (State.PAUSED, Cause.UNPAUSED, True),
            (State.PAUSED, Cause.PAUSED, False),
            (State.RUNNING, Cause.UNPAUSED, False),
            (State.STOPPING, Cause.PAUSED, False),
            (State.FAILED, Cause.UNPAUSED, False),
        ],
    )
    def test_a_pause_is_booked_where_it_is_news(
        self, books: Books, state: State, cause: Cause, is_booked: bool
    ) -> None:
        row = books.runner_in(state)
        books.do(lambda tx: booking.book_paused(tx, row.key, cause, MOMENT))
        assert (books.run(row.key).state is not state) == is_booked

    @pytest.mark.parametrize(
        ("state", "desired", "cause", "then"),
        [
            (State.RUNNING, Desired.RUNNING, Cause.PAUSED, (State.PAUSED, Desired.PAUSED)),
            (State.PAUSED, Desired.PAUSED, Cause.UNPAUSED, (State.RUNNING, Desired.RUNNING)),
            (State.RUNNING, Desired.STOPPED, Cause.PAUSED, (State.PAUSED, Desired.STOPPED)),
            (State.STOPPING, Desired.STOPPED, Cause.UNPAUSED, (State.STOPPING, Desired.STOPPED)),
        ],
    )
    def test_a_pause_that_went_past_the_database_is_what_somebody_wants(
        self, books: Books, state: State, desired: Desired, cause: Cause, then: tuple[State, Desired]
    ) -> None:
        row = books.runner_in(state, desired=desired)
        books.do(lambda tx: booking.book_pause_found(tx, row.key, cause, MOMENT))
        row = books.supervised(row.id)
        assert (row.state, row.desired) == then

    def test_what_there_is_not_is_not_found(self, books: Books) -> None:
        for book in (
            lambda tx: booking.book_spawned(tx, "ghost.1", PROCESS, MOMENT),
            lambda tx: booking.book_lost(tx, "ghost.1", EndReason.VANISHED, "", MOMENT, PACE),
        ):
            with pytest.raises(NotFound):
                books.do(book)


class TestHowItEnded:
    """The state, the reason and the line for people."""

    @pytest.mark.parametrize(
        ("fields", "state", "reason", "detail"),
        [
            ({"exit_code": 0}, State.TERMINATED, "exited", "exit code 0"),
            ({"exit_code": 3}, State.FAILED, "exited", "exit code 3"),
            ({"exit_code": 0, "good": False}, State.FAILED, "exited", "exit code 0"),
            ({"exit_code": 3, "good": True}, State.TERMINATED, "exited", "exit code 3"),
            ({"exit_code": None, "exit_signal": 11}, State.FAILED, "signaled", "signal 11, sent by nobody we know"),
            ({"exit_code": None, "exit_signal": 9}, State.FAILED, "signaled", "signal 9, sent by nobody we know"),
            (
                {"exit_code": None, "exit_signal": 9, "out_of_memory": True},
                State.FAILED, "out_of_memory", "signal 9: the kernel ran out of memory and killed it",
            ),
        ],
    )  # fmt: skip
    def test_by_itself(self, books: Books, fields: dict[str, Any], state: State, reason: str, detail: str) -> None:
        row = books.runner_in(State.RUNNING)
        book_end(books, row, **fields)
        found = books.rows.one("SELECT * FROM runs")
        assert (found["state"], found["end_reason"], found["end_detail"]) == (state, reason, detail)
        assert (found["exit_code"], found["exit_signal"]) == (
            fields["exit_code"], fields.get("exit_signal"),
        )  # fmt: skip
        assert (found["output_bytes"], found["last_line"], found["cpu_seconds"], found["max_rss_bytes"]) == (
            77, "the last line", 1.75, 1 << 20,
        )  # fmt: skip
        assert books.shown(row.id).dropped_bytes == found["dropped_bytes"] == 5

    @pytest.mark.parametrize("exit_code", [0, 3, 143])
    def test_as_it_was_asked_to(self, books: Books, exit_code: int) -> None:
        row = books.runner_in(State.RUNNING)
        ask_stop(books, row)
        book_end(books, row, exit_code=exit_code)
        found = books.rows.one("SELECT * FROM runs")
        assert (found["state"], found["end_reason"], found["ended_by"]) == ("terminated", "stopped", ACTOR)
        assert found["end_detail"] == f"exit code {exit_code}; asked by {ACTOR}"
        assert books.events()[-1].actor == ACTOR

    def test_killed_after_a_stop_that_took_too_long(self, books: Books) -> None:
        row = books.runner_in(State.RUNNING)
        ask_stop(books, row)
        ask_stop(books, row, EndReason.KILLED, by="another")
        book_end(books, row, exit_code=None, exit_signal=9)
        found = books.rows.one("SELECT * FROM runs")
        assert (found["state"], found["end_reason"], found["ended_by"]) == ("terminated", "killed", "another")

    def test_a_kill_is_not_taken_back(self, books: Books) -> None:
        row = books.runner_in(State.RUNNING)
        ask_stop(books, row, EndReason.KILLED)
        ask_stop(books, row, EndReason.STOPPED, by="another")
        assert books.run(row.key).stop_reason is EndReason.KILLED

    def test_a_polite_stop_takes_no_reason_that_says_more_away(self, books: Books) -> None:
        """Nor does it lengthen the grace; a shorter one counts."""
        row = books.runner_in(State.RUNNING)
        ask_stop(books, row, EndReason.MAX_TIME, by="supervisor")
        for grace, expected in ((1.0, 1.0), (300.0, 1.0)):
            books.do(
                lambda tx, grace=grace: booking.ask_stop(  # type: ignore[misc]
                    tx, row, EndReason.STOPPED, actor=ACTOR, now=NOW, grace=grace
                )
            )
            run = books.run(row.key)
            assert (run.stop_reason, run.stop_by) == (EndReason.MAX_TIME, "supervisor")
            assert run.stop_grace_seconds == expected

    def test_the_runners_own_grace_is_not_lengthened_either(self, books: Books) -> None:
        row = books.runner_in(State.RUNNING)
        ask_stop(books, row)
        books.do(lambda tx: booking.ask_stop(tx, row, EndReason.STOPPED, actor="b", now=NOW, grace=300.0))
        run = books.run(row.key)
        assert (run.stop_grace_seconds, run.stop_by) == (row.stop_grace_seconds, "b")

    def test_unknown_is_lost_and_has_no_code(self, books: Books) -> None:
        row = books.runner_in(State.RUNNING)
        book_lost(books, row)
        found = books.rows.one("SELECT * FROM runs")
        assert (found["state"], found["exit_code"], found["exit_signal"]) == ("lost", None, None)

    def test_it_could_not_start(self, books: Books) -> None:
        row = books.runner()
        book_not_started(books, row)
        found = books.rows.one("SELECT * FROM runs")
        assert (found["state"], found["end_reason"], found["pid"]) == ("failed", "not_started", None)

    def test_it_was_stopped_before_it_started(self, books: Books) -> None:
        row = books.runner()
        ask_stop(books, row)
        book_not_started(books, row)
        found = books.rows.one("SELECT * FROM runs")
        assert (found["state"], found["end_reason"]) == ("terminated", "stopped")


class TestWhatFollows:
    """The slot is given back, or a run is due, in the transaction of the end."""

    def test_nothing(self, books: Books) -> None:
        row = books.runner_in(State.RUNNING)
        assert not book_end(books, row)
        assert (books.slots(), books.supervised(row.id).alive) == (0, False)

    def test_a_run_after_a_pause(self, books: Books) -> None:
        row = books.runner_in(State.RUNNING, restart_policy=RestartPolicy.ALWAYS)
        assert book_end(books, row)
        row = books.supervised(row.id)
        assert (row.retry_at_boottime, row.retry_boot_id) == (MOMENT.boottime + 1, BOOT)
        assert books.run(row.key).failures == 1
        assert (books.slots(), row.alive) == (1, True)
        assert books.told(row.id)[-2:] == ["runner.stopped", "runner.backing_off"]

    def test_the_breaker_opens_once_and_is_told_once(self, books: Books) -> None:
        row = books.runner_in(State.RUNNING, restart_policy=RestartPolicy.ON_FAILURE, max_restarts=0)
        for _ in range(3):
            book_end(books, row, exit_code=1)
        assert books.told(row.id).count("runner.gave_up") == 1
        assert books.slots() == 0

    def test_after_a_healthy_run_the_count_begins_anew(self, books: Books) -> None:
        row = books.runner_in(State.RUNNING, restart_policy=RestartPolicy.ON_FAILURE, failures=3)
        assert book_end(books, row, exit_code=1, ended_at=MS + 600_000)
        assert books.run(row.key).failures == 1

    def test_a_long_life_counts_for_what_was_lost_too(self, books: Books) -> None:
        row = books.runner_in(State.RUNNING, restart_policy=RestartPolicy.ON_FAILURE, failures=3)
        moment = later(2000)
        seen(books, row, 601)
        books.do(lambda tx: booking.book_lost(tx, row.key, EndReason.SHIM_DIED, "why", moment, PACE))
        assert books.run(row.key).failures == 1

    @pytest.mark.parametrize("seen_after", [None, 5, -5])
    def test_time_in_which_nobody_saw_it_is_no_life(self, books: Books, seen_after: float | None) -> None:
        """The machine was off for an hour, or the daemon: that is no healthy stretch."""
        row = books.runner_in(State.RUNNING, restart_policy=RestartPolicy.ON_FAILURE, failures=3)
        if seen_after is not None:
            seen(books, row, seen_after)
        moment = later(3600)
        books.do(lambda tx: booking.book_lost(tx, row.key, EndReason.REBOOT, "why", moment, PACE))
        assert "runner.gave_up" in books.told(row.id)

    @pytest.mark.parametrize("policy", RestartPolicy)
    @pytest.mark.parametrize("state", sorted(LIVE - {State.STOPPING}))
    @pytest.mark.parametrize("book", [book_end, book_lost, book_not_started])
    def test_what_a_person_stopped_stays_down(
        self, books: Books, policy: RestartPolicy, state: State, book: Any
    ) -> None:
        row = books.runner_in(state, restart_policy=policy)
        ask_stop(books, row)
        book(books, row)
        row = books.supervised(row.id)
        assert (row.alive, row.retry_at_boottime, books.slots()) == (False, None, 0)

    @pytest.mark.parametrize("policy", RestartPolicy)
    def test_so_does_what_was_stopped_past_the_database(self, books: Books, policy: RestartPolicy) -> None:
        """The disk was full: the wish went straight to the shim, and its record is all that tells of it."""
        row = books.runner_in(State.RUNNING, restart_policy=policy)
        assert not book_end(books, row, exit_code=None, exit_signal=15, stop_by="cli uid=7 pid=9")
        row = books.supervised(row.id)
        assert (row.state, row.desired, row.alive) == (State.TERMINATED, Desired.STOPPED, False)
        assert books.rows.one("SELECT end_reason, ended_by FROM runs") == {
            "end_reason": "stopped", "ended_by": "cli uid=7 pid=9",
        }  # fmt: skip
        assert books.told(row.id)[-2:] == ["runner.stop_asked", "runner.stopped"]

    def test_a_stop_past_the_database_calls_off_the_restart_that_was_asked_before(self, books: Books) -> None:
        row = books.runner_in(State.RUNNING, restart_policy=RestartPolicy.ALWAYS)
        ask_restart(books, row)
        by = past_the_database("cli uid=7 pid=9")
        assert not book_end(books, row, exit_code=None, exit_signal=15, stop_by=by)
        row = books.supervised(row.id)
        assert (row.desired, row.alive) == (Desired.STOPPED, False)
        assert books.rows.one("SELECT ended_by FROM runs") == {"ended_by": by}
        assert books.told(row.id)[-2:] == ["runner.stop_asked", "runner.stopped"]

    def test_the_stop_of_a_restart_calls_nothing_off(self, books: Books) -> None:
        row = books.runner_in(State.RUNNING)
        ask_restart(books, row)
        assert book_end(books, row, exit_code=None, exit_signal=15, stop_by=ACTOR)

    @pytest.mark.parametrize("reason", [EndReason.QUOTA, EndReason.MAX_TIME])
    def test_a_limit_holds_against_no_wish_of_a_person(self, books: Books, reason: EndReason) -> None:
        """It was decided on a row that was read before; the wish was committed in between."""
        for wish, follows in ((ask_stop, False), (ask_restart, True)):
            row = books.runner_in(State.RUNNING)
            wish(books, row)
            told = books.told(row.id)
            stop_unasked(books, row, reason)
            assert books.run(row.key).stop_reason is EndReason.STOPPED
            assert books.told(row.id) == told
            assert book_end(books, row) is follows

    def test_a_limit_that_comes_after_the_end_touches_no_retry(self, books: Books) -> None:
        row = books.runner_in(State.RUNNING, restart_policy=RestartPolicy.ALWAYS)
        book_end(books, row)
        stop_unasked(books, row, EndReason.MAX_TIME)
        assert books.supervised(row.id).desired is Desired.RUNNING

    def test_a_limit_stops_for_good(self, books: Books) -> None:
        row = books.runner_in(State.PAUSED, desired=Desired.PAUSED, restart_policy=RestartPolicy.ALWAYS)
        stop_unasked(books, row, EndReason.MAX_TIME)
        assert not book_end(books, row)
        assert books.supervised(row.id).desired is Desired.STOPPED

    def test_the_next_run_is_begun_once(self, books: Books) -> None:
        row = books.runner_in(State.RUNNING, restart_policy=RestartPolicy.ALWAYS)
        book_end(books, row)
        row = books.supervised(row.id)
        for is_first in (True, False):
            assert (
                books.do(lambda tx: booking.begin_again(tx, row, "shim2", Wish(row.project_id, row.id, None), now=NOW))
                is is_first
            )
        again = books.supervised(row.id)
        assert (again.run, again.state, again.shim) == (2, State.STARTING, "shim2")
        assert runners.get_runner(books.rows, row.id).restarts == 1
        assert books.told(row.id)[-1] == "runner.relaunched"

    def test_the_next_run_is_not_begun_when_it_was_stopped_meanwhile(self, books: Books) -> None:
        row = books.runner_in(State.RUNNING, restart_policy=RestartPolicy.ALWAYS)
        book_end(books, row)
        row = books.supervised(row.id)
        books.do(lambda tx: runners.want(tx, row.id, Desired.STOPPED))
        assert not books.do(
            lambda tx: booking.begin_again(tx, row, "shim2", Wish(row.project_id, row.id, None), now=NOW)
        )
        assert books.supervised(row.id).run == 1


class TestAdoption:
    """A live key that the database does not know is taken in, never killed."""

    def test_all_that_the_label_tells_comes_back(self, books: Books, tmp_path: Any) -> None:
        row = books.runner(
            restart_policy=RestartPolicy.ALWAYS, umask=0o077, prompt="p", session_id="s", max_seconds=9.0
        )
        label = books.label(row)
        with Books.open(tmp_path / "another" / "state.db") as other:
            other.sql("DELETE FROM projects")
            assert other.do(lambda tx: booking.adopt(tx, label, PROCESS, MOMENT)) == row.id
            assert other.recipe(row.id) == msgspec.structs.replace(
                books.recipe(row.id), project_id=other.recipe(row.id).project_id
            )
            back = other.supervised(row.id)
            assert (back.key, back.shim, back.desired, back.alive) == (row.key, row.shim, row.desired, True)
            assert (back.state, back.pid, back.boot_id) == (State.RUNNING, WHO.pid, BOOT)
            assert (back.started_at, back.argv) == (PROCESS.started_at, PROCESS.argv)
            assert projects.get_project(other.rows, "p").path == "/p"
            assert other.slots() == 1
            assert other.told(row.id) == ["runner.launched", "runner.adopted", "runner.started"]

    def test_as_it_was_launched(self, books: Books) -> None:
        """Also the limits that were set for it, and what it may do."""
        limits: dict[str, Any] = {"max_seconds": 60.0, "max_turns": 3, "on_exceeded": "stop", "allow_unpriced": 1}
        row = books.runner(restart_policy=RestartPolicy.ALWAYS, prompt="do it", umask=0o077, **limits)
        launched, label = books.recipe(row.id), books.label(row)
        self.forget(books, row)
        books.do(lambda tx: booking.adopt(tx, label, PROCESS, MOMENT))
        assert books.recipe(row.id) == launched

    def test_what_is_known_is_not_taken_in(self, books: Books) -> None:
        row = books.runner_in(State.RUNNING)
        label = books.label(row)
        before = books.events()
        assert books.do(lambda tx: booking.adopt(tx, label, PROCESS, MOMENT)) is None
        assert books.events() == before

    def test_what_stands_still_is_taken_in_as_paused(self, books: Books) -> None:
        label, process = self.forgotten(books), PROCESS._replace(is_paused=True)
        taken = books.do(lambda tx: booking.adopt(tx, label, process, MOMENT))
        assert taken is not None
        row = books.supervised(taken)
        assert (row.state, row.desired) == (State.PAUSED, Desired.PAUSED)

    def test_over_quota_too(self, books: Books) -> None:
        label = self.forgotten(books)
        for _ in range(5):
            books.runner()
        books.do(lambda tx: booking.adopt(tx, label, PROCESS, MOMENT))
        assert books.slots() == 6

    def test_with_another_name_when_its_own_has_gone_to_another(self, books: Books) -> None:
        label = self.forgotten(books, name="web")
        books.runner(name="web")
        taken = books.do(lambda tx: booking.adopt(tx, label, PROCESS, MOMENT))
        assert taken is not None
        assert books.supervised(taken).name == f"web-{taken}"

    def test_of_two_runs_that_end_together_the_later_one_decides(self, books: Books) -> None:
        row = books.runner(restart_policy=RestartPolicy.ALWAYS)
        book_spawned(books, row)
        books.do(lambda tx: runners.want(tx, row.id, Desired.STOPPED))
        first = end_of(books, row)
        label = msgspec.structs.replace(Label.read(first.record.label), run=2).write()
        second = first._replace(record=first.record._replace(key=f"{row.id}.2", label=label))
        assert books.do(lambda tx: booking.book_ends(tx, [first, second], MOMENT, PACE)) == [row.id]
        assert books.supervised(row.id).alive
        assert books.supervised(row.id).retry_at_boottime is not None

    def test_an_end_that_nobody_knows_of_is_booked_with_its_beginning(self, books: Books) -> None:
        row = books.runner()
        end = end_of(books, row, exit_code=3)
        self.forget(books, row)
        books.do(lambda tx: booking.book_ends(tx, [end], MOMENT, PACE))
        assert books.supervised(row.id).state is State.FAILED
        assert books.slots() == 0

    def test_a_run_newer_than_the_database_makes_its_runner_live_again(self, books: Books) -> None:
        """An older backup was restored: there the runner had ended, but its next run lives."""
        row = books.runner_in(State.FAILED)
        books.do(lambda tx: runners.settle(tx, row.id))
        label = Label.read(books.label(row))
        newer = Label(row.id, row.name, row.project, "/p", 2, "shim2", label.columns, []).write()
        assert books.do(lambda tx: booking.adopt(tx, newer, PROCESS, MOMENT)) == row.id
        row = books.supervised(row.id)
        assert (row.run, row.state, row.alive, row.desired) == (2, State.RUNNING, True, Desired.RUNNING)
        assert books.slots() == 1
        book_end(books, row)
        assert books.slots() == 0

    @pytest.mark.parametrize("wish", [Desired.RUNNING, Desired.STOPPED])
    def test_a_run_newer_than_the_database_ends_what_was_to_come_before_it(self, books: Books, wish: Desired) -> None:
        """An older backup was restored: there the runner was to begin again, or to stop, and its next run lives."""
        row = books.runner_in(State.RUNNING, restart_policy=RestartPolicy.ALWAYS)
        book_end(books, row)
        assert books.supervised(row.id).retry_at_boottime is not None
        books.do(lambda tx: runners.want(tx, row.id, wish, then_start=True))
        label = Label.read(books.label(row))
        newer = Label(row.id, row.name, row.project, "/p", 2, "shim2", label.columns, []).write()
        books.do(lambda tx: booking.adopt(tx, newer, PROCESS, MOMENT))
        row = books.supervised(row.id)
        assert (row.desired, row.then_start, row.retry_at_boottime, row.retry_boot_id) == ("running", False, None, None)
        assert books.shown(row.id).state == "running"
        assert books.slots() == 1

    def test_a_label_of_an_older_daemon_tells_less(self, books: Books) -> None:
        told = msgspec.json.decode(self.forgotten(books))
        del told["argv"]
        taken = books.do(lambda tx: booking.adopt(tx, msgspec.json.encode(told).decode(), PROCESS, MOMENT))
        assert taken == told["id"]

    def forgotten(self, books: Books, **columns: Any) -> str:
        """The label of a runner that is in the database no more."""
        row = books.runner(**columns)
        label = books.label(row)
        self.forget(books, row)
        return label

    def forget(self, books: Books, row: Supervised) -> None:
        books.do(lambda tx: runners.settle(tx, row.id))
        books.sql("DELETE FROM runners WHERE id = ?", row.id)
        assert not runs.exists(books.rows, row.key)
