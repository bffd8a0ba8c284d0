"""How people write spans, sizes and amounts: "10s", "5m", "64MiB", "2G", "500k" tokens, "2.50" dollars. A bare number
is seconds, bytes, tokens or dollars.

Rule: `parse_…(render_…(value)) == value`, down to the microsecond; what cannot be read raises ValueError and never
becomes zero.
"""

import math
import re
from collections.abc import Mapping
from decimal import Decimal

_SPANS: Mapping[str, int] = {"d": 86400, "h": 3600, "m": 60, "s": 1}
_SIZES: Mapping[str, int] = {"T": 1 << 40, "G": 1 << 30, "M": 1 << 20, "K": 1 << 10}

_THOUSANDS: Mapping[str, int] = {"k": 10**3, "m": 10**6, "g": 10**9}
_TOKENS = re.compile(r"(\d+(?:\.\d+)?)\s*([kmg]?)\s*(?:tok|tokens?)?", re.IGNORECASE)
_USD = re.compile(r"\$?\s*(\d+(?:\.\d+)?)\s*(?:usd|\$)?", re.IGNORECASE)

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


def parse_tokens(raw: str) -> int:
    """Tokens of "500k", "2M", "1.5Mtok" or a number; k, M and G are powers of 1000. Raises ValueError."""
    found = _TOKENS.fullmatch(raw.strip().replace("_", "").replace(",", ""))
    if found is None:
        raise ValueError(raw)
    number, prefix = found.groups()
    count = Decimal(number) * _THOUSANDS.get(prefix.lower(), 1)
    if count != int(count):
        raise ValueError(raw)
    return int(count)


def parse_usd(raw: str) -> float:
    """US dollars of "2", "2.50", "$2" or "2usd". Raises ValueError."""
    found = _USD.fullmatch(raw.strip())
    if found is None:
        raise ValueError(raw)
    return float(found[1])


def parse_amount(raw: str) -> tuple[str, float]:
    """`tokens` or `usd`, and how many: "500ktok", "2usd", "$2"; the unit must be said. Raises ValueError."""
    text = raw.strip().lower()
    if text.startswith("$") or text.endswith(("usd", "$")):
        return "usd", parse_usd(text)
    if text.endswith(("tok", "token", "tokens")):
        return "tokens", parse_tokens(text)
    raise ValueError(raw)


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
