"""What is asked of shims and what they answer, in the words of the daemon."""

from base64 import b64encode
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import NamedTuple, assert_never

from stratavore.discreet import Discreet
from stratavore.model import ShimId
from stratavore.process import Identity
from stratavore.shim.client import ExitRecord, Json


class SpawnFailed(Exception):
    """The program could not be started; nothing is left of the attempt."""

    def __init__(self, errno: int, text: str) -> None:
        super().__init__(text)
        self.errno = errno
        self.text = text


class ShimGone(Exception):
    """The shim that this is about does not live any more, or cannot be spoken to."""


class ZygoteFailed(Exception):
    """No new shim can be made."""


@dataclass(frozen=True, slots=True, repr=False)
class SpawnRequest(Discreet):
    """What a run is started with. `env` carries the marker `STRATAVORE_RUNNER=<runner id>`."""

    key: str
    """`<runner id>.<run number>`"""
    label: str
    """The runner's row as JSON; the shim gives it back."""
    argv: Sequence[str]
    env: Mapping[str, str]
    cwd: str
    umask: int = 0o022
    tty: bool = True
    rows: int = 24
    cols: int = 80
    log_cap_bytes: int | None = None
    """None: that of all runners."""
    oom_score_adj: int = 300

    def message(self, log_cap_bytes: int) -> Json:
        """As it goes over the socket; the cap is that of all runners."""
        cap = log_cap_bytes if self.log_cap_bytes is None else self.log_cap_bytes
        return {
            "op": "spawn", "key": self.key, "label": self.label, "argv": list(self.argv), "env": dict(self.env),
            "cwd": self.cwd, "umask": self.umask, "tty": self.tty, "rows": self.rows, "cols": self.cols,
            "log_cap_bytes": cap, "oom_score_adj": self.oom_score_adj,
        }  # fmt: skip


class Spawned(NamedTuple):
    """The process of a run."""

    pid: int
    start_time: int
    boot_id: str
    started_at: int
    """UTC, milliseconds."""
    ended: ExitRecord | None = None
    """Set if the same key was spawned before and its run has ended."""

    @property
    def who(self) -> Identity:
        """The process, as nobody else can be."""
        return Identity(self.boot_id, self.pid, self.start_time)


class Holding(NamedTuple):
    """A run that lives, as its shim tells it."""

    shim: ShimId
    key: str
    pid: int
    start_time: int
    boot_id: str
    started_at: int
    state: str
    """`running`, `paused`, `stopping`, or `ending` (reaped; its record comes)."""
    output_bytes: int
    tty: bool
    label: str | None = None
    """None where it was not asked for."""

    @property
    def who(self) -> Identity:
        """The process, as nobody else can be."""
        return Identity(self.boot_id, self.pid, self.start_time)


class Survey(NamedTuple):
    """What the shims hold, and which of them were able to say so."""

    held: dict[str, Holding | ExitRecord]
    """By key: a run that lives, or the exit of one."""
    answered: frozenset[ShimId]
    """Of a shim that is missing here nothing is known: silence is no loss."""


class Keys(NamedTuple):
    """A step of a stop: type this."""

    data: bytes
    wait_seconds: float


class Signal(NamedTuple):
    """A step of a stop: send this signal (`TERM`, `INT`, …) to the process, or to its process group."""

    name: str
    wait_seconds: float
    group: bool = False


class Part(NamedTuple):
    """A piece of a `send`: bytes, and the pause after them."""

    data: bytes
    pause_seconds: float = 0.0


def step_message(step: Keys | Signal) -> Json:
    """A step as it goes over the socket."""
    match step:
        case Keys():
            return {"keys": b64encode(step.data).decode(), "wait": step.wait_seconds}
        case Signal():
            return {"signal": step.name, "group": step.group, "wait": step.wait_seconds}
        case _:
            assert_never(step)


def part_message(part: Part) -> Json:
    """A part as it goes over the socket."""
    return {"data": b64encode(part.data).decode(), "pause": part.pause_seconds}
