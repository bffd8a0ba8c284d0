"""Time and chance, as parameters.

Rule 1: nobody else asks the operating system for the time or for randomness, so that tests can give both.
Rule 2: what is shown to people is wall time; what decides is the boot clock, which counts suspended
time and never jumps.
"""

import random
import time
from datetime import UTC, datetime
from functools import lru_cache
from typing import Protocol

# Seeded by the operating system once: ids must be unique, not secret, and a system call for each would be felt.
_chance = random.Random()
_BASE32 = "abcdefghijklmnopqrstuvwxyz234567"


class Clock(Protocol):
    """Where a caller gets the time from."""

    def now(self) -> datetime:
        """Wall time, UTC."""
        ...

    def boottime(self) -> float:
        """Seconds since boot, suspension included."""
        ...


class SystemClock:
    """The clock of this machine."""

    def now(self) -> datetime:
        return datetime.now(UTC)

    def boottime(self) -> float:
        return time.clock_gettime(time.CLOCK_BOOTTIME)


@lru_cache(maxsize=16)  # what is written together bears the same moments
def iso(moment: datetime) -> str:
    """`moment` as it is stored: ISO 8601, UTC, milliseconds, so that text order is time order."""
    return moment.astimezone(UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")


def from_unix_ms(milliseconds: int) -> datetime:
    """The moment `milliseconds` after the Unix epoch."""
    return datetime.fromtimestamp(milliseconds / 1000, UTC)


def new_runner_id() -> str:
    """Ten random base32 characters."""
    return "".join(_chance.choices(_BASE32, k=10))


def new_event_id(now: datetime) -> str:
    """A UUID of version 7 (RFC 9562): 48 bits of Unix milliseconds, then chance."""
    value = (int(now.timestamp() * 1000) << 80) | _chance.getrandbits(80)
    value = (value & ~(0xF << 76)) | (0x7 << 76)
    value = (value & ~(0x3 << 62)) | (0x2 << 62)
    text = f"{value:032x}"
    return f"{text[:8]}-{text[8:12]}-{text[12:16]}-{text[16:20]}-{text[20:]}"


def chance() -> float:
    """A number in [0, 1)."""
    return _chance.random()
