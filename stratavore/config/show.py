"""The configuration in words: the example file, and what `config show` prints.

Rule: both are made from the keys, so no key is missing and no default is told twice.
"""

import textwrap
from collections.abc import Iterator, Mapping

from stratavore.config.keys import KEYS, SECTIONS, TABLES, Key, header, render
from stratavore.config.load import Loaded, Source
from stratavore.config.settings import Section

_HEAD = """\
# Every key of the configuration with its default. Made from the program by `python -m stratavore.config`.
#
# Read in this order, later ones win: the defaults, /etc/stratavore/config.toml, ~/.config/stratavore/config.toml (or
# $STRATAVORE_HOME/config.toml), the file named with --config, and variables such as STRATAVORE_DAEMON_LOG_LEVEL=debug.
# A key marked "guarded" decides what runs or who may: it counts only in a file that you own with mode 0600.
# Spans are written "10s", "5m", "2h" or "30d", sizes "64MiB" or "2G"; a bare number is seconds, or bytes.
"""


def example() -> str:
    """The text of config.example.toml."""
    parts = [_HEAD]
    for section, keys in KEYS.items():
        parts.append(_table(header(section), SECTIONS[section], keys))
    for name, table in TABLES.items():
        parts.append(_table(f"#{header(name, table.example)}", table.struct, table.keys))
    return "\n".join(parts)


def render_all(loaded: Loaded, *, sources: bool = False) -> str:
    """The configuration in force as TOML; with `sources` each line says where its value came from."""
    lines: list[str] = []
    for section, rows in rows_of(loaded):
        lines += ["", header(*section.split(".", 1))]
        for name, value, source in rows:
            line = f"{name} = {value}"
            lines.append(f"{line:<40}  # {source}" if sources else line)
    return "\n".join(lines[1:]) + "\n"


def rows_of(loaded: Loaded) -> Iterator[tuple[str, list[tuple[str, str, Source]]]]:
    """Each section with its keys: name, value as TOML with secrets masked, source."""
    for section, keys in KEYS.items():
        yield section, _rows(section, getattr(loaded.config, section), keys, loaded.sources)
    for table, (_, keys, _, _) in TABLES.items():
        for name, values in getattr(loaded.config, table).items():
            section = f"{table}.{name}"
            known = {key: keys[key] for key in keys if f"{section}.{key}" in loaded.sources}
            yield section, _rows(section, values, known, loaded.sources)


def _rows(
    section: str, values: Section, keys: Mapping[str, Key], sources: Mapping[str, Source]
) -> list[tuple[str, str, Source]]:
    return [
        (key.name, render(key, getattr(values, key.name)), sources[f"{section}.{key.name}"]) for key in keys.values()
    ]


def _table(head: str, struct: type[Section], keys: Mapping[str, Key]) -> str:
    said = " ".join((struct.__doc__ or "").split())
    lines = [*textwrap.wrap(said, 108, initial_indent="# ", subsequent_indent="# "), head]
    for key in keys.values():
        meaning = f"{key.meaning} (guarded)" if key.guarded else key.meaning
        lines += textwrap.wrap(meaning, 108, initial_indent="# ", subsequent_indent="# ", break_on_hyphens=False)
        lines.append(f"#{key.name} = {render(key, key.default)}")
    return "\n".join(lines) + "\n"
