"""The table of what may become of a run, cell by cell, against a second table written by hand."""

import itertools
import re

import pytest

from stratavore.errors import Conflict
from stratavore.lifecycle import FINAL, LIVE, TRANSITIONS, Cause, State, next_state
from stratavore.model import RunnerState
from stratavore.store.database import MIGRATIONS
from tests.lifecycle_document import DOCUMENT, document

LEGAL = {
    ("starting", "spawned"): "running",
    ("starting", "spawn_failed"): "failed",
    ("starting", "stop_asked"): "stopping",
    ("starting", "succeeded"): "terminated",
    ("starting", "crashed"): "failed",
    ("starting", "vanished"): "lost",
    ("running", "paused"): "paused",
    ("running", "stop_asked"): "stopping",
    ("running", "succeeded"): "terminated",
    ("running", "crashed"): "failed",
    ("running", "vanished"): "lost",
    ("paused", "unpaused"): "running",
    ("paused", "stop_asked"): "stopping",
    ("paused", "succeeded"): "terminated",
    ("paused", "crashed"): "failed",
    ("paused", "vanished"): "lost",
    ("stopping", "spawned"): "stopping",
    ("stopping", "spawn_failed"): "terminated",
    ("stopping", "succeeded"): "terminated",
    ("stopping", "crashed"): "terminated",
    ("stopping", "vanished"): "lost",
}
CELLS = list(itertools.product(State, Cause))


@pytest.mark.parametrize(("state", "cause"), CELLS)
def test_a_cell_is_what_it_was_meant_to_be(state: State, cause: Cause) -> None:
    meant = LEGAL.get((state.value, cause.value))
    if meant is not None:
        assert next_state(state, cause) is State(meant)
    else:
        with pytest.raises(Conflict, match=state.value):
            next_state(state, cause)


def test_every_state_has_its_row() -> None:
    assert set(TRANSITIONS) == set(State)


def test_every_state_is_reached_from_the_first() -> None:
    assert reachable(State.STARTING) == set(State) - {State.STARTING}


@pytest.mark.parametrize("state", sorted(LIVE))
def test_every_living_run_can_end_in_any_way_that_we_may_learn_of(state: State) -> None:
    assert {State.TERMINATED, State.LOST} <= set(TRANSITIONS[state].values())
    assert {Cause.SUCCEEDED, Cause.CRASHED, Cause.VANISHED} <= set(TRANSITIONS[state])


@pytest.mark.parametrize("state", sorted(FINAL))
def test_nothing_leads_out_of_an_end(state: State) -> None:
    assert not TRANSITIONS[state]


def test_the_ends_are_the_three_and_only_those() -> None:
    assert {State.TERMINATED, State.FAILED, State.LOST} == FINAL
    assert set(State) - FINAL == LIVE


def test_what_was_asked_to_end_never_fails() -> None:
    """Whatever its exit code: it did as it was told."""
    assert State.FAILED not in TRANSITIONS[State.STOPPING].values()


def test_an_unknown_end_is_never_a_success() -> None:
    assert {TRANSITIONS[state][Cause.VANISHED] for state in LIVE} == {State.LOST}


def test_a_stop_is_possible_from_the_first_moment_on() -> None:
    assert {state for state in LIVE if Cause.STOP_ASKED in TRANSITIONS[state]} == LIVE - {State.STOPPING}


def test_a_refusal_names_the_state_and_what_was_to_happen() -> None:
    with pytest.raises(Conflict) as caught:
        next_state(State.FAILED, Cause.STOP_ASKED)
    assert caught.value.message == "a run that is failed cannot be stop asked"


def test_a_runner_shows_every_state_of_a_run_and_backoff() -> None:
    assert {state.value for state in RunnerState} == {state.value for state in State} | {"backoff"}


def test_the_schema_knows_the_same_states() -> None:
    schema = "".join(file.read_text() for file in sorted(MIGRATIONS.glob("*.sql")))
    [check] = re.findall(r"CHECK \(state IN \(([^)]*)\)\)", schema)
    assert set(re.findall(r"'(\w+)'", check)) == {state.value for state in State}
    [ends] = re.findall(r"CHECK \(\(state IN \(([^)]*)\)\) = \(ended_at IS NOT NULL\)\)", schema)
    assert set(re.findall(r"'(\w+)'", ends)) == {state.value for state in FINAL}


def test_the_page_with_the_diagram_is_fresh() -> None:
    assert DOCUMENT.read_text() == document(), "run `python -m tests.lifecycle_document`"


def reachable(start: State) -> set[State]:
    found: set[State] = set()
    todo = [start]
    while todo:
        for new in TRANSITIONS[todo.pop()].values():
            if new not in found:
                found.add(new)
                todo.append(new)
    return found
