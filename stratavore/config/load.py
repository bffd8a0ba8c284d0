"""Reading the configuration: defaults < /etc < the user's file < `--config FILE` < STRATAVORE_<SECTION>_<KEY>.

Rule 1: what is wrong names the file, the line and the key, and what would be right; nothing unknown is ignored.
Rule 2: a guarded key counts only from a file that this user owns and nobody else may touch. The file is judged by the
descriptor it is read from, so it cannot be exchanged in between.
Rule 3: a later layer replaces a key whole: tables and lists are not merged.
"""

import difflib
import os
import re
import stat
import tomllib
from collections.abc import Iterable, Iterator, Mapping
from enum import StrEnum
from pathlib import Path
from typing import Any, NamedTuple, TypeVar

from stratavore.config.keys import KEYS, SECTIONS, TABLES, Key, convert, from_text
from stratavore.config.positions import key_lines, line_of
from stratavore.config.settings import Config, Section
from stratavore.errors import Misconfigured
from stratavore.paths import SYSTEM_CONFIG, Paths

_S = TypeVar("_S", bound=Section)


class Kind(StrEnum):
    """The layers, later ones before earlier ones."""

    DEFAULT = "default"
    SYSTEM = "system"
    USER = "user"
    FILE = "file"
    ENVIRONMENT = "environment"


class Source(NamedTuple):
    """Where the value of a key came from."""

    kind: Kind
    file: Path | None = None
    line: int | None = None
    variable: str | None = None

    def __str__(self) -> str:
        if self.file is not None:
            return str(self.file) if self.line is None else f"{self.file}:{self.line}"
        return self.variable or self.kind.value


class Loaded(NamedTuple):
    """The configuration in force, the source of every key by its path (`daemon.autostart`), and what was read."""

    config: Config
    sources: Mapping[str, Source]
    files: tuple[Path, ...] = ()


class _Setting(NamedTuple):
    section: str
    name: str
    value: Any
    source: Source


class _File(NamedTuple):
    """A file as it was read; `distrust` says why it may not hold guarded keys, if it may not."""

    path: Path
    kind: Kind
    tables: Mapping[str, Any]
    lines: Mapping[tuple[str, ...], int]
    distrust: str | None

    def source(self, *path: str) -> Source:
        return Source(self.kind, self.path, line_of(self.lines, path))


def load(paths: Paths, extra: Path | None, environ: Mapping[str, str], *, system: Path = SYSTEM_CONFIG) -> Loaded:
    """Read every layer. Raises Misconfigured at the first thing that is wrong."""
    files = [_read(system, Kind.SYSTEM), _read(paths.user_config, Kind.USER)]
    if extra is not None:
        files.append(_read(extra, Kind.FILE))
        if files[-1] is None:
            raise Misconfigured(f"{extra}: there is no such file", remedy="name a file that is there")
    settings = [setting for file in files if file is not None for setting in _from_file(file)]
    read = tuple(file.path for file in files if file is not None)
    return _assemble([*settings, *_from_environment(environ)])._replace(files=read)


def _assemble(settings: list[_Setting]) -> Loaded:
    values: dict[str, dict[str, Any]] = {}
    sources = {key.path: Source(Kind.DEFAULT) for keys in KEYS.values() for key in keys.values()}
    for setting in settings:
        values.setdefault(setting.section, {})[setting.name] = setting.value
        sources[f"{setting.section}.{setting.name}"] = setting.source
    sections: dict[str, Any] = {
        name: _build(struct, name, values.get(name, {}), sources) for name, struct in SECTIONS.items()
    }
    tables: dict[str, Any] = {table: {} for table in TABLES}
    for section, found in values.items():
        table, _, name = section.partition(".")
        if name:
            tables[table][name] = _build(TABLES[table].struct, section, found, sources)
    return Loaded(Config(**sections, **tables), sources)


def _build(struct: type[_S], section: str, values: dict[str, Any], sources: Mapping[str, Source]) -> _S:
    try:
        return struct(**values)
    except ValueError as wrong:
        where = ", ".join(str(sources[f"{section}.{name}"]) for name in values if name in str(wrong))
        concerned = [name for name in struct.__struct_fields__ if re.search(rf"\b{name}\b", str(wrong))]
        remedy = "change one of the two" if len(concerned) > 1 else "correct that line"
        raise Misconfigured(f"{where}: [{section}] {wrong}", remedy=remedy) from None


