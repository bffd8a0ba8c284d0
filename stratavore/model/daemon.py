"""The supervising process, and what happened, as the API tells of them."""

from datetime import datetime
from enum import StrEnum
from typing import Any

from stratavore.model.base import Public


class Durability(StrEnum):
    """What a reply promises against power loss; against crashes and SIGKILL both promise everything."""

    FULL = "full"  # An answered write is on the disk.
    NORMAL = "normal"  # The newest writes may roll back, each whole.


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
    transcript_bytes: int
    """Of the copies; not of what the agents have."""
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
