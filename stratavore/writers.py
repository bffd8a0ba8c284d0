"""Which living processes are in which conversation, and at work in which directory: by the agents' own registries, by
what they have open, and by their command lines.

Rule 1: a process of a runner counts too, whoever started it: what matters is that it lives.
Rule 2: an agent that says nothing of itself anywhere is not seen.
Rule 3: what we run ourselves, to copy a conversation, is in none.
"""

import os
from collections.abc import Collection, Iterator, Mapping
from pathlib import Path
from typing import NamedTuple

from stratavore.agents import AGENTS, RECORDS
from stratavore.process import ancestors, has_variable, mark_of, stat

ERRAND = "STRATAVORE_ERRAND"
"""In the environment of an agent's program that we run ourselves."""

_LONGEST_COMMAND = 64 * 1024
_WORDS_TO_PROGRAM = 3
"""An interpreter, or a shell with its option, may stand before the agent's program."""


class Agent(NamedTuple):
    """A living process that looks like an agent's: its kind, its words, its directory."""

    pid: int
    kind: str
    words: tuple[str, ...]
    cwd: str


def list_agents() -> list[Agent]:
    """The processes of agents that may be looked at, children of such included."""
    found = []
    for pid in map(int, filter(str.isdecimal, os.listdir("/proc"))):
        words = _words(pid)
        kind = next((kind for kind in RECORDS if _runs(AGENTS[kind].program, words)), None)
        if kind is not None and (cwd := _cwd(pid)) is not None and not _is_errand(pid):
            found.append(Agent(pid, kind, words, cwd))
    return found


class Neighbours:
    """The agents at work now; looked at when somebody asks first."""

    def __init__(self) -> None:
        self._agents: list[Agent] | None = None

    def at_work(self, kind: str, directory: str, *, but: Collection[int]) -> int:
        """How many of that kind are at work in the directory, besides these processes.

        A process and those that it started are one.
        """
        if self._agents is None:
            self._agents = list_agents()
        there = {agent.pid for agent in self._agents if agent.kind == kind and agent.cwd == directory} - {*but}
        return sum(1 for pid in there if (entry := stat(pid)) is not None and entry.ppid not in there)


def inside(directory: str) -> list[Agent]:
    """The agents that are at work in the directory or below it."""
    return [agent for agent in list_agents() if f"{agent.cwd}/".startswith(f"{directory.rstrip('/')}/")]


def who(pid: int) -> str | None:
    """The id of the runner that the process belongs to, if it or one of those that it descends from says so."""
    if (mark := mark_of(pid)) is not None:
        return mark
    return next((mark for above in ancestors(pid)[1:] if (mark := mark_of(above)) is not None), None)


def scan(homes: Collection[tuple[str, str]], ids: Collection[str] = ()) -> Mapping[tuple[str, str], list[int]]:
    """The processes that are in each conversation, by kind of agent and id.

    Looked at are the registries in these account directories (each with its kind), and the command lines for these ids.
    """
    found: dict[tuple[str, str], list[int]] = {}
    for kind, session_id, pid in (*_registered(homes), *_named(frozenset(ids))):
        pids = found.setdefault((kind, session_id), [])
        if pid not in pids and pid != os.getpid() and not _is_errand(pid):
            pids.append(pid)
    return {which: pids for which, pids in found.items() if pids}


def _is_errand(pid: int) -> bool:
    return has_variable(pid, ERRAND)


def _registered(homes: Collection[tuple[str, str]]) -> Iterator[tuple[str, str, int]]:
    for kind, home in homes:
        if kind in AGENTS:
            yield from ((kind, session_id, pid) for session_id, pid in AGENTS[kind].writers(Path(home)))


def _named(ids: frozenset[str]) -> Iterator[tuple[str, str, int]]:
    if ids:
        yield from (
            (agent.kind, word, agent.pid)
            for agent in list_agents()
            for word in (part for words in agent.words for part in (words, words.rpartition("=")[2]))
            if word in ids
        )


def _runs(program: str, words: tuple[str, ...]) -> bool:
    return any(Path(word).name.partition(".")[0] == program for word in words[:_WORDS_TO_PROGRAM])


def _words(pid: int) -> tuple[str, ...]:
    try:
        with open(f"/proc/{pid}/cmdline", "rb") as file:
            return tuple(file.read(_LONGEST_COMMAND).decode(errors="replace").split("\0"))
    except OSError:
        return ()


def _cwd(pid: int) -> str | None:
    try:
        return os.readlink(f"/proc/{pid}/cwd")
    except OSError:
        return None
