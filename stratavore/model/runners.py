"""Runners and their runs, as the API tells of them."""

from datetime import datetime
from enum import StrEnum

import msgspec

from stratavore.model.base import Public
from stratavore.model.spending import Budget


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
    ON_LIMIT_RESET = "on-limit-reset"
    """When the provider of its model, who had refused to go on, does so again."""


class Activity(StrEnum):
    """What the agent is doing, as far as somebody said so."""

    WORKING = "working"
    WAITING_PERMISSION = "waiting_permission"
    WAITING_INPUT = "waiting_input"
    IDLE = "idle"
    UNKNOWN = "unknown"


class EndReason(StrEnum):
    """Why a run ended."""

    EXITED = "exited"
    SIGNALED = "signaled"
    STOPPED = "stopped"
    KILLED = "killed"
    MAX_TIME = "max_time"
    QUOTA = "quota"
    BUDGET = "budget"
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


class Runner(Public, frozen=True):
    """What a person launches, names and stops; it may outlive several runs."""

    id: str
    name: str
    project: str
    agent: str
    state: RunnerState
    activity: Activity
    activity_since: datetime | None
    activity_source: str | None
    """Who said so."""
    waiting_for: str | None
    """What it waits for, in the agent's own words; None while it does not wait."""
    prompt_pending: bool
    """It was launched with a prompt, and its agent, which would tell, has not taken it yet."""
    limit_resets_at: datetime | None
    """When the provider of its model goes on, if that refused."""
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
    session_detail: str | None
    """Why its conversation is not known, if somebody looked and could not tell."""
    run: int
    output_bytes: int | None
    dropped_bytes: int | None
    """Output that the disk refused, of the runs that have ended; None if none has."""
    last_line: str | None
    tokens: int | None
    """Of all its runs, all classes together; None if nobody tells."""
    cost_usd: float | None
    unpriced_calls: int | None
    blocked: str | None
    """Why it may not go on, if a budget says so."""


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


class GoesOnWith(Public, frozen=True):
    """The conversation that a launch goes on with, as it is or as a copy."""

    id: str
    agent: str
    title: str | None
    last_message_at: datetime | None
    is_fork: bool


class Launched(Public, frozen=True):
    """The answer to a launch: the runners whose wish is committed, and how many did not fit."""

    runners: list[Runner]
    refused: int
    warnings: list[str] = msgspec.field(default_factory=list)
    """What a person should know, such as that others work in the same directory."""
    goes_on_with: GoesOnWith | None = None


class LaunchPlan(Public, frozen=True):
    """What a launch would run; nothing was done. Values of secret-looking variables are masked."""

    argv: list[str]
    cwd: str
    environment: dict[str, str]
    session_id: str | None
    goes_on_with: GoesOnWith | None
    slots_left: int
    budgets: list[Budget]
    """Those that would bound it, besides its own."""
    estimate_tokens: int
    estimate_usd: float
    """What one run is expected to use, and would be reserved."""
    budget_tokens: int | None
    budget_usd: float | None
    max_turns: int | None
    """What each run itself may use, as the launch says."""
    refused: str | None
    """Why it would be refused now, if it would: the message of that error, then its code and its remedy."""
    refused_code: str | None
    refused_remedy: str | None
    unmetered: bool
    """Nobody tells what it uses, so no budget bounds it."""


class Sent(Public, frozen=True):
    """The outcome of a `send`: did the program take it? None means that nobody can tell."""

    taken: bool | None
    detail: str
