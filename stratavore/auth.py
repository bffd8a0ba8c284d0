"""Who asks, and what they may do.

Rule 1: on the Unix socket the kernel says who asks. Another uid is refused before a byte of it is parsed.
Rule 2: a process that lives in a runner's tree may read, and no more, unless the configuration says otherwise; what it
may spend it does not change in any case. In the
tree is what descends from a holder, and what has a runner's marker, or an ancestor that has one: neither a holder that
nobody has met yet nor an `env -i` makes an outsider of it.
"""

import os
import socket
import struct
from collections.abc import Set

from stratavore import process
from stratavore.context import Asker
from stratavore.errors import Forbidden
from stratavore.protocol import Route

_BOUNDS_SPENDING = "budget"
_CREDENTIALS = struct.Struct("3i")


def credentials(sock: socket.socket) -> tuple[int, int]:
    """The pid and uid of the peer of a Unix socket (SO_PEERCRED, unix(7))."""
    raw = sock.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, _CREDENTIALS.size)
    pid, uid, _ = _CREDENTIALS.unpack(raw)
    return pid, uid


def identify(sock: socket.socket, channel: str, shim_pids: Set[int]) -> Asker:
    """Who is at the other end; `shim_pids` are the processes below which the runners live.

    Raises:
        Forbidden: it is another user.
    """
    pid, uid = credentials(sock)
    if uid != os.getuid():
        raise Forbidden(f"this daemon belongs to uid {os.getuid()}, not {uid}", remedy="start a daemon of your own")
    chain = process.ancestors(pid)
    marks = (process.mark_of(ancestor) for ancestor in chain)
    if mark := next(filter(None, marks), None):
        return Asker(channel, uid, pid, mark)
    # One that has gone already may have been anybody's child: it gets no rights by hurrying.
    is_inside = not chain or not shim_pids.isdisjoint(chain)
    return Asker(channel, uid, pid, "unknown" if is_inside else None)


def permit(asker: Asker, route: Route, *, runners_may_control: bool) -> None:
    """Let the request through, or raise Forbidden."""
    if asker.runner is None or route.reads or route.is_own:
        return
    if route.verb.split()[0] == _BOUNDS_SPENDING:
        remedy = "ask from outside the runner"
        raise Forbidden(f"`stratavore {route.verb}` was asked from inside runner {asker.runner}", remedy=remedy)
    if not runners_may_control:
        raise Forbidden(f"`stratavore {route.verb}` was asked from inside runner {asker.runner}")
