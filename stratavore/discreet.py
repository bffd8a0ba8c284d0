"""Records that hold secrets and do not show them.

Rule 1: whatever prints a record (a log, a traceback, a debugger) prints its `repr`; what is not in it cannot leak.
"""

from collections.abc import Iterable, Mapping
from typing import Any


class Discreet:
    """Mixed into a Struct or dataclass: of a table of texts among its fields only the names are shown."""

    __slots__ = ()

    def __repr__(self) -> str:
        shown = ", ".join(f"{name}={value!r}" for name, value in self.__rich_repr__())
        return f"{type(self).__name__}({shown})"

    def __rich_repr__(self) -> Any:
        fields: Iterable[str] = getattr(self, "__struct_fields__", getattr(self, "__dataclass_fields__", ()))
        return ((name, _visible(getattr(self, name))) for name in fields)


def _visible(value: object) -> object:
    if isinstance(value, Mapping) and all(isinstance(item, str) for item in value.values()):
        return dict.fromkeys(value, "***")
    return value
