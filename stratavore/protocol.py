"""What may be asked of the daemon: one frozen Struct per request, and which route takes and answers what.

Rule 1: a route is one row of `routes.PLACES` and one of SHAPES; server, client and documents are made from both.
Rule 2: a request Struct says all that is checked by shape; what needs the database is checked by its verb.
Rule 3: a field that is left out stays as it is; null clears it.
"""

from collections.abc import Mapping
from typing import Annotated, Any, NamedTuple

import msgspec
from msgspec import UNSET, Meta, UnsetType

from stratavore.discreet import Discreet
from stratavore.errors import Invalid
from stratavore.model import (
    Acknowledged,
    DaemonStatus,
    DiskUse,
    Event,
    Explanation,
    Launched,
    LaunchPlan,
    OnQuota,
    Project,
    ProjectStatus,
    Pruned,
    Reconciled,
    RestartPolicy,
    Run,
    Runner,
    RunnerState,
    Sent,
    Status,
)
from stratavore.routes import LONGEST_WAIT_SECONDS, PLACES, PREFIX

# Not `.` and `..`, which cannot stand in the path of a URL; and `$` alone would let a line end pass.
Name = Annotated[str, Meta(pattern=r"^(?!\.{1,2}$)[A-Za-z0-9._][A-Za-z0-9._-]{0,63}(?!\n)$")]
Seconds = Annotated[float, Meta(ge=0, le=366 * 86400)]
Count = Annotated[int, Meta(ge=1, le=4096)]
Slots = Annotated[int, Meta(ge=0, le=100_000)]
LARGEST_SEQ = 2**63 - 1
Text = Annotated[str, Meta(max_length=1000)]


