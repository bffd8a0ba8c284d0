"""The one writer of states: every cell against the real schema, guarded and announced."""

import itertools
from typing import Any

import apsw
import pytest

from stratavore.errors import Conflict, NotFound
from stratavore.lifecycle import FINAL, TRANSITIONS, Cause, State
from stratavore.model import EndReason
from stratavore.store import runs
from stratavore.store.database import Tx
from stratavore.store.runs import RunRow
from tests.books import ACTOR, BOOT, NOW, Books

ANNOUNCED = {
    State.RUNNING: "runner.started",
    State.PAUSED: "runner.paused",
    State.STOPPING: "runner.stop_asked",
    State.TERMINATED: "runner.stopped",
    State.FAILED: "runner.failed",
    State.LOST: "runner.lost",
}
EXCEPTIONS = {
    (State.PAUSED, Cause.UNPAUSED): "runner.unpaused",
    (State.STOPPING, Cause.SPAWNED): "runner.started",
}


def advance(books: Books, run: RunRow, cause: Cause, **facts: Any) -> RunRow:
    return books.do(lambda tx: runs.advance(tx, run, cause, actor=ACTOR, now=NOW, **facts))


def facts_of(new: State) -> dict[str, Any]:
    return {"end_reason": EndReason.EXITED} if new in FINAL else {}


@pytest.mark.parametrize(("state", "cause"), list(itertools.product(State, Cause)))
def test_a_change_is_stored_and_announced_or_refused_and_neither(books: Books, state: State, cause: Cause) -> None:
    run = books.run(books.runner_in(state).key)
    before = len(books.events())
    new = TRANSITIONS[state].get(cause)
    if new is None:
        with pytest.raises(Conflict):
            advance(books, run, cause, end_reason=EndReason.EXITED)
        assert books.run(run.key) == run
        assert len(books.events()) == before
        return
    moved = advance(books, run, cause, **facts_of(new))
    assert moved == books.run(run.key)
    assert moved.state is new
    [event] = books.events()[before:]
    assert event.type == EXCEPTIONS.get((state, cause), ANNOUNCED[new])
    assert (event.aggregate_id, event.actor, event.at) == (run.runner_id, ACTOR, NOW)
    assert event.payload["run"] == 1
    assert {"name", "project", "agent"} <= set(event.payload)


@pytest.mark.parametrize("state", [state for state in State if TRANSITIONS[state]])
def test_whoever_read_an_older_state_is_refused(books: Books, state: State) -> None:
    """Two who read the same state: the second one changes nothing, though its change was legal when it looked."""
    run = books.run(books.runner_in(state).key)
    cause, second = Cause.VANISHED, Cause.SUCCEEDED
    advance(books, run, cause, end_reason=EndReason.VANISHED)
    before = books.events()
    with pytest.raises(Conflict, match=f"no longer {state}"):
        advance(books, run, second, end_reason=EndReason.EXITED)
    assert books.run(run.key).state is State.LOST
    assert books.events() == before


def test_a_change_and_its_event_are_rolled_back_together(books: Books) -> None:
    run = books.run(books.runner_in(State.RUNNING).key)
    before = books.events()

    def half(tx: Tx) -> None:
        runs.advance(tx, run, Cause.STOP_ASKED, actor=ACTOR, now=NOW)
        raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        books.do(half)
    assert books.run(run.key) == run
    assert books.events() == before


def test_the_intent_and_its_event_are_rolled_back_together(books: Books) -> None:
    row = books.runner()
    before = books.events()

    def half(tx: Tx) -> None:
        runs.insert(tx, row.id, 2, "shim2", row.whose(), actor=ACTOR, now=NOW)
        raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        books.do(half)
    assert not runs.exists(books.rows, f"{row.id}.2")
    assert books.events() == before


def test_an_intent_is_starting_and_told(books: Books) -> None:
    row = books.runner()
    run = books.run(row.key)
    assert (run.state, run.pid, run.shim, run.number) == (State.STARTING, None, "shim1", 1)
    assert books.told(row.id) == ["runner.launched"]
    books.do(lambda tx: runs.insert(tx, row.id, 2, "shim2", row.whose(), actor=ACTOR, now=NOW))
    assert books.supervised(row.id).key == f"{row.id}.2"
    assert books.told(row.id) == ["runner.launched", "runner.relaunched"]


