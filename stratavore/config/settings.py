"""Every key of the configuration, declared once: its type, its default, its meaning, and whether it is guarded.

Rule 1: this file is the only truth. The reader, `config.example.toml` and `config show` are derived from it.
Rule 2: a guarded key executes, listens or authenticates: it is read only from a file that its user owns with mode 0600,
never from the environment.
Rule 3: a table of values that may hold secrets is shown by its names alone, in `repr` too.
Rule 4: spans are seconds and sizes are bytes here; how a person writes them is the business of `units`.
"""

import re
from enum import StrEnum
from typing import Annotated

import msgspec
from msgspec import Meta, field

from stratavore.discreet import Discreet
from stratavore.model import Durability, OnQuota, RestartPolicy
from stratavore.periods import zone_called

GUARDED = Meta(extra={"guarded": True})
SECRET = Meta(extra={"secret": True})

Seconds = Annotated[float, Meta(extra={"unit": "seconds"})]
Bytes = Annotated[int, Meta(extra={"unit": "bytes"})]
Names = tuple[str, ...]


def says(meaning: str) -> Meta:
    """The meaning of a key, as the example file and the documentation give it."""
    return Meta(description=meaning)


class LogLevel(StrEnum):
    """The least important kind of line that the daemon's log keeps."""

    DEBUG = "debug"
    INFO = "info"
    WARNING = "warning"
    ERROR = "error"


class LogFormat(StrEnum):
    """How a line of the daemon's log is written."""

    CONSOLE = "console"
    JSON = "json"


class Section(Discreet, msgspec.Struct, frozen=True, kw_only=True):
    """One table of the file. Its docstring is what the example says above it."""


class Daemon(Section, frozen=True, kw_only=True):
    """The supervising process."""

    autostart: Annotated[bool, says("Start the daemon by itself at the first command that needs it.")] = True
    log_level: Annotated[LogLevel, says("The least important kind of line that daemon.log keeps.")] = LogLevel.INFO
    log_format: Annotated[LogFormat, says("Lines for people, or one JSON object a line.")] = LogFormat.CONSOLE
    durability: Annotated[
        Durability,
        says("`full` survives a power cut whole; `normal` may forget the last moments, and is faster."),
    ] = Durability.FULL
    shutdown_timeout: Annotated[Seconds, says("How long a stopping daemon waits for requests under way.")] = 10.0


class Shim(Section, frozen=True, kw_only=True):
    """The processes that hold the runners' terminals."""

    runners_per_shim: Annotated[
        int,
        Meta(ge=1, le=64),
        says("If a holder dies, so many runners at most die with it; 1 is the safest."),
    ] = 64
    idle_exit: Annotated[Seconds, says("How long a holder without runners and clients stays.")] = 60.0


class Output(Section, frozen=True, kw_only=True):
    """What the runners print, and how much of it is kept."""

    cap_per_runner: Annotated[Bytes, Meta(ge=64 << 10), says("The newest output kept of each runner.")] = 64 << 20
    cap_total: Annotated[Bytes, Meta(ge=1 << 20), says("The output kept of all runners together.")] = 8 << 30
    osc52: Annotated[bool, says("Let a program in a runner write to your clipboard while you are attached.")] = False


class Runners(Section, frozen=True, kw_only=True):
    """What a launch gets when it does not say otherwise."""

    default_agent: Annotated[
        str,
        says("The agent of a project that names none; empty: the first agent CLI found on PATH, else the shell."),
    ] = ""
    restart: Annotated[RestartPolicy, says("When a runner that ended is started again.")] = RestartPolicy.NEVER
    max_restarts: Annotated[int, Meta(ge=0), says("After so many restarts in a row it stays down.")] = 3
    stop_grace: Annotated[Seconds, says("How long `stop` asks politely before it kills.")] = 10.0
    backoff_first: Annotated[Seconds, says("The wait before the first restart; it doubles with each.")] = 1.0
    backoff_max: Annotated[Seconds, says("The longest wait before a restart.")] = 300.0
    backoff_jitter: Annotated[
        float, Meta(ge=0, le=1), says("Each wait is longer or shorter by up to this part, at random.")
    ] = 0.1
    healthy_after: Annotated[Seconds, says("A run this long clears the count of restarts.")] = 600.0
    runners_may_control: Annotated[
        bool, GUARDED, says("Let a program inside a runner launch, stop and talk to runners as you do.")
    ] = False

    def __post_init__(self) -> None:
        if self.backoff_first > self.backoff_max:
            raise ValueError("backoff_first must not be longer than backoff_max")