class Request(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """What a caller sends."""


class Nothing(Request, frozen=True):
    """A request without fields."""


class ListProjects(Request, frozen=True):
    status: ProjectStatus | None = None


class NewProject(Request, frozen=True):
    name: Name
    path: str
    agent: str | None = None
    description: Text = ""
    tags: list[Text] = []
    max_runners: Slots | None = None
    max_memory_bytes: Annotated[int, Meta(ge=1)] | None = None
    max_cpu_percent: Annotated[float, Meta(gt=0)] | None = None
    on_quota: OnQuota | None = None


class EditProject(Request, frozen=True):
    """Changes of a project; `archived` puts it away or brings it back, `name` renames it."""

    name: Name | UnsetType = UNSET
    archived: bool | UnsetType = UNSET
    path: str | UnsetType = UNSET
    agent: str | UnsetType | None = UNSET
    description: Text | UnsetType = UNSET
    tags: list[Text] | UnsetType = UNSET
    max_runners: Slots | UnsetType = UNSET
    max_memory_bytes: Annotated[int, Meta(ge=1)] | UnsetType | None = UNSET
    max_cpu_percent: Annotated[float, Meta(gt=0)] | UnsetType | None = UNSET
    on_quota: OnQuota | UnsetType = UNSET


class Launch(Discreet, Request, frozen=True):
    """A wish for runners.

    `environment` is the caller's whole environment, which the daemon filters (None: the caller brings none); `env` is
    what `--env` and `--env-file` said and passes the filter. `argv` follows the agent's own; for `shell` it is the
    whole command. `dry_run` is answered with a LaunchPlan.
    """

    project: str
    name: Name | None = None
    agent: str | None = None
    restart_policy: RestartPolicy | None = None
    max_restarts: Annotated[int, Meta(ge=0)] | None = None
    count: Count = 1
    partial: bool = False
    prompt: str | None = None
    tty: bool = True
    rows: Annotated[int, Meta(ge=1, le=1000)] = 24
    columns: Annotated[int, Meta(ge=1, le=1000)] = 80
    environment: dict[str, str] | None = None
    env: dict[str, str] = {}
    umask: Annotated[int, Meta(ge=0, le=0o777)] | None = None
    stop_grace_seconds: Seconds | None = None
    max_seconds: Seconds | None = None
    argv: list[str] = []
    dry_run: bool = False


class ListRunners(Request, frozen=True):
    """Which runners; ended ones only with `all`, or when `runner` or `state` names them.

    With `until`, the answer waits (at most `wait_seconds`) till every runner that is listed is in one of these states;
    it then tells the states as they are, so the caller looks whether it came.
    """

    runner: str | None = None
    project: str | None = None
    state: RunnerState | None = None
    all: bool = False
    until: str | None = None
    """Comma-separated states; `settled` stands for all but `starting`, `ended` for the three final ones."""
    wait_seconds: Annotated[float, Meta(ge=0, le=LONGEST_WAIT_SECONDS)] = 0
    limit: Annotated[int, Meta(ge=1, le=10_000)] = 10_000
    offset: Annotated[int, Meta(ge=0)] = 0

    def __post_init__(self) -> None:
        if self.until is not None:
            states_of(self.until)


class Stop(Request, frozen=True):
    """End runners politely; `project` narrows a `*`. `grace_seconds` overrides their own."""

    project: str | None = None
    grace_seconds: Seconds | None = None


class Choose(Request, frozen=True):
    """A verb on runners that needs nothing else; `project` narrows a `*`."""

    project: str | None = None


class Rename(Request, frozen=True):
    name: Name


class Input(Request, frozen=True):
    """What to type. `text` is pasted and then submitted with its own key unless `submit` is false; `keys` are names
    such as `esc`, `enter`, `ctrl-c`, typed after the text."""

    text: Annotated[str, Meta(max_length=900_000)] | None = None
    keys: list[str] = []
    submit: bool = True


class ListEvents(Request, frozen=True):
    """Events after `since`, oldest first; waits up to `wait_seconds` for the first one."""

    since: Annotated[int, Meta(ge=0, le=LARGEST_SEQ)] = 0
    limit: Annotated[int, Meta(ge=1, le=1000)] = 1000
    wait_seconds: Annotated[float, Meta(ge=0, le=LONGEST_WAIT_SECONDS)] = 0
    newest: bool = False
    """Without `since`: the newest `limit` events instead of the oldest."""


class StopDaemon(Request, frozen=True):
    """End the daemon. `runners` also stops every runner first; `restart` leaves no stop mark."""

    runners: bool = False
    restart: bool = False


class Prune(Request, frozen=True):
    """Remove ended runners (and their output) and events; None takes the configured retention."""

    older_than_seconds: Seconds | None = None
    dry_run: bool = False


_WORDS = {
    "`str`": "text",
    "`int`": "a whole number",
    "`float`": "a number",
    "`bool`": "true or false",
    "`array`": "a list",
    "`object`": "an object",
    "`null`": "nothing",
}


def refusal(error: msgspec.DecodeError | UnicodeDecodeError) -> Invalid:
    """A request that has not the right shape, told in words: msgspec's `… - at `$.field`` names the field."""
    what, _, place = str(error).partition(" - at `$")
    field = place.strip("`.")
    if "matching regex" in what:
        return Invalid(
            "a name has 1 to 64 letters, digits, dots, underscores and hyphens, and begins with no hyphen",
            remedy="choose another name",
        )
    for type_name, words in _WORDS.items():
        what = what.replace(type_name, words)
    if not what.startswith("JSON"):
        what = what[:1].lower() + what[1:]
    return Invalid(f"{field}: {what}" if field else what)


SHAPES: Mapping[str, tuple[type[Request], Any]] = {
    "status": (Nothing, Status),
    "daemon_status": (Nothing, DaemonStatus),
    "stop_daemon": (StopDaemon, Acknowledged),
    "list_projects": (ListProjects, list[Project]),
    "new_project": (NewProject, Project),
    "get_project": (Nothing, Project),
    "edit_project": (EditProject, Project),
    "delete_project": (Nothing, Acknowledged),
    "list_runners": (ListRunners, list[Runner]),
    "launch": (Launch, Launched | LaunchPlan),
    "get_runner": (Nothing, Runner),
    "rename_runner": (Rename, Runner),
    "remove_runners": (Choose, list[Runner]),
    "list_runs": (Nothing, list[Run]),
    "explain_runner": (Nothing, Explanation),
    "stop_runners": (Stop, list[Runner]),
    "kill_runners": (Choose, list[Runner]),
    "pause_runners": (Choose, list[Runner]),
    "unpause_runners": (Choose, list[Runner]),
    "restart_runners": (Stop, list[Runner]),
    "send_input": (Input, Sent),
    "interrupt_runner": (Nothing, Sent),
    "list_events": (ListEvents, list[Event]),
    "reconcile": (Nothing, Reconciled),
    "disk_use": (Nothing, DiskUse),
    "prune": (Prune, Pruned),
}
"""What is sent and what is answered, by the route's name."""


class Route(NamedTuple):
    """One thing that can be asked. `name` is the client's method and the verb's name, `verb` what a person types."""

    name: str
    verb: str
    method: str
    path: str
    reads: bool
    has_body: bool
    request: type[Request]
    answer: Any


ROUTES = tuple(
    Route(name, place.verb, place.method, PREFIX + place.path, place.reads, place.has_body, *SHAPES[name])
    for name, place in PLACES.items()
)
BY_NAME = {route.name: route for route in ROUTES}

SETTLED = frozenset(RunnerState) - {RunnerState.STARTING}
ENDED = frozenset({RunnerState.TERMINATED, RunnerState.FAILED, RunnerState.LOST})


def states_of(until: str) -> frozenset[RunnerState]:
    """The states that an `until` names: a comma-separated list, `settled` or `ended` (also written `done`).

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
            case state:
                if state not in [*RunnerState]:
                    raise ValueError(f"{state!r} is no state")
                named.add(RunnerState(state))
    return frozenset(named)
