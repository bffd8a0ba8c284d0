"""Files that other programs write, opened so that nobody is led elsewhere by them.

Rule 1: only regular files of this user are opened, and never by a symbolic link below the directory that was allowed.
Rule 2: nothing that is opened can make the reader wait: no FIFO, no device, no socket.
"""

import os
import stat
from pathlib import Path

_DIRECTORY = os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC
_FILE = os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_NOCTTY | os.O_CLOEXEC


class Refused(Exception):
    """Something that is not to be read stands where a file was expected."""


def open_below(root: Path, path: Path) -> int:
    """A descriptor for reading `path`, which lies below `root`. The root itself may be reached by links.

    Raises:
        Refused: it is no regular file of this user, or a symbolic link leads to it.
        OSError: it cannot be opened; FileNotFoundError if it is not there.
    """
    if not path.is_relative_to(root) or ".." in path.parts:
        raise Refused(f"{path} is not below {root}")
    *folders, name = path.relative_to(root).parts or ("",)
    directory = os.open(root, _DIRECTORY)
    try:
        for folder in folders:
            _check(os.stat(folder, dir_fd=directory, follow_symlinks=False), path, is_folder=True)
            deeper = os.open(folder, _DIRECTORY | os.O_NOFOLLOW, dir_fd=directory)
            os.close(directory)
            directory = deeper
        # Before it is opened, because opening a device may do something already.
        _check(os.stat(name, dir_fd=directory, follow_symlinks=False), path)
        fd = os.open(name, _FILE, dir_fd=directory)
    finally:
        os.close(directory)
    try:
        _check(os.fstat(fd), path)
    except Refused:
        os.close(fd)
        raise
    return fd


def head_of(root: Path, path: Path, limit: int) -> bytes:
    """The first bytes of a file; empty if it is not there or not to be read."""
    try:
        fd = open_below(root, path)
    except (OSError, Refused):
        return b""
    with open(fd, "rb", buffering=0) as file:
        try:
            return file.read(limit)
        except OSError:
            return b""


def _check(seen: os.stat_result, path: Path, *, is_folder: bool = False) -> None:
    if stat.S_ISLNK(seen.st_mode):
        raise Refused(f"{path} is behind a symbolic link")
    if is_folder:
        return
    if not stat.S_ISREG(seen.st_mode):
        raise Refused(f"{path} is no regular file")
    if seen.st_uid != os.geteuid():
        raise Refused(f"{path} is another user's")
