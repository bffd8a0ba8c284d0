"""The directories that agents keep their records in, looked through without following symbolic links."""

import os
from collections.abc import Iterator
from pathlib import Path

DEEPEST = 8
"""Directories of directories in which agents' files are looked for: they use three, and whoever can write there can
make a thousand."""


def folders(parent: Path) -> list[Path]:
    """The directories in a directory, in order; none if there is no such directory."""
    return [Path(entry.path) for entry in _entries(parent) if entry.is_dir(follow_symlinks=False)]


def names(folder: Path, ending: str) -> list[str]:
    """The names in a directory that end so, in order, but for directories'."""
    found = _entries(folder)
    return [entry.name for entry in found if entry.name.endswith(ending) and not entry.is_dir(follow_symlinks=False)]


def files_below(folder: Path, ending: str, *, depth: int = DEEPEST) -> Iterator[Path]:
    """The files below a directory whose names end so, in the order of their paths; not those that lie deeper."""
    for entry in _entries(folder):
        if entry.is_dir(follow_symlinks=False):
            if depth > 0:
                yield from files_below(Path(entry.path), ending, depth=depth - 1)
        elif entry.name.endswith(ending):
            yield Path(entry.path)


def is_name(text: str) -> bool:
    """Whether a text may stand in a path as the name of one file."""
    return text not in ("", ".", "..") and "/" not in text and "\0" not in text


def _entries(folder: Path) -> "list[os.DirEntry[str]]":
    try:
        with os.scandir(folder) as entries:
            return sorted(entries, key=lambda entry: entry.name)
    except OSError:
        return []
