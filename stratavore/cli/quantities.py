"""Numbers as they are typed: one type for each kind, with bounds.

Rule: what cannot be read, and what lies outside of the bounds, is wrong use, and is told with what is allowed.
"""

from collections.abc import Callable
from typing import Any, Generic, TypeVar

import click

from stratavore import bounds
from stratavore.bounds import Bounds

N = TypeVar("N", bound=float)
_LONGEST = 40


class Quantity(click.ParamType[N], Generic[N]):
    """A number of `what`: as `parse` reads it, within bounds that people read as `allowed`, written like `example`."""

    def __init__(
        self, name: str, what: str, parse: Callable[[str], N], within: Bounds[N], *, allowed: str, example: str
    ) -> None:
        self.name = name
        self._parse, self._within = parse, within
        self._must_be = f"is no {what} {allowed}; write {example}."

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> N:
        try:
            number = self._parse(str(value))
        except (ValueError, ArithmeticError):
            self.fail(f"{_short(value)} {self._must_be}", param, ctx)
        if not self._within.least <= number <= self._within.most:
            self.fail(f"{_short(value)} {self._must_be}", param, ctx)
        return number


class Whole(click.ParamType[int]):
    """A whole number within bounds."""

    name = "integer"

    def __init__(self, within: Bounds[int]) -> None:
        self._within = within

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> int:
        least, most = self._within
        try:
            number = int(str(value))
        except ValueError:
            number = least - 1
        if not least <= number <= most:
            self.fail(f"{_short(value)} is no whole number from {least} to {most:,}.", param, ctx)
        return number


class Amount(click.ParamType[tuple[str, float]]):
    """Tokens or dollars: `500ktok`, `2usd`."""

    name = "amount"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> tuple[str, float]:
        from stratavore.config.units import parse_amount

        try:
            unit, amount = parse_amount(str(value))
        except (ValueError, ArithmeticError):
            unit, amount = "", 0.0
        least, most = bounds.TOKENS if unit == "tokens" else bounds.USD
        if not least <= amount <= most:
            allowed = f"{_OF_TOKENS} tokens, or {_OF_USD} dollars"
            self.fail(f"{_short(value)} is no budget {allowed}; write 500ktok or 2usd.", param, ctx)
        return unit, amount


class Thresholds(click.ParamType[list[int]]):
    """Percentages between commas: `75,90`; empty for none."""

    name = "thresholds"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> list[int]:
        least, most = bounds.THRESHOLD
        try:
            shares = [int(word.strip().removesuffix("%")) for word in str(value).split(",") if word.strip()]
        except ValueError:
            shares = [least - 1]
        if any(not least <= share <= most for share in shares) or len(shares) > bounds.MOST_THRESHOLDS:
            self.fail(
                f"{_short(value)} are not at most {bounds.MOST_THRESHOLDS} whole percentages from {least} to {most}"
                " between commas; write 75,90.",
                param,
                ctx,
            )
        return shares


class BudgetNumber(click.ParamType[str]):
    """The number of a budget, as `budget list` shows it."""

    name = "budget"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> str:
        text = str(value)
        if not (text.isascii() and text.isdigit()):
            self.fail(f"{_short(value)} is no number of a budget; `stratavore budget list` shows them.", param, ctx)
        return text


def _short(value: Any) -> str:
    text = str(value)
    return repr(text if len(text) <= _LONGEST else f"{text[:_LONGEST]}…")


def _seconds(raw: str) -> float:
    from stratavore.config.units import parse_seconds

    return parse_seconds(raw)


def _bytes(raw: str) -> int:
    from stratavore.config.units import parse_bytes

    return parse_bytes(raw)


def _tokens(raw: str) -> int:
    from stratavore.config.units import parse_tokens

    return parse_tokens(raw)


def _usd(raw: str) -> float:
    from stratavore.config.units import parse_usd

    return parse_usd(raw)


def _share(raw: str) -> float:
    return float(raw.strip().removesuffix("%"))


def _span(within: Bounds[float], least: str) -> Quantity[float]:
    days = f"{bounds.SECONDS.most / 86400:.0f}d"
    return Quantity(
        "time", "span of time", _seconds, within, allowed=f"from {least} to {days}", example="30s, 5m, 2h or 1d"
    )


_OF_TOKENS = f"from {bounds.TOKENS.least} to {bounds.TOKENS.most:,}"
_OF_USD = f"from {bounds.USD.least:f} to {bounds.USD.most:,.0f}"
_OF_PERCENT = f"from {bounds.PERCENT.least:g} to {bounds.PERCENT.most:g}"
_OF_CPU = f"from {bounds.CPU_PERCENT.least:g} to {bounds.CPU_PERCENT.most:,.0f}"

SPAN = _span(bounds.SECONDS, "0s")
"""`10s`, `5m`, `1h30m`, or seconds."""
SOME_TIME = _span(bounds.SOME_SECONDS, "1ms")
"""The same where no time at all would mean nothing."""
SIZE = Quantity("size", "size", _bytes, bounds.BYTES, allowed="from 1 byte to 1024T", example="512M or 2G")
"""`512M`, `2G`, or bytes."""
SHARE = Quantity(
    "percent",
    "percentage",
    _share,
    bounds.CPU_PERCENT,
    allowed=_OF_CPU,
    example="150 for one core and a half",
)
"""CPU in percent of one core: `150` or `150%`."""
TOKENS = Quantity("tokens", "number of tokens", _tokens, bounds.TOKENS, allowed=_OF_TOKENS, example="500k or 2M")
"""`500k`, `2M`, or their number."""
USD = Quantity("usd", "amount of dollars", _usd, bounds.USD, allowed=_OF_USD, example="2 or 2.50")
"""US dollars: `2`, `2.50`."""
PERCENT = Quantity("percent", "percentage", _share, bounds.PERCENT, allowed=_OF_PERCENT, example="70 or 62.5")
"""Of an account's window: `70` or `70%`."""
AMOUNT, THRESHOLDS, BUDGET = Amount(), Thresholds(), BudgetNumber()
