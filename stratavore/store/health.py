"""How the database is, in figures and in one word.

Rule 1: `ok` is the only condition that takes writes. The reason of every other one is a line for a person.
"""

from enum import StrEnum
from typing import NamedTuple


class Condition(StrEnum):
    """What the database can do."""

    OK = "ok"
    DEGRADED = "degraded"  # Writes are refused; it looks every few seconds whether they go again.
    FAILED = "failed"  # The disk lost something. Only a new process, with a check, may go on.
    CORRUPT = "corrupt"  # The file is damaged, a copy lies in quarantine.


class Health(NamedTuple):
    """The condition and why; the reason of `ok` is empty."""

    condition: Condition
    reason: str = ""


class Stats(NamedTuple):
    """Counters since the start, and what is so now."""

    writes: int  # functions answered with success
    commits: int  # batches
    refused: int  # functions answered with a storage fault
    commit_seconds: float  # spent in COMMIT, in all
    slowest_commit_seconds: float
    largest_batch: int
    checkpoints: int
    checkpoint_busy: int  # checkpoints that a reader held back
    wal_bytes: int
    queued: int
    longest_snapshot_seconds: float  # of the readers of this process, now
