"""Who asks, and what they may do.

Rule 1: on the Unix socket the kernel says who asks. Another uid is refused before a byte of it is parsed.
Rule 2: a process that lives in a runner's tree may read, and no more, unless the configuration says otherwise.
"""

import os
import socket
import struct
from collections.abc import Collection

from stratavore import process
from stratavore.context import Asker
from stratavore.errors import Forbidden
from stratavore.protocol import Route

_CREDENTIALS = struct.Struct("3i")


def credentials(sock: socket.socket) -> tuple[int, int]:
    """The pid and uid of the peer of a Unix socket (SO_PEERCRED, unix(7))."""
    raw = sock.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, _CREDENTIALS.size)
    pid, uid, _ = _CREDENTIALS.unpack(raw)
    return pid, uid


def identify(sock: socket.socket, channel: str, shim_pids: Collection[int]) -> Asker:
    """Who is at the other end; `shim_pids` are the processes below which the runners live.

    Raises:
        Forbidden: it is another user.
    """
    pid, uid = credentials(sock)
    if uid != os.getuid():
        raise Forbidden(
            f"this daemon belongs to uid {os.getuid()}, not {uid}", remedy="start a daemon of your own"
        )
    chain = process.ancestors(pid)
    # One that has gone already may have been anybody's child: it gets no rights by hurrying.
    if chain and not any(ancestor in shim_pids for ancestor in chain):
        return Asker(channel, uid, pid, None)
    marks = (process.mark_of(ancestor) for ancestor in chain)
    return Asker(channel, uid, pid, next((mark for mark in marks if mark), "unknown"))


def permit(asker: Asker, route: Route, *, runners_may_control: bool) -> None:
    """Let the request through, or raise Forbidden."""
    if asker.runner is not None and not route.reads and not runners_may_control:
        raise Forbidden(f"{route.name} was asked from inside runner {asker.runner}")
