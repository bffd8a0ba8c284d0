"""The directory of a shim or zygote: its locks, and its socket, which may have a path of any length."""

import fcntl
import os
import socket
from collections.abc import Callable

StrPath = str | os.PathLike[str]
MARKER = "STRATAVORE_RUNNER"
"""The environment variable by which a runner's processes are found; its value is the runner's id."""


def settle(directory: str) -> int:
    """Make the directory and take its lock: the descriptor that holds it for as long as we live."""
    os.mkdir(directory, 0o700)
    fd = lock(f"{directory}/lock")
    assert fd is not None, "a new directory is nobody else's"
    pid = os.open(f"{directory}/pid", os.O_WRONLY | os.O_CREAT | os.O_CLOEXEC, 0o600)
    os.write(pid, b"%d\n" % os.getpid())
    os.close(pid)
    return fd


def leave(directory: str) -> None:
    """Remove the directory of a shim or zygote."""
    for name in os.listdir(directory):
        os.unlink(f"{directory}/{name}")
    os.rmdir(directory)


def living(parent: StrPath) -> dict[str, int]:
    """The shims (or zygotes) below `parent` that hold their lock, and their pids."""
    found = {}
    for name in os.listdir(parent):
        if is_locked(f"{parent}/{name}/lock"):
            try:
                with open(f"{parent}/{name}/pid", "rb", buffering=0) as file:
                    found[name] = int(file.read(32) or 0)
            except FileNotFoundError:
                continue  # it is settling, or just leaving: nobody lives below it
    return found


def lock(path: StrPath) -> int | None:
    """A descriptor that holds `flock` on the file (made if it is missing), or None while somebody else holds it."""
    fd = os.open(path, os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW | os.O_CLOEXEC, 0o600)
    if _flock(fd, fcntl.LOCK_EX):
        return fd
    os.close(fd)
    return None


def is_locked(path: StrPath) -> bool:
    """Whether somebody holds the lock; probed with a shared lock that is dropped at once."""
    try:
        fd = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC)
    except (FileNotFoundError, NotADirectoryError):  # a stray file holds nothing
        return False
    try:
        return not _flock(fd, fcntl.LOCK_SH)
    finally:
        os.close(fd)


def _flock(fd: int, how: int) -> bool:
    try:
        fcntl.flock(fd, how | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True


def listen(directory: StrPath) -> socket.socket:
    """A socket that listens as `sock` in the directory and never blocks."""
    sock = socket.socket(socket.AF_UNIX)
    _at_address(directory, sock.bind)
    sock.listen(128)
    sock.setblocking(False)
    return sock


def reach(directory: StrPath, *, timeout_seconds: float | None = 5.0) -> socket.socket:
    """A socket connected to whoever listens in the directory; a timeout of 0 makes one that never blocks.

    Raises:
        OSError: nobody listens there.
    """
    sock = socket.socket(socket.AF_UNIX)
    sock.settimeout(timeout_seconds)
    try:
        _at_address(directory, sock.connect)
    except OSError:
        sock.close()
        raise
    return sock


def _at_address(directory: StrPath, act: Callable[[str], None]) -> None:
    """Socket addresses end at 107 bytes; through a descriptor of the directory every path is short."""
    at = os.open(directory, os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        act(f"/proc/self/fd/{at}/sock")
    finally:
        os.close(at)
