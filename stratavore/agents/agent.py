"""What an agent is to Stratavore: how it is started, resumed, stopped and typed to, and what its files say.

Rule 1: an adapter describes; it starts, signals and writes nothing, and reads at most the agent's own files.
Rule 2: the agents' interfaces change often: what is not understood is unknown, never idle, never zero.
Rule 3: nothing of the user's configuration of an agent is edited; what we need is passed on the command line.
"""

import json
import os
import shutil
from collections.abc import Mapping, Sequence
from datetime import datetime
from itertools import pairwise
from pathlib import Path
from typing import Any, NamedTuple, Protocol

import msgspec

from stratavore.agents.hooks import Asked, Hooks, HookTold
from stratavore.agents.telemetry import Telemetry
from stratavore.discreet import Discreet
from stratavore.errors import Invalid
from stratavore.model import Activity

LONGEST_ARGUMENT_BYTES = 128 * 1024 - 1
"""MAX_ARG_STRLEN of execve(2), with its closing NUL."""

CONTINUE = "Continue where you left off."
"""What a headless agent that is restarted in the middle of its task is told."""

Process = tuple[int, int]
"""Pid and start time in clock ticks (field 22 of /proc/PID/stat)."""


class Profile(Protocol):
    """What the configuration may say of an agent, in `[agents.NAME]`; empty means the agent's own choice."""

    @property
    def argv(self) -> tuple[str, ...]:
        """The program and its first arguments, in place of the agent's own."""

    @property
    def model(self) -> str: ...
    @property
    def permission_mode(self) -> str: ...
    @property
    def home(self) -> str:
        """The account directory."""

    @property
    def env(self) -> Mapping[str, str]: ...


class Plain(Discreet, msgspec.Struct, frozen=True):
    """The profile of an agent of which the configuration says nothing."""

    argv: tuple[str, ...] = ()
    model: str = ""
    permission_mode: str = ""
    home: str = ""
    env: dict[str, str] = {}


class Start(Discreet, msgspec.Struct, frozen=True, kw_only=True):
    """What an adapter is asked with: one run that is about to begin.

    `env` is the runner's environment, in which the agent's files are looked for. `extra` is what stood after `--`.
    `session_id` is the conversation of the run before, or the one that `new_session_id` gave to a first run. With
    `fork_of` it begins as a copy of that conversation, as long as it does not exist yet. `hooks` is None if the agent
    shall have none of ours, `telemetry` if nobody listens.
    """

    name: str
    cwd: str
    runner_dir: Path
    env: Mapping[str, str]
    tty: bool = True
    prompt: str | None = None
    extra: tuple[str, ...] = ()
    session_id: str | None = None
    fork_of: str | None = None
    is_restart: bool = False
    prompt_taken: bool = False
    """The agent was seen at work: it has its first prompt."""
    profile: Profile = Plain()
    hooks: Hooks | None = None
    telemetry: Telemetry | None = None


class Launch(Discreet, msgspec.Struct, frozen=True, kw_only=True):
    """What is run: `env` goes over the runner's environment, `files` are written (0600) below `runner_dir` first.

    `program` is the agent's own where `argv` begins with another that leads to it. `session_id` is None where the agent
    does not tell before it runs; `find_session` may know it later.
    """

    argv: tuple[str, ...]
    program: str = ""
    env: dict[str, str] = {}
    files: dict[str, str] = {}
    session_id: str | None = None


class Step(msgspec.Struct, frozen=True, kw_only=True):
    """One rung of a polite stop: type the keys or send the signal, then wait so long for the end."""

    keys: bytes = b""
    signal: int = 0
    to_group: bool = False
    wait_seconds: float


class Typing(msgspec.Struct, frozen=True, kw_only=True):
    """How a prompt is typed: `clear`, the text (pasted where the program asked for that), a pause, `enter`.

    Without the pause the agents take `enter` for a part of what was pasted.
    """

    clear: bytes = b""
    pause_seconds: float = 0.0
    enter: bytes = b"\r"
    interrupt: bytes = b"\x1b"


class Live(msgspec.Struct, frozen=True, kw_only=True):
    """What a living agent says of itself; `said` is in its own words, `at` when that began, if it tells."""

    activity: Activity
    session_id: str | None = None
    said: str = ""
    at: datetime | None = None


class Writer(NamedTuple):
    """A living process that says that it is in a conversation."""

    session_id: str
    pid: int


class Traces(msgspec.Struct, frozen=True, kw_only=True):
    """What a run left behind, for finding its conversation: its living processes, its start, the end of its output.

    `taken` are the conversations that are known to be other runners', `rivals` the other processes of the same agent
    that are at work in the same directory: what begins there then may be theirs.
    """

    since: float
    processes: Sequence[Process] = ()
    output_tail: str = ""
    taken: frozenset[str] = frozenset()
    rivals: int = 0


