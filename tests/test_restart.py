"""What follows the end of a run: every policy, every end, the pauses and the breaker."""

from datetime import UTC, datetime
from typing import Any

import msgspec
import pytest

from stratavore.lifecycle import FINAL, State
from stratavore.model import Desired, RestartPolicy, ShimId
from stratavore.restart import Again, Over, Pace, after_end
from stratavore.store.runs import RunRow

PACE = Pace(first=1.0, longest=300.0, jitter=0.1, healthy_after=600.0)
MIDDLE = 0.5
"""The chance at which a pause is neither longer nor shorter."""


def ending(**fields: Any) -> RunRow:
    row = RunRow(
        key="r.1",
        runner_id="r",
        number=1,
        shim=ShimId("s"),
        state=State.RUNNING,
        created_at=datetime(2031, 1, 1, tzinfo=UTC),
        pid=1,
        start_time=1,
        boot_id="b",
        started_at=datetime(2031, 1, 1, tzinfo=UTC),
        ended_at=None,
        stop_reason=None,
        stop_by=None,
        stop_grace_seconds=None,
        name="r",
        project="p",
        agent="shell",
        desired=Desired.RUNNING,
        restart_policy=RestartPolicy.ON_FAILURE,
        max_restarts=1000,
        failures=0,
        then_start=False,
    )
    return msgspec.structs.replace(row, **fields)


def follows(ended: State = State.FAILED, *, lasted: float = 0.0, chance: float = MIDDLE, **fields: Any) -> Over | Again:
    return after_end(ending(**fields), ended, lasted_seconds=lasted, pace=PACE, chance=chance)


@pytest.mark.parametrize(
    ("policy", "restarted"),
    [
        (RestartPolicy.NEVER, set()),
        (RestartPolicy.ON_FAILURE, {State.FAILED, State.LOST}),
        (RestartPolicy.ALWAYS, {State.FAILED, State.LOST, State.TERMINATED}),
    ],
)
def test_the_policy_says_which_ends_are_followed_by_a_run(policy: RestartPolicy, restarted: set[State]) -> None:
    again = {ended for ended in FINAL if isinstance(follows(ended, restart_policy=policy), Again)}
    assert again == restarted


@pytest.mark.parametrize("policy", RestartPolicy)
@pytest.mark.parametrize("ended", sorted(FINAL))
@pytest.mark.parametrize("lasted", [0.0, 599.9, 600.0, 1e6])
def test_what_a_person_stopped_stays_down(policy: RestartPolicy, ended: State, lasted: float) -> None:
    assert follows(ended, lasted=lasted, restart_policy=policy, desired=Desired.STOPPED) == Over()


@pytest.mark.parametrize("ended", sorted(FINAL))
@pytest.mark.parametrize("policy", RestartPolicy)
@pytest.mark.parametrize("failures", [0, 1000])
def test_a_restart_that_was_asked_for_follows_at_once_and_forgives(
    policy: RestartPolicy, ended: State, failures: int
) -> None:
    answer = follows(ended, restart_policy=policy, then_start=True, failures=failures, max_restarts=0)
    assert answer == Again(pause=0, failures=0, by_itself=False)


def test_what_is_wanted_paused_is_started_again_too() -> None:
    assert isinstance(follows(desired=Desired.PAUSED), Again)


def test_pauses_double_up_to_five_minutes() -> None:
    pauses = [pause_of(follows(failures=n)) for n in range(12)]
    assert pauses == [1, 2, 4, 8, 16, 32, 64, 128, 256, 300, 300, 300]


def test_the_longest_pause_holds_however_often_it_failed() -> None:
    assert pause_of(follows(failures=10**9, max_restarts=10**10)) == 300


@pytest.mark.parametrize(("chance", "share"), [(0.0, 0.9), (0.25, 0.95), (0.5, 1.0), (0.999999, 1.1)])
def test_chance_spreads_a_pause_by_a_tenth(chance: float, share: float) -> None:
    assert pause_of(follows(failures=3, chance=chance)) == pytest.approx(8 * share, rel=1e-4)


def test_each_end_counts_one_failure_more() -> None:
    assert [again(follows(failures=n)).failures for n in range(4)] == [1, 2, 3, 4]


def test_ten_healthy_minutes_forgive_what_was_before() -> None:
    answer = again(follows(failures=7, lasted=600.0))
    assert (answer.failures, answer.pause) == (1, 1.0)
    assert again(follows(failures=7, lasted=599.9)).failures == 8


def test_after_so_many_failures_it_stays_down_and_that_is_told() -> None:
    assert isinstance(follows(failures=2, max_restarts=3), Again)
    assert follows(failures=3, max_restarts=3) == Over(gave_up=True)


def test_without_restarts_the_first_failure_is_the_last() -> None:
    assert follows(max_restarts=0) == Over(gave_up=True)


def test_a_healthy_run_closes_the_breaker() -> None:
    assert again(follows(failures=3, max_restarts=3, lasted=601.0)).failures == 1


def test_to_end_well_is_not_to_give_up() -> None:
    assert follows(State.TERMINATED, failures=3, max_restarts=3) == Over(gave_up=False)


def again(answer: Over | Again) -> Again:
    assert isinstance(answer, Again)
    return answer


def pause_of(answer: Over | Again) -> float:
    return again(answer).pause
