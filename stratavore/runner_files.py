"""What a runner has on the disk: its environment, the small files that its agent was given, its output.

Rule 1: directories are 0700 and files 0600, from the first moment on.
Rule 2: a file is whole or absent: it is written beside its place and renamed.
Rule 3: an environment is written once and never changed, so those launched together have links to one file. To make
a thousand files costs more than to start a thousand runners.
"""

import json
import os
import shutil
from collections.abc import Collection, Mapping, Sequence
from functools import lru_cache
from pathlib import Path

from stratavore.errors import Invalid
from stratavore.paths import Paths


def write_environment(paths: Paths, runner_ids: Sequence[str], environment: Mapping[str, str]) -> None:
    """Keep the environment of these new runners, which are launched together, for their starts."""
    first, *others = (str(paths.environment(runner_id)) for runner_id in runner_ids)
    _write_private(first, json.dumps(dict(environment)).encode())
    for other in others:
        os.link(first, other)


def read_environment(paths: Paths, runner_id: str) -> dict[str, str]:
    """The environment that was kept.

    Raises:
        Invalid: it has gone, or cannot be read.
    """
    path = paths.environment(runner_id)
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


def write_files(directory: Path, files: Mapping[str, str]) -> None:
    """Write what the agent wants to find in the runner's directory, which is made if it wants anything."""
    if files:
        directory.mkdir(mode=0o700, exist_ok=True)
    for name, content in files.items():
        _write_private(str(directory / name), content.encode())


def _write_private(path: str, content: bytes) -> None:
    """Write a 0600 file at once and whole."""
    beside = f"{path}.new"
    fd = os.open(beside, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_NOFOLLOW | os.O_CLOEXEC, 0o600)
    with open(fd, "wb") as file:  # on a full disk `os.write` may write a part and say nothing
        file.write(content)
    os.replace(beside, path)


def remove(paths: Paths, runner_id: str) -> int:
    """Remove what a runner has besides its output; returns the bytes that it held."""
    directory = paths.runner(runner_id)
    freed = sum(file.stat().st_size for file in directory.rglob("*") if file.is_file())
    shutil.rmtree(directory, ignore_errors=True)
    return freed + _unlink(paths.environment(runner_id))


def remove_strangers(paths: Paths, known: Collection[str]) -> int:
    """Remove the environments of runners that nobody knows: their launch was cut off before it was committed.

    Only while no launch is under way. Returns how many there were.
    """
    strangers = [entry.name for entry in paths.environments.iterdir() if entry.name not in known]
    for name in strangers:
        _unlink(paths.environments / name)
    return len(strangers)


def remove_log(log: str) -> int:
    """Remove the output of one run and its sidecar; returns the bytes on disk that it held."""
    return _unlink(Path(log)) + _unlink(Path(log + ".idx"))


def _unlink(path: Path) -> int:
    """Remove a file if it is there; returns the bytes on disk that went with it: none while others link to it."""
    try:
        held = path.stat()
        path.unlink()
    except OSError:
        return 0
    return held.st_blocks * 512 if held.st_nlink == 1 else 0
