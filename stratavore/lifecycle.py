"""The lifecycle of a run.

Rule 1: every legal change of a run's state is a cell of TRANSITIONS; an absent cell is illegal.
Rule 2: nothing here does I/O; `store.runs.advance` is the only writer of a state.
Rule 3: `terminated` means it ended and we know how, and it was asked to or succeeded; `failed` that it ended by itself
otherwise, or could not start; `lost` that it was gone when we looked. Unknown never reads as success.
"""

from collections.abc import Mapping
from enum import StrEnum

from stratavore.errors import Conflict


class State(StrEnum):
    """Where a run stands."""

    STARTING = "starting"
    RUNNING = "running"
    PAUSED = "paused"
    STOPPING = "stopping"
    TERMINATED = "terminated"
    FAILED = "failed"
    LOST = "lost"


class Cause(StrEnum):
    """What moved it."""

    SPAWNED = "spawned"
    SPAWN_FAILED = "spawn_failed"
    PAUSED = "paused"
    UNPAUSED = "unpaused"
    STOP_ASKED = "stop_asked"
    SUCCEEDED = "succeeded"
    CRASHED = "crashed"
    VANISHED = "vanished"


_ENDS: Mapping[Cause, State] = {
    Cause.SUCCEEDED: State.TERMINATED,
    Cause.CRASHED: State.FAILED,
    Cause.VANISHED: State.LOST,
}

TRANSITIONS: Mapping[State, Mapping[Cause, State]] = {
    State.STARTING: {
        Cause.SPAWNED: State.RUNNING,
        Cause.SPAWN_FAILED: State.FAILED,
        Cause.STOP_ASKED: State.STOPPING,
        **_ENDS,
    },
    State.RUNNING: {Cause.PAUSED: State.PAUSED, Cause.STOP_ASKED: State.STOPPING, **_ENDS},
    State.PAUSED: {Cause.UNPAUSED: State.RUNNING, Cause.STOP_ASKED: State.STOPPING, **_ENDS},
    State.STOPPING: {
        # The spawn of a run that was stopped while it started: its pid becomes known, the wish stays.
        Cause.SPAWNED: State.STOPPING,
        # Whatever its end, it was asked to end.
        Cause.SPAWN_FAILED: State.TERMINATED,
        Cause.SUCCEEDED: State.TERMINATED,
        Cause.CRASHED: State.TERMINATED,
        Cause.VANISHED: State.LOST,
    },
    State.TERMINATED: {},
    State.FAILED: {},
    State.LOST: {},
}

FINAL = frozenset(state for state, ways_out in TRANSITIONS.items() if not ways_out)
LIVE = frozenset(TRANSITIONS) - FINAL


def next_state(state: State, cause: Cause) -> State:
    """The state that `cause` leads to from `state`.

    Raises:
        Conflict: the table has no such cell.
    """
    try:
        return TRANSITIONS[state][cause]
    except KeyError:
        raise Conflict(f"a run that is {state} cannot be {cause.replace('_', ' ')}") from None
