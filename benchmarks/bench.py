"""What every measurement is given: how much of everything, where, and what is wanted.

Rule 1: all the systems are driven through `System`, so that they do the same work.
"""

import os
import shutil
import sys
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

ROOT = Path(__file__).resolve().parent.parent
SLEEPER = ("/bin/sleep", "86413")
"""The light runner. The number tells ours from anybody's."""
CLICK = (sys.executable, "-c", "import click")
"""What no command line of this kind can be faster than."""


@dataclass(frozen=True, slots=True)
class Scale:
    """How much of everything."""

    name: str
    sizes: tuple[int, ...]
    """How many runners are launched at once."""
    crowd: int
    """How many runners live while the rest is measured."""
    repeats: int
    window_seconds: float
    """How long CPU time is watched."""
    reads_seconds: float
    commands: int
    """How often a one-shot command is timed."""
    deaths: int
    crossings: int
    """How often a budget is crossed."""
    output_bytes: int
    store_seconds: float
    transcript_bytes: int
    """How much of transcripts a daemon finds at its start."""
    transcript_seconds: float
    """How long lines are appended to them."""


FULL = Scale("full", (100, 300, 1000), 1000, 3, 30, 12, 15, 100, 100, 100_000_000, 4, 1_000_000_000, 30)
QUICK = Scale("quick", (20, 100), 100, 1, 4, 3, 5, 20, 20, 20_000_000, 1, 100_000_000, 10)
TINY = Scale("tiny", (4,), 8, 1, 0.5, 0.5, 1, 2, 2, 1_000_000, 0.2, 2_000_000, 1)
SCALES = {scale.name: scale for scale in (FULL, QUICK, TINY)}


class System(Protocol):
    """Something that keeps processes: ours, a peer, or the bare loop."""

    name: str

    def start(self) -> None:
        """Be ready to launch."""

    def launch(self, count: int, argv: Sequence[str] = SLEEPER) -> float:
        """Launch so many more; the seconds until all of them run."""

    def runners(self) -> list[int]:
        """The pids of what it keeps."""

    def processes(self) -> list[int]:
        """The pids of itself."""

    def status_command(self) -> Sequence[str]:
        """The one-shot command that tells how things stand."""

    def environment(self) -> dict[str, str]:
        """What its commands are run with."""

    def stop_all(self) -> float:
        """End all runners politely, the way it does; the seconds until it knows that all ended."""

    def close(self) -> None:
        """End everything."""


class Bench:
    """One run of the benchmarks."""

    def __init__(self, scale: Scale, scratch: Path, wanted: frozenset[str] = frozenset()) -> None:
        self.scale = scale
        self.scratch = scratch
        self._wanted = wanted
        self._places = 0

    def wants(self, *names: str) -> bool:
        """Whether one of these groups or rows was asked for."""
        return not self._wanted or any(name in self._wanted for name in names)

    def place(self) -> Path:
        """A new directory on the disk that is measured."""
        self._places += 1
        place = self.scratch / str(self._places)
        place.mkdir(mode=0o700, parents=True)
        return place


def environment(**more: str) -> dict[str, str]:
    """A small environment that is the same for all, and lets Python keep what it compiled."""
    kept = {name: os.environ[name] for name in ("PATH", "HOME", "USER") if name in os.environ}
    return {"LANG": "C.UTF-8", "TERM": "xterm-256color", "SHELL": "/bin/sh", **kept, **more}


def program(name: str) -> str | None:
    """An outside program: beside this Python, or on PATH."""
    beside = Path(sys.executable).with_name(name)
    return str(beside) if beside.exists() else shutil.which(name)


def scratch() -> Path:
    """A new directory beside the state of a real user: /tmp may be memory, where every disk is fast."""
    state = Path(os.environ.get("XDG_STATE_HOME") or Path.home() / ".local" / "state")
    state.mkdir(mode=0o700, parents=True, exist_ok=True)
    return Path(tempfile.mkdtemp(prefix="stratavore-benchmarks-", dir=state))