class Projects(Section, frozen=True, kw_only=True):
    """What a new project gets when it does not say otherwise."""

    max_runners: Annotated[int, Meta(ge=1), says("How many runners it may have at a time.")] = 5
    on_quota: Annotated[
        OnQuota,
        says(
            "What happens to the runner that uses most when its memory or CPU quota is exceeded."
            " Pausing frees no memory: for that one runner is paused, and the rest is yours."
        ),
    ] = OnQuota.WARN


class Supervision(Section, frozen=True, kw_only=True):
    """How often the daemon looks."""

    sample_interval: Annotated[Seconds, Meta(ge=1), says("How often CPU and memory of the runners are measured.")] = (
        10.0
    )
    heartbeat_ttl: Annotated[Seconds, Meta(ge=1), says("A runner not seen for so long is looked for.")] = 30.0
    reconcile_interval: Annotated[
        Seconds, Meta(ge=1), says("How often what is recorded is compared with what runs.")
    ] = 30.0

    def __post_init__(self) -> None:
        if self.heartbeat_ttl < self.sample_interval:
            raise ValueError("heartbeat_ttl must not be shorter than sample_interval")


class Budgets(Section, frozen=True, kw_only=True):
    """How spending is bounded: the budgets themselves are set with `stratavore budget set`."""

    timezone: Annotated[
        str,
        says(
            "Days, weeks and months of budgets begin by its clock: `Europe/Berlin`; empty: this machine's. It holds"
            " after `stratavore daemon restart`, from the next period on."
        ),
    ] = ""
    estimate_tokens: Annotated[
        int,
        Meta(ge=0),
        says("Reserved for each run until it has used them; 0: the median of that project's and agent's past runs."),
    ] = 0
    estimate_usd: Annotated[float, Meta(ge=0), says("The same of US dollars.")] = 0.0
    stop_grace: Annotated[
        Seconds, says("How long a blocked agent may still be saved by `budget extend`, where its budget says `stop`.")
    ] = 60.0

    def __post_init__(self) -> None:
        if self.timezone:
            zone_called(self.timezone)


class Ledger(Section, frozen=True, kw_only=True):
    """What agents use, and what it costs."""

    otlp: Annotated[
        bool,
        GUARDED,
        says("Listen on 127.0.0.1 for the calls that Claude exports: some of them stand in no transcript."),
    ] = True


class Hooks(Section, frozen=True, kw_only=True):
    """What agents tell of themselves, through hooks that Stratavore gives them for its own runners."""

    enabled: Annotated[bool, says("Give them such hooks. Without, they are watched from outside only.")] = True
    fail_closed: Annotated[
        bool,
        says(
            "An agent on which there is no verdict may take no prompt and use no tool. A hook that cannot run at all"
            " still lets it on: only the agent could refuse that."
        ),
    ] = False
    approval_timeout: Annotated[
        Seconds,
        says("How long `approve` and `deny` can answer a request for permission; 0: only the agent's dialog can."),
    ] = 3600.0


class Activity(Section, frozen=True, kw_only=True):
    """What a program is doing of which no agent tells. Silence alone never says that it is done."""

    patterns: Annotated[
        dict[str, str],
        says(
            "Regular expressions, by what it shows that one of its last lines has them: `waiting`, `working`, `idle`."
            " The first of them, in this order, counts."
        ),
    ] = field(default_factory=dict)

    def __post_init__(self) -> None:
        for word, pattern in self.patterns.items():
            if word not in ("waiting", "working", "idle"):
                raise ValueError(f"patterns: {word!r} is none of waiting, working, idle")
            try:
                re.compile(pattern)
            except re.error as wrong:
                raise ValueError(f"patterns: {word}: {wrong}") from None


class Attach(Section, frozen=True, kw_only=True):
    """Your terminal in a runner."""

    detach_key: Annotated[
        str,
        Meta(pattern=r"^\S+( \S+)*$"),
        says("The keys that leave it, separated by blanks: `ctrl-\\ d` is Ctrl and the backslash, then d."),
    ] = "ctrl-\\ d"
    scrollback_bytes: Annotated[Bytes, says("How much earlier output is shown when you come in.")] = 256 << 10


