"""How people write spans and sizes: "10s", "5m", "64MiB", "2G". A bare number is seconds, or bytes.

Rule: `parse_…(render_…(value)) == value`, down to the microsecond; what cannot be read raises ValueError and never
becomes zero.
"""

import math
import re
from collections.abc import Mapping

_SPANS: Mapping[str, int] = {"d": 86400, "h": 3600, "m": 60, "s": 1}
_SIZES: Mapping[str, int] = {"T": 1 << 40, "G": 1 << 30, "M": 1 << 20, "K": 1 << 10}

_SPAN = re.compile(r"(\d+(?:\.\d+)?)\s*(ms|[smhd])")
_SIZE = re.compile(r"(\d+(?:\.\d+)?)\s*([KMGT]?)(?:iB|B)?", re.IGNORECASE)


def parse_seconds(raw: str | float) -> float:
    """Seconds of "10s", "1h30m", "500ms" or a number. Raises ValueError."""
    if isinstance(raw, int | float):
        return _finite(float(raw))
    text = raw.strip()
    parts = _SPAN.findall(text)
    if parts and _SPAN.sub("", text).strip() == "":
        return sum(float(number) * (0.001 if unit == "ms" else _SPANS[unit]) for number, unit in parts)
    return _finite(float(text))


def parse_bytes(raw: str | int) -> int:
    """Bytes of "64MiB", "2G", "512" or a number; K, M, G and T are powers of 1024. Raises ValueError."""
    if isinstance(raw, int):
        return raw
    found = _SIZE.fullmatch(raw.strip())
    if found is None:
        raise ValueError(raw)
    number, prefix = found.groups()
    size = float(number) * _SIZES.get(prefix.upper(), 1)
    if not size.is_integer():
        raise ValueError(raw)
    return int(size)


def render_seconds(seconds: float) -> str:
    """The shortest way to write it: 300.0 is "5m"."""
    for unit, length in _SPANS.items():
        if seconds >= length and seconds % length == 0:
            return f"{int(seconds // length)}{unit}"
    return f"{seconds:.6f}".rstrip("0").rstrip(".") + "s"


def render_bytes(size: int) -> str:
    """The shortest way to write it exactly: 67108864 is "64MiB"."""
    for unit, length in _SIZES.items():
        if size >= length and size % length == 0:
            return f"{size // length}{unit}iB"
    return f"{size}B"


def _finite(seconds: float) -> float:
    if not math.isfinite(seconds):
        raise ValueError(seconds)
    return seconds
