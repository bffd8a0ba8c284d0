"""What follows the end of a run: nothing, a new run now, or one after a pause.

Rule 1: a runner that a person stopped is never started again by anything.
Rule 2: every failed start waits; waiting grows 1, 2, 4 … seconds and is spread by chance, so that many do not return at
once. Ten healthy minutes forgive what was before.
Rule 3: after `max_restarts` failures in a row it stays down until a person acts.
Rule 4: pure. Chance comes in as a number.
"""

from typing import NamedTuple

from stratavore.lifecycle import State
from stratavore.model import Desired, RestartPolicy
from stratavore.store.runs import RunRow


class Pace(NamedTuple):
    """The figures of the backoff, in seconds; `jitter` is the share by which a pause may differ."""

    first: float
    longest: float
    jitter: float
    healthy_after: float


class Over(NamedTuple):
    """Nothing will start it again. `gave_up` when the breaker opened."""

    gave_up: bool = False


class Again(NamedTuple):
    """A new run in `pause` seconds; `failures` in a row so far; `by_itself` when no person asked."""

    pause: float
    failures: int
    by_itself: bool


def after_end(
    run: RunRow,
    ended: State,
    *,
    lasted_seconds: float,
    pace: Pace,
    chance: float,
    limit_seconds: float | None = None,
) -> Over | Again:
    """What follows when `run` ended as `ended` after `lasted_seconds`; `chance` lies in [0, 1).

    `limit_seconds`: so long its provider refuses to go on; None if it does not.
    """
    if run.then_start:
        return Again(pause=0, failures=0, by_itself=False)
    if run.desired is Desired.STOPPED or not _policy_restarts(run.restart_policy, ended, limit_seconds):
        return Over()
    failures = 1 if lasted_seconds >= pace.healthy_after else run.failures + 1
    if failures > run.max_restarts:
        return Over(gave_up=True)
    pause = max(_pause(failures, pace, chance), limit_seconds or 0.0)
    return Again(pause=pause, failures=failures, by_itself=True)


def _policy_restarts(policy: RestartPolicy, ended: State, limit_seconds: float | None) -> bool:
    match policy:
        case RestartPolicy.NEVER:
            return False
        case RestartPolicy.ON_LIMIT_RESET:
            return ended is State.FAILED and limit_seconds is not None
        case RestartPolicy.ON_FAILURE:
            return ended is not State.TERMINATED
        case RestartPolicy.ALWAYS:
            return True


def _pause(failures: int, pace: Pace, chance: float) -> float:
    plain = min(pace.first * 2.0 ** min(failures - 1, 30), pace.longest)
    return plain * (1 - pace.jitter + 2 * pace.jitter * chance)