class Environment(Section, frozen=True, kw_only=True):
    """What the runners' environment has beside the built-in list."""

    allow: Annotated[
        Names,
        says("More variables that pass from the caller's environment; `NAME*` takes all that begin so."),
    ] = ()
    set: Annotated[dict[str, str], GUARDED, SECRET, says("Variables given to every runner.")] = field(
        default_factory=dict
    )


class Retention(Section, frozen=True, kw_only=True):
    """What `prune` and the daemon remove, and when."""

    ended_runners: Annotated[Seconds, says("How long an ended runner and its output are kept.")] = 30 * 86400.0
    events: Annotated[Seconds, says("How long an event is kept.")] = 30 * 86400.0
    events_rows: Annotated[int, Meta(ge=1000), says("How many events are kept at most.")] = 200_000


class Transcripts(Section, frozen=True, kw_only=True):
    """Copies of what was said in sessions, which outlive the agents' own clean-up."""

    archive: Annotated[bool, says("Copy the transcript of a session whenever a runner leaves it.")] = True
    keep: Annotated[Seconds, says("How long a copy is kept after the last word of its session.")] = 365 * 86400.0


class Profile(Section, frozen=True, kw_only=True):
    """A profile makes an agent of your own out of a known one: `--agent claude-work`."""

    agent: Annotated[str, GUARDED, says("The agent it is made of; empty: the one of the profile's name.")] = ""
    argv: Annotated[Names, GUARDED, says("The program and its first arguments, in place of the agent's own.")] = ()
    model: Annotated[str, GUARDED, says("The model asked for; empty: the agent's own choice.")] = ""
    permission_mode: Annotated[str, GUARDED, says("The permission mode, in the agent's own words.")] = ""
    home: Annotated[str, GUARDED, says("The account directory, such as CLAUDE_CONFIG_DIR or CODEX_HOME.")] = ""
    env: Annotated[dict[str, str], GUARDED, SECRET, says("Variables given to its runners.")] = field(
        default_factory=dict
    )
    status_line_tee: Annotated[
        bool,
        GUARDED,
        says(
            "Claude: learn how much of the account's 5-hour and 7-day windows is used, through a status line of ours,"
            " which then runs yours. For `budget set --window`; it needs [hooks] enabled."
        ),
    ] = False


class ModelPrice(Section, frozen=True, kw_only=True):
    """What a model costs, in US dollars for a million tokens of each class. Caches cost as input does, if not given.

    What is changed holds after `stratavore daemon restart`, and then for the model's past calls too.
    """

    input: Annotated[float, Meta(ge=0, le=1e6), says("What is sent and comes from no cache.")] = 0.0
    output: Annotated[float, Meta(ge=0, le=1e6), says("What is answered, reasoning included.")] = 0.0
    cache_write_5m: Annotated[float, Meta(ge=0, le=1e6), says("What is sent and kept for five minutes.")] = 0.0
    cache_write_1h: Annotated[float, Meta(ge=0, le=1e6), says("What is sent and kept for an hour.")] = 0.0
    cache_read: Annotated[float, Meta(ge=0, le=1e6), says("What is sent and comes from a cache.")] = 0.0

    def __post_init__(self) -> None:
        if self.input and not self.output:
            raise ValueError("output must be given where input is: no model answers for nothing")
        if self.output and not self.input:
            raise ValueError("input must be given where output is: no model reads for nothing")


class Config(Section, frozen=True, kw_only=True):
    """The whole configuration, read once."""

    daemon: Daemon = Daemon()
    shim: Shim = Shim()
    output: Output = Output()
    runners: Runners = Runners()
    projects: Projects = Projects()
    supervision: Supervision = Supervision()
    budgets: Budgets = Budgets()
    ledger: Ledger = Ledger()
    hooks: Hooks = Hooks()
    activity: Activity = field(default_factory=Activity)
    attach: Attach = Attach()
    environment: Environment = field(default_factory=Environment)
    retention: Retention = Retention()
    transcripts: Transcripts = Transcripts()
    agents: dict[str, Profile] = field(default_factory=dict)
    prices: dict[str, ModelPrice] = field(default_factory=dict)
