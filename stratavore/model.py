"""The public nouns: what the API returns, the client types and the screens show.

Rule 1: a Struct here is the row, the JSON and the line on the screen; there is no second shape to convert to.
Rule 2: unknown is None, never zero, never an empty string.
Rule 3: times are UTC and aware; sizes are bytes, spans are seconds, CPU is percent of one core.
"""

from datetime import datetime
from enum import StrEnum
from typing import Any, NewType

import msgspec

ProjectName = NewType("ProjectName", str)
RunnerId = NewType("RunnerId", str)
RunKey = NewType("RunKey", str)
ShimId = NewType("ShimId", str)


class Public(msgspec.Struct, frozen=True, kw_only=True):
    """What may leave the daemon."""


class ProjectStatus(StrEnum):
    """A report for people: has it living runners, or was it put away?"""

    ACTIVE = "active"
    IDLE = "idle"
    ARCHIVED = "archived"


class OnQuota(StrEnum):
    """What happens to a project's runners when its memory or CPU quota is exceeded."""

    WARN = "warn"
    PAUSE = "pause"
    STOP = "stop"


class RunnerState(StrEnum):
    """The state of a runner: its last run's, or `backoff` between two."""

    STARTING = "starting"
    RUNNING = "running"
    PAUSED = "paused"
    STOPPING = "stopping"
    BACKOFF = "backoff"
    TERMINATED = "terminated"
    FAILED = "failed"
    LOST = "lost"


class Desired(StrEnum):
    """What a person wants of a runner."""

    RUNNING = "running"
    PAUSED = "paused"
    STOPPED = "stopped"


class RestartPolicy(StrEnum):
    """When the supervisor starts a runner again by itself."""

    NEVER = "never"
    ON_FAILURE = "on-failure"
    ALWAYS = "always"


class Activity(StrEnum):
    """What the agent is doing, as far as somebody said so."""

    WORKING = "working"
    WAITING_PERMISSION = "waiting_permission"
    WAITING_INPUT = "waiting_input"
    IDLE = "idle"
    UNKNOWN = "unknown"


class Durability(StrEnum):
    """What a reply promises against power loss; against crashes and SIGKILL both promise everything."""

    FULL = "full"  # An answered write is on the disk.
    NORMAL = "normal"  # The newest writes may roll back, each whole.


class EndReason(StrEnum):
    """Why a run ended."""

    EXITED = "exited"
    SIGNALED = "signaled"
    STOPPED = "stopped"
    KILLED = "killed"
    MAX_TIME = "max_time"
    QUOTA = "quota"
    OUT_OF_MEMORY = "out_of_memory"
    NOT_STARTED = "not_started"
    SHIM_DIED = "shim_died"
    REBOOT = "reboot"
    VANISHED = "vanished"


class Health(StrEnum):
    """Whether the holder of a runner answers; a flag beside the state, not a state."""

    OK = "ok"
    UNRESPONSIVE = "unresponsive"
    UNKNOWN = "unknown"


class Project(Public, frozen=True):
    """A directory with a name and quotas."""

    name: str
    path: str
    agent: str | None
    description: str
    tags: list[str]
    status: ProjectStatus
    runners: int
    max_runners: int
    max_memory_bytes: int | None
    max_cpu_percent: float | None
    on_quota: OnQuota
    created_at: datetime
    archived_at: datetime | None


class Runner(Public, frozen=True):
    """What a person launches, names and stops; it may outlive several runs."""

    id: str
    name: str
    project: str
    agent: str
    state: RunnerState
    activity: Activity
    pid: int | None
    exit_code: int | None
    exit_signal: int | None
    end_reason: EndReason | None
    end_detail: str | None
    restarts: int
    max_restarts: int
    desired: Desired
    restart_policy: RestartPolicy
    retry_at: datetime | None
    argv: list[str]
    cwd: str
    tty: bool
    created_at: datetime
    started_at: datetime | None
    ended_at: datetime | None
    cpu_percent: float | None
    rss_bytes: int | None
    threads: int | None
    children: int | None
    seen_at: datetime | None
    health: Health
    session_id: str | None
    run: int
    output_bytes: int | None
    dropped_bytes: int | None
    """Output that the disk refused, of the runs that have ended; None if none has."""
    last_line: str | None


class Run(Public, frozen=True):
    """One process of a runner. `key` is `<runner id>.<number>`."""

    key: str
    runner_id: str
    number: int
    shim: str
    state: RunnerState
    pid: int | None
    argv: list[str]
    created_at: datetime
    started_at: datetime | None
    ended_at: datetime | None
    exit_code: int | None
    exit_signal: int | None
    end_reason: EndReason | None
    end_detail: str | None
    ended_by: str | None
    output_bytes: int | None
    dropped_bytes: int | None
    """Output that the disk refused; told at the end."""
    last_line: str | None
    cpu_seconds: float | None
    max_rss_bytes: int | None
    log: str
    """Absolute path of the file that holds its output."""


class Event(Public, frozen=True):
    """A past-tense fact, committed with the change that it tells of."""

    seq: int
    event_id: str
    aggregate_type: str
    aggregate_id: str
    aggregate_seq: int
    type: str
    schema_version: int
    payload: dict[str, Any]
    at: datetime
    actor: str
    generation: int
    previous_hash: str
    hash: str


class Evidence(Public, frozen=True):
    """One thing that somebody said about a runner, and how old it is."""

    source: str
    says: str
    observed_at: datetime | None


class Explanation(Public, frozen=True):
    """Why a runner is in the state it is in, and what comes next."""

    runner: Runner
    summary: str
    evidence: list[Evidence]
    next: str


class Status(Public, frozen=True):
    """The whole house in one line: how many runners in which state, how many projects, is anything wrong."""

    runners: int
    by_state: dict[str, int]
    projects: int
    cpu_percent: float | None
    rss_bytes: int | None
    warnings: list[str]


class DaemonStatus(Public, frozen=True):
    """The supervising process itself."""

    pid: int
    version: str
    started_at: datetime
    runners: int
    shims: int
    database: str
    """`ok`, `degraded`, `failed` or `corrupt`, with the reason behind a colon."""
    healthy: bool
    limits: str
    """`hard` where projects' memory and CPU quotas are also enforced by cgroups, else `soft` and why."""


class Launched(Public, frozen=True):
    """The answer to a launch: the runners whose wish is committed, and how many did not fit."""

    runners: list[Runner]
    refused: int


class LaunchPlan(Public, frozen=True):
    """What a launch would run; nothing was done. Values of secret-looking variables are masked."""

    argv: list[str]
    cwd: str
    environment: dict[str, str]
    session_id: str | None
    slots_left: int


class Sent(Public, frozen=True):
    """The outcome of a `send`: did the program take it? None means that nobody can tell."""

    taken: bool | None
    detail: str


class Reconciled(Public, frozen=True):
    """What a reconciliation found and did."""

    examined: int
    changed: int
    lost: list[str]
    adopted: list[str]


class DiskUse(Public, frozen=True):
    """Bytes on disk by kind, and the largest runners."""

    database_bytes: int
    output_bytes: int
    other_bytes: int
    by_runner: dict[str, int]


class Pruned(Public, frozen=True):
    """What a pruning removed."""

    runners: int
    events: int
    bytes: int


class Acknowledged(Public, frozen=True):
    """The wish is committed; there is nothing to show."""

    ok: bool = True
