"""What the supervisor would do: every state, everything that can be seen of a run, every wish.

`plan` is pure, so this is its whole truth; that the plans are carried out is tested by tests/test_verbs_*.py.
"""

import itertools
from typing import Any

import msgspec
import pytest

from stratavore.lifecycle import FINAL, LIVE, State
from stratavore.model import Desired, ShimId
from stratavore.planning import Absent, Action, Alive, Finished, HolderGone, Seen, expected, plan
from stratavore.process import Identity
from stratavore.shim.client import ExitRecord
from stratavore.shims import Holding
from stratavore.store.supervision import Supervised

BOOT, NOW, TICKS = "this-boot", 1000.0, 100
WHO = Identity(BOOT, 4242, 990 * TICKS)
RECORD = ExitRecord(
    "r.1", "{}", WHO.pid, WHO.start_time, BOOT, 0, None, 0.0, 0.0, 0, 0, 0, 1, 2, None
)  # fmt: skip
SEEN: dict[str, Seen] = {
    "absent": Absent(),
    "alive": Alive(WHO),
    "finished": Finished(RECORD),
    "gone": HolderGone(),
}

PLANS = {
    ("starting", "absent"): Action.SPAWN,
    ("starting", "alive"): Action.BOOK_SPAWNED,
    ("starting", "finished"): Action.BOOK_END,
    ("starting", "gone"): Action.BOOK_LOST,
    ("running", "absent"): Action.BOOK_LOST,
    ("running", "alive"): Action.NOTHING,
    ("running", "finished"): Action.BOOK_END,
    ("running", "gone"): Action.BOOK_LOST,
    ("paused", "absent"): Action.BOOK_LOST,
    ("paused", "alive"): Action.NOTHING,
    ("paused", "finished"): Action.BOOK_END,
    ("paused", "gone"): Action.BOOK_LOST,
    ("stopping", "absent"): Action.BOOK_LOST,
    ("stopping", "alive"): Action.STOP,
    ("stopping", "finished"): Action.BOOK_END,
    ("stopping", "gone"): Action.BOOK_LOST,
}
"""What to do when the wish is fulfilled. An ended run is not looked at: nothing is to be done about it."""


def row(state: State, **fields: Any) -> Supervised:
    has_process = state is not State.STARTING
    found = Supervised(
        id="r",
        name="r",
        project="p",
        project_id=1,
        agent="shell",
        desired=Desired.PAUSED if state is State.PAUSED else Desired.RUNNING,
        tty=True,
        session_id=None,
        stop_grace_seconds=10.0,
        max_seconds=None,
        alive=True,
        then_start=False,
        retry_at_boottime=None,
        retry_boot_id=None,
        run=1,
        key="r.1",
        shim=ShimId("s"),
        state=state,
        argv=["true"],
        pid=WHO.pid if has_process else None,
        start_time=WHO.start_time if has_process else None,
        boot_id=BOOT if has_process else None,
        started_at=None,
        stop_reason=None,
        stop_by=None,
        run_grace_seconds=None,
    )
    return msgspec.structs.replace(found, **fields)


def planned(state: State, seen: Seen, **fields: Any) -> Action:
    return plan(row(state, **fields), seen, boottime=NOW, boot=BOOT)


@pytest.mark.parametrize(("state", "seen"), list(itertools.product(State, SEEN)))
def test_when_the_wish_is_fulfilled(state: State, seen: str) -> None:
    assert planned(state, SEEN[seen]) is PLANS.get((state.value, seen), Action.NOTHING)


@pytest.mark.parametrize(
    ("state", "desired", "action"),
    [
        (State.RUNNING, Desired.PAUSED, Action.PAUSE),
        (State.RUNNING, Desired.RUNNING, Action.NOTHING),
        (State.PAUSED, Desired.RUNNING, Action.UNPAUSE),
        (State.PAUSED, Desired.PAUSED, Action.NOTHING),
        (State.STOPPING, Desired.RUNNING, Action.STOP),  # a restart: the present run still has to end
        (State.STOPPING, Desired.PAUSED, Action.STOP),
        (State.STOPPING, Desired.STOPPED, Action.STOP),
        # The wish to stop is a state of the run; these two are rows that were read a moment too early.
        (State.RUNNING, Desired.STOPPED, Action.NOTHING),
        (State.PAUSED, Desired.STOPPED, Action.NOTHING),
    ],
)
def test_when_it_lives_the_wish_decides(state: State, desired: Desired, action: Action) -> None:
    assert planned(state, Alive(WHO), desired=desired) is action


