"""What models cost: the dated table `prices.toml`, and what the configuration says instead.

Rule 1: a model that is not known has no price; nothing is guessed from a name that is like it.
Rule 2: the price of a call is the one that held when it was made.
Rule 3: a call for which its provider was paid to be faster costs a multiple, where that is known.
Rule 4: what the configuration says of a model holds for every moment, and for its dated names too.
"""

import re
from collections.abc import Collection, Iterator, Mapping
from pathlib import Path
from typing import NamedTuple, Protocol

import msgspec

from stratavore.agents.records import FAST
from stratavore.money import nano
from stratavore.store.usage import Price

_TABLE = Path(__file__).with_name("prices.toml")
# What agents and providers hang behind the id of a model: [1m], -20260115, -2026-01-15, -latest.
_SUFFIX = re.compile(r"(\[[a-z0-9]+\]|-20\d{6}|-20\d{2}-\d{2}-\d{2}|-latest)$")


class InConfig(Protocol):
    """`[prices."MODEL"]`: US dollars for a million tokens; a cache that costs nothing costs as input does."""

    @property
    def input(self) -> float: ...
    @property
    def output(self) -> float: ...
    @property
    def cache_write_5m(self) -> float: ...
    @property
    def cache_write_1h(self) -> float: ...
    @property
    def cache_read(self) -> float: ...


class _Classes(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """US dollars for a million tokens; None: as input."""

    input: float
    output: float
    cache_write_5m: float | None = None
    cache_write_1h: float | None = None
    cache_read: float | None = None

    def price(self) -> Price:
        each = (self.input, self.output, self.cache_write_5m, self.cache_write_1h, self.cache_read)
        return Price(*(nano(self.input if usd is None else usd) for usd in each))


class _Above(_Classes, frozen=True, kw_only=True):
    tokens: int


class _Row(_Classes, frozen=True, kw_only=True):
    fast: int | None = None
    """How many times as much a call costs for which its provider was paid to be faster; None: not known."""
    models: list[str]
    since: str = ""
    above: _Above | None = None


class _File(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    as_of: str
    price: list[_Row]


class _Since(NamedTuple):
    """What a model cost from a day on."""

    day: str
    price: Price
    above_tokens: int | None
    above_price: Price
    fast: int | None


class Prices:
    """The prices of all models that have one."""

    def __init__(self, configured: Mapping[str, InConfig] | None = None) -> None:
        table = msgspec.toml.decode(_TABLE.read_bytes(), type=_File)
        self.as_of = table.as_of
        """The day on which the table was made."""
        self._known: dict[str, list[_Since]] = {}
        for row in sorted(table.price, key=lambda row: row.since, reverse=True):
            above = row.above or row
            tokens = row.above.tokens if row.above else None
            for model in row.models:
                self._known.setdefault(model, []).append(
                    _Since(row.since, row.price(), tokens, above.price(), row.fast)
                )
        self.configured = {model: _of(said) for model, said in (configured or {}).items()}
        """What the configuration says, by the names under which it says it."""

    def __call__(self, model: str, at: str, prompt_tokens: int = 0) -> Price | None:
        """What a call with a prompt of that size cost at that moment (as `clock.iso` writes it); None: not known."""
        if model.endswith(FAST) and model not in self.configured:
            return self._of_fast(model.removesuffix(FAST), at, prompt_tokens)
        for name in _names(model):
            if name in self.configured:
                return self.configured[name]
            if (row := self._row(name, at)) is not None:
                is_above = row.above_tokens is not None and prompt_tokens > row.above_tokens
                return row.above_price if is_above else row.price
        return None

    def has(self, model: str, at: str) -> bool:
        """Whether calls of that model can be priced."""
        return self(model, at) is not None

    def deciding(self, model: str, said: Collection[str]) -> str | None:
        """Under which of these names a configuration that says them decides what that model costs; None: the table."""
        if model.endswith(FAST) and model not in said:
            model = model.removesuffix(FAST)
        known = next((name for name in _names(model) if name in said or name in self._known), None)
        return known if known in said else None

    def _row(self, name: str, at: str) -> _Since | None:
        return next((row for row in self._known.get(name, ()) if row.day <= at), None)

    def _of_fast(self, model: str, at: str, prompt_tokens: int) -> Price | None:
        """So many times what it costs else, as the table says, whoever says what that is."""
        price = self(model, at, prompt_tokens)
        row = next(filter(None, (self._row(name, at) for name in _names(model))), None)
        if price is None or row is None or row.fast is None:
            return None
        return Price(*(each * row.fast for each in price))


def _names(model: str) -> Iterator[str]:
    """The id as it was told, then without what hangs behind it."""
    yield model
    while (shorter := _SUFFIX.sub("", model)) != model:
        yield shorter
        model = shorter


def _of(said: InConfig) -> Price:
    caches = (said.cache_write_5m, said.cache_write_1h, said.cache_read)
    each = (said.input, said.output, *(usd or said.input for usd in caches))
    return Price(*(nano(usd) for usd in each))
