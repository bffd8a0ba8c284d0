"""The configuration in words: the example file, and what `config show` prints.

Rule: both are made from the keys, so no key is missing and no default is told twice.
"""

import textwrap
from collections.abc import Iterator, Mapping

from stratavore.config.keys import KEYS, PROFILE_KEYS, SECTIONS, Key, render
from stratavore.config.load import Loaded, Source
from stratavore.config.settings import Profile, Section

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
        parts.append(_table(section, SECTIONS[section], keys))
    parts.append(_table("agents.claude-work", Profile, PROFILE_KEYS))
    return "\n".join(parts)


def render_all(loaded: Loaded, *, sources: bool = False) -> str:
    """The configuration in force as TOML; with `sources` each line says where its value came from."""
    lines: list[str] = []
    for section, rows in rows_of(loaded):
        lines += ["", f"[{section}]"]
        for name, value, source in rows:
            line = f"{name} = {value}"
            lines.append(f"{line:<40}  # {source}" if sources else line)
    return "\n".join(lines[1:]) + "\n"


def rows_of(loaded: Loaded) -> Iterator[tuple[str, list[tuple[str, str, Source]]]]:
    """Each section with its keys: name, value as TOML with secrets masked, source."""
    for section, keys in KEYS.items():
        yield section, _rows(section, getattr(loaded.config, section), keys, loaded.sources)
    for name, profile in loaded.config.agents.items():
        section = f"agents.{name}"
        known = {key: PROFILE_KEYS[key] for key in PROFILE_KEYS if f"{section}.{key}" in loaded.sources}
        yield section, _rows(section, profile, known, loaded.sources)


def _rows(
    section: str, values: Section, keys: Mapping[str, Key], sources: Mapping[str, Source]
) -> list[tuple[str, str, Source]]:
    return [
        (key.name, render(key, getattr(values, key.name)), sources[f"{section}.{key.name}"]) for key in keys.values()
    ]


def _table(section: str, struct: type[Section], keys: Mapping[str, Key]) -> str:
    lines = [f"# {struct.__doc__}", f"[{section}]" if section in KEYS else f"#[{section}]"]
    for key in keys.values():
        meaning = f"{key.meaning} (guarded)" if key.guarded else key.meaning
        lines += textwrap.wrap(meaning, 108, initial_indent="# ", subsequent_indent="# ", break_on_hyphens=False)
        lines.append(f"#{key.name} = {render(key, key.default)}")
    return "\n".join(lines) + "\n"