@pytest.mark.parametrize(
    ("state", "held", "desired", "action"),
    [
        # Whoever told the shim directly, past the database, wants it so.
        (State.RUNNING, "paused", Desired.RUNNING, Action.BOOK_PAUSED),
        (State.RUNNING, "paused", Desired.PAUSED, Action.BOOK_PAUSED),
        (State.PAUSED, "running", Desired.PAUSED, Action.BOOK_UNPAUSED),
        (State.PAUSED, "running", Desired.RUNNING, Action.BOOK_UNPAUSED),
        (State.RUNNING, "running", Desired.PAUSED, Action.PAUSE),
        (State.PAUSED, "paused", Desired.RUNNING, Action.UNPAUSE),
        (State.PAUSED, "paused", Desired.PAUSED, Action.NOTHING),
        (State.STOPPING, "paused", Desired.STOPPED, Action.STOP),
        # Its end is near, and will be booked with who asked.
        (State.RUNNING, "stopping", Desired.PAUSED, Action.NOTHING),
        (State.PAUSED, "ending", Desired.RUNNING, Action.NOTHING),
    ],
)
def test_what_the_holder_did_counts(state: State, held: str, desired: Desired, action: Action) -> None:
    holding = Holding(ShimId("s"), "r.1", WHO.pid, WHO.start_time, BOOT, 0, held, 0, True)
    assert planned(state, Alive(WHO, holding), desired=desired) is action


@pytest.mark.parametrize("desired", Desired)
@pytest.mark.parametrize("state", [State.STARTING, State.STOPPING])
def test_a_process_that_is_not_booked_is_booked_first(state: State, desired: Desired) -> None:
    assert planned(state, Alive(WHO), desired=desired, pid=None) is Action.BOOK_SPAWNED


@pytest.mark.parametrize("desired", Desired)
def test_what_was_stopped_before_it_had_a_process_never_gets_one(desired: Desired) -> None:
    assert planned(State.STOPPING, Absent(), desired=desired, pid=None) is Action.BOOK_NEVER_STARTED


@pytest.mark.parametrize("desired", Desired)
@pytest.mark.parametrize("pid", [None, WHO.pid])
@pytest.mark.parametrize("state", sorted(LIVE))
def test_whatever_is_wished_a_known_end_is_booked_and_a_dead_holder_is_a_loss(
    state: State, desired: Desired, pid: int | None
) -> None:
    assert planned(state, Finished(RECORD), desired=desired, pid=pid) is Action.BOOK_END
    assert planned(state, HolderGone(), desired=desired, pid=pid) is Action.BOOK_LOST


@pytest.mark.parametrize("seen", SEEN)
@pytest.mark.parametrize(
    ("retry_at", "retry_boot", "desired", "is_started"),
    [
        (None, None, Desired.RUNNING, False),
        (NOW + 0.01, BOOT, Desired.RUNNING, False),
        (NOW, BOOT, Desired.RUNNING, True),
        (NOW - 500, BOOT, Desired.RUNNING, True),
        (NOW - 500, BOOT, Desired.PAUSED, True),
        (NOW - 500, BOOT, Desired.STOPPED, False),
        # The boot clock began anew: what it said before means nothing, and a reboot took long enough.
        (NOW + 10_000, "earlier-boot", Desired.RUNNING, True),
        (NOW + 10_000, "earlier-boot", Desired.STOPPED, False),
    ],
)
@pytest.mark.parametrize("state", sorted(FINAL))
def test_an_ended_one_is_started_again_when_its_pause_is_over(
    state: State,
    retry_at: float | None,
    retry_boot: str | None,
    desired: Desired,
    is_started: bool,
    seen: str,
) -> None:
    action = planned(state, SEEN[seen], retry_at_boottime=retry_at, retry_boot_id=retry_boot, desired=desired)
    assert action is (Action.START_AGAIN if is_started else Action.NOTHING)


@pytest.mark.parametrize("desired", Desired)
@pytest.mark.parametrize(
    ("state", "action"),
    [
        (State.RUNNING, Action.STOP_OVERTIME),
        (State.PAUSED, Action.STOP_OVERTIME),
        (State.STOPPING, Action.STOP),
    ],
)
def test_when_its_time_is_up_it_is_stopped_whatever_is_wished(state: State, action: Action, desired: Desired) -> None:
    assert planned(state, Alive(WHO), desired=desired, max_seconds=10.0) is action


def test_until_its_time_is_up_it_is_left_alone() -> None:
    assert planned(State.RUNNING, Alive(WHO), max_seconds=10.01) is Action.NOTHING


def test_nothing_that_a_person_stopped_is_ever_started() -> None:
    """Over everything that can be seen and every retry that may stand in the row."""
    for state, seen, retry, boot, pid in itertools.product(
        set(State) - {State.STARTING}, SEEN.values(), (None, 0.0, NOW), (BOOT, "earlier-boot"), (None, 1)
    ):
        action = planned(
            state,
            seen,
            desired=Desired.STOPPED,
            retry_at_boottime=retry,
            retry_boot_id=boot,
            pid=pid,
            then_start=True,
        )
        assert action not in (Action.SPAWN, Action.START_AGAIN), (state, seen, retry, boot)


def test_only_what_is_starting_and_absent_is_spawned() -> None:
    """A second process for one key would be a second copy of the agent."""
    spawned = {
        (state, name, pid)
        for state, (name, seen), pid, desired in itertools.product(State, SEEN.items(), (None, 1), Desired)
        if planned(state, seen, pid=pid, desired=desired) is Action.SPAWN
    }
    assert {(state, name) for state, name, _ in spawned} == {(State.STARTING, "absent")}


def test_without_a_look_a_run_is_taken_for_what_its_row_says() -> None:
    assert expected(row(State.STARTING)) == Absent()
    assert expected(row(State.RUNNING)) == Alive(WHO)
    assert expected(row(State.RUNNING, boot_id=None)) == Absent()
