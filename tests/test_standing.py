"""How a runner stands, in words: nothing unknown reads as a value, and no end is left without its reason."""

from datetime import UTC, datetime
from typing import Any

import pytest

from stratavore.cli.budgets import extend
from stratavore.model import Activity, Desired, EndReason, Health, RestartPolicy, Runner, RunnerState
from stratavore.standing import Held, next_of, summary_of
from stratavore.wording import extending

NOON = datetime(2026, 1, 31, 12, tzinfo=UTC)


def a_runner(**fields: Any) -> Runner:
    unknown = dict.fromkeys(name for name in Runner.__struct_fields__)
    known = {
        "id": "k3m9x2abcd",
        "name": "tests",
        "state": RunnerState.RUNNING,
        "activity": Activity.UNKNOWN,
        "restarts": 0,
        "max_restarts": 3,
        "desired": Desired.RUNNING,
        "restart_policy": RestartPolicy.NEVER,
        "health": Health.OK,
    }
    return Runner(**{**unknown, **known, **fields})


@pytest.mark.parametrize("reason", EndReason)
@pytest.mark.parametrize("state", [RunnerState.TERMINATED, RunnerState.FAILED, RunnerState.LOST])
def test_every_end_is_told_in_words(state: RunnerState, reason: EndReason) -> None:
    told = summary_of(a_runner(state=state, end_reason=reason, end_detail="signal 15"))
    assert told.startswith(("it", "a signal", "the machine"))
    assert told.endswith(" (signal 15)")
    assert str(state) not in told, "the state stands before it already"


@pytest.mark.parametrize("state", RunnerState)
def test_what_is_unknown_is_never_shown_as_none(state: RunnerState) -> None:
    runner = a_runner(state=state, pid=4242)
    assert "None" not in summary_of(runner) + next_of(runner)


@pytest.mark.parametrize(
    ("policy", "state", "desired", "is_given_up"),
    [
        (RestartPolicy.NEVER, RunnerState.FAILED, Desired.RUNNING, False),
        (RestartPolicy.ON_FAILURE, RunnerState.FAILED, Desired.RUNNING, True),
        (RestartPolicy.ON_FAILURE, RunnerState.LOST, Desired.RUNNING, True),
        (RestartPolicy.ON_FAILURE, RunnerState.TERMINATED, Desired.RUNNING, False),
        (RestartPolicy.ON_FAILURE, RunnerState.FAILED, Desired.STOPPED, False),
        (RestartPolicy.ALWAYS, RunnerState.TERMINATED, Desired.RUNNING, True),
        (RestartPolicy.ALWAYS, RunnerState.TERMINATED, Desired.STOPPED, False),
    ],
)
def test_one_that_was_given_up_is_told_so(
    policy: RestartPolicy, state: RunnerState, desired: Desired, is_given_up: bool
) -> None:
    runner = a_runner(
        restart_policy=policy,
        state=state,
        desired=desired,
        end_reason=EndReason.EXITED,
        end_detail="exit code 3",
    )
    told = summary_of(runner)
    assert ("more often in a row than --max-restarts 3 allows, so it was given up" in told) == is_given_up


def test_one_that_waits_for_a_limit_of_which_nobody_said_when_it_ends_is_told_so() -> None:
    def told(**fields: Any) -> str:
        return summary_of(a_runner(restart_policy=RestartPolicy.ON_LIMIT_RESET, end_detail="exit code 1", **fields))

    assert told(state=RunnerState.FAILED).endswith(
        "nothing says until when its provider refuses to go on, so it is not started again"
    )
    assert "so it was given up" in told(state=RunnerState.FAILED, restarts=3)
    assert told(state=RunnerState.TERMINATED).endswith("(exit code 1)")


@pytest.mark.parametrize(
    ("fields", "is_lacking"),
    [
        ({"end_reason": EndReason.NOT_STARTED, "end_detail": "claude: No such file or directory"}, True),
        ({"end_reason": EndReason.NOT_STARTED, "end_detail": "/bin/it: Permission denied"}, True),
        (
            {"end_reason": EndReason.NOT_STARTED, "end_detail": "/gone: No such file or directory", "cwd": "/gone"},
            False,
        ),
        ({"end_reason": EndReason.EXITED, "end_detail": "exit code 127", "exit_code": 127}, True),
        ({"end_reason": EndReason.EXITED, "end_detail": "exit code 1", "exit_code": 1}, False),
    ],
)
def test_who_lacked_its_program_is_told_that_only_a_new_launch_has_a_new_path(
    fields: dict[str, Any], is_lacking: bool
) -> None:
    told = next_of(a_runner(state=RunnerState.FAILED, **fields))
    assert told.startswith("nothing; `stratavore restart tests` starts it again")
    assert told.endswith(": for today's PATH, launch it anew") == is_lacking


def test_what_always_restarts_does_so_whatever_the_end() -> None:
    always = next_of(a_runner(restart_policy=RestartPolicy.ALWAYS))
    assert always == "when it ends it is started again, at most 3 times in a row"
    assert "otherwise than well" in next_of(a_runner(restart_policy=RestartPolicy.ON_FAILURE))
    assert next_of(a_runner()) == "when it ends it stays ended"
    waiting = a_runner(state=RunnerState.BACKOFF, retry_at=NOON)
    assert next_of(waiting) == f"a new run at {NOON.astimezone():%Y-%m-%d %H:%M:%S}"


def test_who_is_held_back_is_told_when_it_goes_on_and_what_lets_it_do_so_now() -> None:
    def told(state: RunnerState = RunnerState.RUNNING, **held: Any) -> str:
        runner = a_runner(state=state, pid=4242, blocked="its reason")
        assert "its reason" not in summary_of(runner), "it is a sentence of its own"
        return next_of(runner, Held(**{"extend": "`EXTEND`", "has_periods": True, "stops_at": None, **held}))

    assert told() == "it may go on when the budget's next period begins; `EXTEND` lets it go on now"
    assert told(RunnerState.BACKOFF) == "a new run as soon as there is room; `EXTEND` makes room now"
    assert told(has_periods=False) == "it stays held back; `EXTEND` lets it go on"
    turns = told(extend=None, has_periods=False)
    assert turns == "it stays held back; `stratavore restart tests` gives it new turns"
    stopped = told(has_periods=False, stops_at=NOON)
    at = f"{NOON.astimezone():%Y-%m-%d %H:%M:%S}"
    assert stopped == f"it is stopped at {at}; `EXTEND` lets it go on, if that comes before"


@pytest.mark.parametrize(("unit", "name"), [("tokens", "tokens"), ("nano_usd", "usd"), ("percent", "percent")])
def test_what_is_said_to_raise_a_limit_can_be_typed_as_it_stands(unit: str, name: str) -> None:
    typed = extending(6, unit).strip("`").split()
    assert typed[:3] == ["stratavore", "budget", "extend"]
    assert extend.make_context("extend", typed[3:]).params[name] > 0


def test_who_waits_for_a_person_is_told_what_for() -> None:
    runner = a_runner(pid=4242, waiting_for="permission prompt: Bash")
    assert summary_of(runner) == "process 4242 is running, and waits: permission prompt: Bash"


def test_what_goes_on_after_a_limit_is_not_said_to_restart_at_each_failure() -> None:
    told = next_of(a_runner(restart_policy=RestartPolicy.ON_LIMIT_RESET))
    assert "provider's limit" in told
