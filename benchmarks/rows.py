"""A line of the table: a figure of ours, the floor, the peers, what was to be reached, and whether it was.

Rule 1: a row is made from measurements only; whether the target is reached is computed here, for all rows alike.
"""

import statistics
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Self


class Better(StrEnum):
    """Which way is good."""

    HIGHER = "higher"
    LOWER = "lower"


@dataclass(frozen=True, slots=True)
class Figure:
    """One measured value: the median (or another quantile) of `runs` measurements, and their extremes."""

    value: float
    low: float
    high: float
    runs: int

    @classmethod
    def of(cls, values: Iterable[float]) -> Self:
        """The median of some measurements."""
        return cls.quantile(values, 0.5)

    @classmethod
    def quantile(cls, values: Iterable[float], part: float) -> Self:
        """The value below which `part` of the measurements lie."""
        ordered = sorted(values)
        chosen = statistics.median(ordered) if part == 0.5 else ordered[int(part * (len(ordered) - 1) + 0.5)]
        return cls(chosen, ordered[0], ordered[-1], len(ordered))

    def times(self, factor: float) -> Self:
        """The same in another unit."""
        return type(self)(self.value * factor, self.low * factor, self.high * factor, self.runs)

    def rate(self, count: float) -> Self:
        """Seconds for `count` things as things a second."""
        return type(self)(count / self.value, count / self.high, count / self.low, self.runs)

    def __str__(self) -> str:
        if self.runs == 1 or self.low == self.high:
            return _short(self.value)
        return f"{_short(self.value)} ({_short(self.low)}–{_short(self.high)})"


Peers = Mapping[str, Figure | str]
"""By the peer's name; a text where it has no such figure, and says why."""


@dataclass(frozen=True, slots=True)
class Target:
    """What is to be reached, in words and as the number that this run makes of it."""

    text: str
    limit: float


@dataclass(frozen=True, slots=True, kw_only=True)
class Row:
    """One line of the table."""

    name: str
    what: str
    unit: str
    better: Better
    ours: Figure
    floor: Figure | None
    floor_is: str
    peers: Peers = field(default_factory=dict)
    target: Target | None = None
    notes: Sequence[str] = ()

    @property
    def ratio(self) -> float | None:
        """Ours as a multiple of the floor."""
        return self.ours.value / self.floor.value if self.floor is not None and self.floor.value else None

    @property
    def is_reached(self) -> bool | None:
        """Whether the target is reached; None without one."""
        if self.target is None:
            return None
        if self.better is Better.HIGHER:
            return self.ours.value >= self.target.limit
        return self.ours.value <= self.target.limit


def best(better: Better, peers: Peers) -> float | None:
    """The best figure among the peers, if one has any."""
    values = [peer.value for peer in peers.values() if isinstance(peer, Figure)]
    if not values:
        return None
    return max(values) if better is Better.HIGHER else min(values)


def _short(value: float) -> str:
    """Three digits that mean something."""
    if value == 0 or abs(value) >= 100:
        return f"{value:,.0f}"
    return f"{value:.1f}" if abs(value) >= 10 else f"{value:.2f}"