def test_a_key_is_used_once(books: Books) -> None:
    row = books.runner()
    with pytest.raises(apsw.ConstraintError):
        books.do(lambda tx: runs.insert(tx, row.id, 1, "shim2", row.whose(), actor=ACTOR, now=NOW))
    assert books.run(row.key).shim == "shim1"


def test_the_facts_of_a_change_are_stored_with_it(books: Books) -> None:
    run = books.run(books.runner().key)
    run = advance(books, run, Cause.SPAWNED, pid=7, start_time=8, boot_id=BOOT, started_at=NOW, argv=["a", "b c"])
    assert (run.pid, run.start_time, run.boot_id, run.started_at) == (7, 8, BOOT, NOW)
    assert books.supervised(run.runner_id).argv == ["a", "b c"]
    run = advance(books, run, Cause.CRASHED, end_reason=EndReason.SIGNALED, exit_signal=9, last_line="\x1b[31m")
    assert run.ended_at == NOW
    row = books.rows.one("SELECT * FROM runs")
    assert (row["exit_code"], row["exit_signal"], row["last_line"]) == (None, 9, "\x1b[31m")


def test_what_a_runner_printed_or_was_told_is_in_no_event(books: Books) -> None:
    """Its output is hostile, its command line may hold secrets, and events go out to channels."""
    run = books.run(books.runner().key)
    run = advance(books, run, Cause.SPAWNED, pid=7, start_time=8, boot_id=BOOT, started_at=NOW, argv=["secret"])
    advance(books, run, Cause.CRASHED, end_reason=EndReason.EXITED, exit_code=1, last_line="secret")
    assert "secret" not in str([event.payload for event in books.events()])


@pytest.mark.parametrize(
    "facts",
    [
        {"end_reason": None},
        {"end_reason": EndReason.EXITED, "exit_code": 0, "exit_signal": 9},
        {"end_reason": EndReason.EXITED, "ended_at": None},
    ],
)
def test_the_schema_refuses_an_end_that_is_none(books: Books, facts: dict[str, Any]) -> None:
    run = books.run(books.runner_in(State.RUNNING).key)
    with pytest.raises(apsw.ConstraintError):
        advance(books, run, Cause.CRASHED, **facts)
    assert books.run(run.key).state is State.RUNNING


def test_a_living_run_cannot_have_an_end(books: Books) -> None:
    run = books.run(books.runner_in(State.RUNNING).key)
    with pytest.raises(apsw.ConstraintError):
        advance(books, run, Cause.PAUSED, ended_at=NOW, end_reason=EndReason.EXITED)


def test_a_stop_becomes_a_kill_and_says_who(books: Books) -> None:
    run = books.run(books.runner_in(State.STOPPING).key)
    books.do(lambda tx: runs.hasten(tx, run, EndReason.KILLED, None, actor="another", now=NOW))
    run = books.run(run.key)
    assert (run.state, run.stop_reason, run.stop_by) == (State.STOPPING, EndReason.KILLED, "another")


def test_runs_are_listed_with_the_files_of_their_output(books: Books, tmp_path: Any) -> None:
    row = books.runner_in(State.FAILED)
    books.do(lambda tx: runs.insert(tx, row.id, 2, "shim2", row.whose(), actor=ACTOR, now=NOW))
    first, second = runs.list_runs(books.rows, row.id, tmp_path)
    assert (first.number, first.state, first.log) == (1, "failed", f"{tmp_path}/shim1/{row.id}.1")
    assert (second.number, second.state, second.log) == (2, "starting", f"{tmp_path}/shim2/{row.id}.2")
    assert [run.key for run in runs.list_unended(books.rows)] == [f"{row.id}.2"]


def test_what_there_is_not(books: Books) -> None:
    assert runs.find(books.rows, "ghost.1") is None
    assert not runs.exists(books.rows, "ghost.1")
    with pytest.raises(NotFound):
        runs.get(books.rows, "ghost.1")
