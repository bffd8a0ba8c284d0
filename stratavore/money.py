"""US dollars, as people say them and as they are kept: in whole billionths, so that sums are exact."""

NANO = 10**9
"""So many of them are a dollar."""


def nano(usd: float) -> int:
    """US dollars as they are kept."""
    return round(usd * NANO)


def usd_of(nano_usd: float) -> float:
    """What is kept, in US dollars."""
    return nano_usd / NANO
