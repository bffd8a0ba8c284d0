"""The agents: how each kind of agent CLI is started, resumed, stopped and typed to.

Rule 1: one file per agent and one row of AGENTS. Nothing else of Stratavore knows an agent by its name, but for what
the command line must know before it asks, which tests hold against AGENTS, and what only Claude has: its windows of
five hours (`store/usage_report.py`), the calls that it exports (`ledger/otlp.py`).
Rule 2: this room is standard library and msgspec; it knows nothing of the daemon.
"""

import os
from collections.abc import Callable, Mapping
from pathlib import Path
from shutil import which
from typing import Protocol

from stratavore.agents import claude_costs
from stratavore.agents.agent import (
    Agent,
    Launch,
    Live,
    Plain,
    Process,
    Profile,
    Start,
    Step,
    Traces,
    Typing,
    Writer,
    find_account,
    find_program,
    home_setting,
    kept_permissions,
    named_model,
)
from stratavore.agents.claude import Claude
from stratavore.agents.claude_costs import Reported
from stratavore.agents.claude_records import ClaudeRecords
from stratavore.agents.codex import Codex
from stratavore.agents.codex_records import CodexRecords
from stratavore.agents.gemini import Gemini
from stratavore.agents.gemini_records import GeminiRecords
from stratavore.agents.hooks import Asked, Hooks, HookTold, Limited
from stratavore.agents.keys import foreign_keys
from stratavore.agents.opencode import OpenCode
from stratavore.agents.opencode_records import OpenCodeRecords
from stratavore.agents.records import RecordDatabase, Records
from stratavore.agents.shell import Shell
from stratavore.agents.telemetry import Telemetry
from stratavore.errors import Invalid, Misconfigured, NotFound

__all__ = [
    "AGENTS",
    "PARENT_MARKERS",
    "RECORDS",
    "REPORTED",
    "Agent",
    "Asked",
    "HookTold",
    "Hooks",
    "Launch",
    "Limited",
    "Live",
    "NamedProfile",
    "Plain",
    "Process",
    "Profile",
    "Start",
    "Step",
    "Telemetry",
    "Traces",
    "Typing",
    "Writer",
    "account_home",
    "find_program",
    "first_on_path",
    "foreign_keys",
    "home_setting",
    "kept_permissions",
    "named_model",
    "resolve",
    "resolve_or_shell",
]

AGENTS: Mapping[str, Agent] = {
    "claude": Claude(),
    "codex": Codex(),
    "gemini": Gemini(),
    "opencode": OpenCode(),
    "shell": Shell(),
}

RECORDS: Mapping[str, Records | RecordDatabase] = {
    "claude": ClaudeRecords(),
    "codex": CodexRecords(),
    "gemini": GeminiRecords(),
    "opencode": OpenCodeRecords(),
}
"""How those record that keep conversations."""

REPORTED: Mapping[str, Callable[[Path, str], Reported | None]] = {"claude": claude_costs.reported}
"""What those that tell it say at their exit that they cost, by account directory and working directory."""

PARENT_MARKERS = frozenset(marker for agent in AGENTS.values() for marker in agent.parent_markers)
"""Variables that an agent sets for its children. A runner that is launched from inside an agent must not see them."""


def account_home(kind: str, env: Mapping[str, str], profile: Profile) -> Path:
    """Where an agent of this kind keeps its records, under the name that does not depend on symbolic links.

    Raises:
        Invalid: it keeps none.
    """
    if kind not in RECORDS:
        raise Invalid(f"{kind} keeps no conversations", remedy=f"name one of {', '.join(RECORDS)}")
    agent = AGENTS[kind]
    return Path(os.path.realpath(find_account(agent, env, profile) / agent.home_folder))


class NamedProfile(Profile, Protocol):
    """A profile as the configuration has it."""

    @property
    def agent(self) -> str:
        """The agent it is made of; empty: the one of the profile's name."""


def resolve(name: str, profiles: Mapping[str, NamedProfile]) -> tuple[Agent, Profile]:
    """The agent of a name, which is a profile's or an agent's own, and the profile it runs with.

    Raises:
        NotFound: no agent and no profile has the name.
        Misconfigured: the profile is made of an agent that does not exist.
    """
    profile = profiles.get(name)
    agent = AGENTS.get((profile and profile.agent) or name)
    if agent is not None:
        return agent, profile or Plain()
    if profile is not None:
        known = ", ".join(AGENTS)
        raise Misconfigured(f"[agents.{name}] is made of {profile.agent or name!r}, which is none of {known}")
    known = ", ".join(sorted({*AGENTS, *profiles}))
    raise NotFound(f"no agent is called {name!r}; known are {known}", remedy="name one of these with --agent")


def resolve_or_shell(name: str, profiles: Mapping[str, NamedProfile]) -> Agent:
    """The agent of a run that was started already; the shell's ways serve where its name means nothing any more."""
    try:
        return resolve(name, profiles)[0]
    except (NotFound, Misconfigured):
        return AGENTS["shell"]


def first_on_path(env: Mapping[str, str]) -> str:
    """The first agent whose program is on the PATH of this environment, else the shell."""
    path = env.get("PATH", "")
    found = (name for name, agent in AGENTS.items() if agent.program and which(agent.program, path=path))
    return next(found, "shell")
