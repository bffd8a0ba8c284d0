"""A runner's own directory: its environment, and the small files that its agent was given.

Rule 1: directories are 0700 and files 0600, from the first moment on.
Rule 2: a file is whole or absent: it is written beside its place and renamed.
"""

import json
import os
import shutil
from collections.abc import Iterable, Mapping
from functools import lru_cache
from pathlib import Path

from stratavore.errors import Invalid

_ENVIRONMENT = "env.json"


def write_environment(directories: Iterable[Path], environment: Mapping[str, str]) -> None:
    """Keep the environment of these new runners for their starts."""
    content = json.dumps(dict(environment)).encode()
    for directory in directories:
        os.mkdir(directory, 0o700)
        write_private(directory / _ENVIRONMENT, content)


def read_environment(directory: Path) -> dict[str, str]:
    """The environment that was kept.

    Raises:
        Invalid: it has gone, or cannot be read.
    """
    path = f"{directory}/{_ENVIRONMENT}"
    try:
        with open(path, "rb") as file:
            return dict(_parsed(file.read()))
    except (OSError, ValueError) as problem:
        raise Invalid(
            f"the environment file {path} cannot be read: {problem}", remedy="launch it anew"
        ) from None


@lru_cache(maxsize=8)
def _parsed(content: bytes) -> dict[str, str]:
    """Many runners are launched with the same environment: it is parsed once."""
    return {str(name): str(value) for name, value in json.loads(content).items()}


def write_private(path: Path, content: bytes) -> None:
    """Write a 0600 file at once and whole."""
    beside = f"{path}.new"
    fd = os.open(beside, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_NOFOLLOW | os.O_CLOEXEC, 0o600)
    with open(fd, "wb") as file:  # on a full disk `os.write` may write a part and say nothing
        file.write(content)
    os.replace(beside, path)


def remove(directory: Path) -> int:
    """Remove a runner's directory; returns the bytes that it held."""
    freed = sum(file.stat().st_size for file in directory.rglob("*") if file.is_file())
    shutil.rmtree(directory, ignore_errors=True)
    return freed


def remove_log(log: str) -> int:
    """Remove the output of one run and its sidecar; returns the bytes on disk that it held."""
    freed = 0
    for path in (Path(log), Path(log + ".idx")):
        try:
            freed += path.stat().st_blocks * 512
            path.unlink()
        except OSError:
            continue
    return freed