class Agent(Protocol):
    """A kind of agent CLI. Those that are explicit subclasses inherit what is the same for most."""

    name: str
    program: str
    """The program that is run unless the profile names another; empty where each start says its own."""
    remedy: str
    """What to do when the program is missing."""
    home_variable: str = ""
    """The variable that moves the account directory; empty if there is none."""
    home_default: str = ""
    """The account directory where that variable is not set."""
    home_folder: str = ""
    """Where in the account directory it keeps its records; empty: directly in it."""
    parent_markers: tuple[str, ...] = ()
    """What it sets for its children, dropped from a caller's environment: who finds these believes to be inside one."""
    typing: Typing = Typing()
    tells_activity: bool = False
    """Whether `live` knows it from the moment at which the agent takes prompts."""
    dialogs: tuple[tuple[str, Activity], ...] = ()
    """What its screen shows, by words that stand on a line of it; the first that is found counts. The screen is looked
    at while nothing else tells what it is doing, and where `asks_on_screen`, once it prints no more."""
    asks_on_screen: bool = False
    """That it waits for an answer stands on its screen alone."""
    tells_session: bool = False
    """A living process says itself in which conversation it is."""
    is_prompted: bool = True
    """A headless run needs a prompt."""
    can_fork: bool = False
    """It can begin a conversation as a copy of another."""
    permission_options: Mapping[str, int] = {}
    """Its options that say what it may do unasked, and how many words follow each."""
    is_metered: bool = True
    """Whether its files tell what it uses."""
    model_options: tuple[str, ...] = ("--model", "-m")
    """The options that name a model."""
    model_aliases: frozenset[str] = frozenset()
    """Words that stand for models which only the agent knows."""
    failures: tuple[str, ...] = ()
    """How the lines begin by which it says why it ends; advice may follow."""
    takes_verdicts: bool = False
    """Whether its hooks ask, before each prompt and each tool, if it may go on."""

    def new_session_id(self) -> str | None:
        """An id for a new conversation; None if the agent makes its own."""
        return None

    def launch(self, start: Start) -> Launch:
        """What to run, for a new conversation or to continue one.

        Raises:
            Invalid: the agent cannot be started so.
        """
        ...

    def transcript(self, home: Path, session_id: str) -> Path | None:
        """The file that holds the conversation, if there is one; `home` is the account directory."""
        return None

    def can_resume(self, start: Start) -> bool:
        """The conversation `start.session_id` exists, so it must be resumed, and can be."""
        if not start.session_id:
            return False
        return self.transcript(account_dir(self, start), start.session_id) is not None

    def find_session(self, start: Start, traces: Traces) -> str | None:
        """The conversation that a run is or was in, if its traces leave no doubt."""
        return start.session_id

    def why_unknown(self, start: Start, traces: Traces) -> str:
        """Why `find_session` found none, in words."""
        return "it has begun no conversation yet"

    def writers(self, home: Path) -> Sequence[Writer]:
        """The living processes that say, in this account directory, which conversation they are in."""
        return ()

    def live(self, processes: Sequence[Process], start: Start) -> Live | None:
        """What the agent says of itself; None if it says nothing."""
        return None

    def state_file(self, process: Process, start: Start) -> Path | None:
        """The file that `live` reads of this process: as long as it has not changed, nothing has."""
        return None

    def hooked(self, event: str, said: bytes, at: datetime, *, is_blocked: bool) -> HookTold:
        """What a hook of ours tells: `event` in the agent's own word, `said` as JSON, or nothing if it was too long.

        `is_blocked`: our verdict kept the agent from it.
        """
        return HookTold()

    def asked(self, said: bytes) -> Asked | None:
        """What a held request for permission asks; None if that is not understood."""
        return None

    def answer(self, asked: Asked, *, allow: bool, for_session: bool, reason: str | None) -> str:
        """What the hook that holds a request prints, so that the agent learns the decision."""
        return ""

    def too_wide_for_session(self, tool: str, given: Mapping[str, Any]) -> str | None:
        """Why such requests cannot be allowed for a whole conversation; None if they can."""
        return "this agent cannot be told so"

    def telemetry_of_others(self, env: Mapping[str, str], ours: Telemetry) -> str | None:
        """The variable by which this environment sets up the agent's telemetry in a way that is not ours."""
        return None

    def stop_steps(self, argv: Sequence[str], *, tty: bool, grace_seconds: float) -> tuple[Step, ...]:
        """How the run `argv` is asked to end; after the last step it is killed. The waits add up to the grace."""
        ...

    def succeeded(self, exit_code: int, *, tty: bool, output_tail: str) -> bool:
        """Whether a run that ended by itself did what it was to do; `output_tail` are its last lines."""
        return exit_code == 0


def find_program(start: Start, launch: Launch) -> str | None:
    """The program that a launch runs, found as the runner would find it: by the PATH of its own environment."""
    program = launch.program or launch.argv[0]
    if "/" in program:
        program = str(Path(start.cwd, program))
    path = launch.env.get("PATH", start.env.get("PATH", ""))
    return shutil.which(program, path=path)


