"""The socket on which hooks say that they left something: one datagram, the id of their runner.

Rule: what arrives is a hint and no more. Whoever sends anything else, or too much, has nothing looked at.
"""

import asyncio
import re
import socket
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

from stratavore.hook import SOCKET
from stratavore.sockets import bind

_AT_ONCE = 256
_RUNNER = re.compile(rb"[a-z2-7]{10}")


class Pokes:
    """Calls `on_poke` with the id of a runner for each datagram, from `open` to `close`."""

    def __init__(self, state: Path, on_poke: Callable[[str], None]) -> None:
        self._path = state / SOCKET
        self._on_poke = on_poke
        self._socket: socket.socket | None = None

    def open(self) -> None:
        """Listen; an old socket file is replaced, which is safe under the daemon's lock."""
        self._socket = bind(self._path, socket.SOCK_DGRAM)
        asyncio.get_running_loop().add_reader(self._socket, self._take)

    def close(self) -> None:
        if self._socket is not None:
            asyncio.get_running_loop().remove_reader(self._socket)
            self._socket.close()
            self._path.unlink(missing_ok=True)

    def _take(self) -> None:
        assert self._socket is not None
        with suppress(BlockingIOError):
            for _ in range(_AT_ONCE):
                told = self._socket.recv(32)
                if _RUNNER.fullmatch(told):
                    self._on_poke(told.decode())
