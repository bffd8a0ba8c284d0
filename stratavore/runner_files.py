"""What a runner has on the disk: its environment, the small files that its agent was given, its output.

Rule 1: directories are 0700 and files 0600, from the first moment on.
Rule 2: a file is whole or absent: it is written beside its place and renamed. It is not flushed: after a power cut
one may be empty, and then the start of its runner says so.
Rule 3: an environment is written once and never changed, so those launched together have links to one file. To make
a thousand files costs more than to start a thousand runners.
"""

import json
import logging
import os
import shutil
import stat
from collections.abc import Collection, Iterable, Mapping, Sequence
from contextlib import suppress
from datetime import datetime
from functools import lru_cache
from pathlib import Path

from stratavore.errors import Invalid
from stratavore.paths import Paths

log = logging.getLogger(__name__)


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
        raise Invalid(f"the environment file {path} cannot be read: {problem}", remedy="launch it anew") from None


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


def link_file(file: Path, place: Path) -> None:
    """Give a file that is never changed another name, in place of what has that name.

    Raises:
        OSError: it cannot be; what was there is there.
    """
    beside = f"{place}.new"
    with suppress(FileNotFoundError):  # left behind by a crash
        os.unlink(beside)
    os.link(file, beside, follow_symlinks=False)
    os.replace(beside, place)


def _write_private(path: str, content: bytes) -> None:
    """Write a 0600 file at once and whole."""
    beside = f"{path}.new"
    with open(_open_new(beside), "wb") as file:  # on a full disk `os.write` may write a part and say nothing
        file.write(content)
    os.replace(beside, path)


def _open_new(path: str) -> int:
    """Open a file that nobody has yet: what a crash left there may be another name of a file that counts."""
    flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC
    try:
        return os.open(path, flags, 0o600)
    except FileExistsError:
        os.unlink(path)
        return os.open(path, flags, 0o600)


def remove_all(paths: Paths, runner_ids: Iterable[str], logs: Iterable[str]) -> int:
    """Remove everything of these runners, with these logs; returns the bytes that it held."""
    freed = sum(remove(paths, runner_id) for runner_id in runner_ids)
    return freed + sum(map(remove_log, logs))


def remove(paths: Paths, runner_id: str) -> int:
    """Remove what a runner has besides its output; returns the bytes that it held."""
    directory = paths.runner(runner_id)
    freed = sum(file.stat().st_size for file in directory.rglob("*") if file.is_file())
    shutil.rmtree(directory, ignore_errors=True)
    return freed + _unlink(paths.environment(runner_id))


def list_traces(paths: Paths) -> list[Path]:
    """Everything on the disk that is some runner's; `owner_of` tells whose."""
    return [*paths.environments.iterdir(), *paths.runners.iterdir(), *paths.logs.glob("*/*")]


def owner_of(trace: Path) -> str:
    """The id of the runner: all of the name, or what stands before the number of the run."""
    return trace.name.partition(".")[0]


def remove_traces(traces: Iterable[Path], *, since: datetime, until: datetime) -> int:
    """Remove those that were last changed between these moments; returns how many there were."""
    removed = 0
    for trace in traces:
        try:
            found = trace.lstat()
            if not since.timestamp() <= found.st_mtime < until.timestamp():
                continue
            shutil.rmtree(trace) if stat.S_ISDIR(found.st_mode) else trace.unlink()
        except OSError as problem:  # the next time is another try
            log.warning("what nobody knows could not be removed", extra={"path": str(trace), "why": str(problem)})
        else:
            removed += 1
    return removed


def remove_empty_logs(paths: Paths, living: Collection[str]) -> None:
    """Remove the directories in which shims that are gone kept the output of runs, once nothing is in them."""
    for directory in paths.logs.iterdir():
        if directory.name not in living:
            with suppress(OSError):  # there is something in it
                directory.rmdir()


def remove_log(run_log: str) -> int:
    """Remove the output of one run and its sidecar; returns the bytes on disk that it held."""
    return _unlink(Path(run_log)) + _unlink(Path(run_log + ".idx"))


def _unlink(path: Path) -> int:
    """Remove a file if it is there; returns the bytes on disk that went with it: none while others link to it."""
    try:
        held = path.stat()
        path.unlink()
    except OSError:
        return 0
    return held.st_blocks * 512 if held.st_nlink == 1 else 0