def _from_file(file: _File) -> Iterator[_Setting]:
    for name, table in file.tables.items():
        if name in TABLES:
            for chosen in _table(file, (name,), table):
                if not TABLES[name].names.fullmatch(chosen):
                    raise Misconfigured(f"{file.source(name, chosen)}: {chosen!r} is no name for one of {name}")
                yield from _from_table(file, (name, chosen), table[chosen], TABLES[name].keys)
        elif name in KEYS:
            yield from _from_table(file, (name,), table, KEYS[name])
        else:
            raise _unknown(file.source(name), (name,), [*KEYS, *TABLES])


def _from_table(file: _File, path: tuple[str, ...], table: object, known: Mapping[str, Key]) -> Iterator[_Setting]:
    section = ".".join(path)
    for name, raw in _table(file, path, table).items():
        source = file.source(*path, name)
        key = known.get(name)
        if key is None:
            raise _unknown(source, (*path, name), known)
        if key.guarded and file.distrust is not None:
            why, remedy = (
                file.distrust,
                f"`chmod 600 {file.path}`, or move the key to a file of your own with that mode",
            )
            raise Misconfigured(f"{source}: {section}.{name} is not taken from a file that {why}", remedy=remedy)
        try:
            yield _Setting(section, name, convert(key, raw), source)
        except ValueError as wrong:
            raise Misconfigured(f"{source}: {section}.{name} {wrong}", remedy="correct that line") from None


def _from_environment(environ: Mapping[str, str]) -> Iterator[_Setting]:
    """The keys that variables set; an empty variable sets nothing. STRATAVORE_HOME and its like are no keys."""
    known = {key.variable: key for keys in KEYS.values() for key in keys.values()}
    prefixes = tuple(f"STRATAVORE_{section.upper()}_" for section in (*KEYS, *TABLES))
    for variable in filter(environ.get, environ):
        key = known.get(variable)
        if variable.startswith("STRATAVORE_AGENTS_") or (key is not None and key.guarded):
            raise Misconfigured(
                f"{variable}: this key is not taken from the environment, as it decides what runs or who may",
                remedy="write it to your config.toml with mode 0600, and unset the variable",
            )
        source = Source(Kind.ENVIRONMENT, variable=variable)
        if key is not None:
            try:
                yield _Setting(key.section, key.name, from_text(key, environ[variable]), source)
            except ValueError as wrong:
                raise Misconfigured(f"{variable} {wrong}", remedy="correct or unset the variable") from None
        elif variable.startswith(prefixes):
            raise _unknown(source, (variable,), known)


def _read(path: Path, kind: Kind) -> _File | None:
    """The file, or None if there is none. It is judged by the descriptor that it is read from."""
    try:
        with path.open("rb") as file:
            distrust = _distrust(os.fstat(file.fileno()))
            toml = file.read().decode()
    except (FileNotFoundError, NotADirectoryError):
        return None
    except UnicodeDecodeError as wrong:
        raise Misconfigured(f"{path}: not UTF-8 text at byte {wrong.start}", remedy="save it as UTF-8") from None
    except OSError as wrong:
        raise Misconfigured(f"{path}: cannot be read: {wrong.strerror}", remedy="make it readable to you") from None
    try:
        return _File(path, kind, tomllib.loads(toml), key_lines(toml), distrust)
    except tomllib.TOMLDecodeError as wrong:
        text, _, position = str(wrong).partition(" (at ")
        line = re.match(r"line (\d+)", position)
        number = int(line[1]) if line else toml.count("\n") + 1
        raise Misconfigured(f"{path}:{number}: not TOML: {text}", remedy="correct that line") from None


def _distrust(file: os.stat_result) -> str | None:
    if file.st_uid != os.geteuid():
        return "belongs to another user"
    if stat.S_IMODE(file.st_mode) & 0o077:
        return f"others may open (its mode is {stat.S_IMODE(file.st_mode):04o})"
    return None


def _table(file: _File, path: tuple[str, ...], found: object) -> dict[str, Any]:
    if not isinstance(found, dict):
        name = ".".join(path)
        raise Misconfigured(f"{file.source(*path)}: {name} is a table", remedy=f"write `[{name}]`, and its keys below")
    return found


def _unknown(source: Source, path: tuple[str, ...], known: Iterable[str]) -> Misconfigured:
    """What to say of an unknown key: the nearest known one of its table, or the tables that have one of that name."""
    *table, name = path
    near = [".".join((*table, match)) for match in difflib.get_close_matches(name, list(known), n=1)]
    near = near or [f"{section}.{name}" for section, keys in KEYS.items() if name in keys]
    remedy = f"did you mean {' or '.join(near)}?" if near else "config.example.toml lists every key"
    where = "" if source.kind is Kind.ENVIRONMENT else f"{source}: "
    return Misconfigured(f"{where}there is no key {'.'.join(path)}", remedy=remedy)
