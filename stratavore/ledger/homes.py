"""The account directories in which agents leave their files."""

import os
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path
from typing import NamedTuple

from stratavore.agents import RECORDS, NamedProfile, Plain, account_home, resolve
from stratavore.errors import StratavoreError


class Home(NamedTuple):
    """An account directory, and the kind of agent whose it is."""

    agent: str
    path: Path


def defaults(environ: Mapping[str, str], profiles: Mapping[str, NamedProfile]) -> set[Home]:
    """Where the agents keep their files for whoever has this environment, and with each profile."""
    found = {Home(kind, account_home(kind, environ, Plain())) for kind in RECORDS}
    return found | {home for name in profiles if (home := of_agent(name, environ, profiles)) is not None}


def of_agent(name: str, environ: Mapping[str, str], profiles: Mapping[str, NamedProfile]) -> Home | None:
    """Where the agent of that name, or of that profile, keeps its files in this environment; None: it keeps none."""
    with suppress(StratavoreError):
        agent, profile = resolve(name, profiles)
        if agent.name in RECORDS:
            return Home(agent.name, account_home(agent.name, environ, profile))
    return None


def signature(path: Path) -> tuple[int, ...] | None:
    """What changes when a file does; None if there is none. It decides what is looked at, and nothing else."""
    try:
        seen = os.stat(path, follow_symlinks=False)
    except (OSError, ValueError):
        return None
    return seen.st_dev, seen.st_ino, seen.st_size, seen.st_mtime_ns, seen.st_ctime_ns
