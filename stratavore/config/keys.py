"""The keys of the configuration, derived from the Structs of `settings`, and how a value of each is read and written.

Rule: a value that does not fit is refused with what would fit; nothing is guessed, cut or rounded.
"""

import re
from collections.abc import Mapping
from enum import StrEnum
from typing import Any, NamedTuple, get_args, get_origin, get_type_hints

import msgspec

from stratavore.config import units
from stratavore.config.settings import Config, Section

_SAID = ("ge", "le", "pattern", "description")


class Key(NamedTuple):
    """One key of one section."""

    section: str
    name: str
    type: Any
    least: float | None
    most: float | None
    pattern: str | None
    default: Any
    meaning: str
    unit: str | None
    guarded: bool
    secret: bool

    @property
    def path(self) -> str:
        return f"{self.section}.{self.name}"

    @property
    def variable(self) -> str:
        """The environment variable that sets it, unless it is guarded."""
        return f"STRATAVORE_{self.section}_{self.name}".upper()


def _keys_of(section: str, struct: type[Section]) -> Mapping[str, Key]:
    hints = get_type_hints(struct, include_extras=True)
    defaults = struct()
    return {name: _key(section, name, hints[name], getattr(defaults, name)) for name in struct.__struct_fields__}


def _key(section: str, name: str, annotation: Any, default: Any) -> Key:
    bare, *metas = get_args(annotation)
    said = {what: value for meta in metas for what in _SAID if (value := getattr(meta, what)) is not None}
    extra: dict[str, Any] = {}
    for meta in metas:
        extra |= meta.extra or {}
    unit = extra.get("unit")
    return Key(
        section=section,
        name=name,
        type=bare,
        least=said.get("ge", 0 if unit else None),  # no span and no size is negative
        most=said.get("le"),
        pattern=said.get("pattern"),
        default=default,
        meaning=said["description"],
        unit=unit,
        guarded=extra.get("guarded", False),
        secret=extra.get("secret", False),
    )


class Table(NamedTuple):
    """A table of tables of one shape, each with a name that a person chose: `[agents.NAME]`."""

    struct: type[Section]
    keys: Mapping[str, Key]
    names: re.Pattern[str]
    example: str


_NAMES = {
    "agents": (re.compile(r"[A-Za-z0-9._][A-Za-z0-9._-]{0,63}"), "claude-work"),
    "prices": (re.compile(r"[!-~]{1,200}"), "some-model"),
}

SECTIONS: Mapping[str, type[Section]] = {
    name: hint for name, hint in get_type_hints(Config).items() if get_origin(hint) is not dict
}
KEYS: Mapping[str, Mapping[str, Key]] = {name: _keys_of(name, struct) for name, struct in SECTIONS.items()}
TABLES: Mapping[str, Table] = {
    name: Table(struct := get_args(hint)[1], _keys_of(f"{name}.NAME", struct), *_NAMES[name])
    for name, hint in get_type_hints(Config).items()
    if get_origin(hint) is dict
}
"""The tables of named tables."""

PROFILE_KEYS = TABLES["agents"].keys


def convert(key: Key, raw: object) -> Any:
    """The value of `key` that a file's `raw` means. Raises ValueError, whose text says what would fit."""
    try:
        if key.unit is not None and isinstance(raw, str | int | float) and not isinstance(raw, bool):
            raw = units.parse_seconds(raw) if key.unit == "seconds" else units.parse_bytes(_whole(raw))
        value = msgspec.convert(raw, key.type)
        if _fits(key, value):
            return value
    except (msgspec.ValidationError, ValueError):
        pass
    raise ValueError(f"{_expected(key)}, not {_shown(key, raw)}")


def from_text(key: Key, text: str) -> Any:
    """The value of `key` that an environment variable's text means. Raises ValueError as `convert` does."""
    raw: object = text
    if key.type is bool:
        raw = {"true": True, "1": True, "yes": True, "false": False, "0": False, "no": False}.get(text.lower(), text)
    elif get_origin(key.type) is tuple:
        raw = [name.strip() for name in text.split(",") if name.strip()]
    elif key.unit is None and key.type in (int, float):
        raw = _number(text)
    return convert(key, raw)


def render(key: Key, value: Any) -> str:
    """The value as TOML writes it, short enough for people; secrets are masked."""
    if key.secret:
        value = dict.fromkeys(value, "***")
    elif key.unit == "seconds":
        value = units.render_seconds(value)
    elif key.unit == "bytes":
        value = units.render_bytes(value)
    return toml(value)


def header(*path: str) -> str:
    """The line that begins a table."""
    return f"[{'.'.join(part if re.fullmatch('[A-Za-z0-9_-]+', part) else _quoted(part) for part in path)}]"


def toml(value: Any) -> str:
    """A TOML literal. Text with a backslash is written as it is read, between single quotes."""
    match value:
        case bool():
            return "true" if value else "false"
        case str():
            literal = "\\" in value and "'" not in value and value.isprintable()
            return f"'{value}'" if literal else _quoted(value)
        case tuple() | list():
            return f"[{', '.join(toml(item) for item in value)}]"
        case dict():
            return "{ " + ", ".join(f"{_quoted(k)} = {toml(v)}" for k, v in value.items()) + " }" if value else "{}"
        case _:
            return repr(value)


def _quoted(text: str) -> str:
    return msgspec.json.encode(str(text)).decode().replace("\x7f", "\\u007f")


def _whole(raw: str | float) -> str | int:
    if isinstance(raw, float):
        raise ValueError(raw)
    return raw


def _number(text: str) -> object:
    for read in (int, float):
        try:
            return read(text)
        except ValueError:
            continue
    return text


def _fits(key: Key, value: Any) -> bool:
    return (
        (key.least is None or value >= key.least)
        and (key.most is None or value <= key.most)
        and (key.pattern is None or re.fullmatch(key.pattern, value) is not None)
    )


def _expected(key: Key) -> str:
    between = "" if key.least is None else f" of at least {_bound(key, key.least)}"
    between += "" if key.most is None else f" and at most {_bound(key, key.most)}"
    match key.unit:
        case "seconds":
            return f'must be a span such as "10s", "5m" or "2h"{between}'
        case "bytes":
            return f'must be a size such as "64MiB" or "2G"{between}'
    if isinstance(key.type, type) and issubclass(key.type, StrEnum):
        return f"must be one of {', '.join(key.type)}"
    return f"must be {_KINDS[get_origin(key.type) or key.type]}{between}"


_KINDS: Mapping[Any, str] = {
    bool: "true or false",
    int: "a whole number",
    float: "a number",
    str: "text without leading, trailing or double blanks",
    tuple: "a list of texts",
    dict: 'a table such as { NAME = "value" }',
}


def _bound(key: Key, bound: float) -> str:
    match key.unit:
        case "seconds":
            return units.render_seconds(bound)
        case "bytes":
            return units.render_bytes(int(bound))
        case _:
            return str(bound)


def _shown(key: Key, raw: object) -> str:
    return "what stands there" if key.secret else repr(raw) if not isinstance(raw, bool) else toml(raw)
