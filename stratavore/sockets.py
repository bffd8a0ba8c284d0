"""Sockets in the state directory, whose paths may be of any length."""

import os
import socket
import stat
from pathlib import Path

from stratavore.errors import Misconfigured


def bind(path: Path, kind: int = socket.SOCK_STREAM) -> socket.socket:
    """A listening-to-be socket at `path`, 0600 from its first moment, however long the path is.

    Raises:
        Misconfigured: something that is no socket is in its place.
    """
    if os.path.lexists(path):
        if not stat.S_ISSOCK(os.lstat(path).st_mode):
            raise Misconfigured(f"{path} is in the way and is no socket", remedy=f"look what it is, then rm {path}")
        path.unlink()
    sock = socket.socket(socket.AF_UNIX, kind | socket.SOCK_NONBLOCK | socket.SOCK_CLOEXEC)
    directory = os.open(path.parent, os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)
    umask = os.umask(0o177)
    try:
        sock.bind(f"/proc/self/fd/{directory}/{path.name}")
    finally:
        os.umask(umask)
        os.close(directory)
    return sock
