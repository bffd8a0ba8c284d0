"""All shims of this state directory, from the daemon's side.

Rule 1: nothing is kept here that the shims do not know. After a restart `start` finds them all again.
Rule 2: a shim is gone when its lock is free, never because it is silent: silent ones are flagged, and recover.
Rule 3: requests are pipelined. Many spawns to one shim wait for none of their replies.
Rule 4: new runners go only to shims forked by a zygote of this very build; older ones are spoken to, and drain.
"""

from stratavore.shims.fleet import Shims
from stratavore.shims.requests import (
    Holding,
    Keys,
    Part,
    ShimGone,
    Signal,
    Spawned,
    SpawnFailed,
    SpawnRequest,
    Survey,
    ZygoteFailed,
)

__all__ = [
    "Holding", "Keys", "Part", "ShimGone", "Shims", "Signal", "SpawnFailed", "SpawnRequest", "Spawned",
    "Survey", "ZygoteFailed",
]  # fmt: skip
