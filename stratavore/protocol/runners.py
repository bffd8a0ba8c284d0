"""What may be asked about runners."""

from collections.abc import Mapping
from typing import Annotated

from msgspec import Meta, field

from stratavore import bounds
from stratavore.discreet import Discreet
from stratavore.model import (
    Activity,
    OnExceeded,
    RestartPolicy,
    RunnerState,
)
from stratavore.protocol.base import Count, Name, Request, Seconds, SomeSeconds, Tokens, Usd
from stratavore.routes import LONGEST_WAIT_SECONDS

SETTLED = frozenset(RunnerState) - {RunnerState.STARTING}
ENDED = frozenset({RunnerState.TERMINATED, RunnerState.FAILED, RunnerState.LOST})


class Launch(Discreet, Request, frozen=True):
    """A wish for runners.

    `environment` is the caller's whole environment, which the daemon filters (None: the caller brings none); `env` is
    what `--env` and `--env-file` said and passes the filter. `argv` follows the agent's own; for `shell` it is the
    whole command. `dry_run` is answered with a LaunchPlan.

    Each of its runs may use `budget_…` and `max_turns` calls of the model; `on_exceeded` is what happens then. A model
    without a price is refused under a budget of money, unless `allow_unpriced`.
    At most one of these: `resume` goes on with that session (its id, or a unique prefix), `fork` with a copy of it,
    `continue_newest` with the newest of the project and the agent that can be resumed.
    """

    project: str
    name: Name | None = None
    agent: str | None = None
    restart_policy: RestartPolicy | None = None
    max_restarts: Annotated[int, Meta(ge=bounds.RESTARTS.least, le=bounds.RESTARTS.most)] | None = None
    count: Count = 1
    partial: bool = False
    prompt: str | None = None
    tty: bool = True
    rows: Annotated[int, Meta(ge=1, le=1000)] = 24
    columns: Annotated[int, Meta(ge=1, le=1000)] = 80
    environment: dict[str, str] | None = None
    env: dict[str, str] = field(default_factory=dict)
    umask: Annotated[int, Meta(ge=0, le=0o777)] | None = None
    stop_grace_seconds: Seconds | None = None
    max_seconds: SomeSeconds | None = None
    budget_tokens: Tokens | None = None
    budget_usd: Usd | None = None
    max_turns: Annotated[int, Meta(ge=bounds.TURNS.least, le=bounds.TURNS.most)] | None = None
    on_exceeded: OnExceeded | None = None
    allow_unpriced: bool = False
    argv: list[str] = field(default_factory=list)
    dry_run: bool = False
    resume: str | None = None
    fork: str | None = None
    continue_newest: bool = False

    def __post_init__(self) -> None:
        if (self.resume is not None) + (self.fork is not None) + self.continue_newest > 1:
            raise ValueError("a launch goes on with one session: resume, fork or continue_newest")
        if self.count > 1 and (self.resume is not None or self.continue_newest):
            raise ValueError("one runner at a time is in a session; fork makes copies")


class ListRunners(Request, frozen=True):
    """Which runners; ended ones only with `all`, or when `runner` or `state` names them.

    With `until`, the answer waits (at most `wait_seconds`) till every runner that is listed is in one of these states;
    it then tells the states as they are, so the caller looks whether it came.
    """

    runner: str | None = None
    project: str | None = None
    state: RunnerState | None = None
    all: bool = False
    waiting: bool = False
    """Only those that wait for a person, who waits longest first."""
    strict: bool = False
    """A name in `runner` that several ended ones bear is refused; else it means the newest of them."""
    until: str | None = None
    """Comma-separated states; `settled` stands for all but `starting`, `ended` for the three final ones. `working`,
    `waiting` and `idle` are what the agent of a running one does."""
    wait_seconds: Annotated[float, Meta(ge=0, le=LONGEST_WAIT_SECONDS)] = 0
    limit: Annotated[int, Meta(ge=1, le=10_000)] = 10_000
    offset: Annotated[int, Meta(ge=0, le=bounds.SEQ.most)] = 0

    def __post_init__(self) -> None:
        if self.until is not None:
            states_of(self.until)


class Stop(Request, frozen=True):
    """End runners politely; `project` narrows a `*`. `grace_seconds` overrides their own."""

    project: str | None = None
    grace_seconds: Seconds | None = None


class Restart(Stop, frozen=True):
    """End the present run and begin the next; with `only_idle` it is refused unless the agent says that it is idle."""

    only_idle: bool = False


class Rename(Request, frozen=True):
    name: Name


class Input(Request, frozen=True):
    """What to type. `text` is pasted and then submitted with its own key unless `submit` is false; `keys` are names
    such as `esc`, `enter`, `ctrl-c`, typed after the text."""

    text: Annotated[str, Meta(max_length=900_000)] | None = None
    keys: list[str] = field(default_factory=list)
    submit: bool = True


ACTIVITIES: Mapping[str, frozenset[Activity]] = {
    "working": frozenset({Activity.WORKING}),
    "waiting": frozenset({Activity.WAITING_PERMISSION, Activity.WAITING_INPUT}),
    "idle": frozenset({Activity.IDLE}),
}
"""The words of an `until` that mean a running runner whose agent does this."""


def activities_of(until: str) -> frozenset[Activity]:
    """The activities that an `until` names."""
    found = [ACTIVITIES.get(word.strip(), frozenset[Activity]()) for word in until.split(",")]
    return frozenset[Activity]().union(*found)


def states_of(until: str) -> frozenset[RunnerState]:
    """The states that an `until` names: a comma-separated list, `settled` or `ended` (also written `done`).

    What names an activity is passed over.

    Raises:
        ValueError: a word is no state.
    """
    named: set[RunnerState] = set()
    for word in until.split(","):
        match word.strip():
            case "settled":
                named |= SETTLED
            case "ended" | "done":
                named |= ENDED
            case activity if activity in ACTIVITIES:
                continue
            case state:
                if state not in [*RunnerState]:
                    raise ValueError(f"{state!r} is no state")
                named.add(RunnerState(state))
    return frozenset(named)
