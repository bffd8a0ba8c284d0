"""Rows of the database as Structs, and values of Structs as columns."""

from datetime import datetime
from enum import Enum
from functools import cache
from typing import Any, TypeVar, get_origin

import msgspec

from stratavore.clock import iso
from stratavore.store.database import Row

S = TypeVar("S", bound=msgspec.Struct)
_PLAIN = frozenset({str, int, float, type(None)})


def load(cls: type[S], row: Row) -> S:
    """`row` as a `cls`; columns of list and dict fields hold JSON text, surplus columns are passed over.

    Raises:
        msgspec.ValidationError: the row does not fit, which is a bug.
    """
    json_fields = _json_fields(cls)
    if json_fields:
        row = {**row, **{name: msgspec.json.decode(row[name]) for name in json_fields}}
    return msgspec.convert(row, cls, strict=False)


@cache
def _json_fields(cls: type[msgspec.Struct]) -> tuple[str, ...]:
    fields = msgspec.structs.fields(cls)
    return tuple(field.name for field in fields if get_origin(field.type) in (list, dict, tuple))


def column(value: Any) -> Any:
    """`value` as SQLite stores it: enums by value, times and containers (as JSON) as text, booleans as 0 and 1."""
    if type(value) in _PLAIN:  # most are, and a match asks one class after the other
        return value
    match value:
        case bool():
            return int(value)
        case Enum():
            return value.value
        case datetime():
            return iso(value)
        case list() | dict() | tuple():
            return msgspec.json.encode(value).decode()
        case _:
            return value
