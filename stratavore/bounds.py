"""The least and the most of each kind of number that people say, on the command line and over the API.

Rule: what lies outside is refused where it is said, with these figures; nothing is cut down to fit, and whatever is
inside can be stored.

This module imports nothing of ours, so that the one-shot commands may load it.
"""

from typing import Generic, NamedTuple, TypeVar

N = TypeVar("N", bound=float)


class Bounds(NamedTuple, Generic[N]):
    """Both ends belong to it."""

    least: N
    most: N


SECONDS = Bounds(0.0, 366 * 86400.0)
SOME_SECONDS = Bounds(0.001, SECONDS.most)
"""Where no time at all would mean nothing."""
TOKENS = Bounds(1, 10**15)
USD = Bounds(0.000001, 1e9)
PERCENT = Bounds(0.1, 100.0)
THRESHOLD = Bounds(1, 100)
MOST_THRESHOLDS = 20
TURNS = Bounds(1, 10**6)
RESTARTS = Bounds(0, 10**6)
RUNNERS_AT_ONCE = Bounds(1, 4096)
SLOTS = Bounds(0, 100_000)
BYTES = Bounds(1, 1 << 50)
CPU_PERCENT = Bounds(0.1, 1e6)
LINES = Bounds(0, 10**9)
SEQ = Bounds(0, 2**63 - 1)
EVENTS = Bounds(1, 1000)
