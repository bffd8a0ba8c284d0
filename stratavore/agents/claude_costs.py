"""What Claude Code says at its exit that its process cost: `lastCost` of the project in `.claude.json`.

It includes calls that stand in no transcript. The file lies in CLAUDE_CONFIG_DIR, or beside `~/.claude`.

Seen with 2.1.197 and 2.1.330.
"""

import os
from pathlib import Path
from typing import NamedTuple

import msgspec

from stratavore.foreign import Refused, open_below

_FILE = ".claude.json"
_LARGEST = 64 << 20
_DEAREST = 1e6


class Reported(NamedTuple):
    """The conversation that the process was in last, and what all of the process cost, in US dollars."""

    session_id: str
    cost_usd: float


class _Project(msgspec.Struct, rename="camel"):
    last_cost: float | None = None
    last_session_id: str | None = None


class _Kept(msgspec.Struct):
    projects: dict[str, _Project] = {}


_decoder = msgspec.json.Decoder(_Kept)


def reported(home: Path, cwd: str) -> Reported | None:
    """What the last process that ran in that directory said; None if nothing was said."""
    for directory in (home, home.parent):
        try:
            fd = open_below(directory, directory / _FILE)
            with open(fd, "rb") as file:
                kept = _decoder.decode(file.read(_LARGEST))
        except (Refused, OSError, msgspec.MsgspecError, UnicodeDecodeError, RecursionError):
            continue
        found = kept.projects.get(os.path.realpath(cwd))
        if found is not None and found.last_session_id and found.last_cost is not None:
            cost = found.last_cost
            return Reported(found.last_session_id, cost) if 0 <= cost < _DEAREST else None
    return None