def command(agent: Agent, start: Start) -> tuple[str, ...]:
    """The program and its first arguments."""
    return start.profile.argv or (agent.program,)


def account_env(agent: Agent, start: Start) -> dict[str, str]:
    """What a profile adds to the environment.

    Raises:
        Invalid: the profile names an account directory, and the agent has none.
    """
    return _profile_env(agent, start.env, start.profile)


def account_dir(agent: Agent, start: Start) -> Path:
    """Where the run keeps its conversations, under the name that does not depend on symbolic links."""
    return Path(os.path.realpath(find_account(agent, start.env, start.profile) / agent.home_folder))


def find_account(agent: Agent, env: Mapping[str, str], profile: Profile) -> Path:
    """The account directory of who runs the agent with this profile, in this environment."""
    seen = {**env, **_profile_env(agent, env, profile)}
    return Path(seen.get(agent.home_variable) or _expand(agent.home_default, seen))


def home_setting(agent: Agent, home: str) -> dict[str, str]:
    """The variable that makes an agent keep its records in `home`."""
    return {agent.home_variable: str(Path(home).parent) if agent.home_folder else home}


def kept_permissions(agent: Agent, extra: Sequence[str]) -> list[str]:
    """Those of the user's own arguments that say what the agent may do unasked, with their values."""
    kept, at = list[str](), 0
    while at < len(extra):
        name, equals, _ = extra[at].partition("=")
        if name not in agent.permission_options:
            at += 1
            continue
        width = 1 + (0 if equals else agent.permission_options[name])
        kept += extra[at : at + width]
        at += width
    return kept


def first_prompt(start: Start, *, resumed: bool, would_tell: bool = False) -> str | None:
    """What the agent is told as it starts, checked for what an argument may be.

    The prompt of a runner is submitted once. A headless agent that is restarted is told to go on; if there is no
    conversation to go on with, it never took its prompt, and is given it again. So is one with a terminal that
    `would_tell` if it had taken it.

    Raises:
        Invalid: it has no prompt and needs one, or the prompt cannot be an argument; or what began with it has gone.
    """
    if start.is_restart and start.tty and (resumed or start.prompt_taken or not would_tell):
        return None
    if start.is_restart and start.prompt_taken and not resumed:
        gone = "its prompt was submitted, and the conversation that began with it cannot be continued"
        raise Invalid(gone, remedy="launch it anew")
    prompt = CONTINUE if start.is_restart and resumed else start.prompt
    if prompt is None:
        if not start.tty:
            raise Invalid("an agent without a terminal needs a prompt", remedy="give it one with --prompt")
        return None
    if "\0" in prompt:
        raise Invalid("the prompt contains a NUL character", remedy="give the prompt as plain text")
    if len(prompt.encode()) > LONGEST_ARGUMENT_BYTES:
        remedy = "put it in a file and let the prompt name that file"
        raise Invalid(f"the prompt is longer than {LONGEST_ARGUMENT_BYTES} bytes", remedy=remedy)
    return prompt


def names_one_of(extra: Sequence[str], options: Sequence[str]) -> bool:
    """Whether the user's own arguments hold one of these options, as `--option` or as `--option=value`."""
    return any(argument.partition("=")[0] in options for argument in extra)


def read_json(text: str | bytes) -> Any:
    """What an agent wrote; raises ValueError, for what is nested too deeply too."""
    try:
        return json.loads(text)
    except RecursionError:
        raise ValueError("nested too deeply") from None


def named_model(agent: Agent, profile: Profile, extra: Sequence[str]) -> str | None:
    """The model that the arguments, or else the profile, name; None if neither does, or only the agent knows it."""
    found = profile.model
    for argument, following in pairwise((*extra, "")):
        flag, equals, value = argument.partition("=")
        if flag in agent.model_options:
            found = value if equals else following
    return found if found and found.lower() not in agent.model_aliases else None


def start_ticks(pid: int) -> int:
    """The start time of the process (field 22 of /proc/PID/stat); -1 if there is none."""
    try:
        return int(Path(f"/proc/{pid}/stat").read_bytes().rpartition(b")")[2].split()[19])
    except (OSError, IndexError):
        return -1


def option(flag: str, value: str) -> tuple[str, ...]:
    """The flag and its value, or nothing if the value is empty."""
    return (flag, value) if value else ()


def _profile_env(agent: Agent, env: Mapping[str, str], profile: Profile) -> dict[str, str]:
    added = dict(profile.env)
    if profile.home:
        if not agent.home_variable:
            raise Invalid(f"{agent.name} has no account directory", remedy="take `home` out of its profile")
        added[agent.home_variable] = _expand(profile.home, env)
    return added


def _expand(path: str, env: Mapping[str, str]) -> str:
    """`~` as the runner's own HOME, which need not be ours."""
    return env.get("HOME", "/") + path[1:] if path == "~" or path.startswith("~/") else path
