"""The door of a server: takes connections as long as there is room, and rests when there is none.

Rule 1: who finds no room waits in the kernel's queue, unserved but not refused; it is let in as soon as others leave.
Rule 2: without descriptors nothing spins: the door rests for a second, and then looks again.
"""

import asyncio
import logging
import socket
from collections.abc import Callable

log = logging.getLogger(__name__)

_AT_ONCE = 64
_NO_ROOM_SECONDS = 0.05
_NO_DESCRIPTORS_SECONDS = 1.0


class Door:
    """Lets connections of a listening socket in, from `open` to `close`."""

    def __init__(
        self,
        listener: socket.socket,
        protocol: Callable[[], asyncio.BaseProtocol],
        inside: Callable[[], int],
        *,
        most: int,
    ) -> None:
        """`inside` tells how many connections there are, of at `most` that many."""
        self._listener = listener
        self._protocol = protocol
        self._inside, self._most = inside, most
        self._rest: asyncio.TimerHandle | None = None
        self._entering: set[asyncio.Task[object]] = set()

    def open(self) -> None:
        """Take connections. The socket listens and does not block."""
        self._rest = None
        asyncio.get_running_loop().add_reader(self._listener, self._take)

    def close(self) -> None:
        """Take no more; those that are inside stay."""
        asyncio.get_running_loop().remove_reader(self._listener)
        if self._rest is not None:
            self._rest.cancel()
        self._listener.close()

    def _take(self) -> None:
        for _ in range(_AT_ONCE):
            if self._inside() + len(self._entering) >= self._most:
                self._pause(_NO_ROOM_SECONDS)
                return
            try:
                connection, _ = self._listener.accept()
            except (BlockingIOError, InterruptedError, ConnectionAbortedError):
                return
            except OSError as problem:
                log.warning("connections have to wait", extra={"why": str(problem)})
                self._pause(_NO_DESCRIPTORS_SECONDS)
                return
            loop = asyncio.get_running_loop()
            entering = loop.create_task(loop.connect_accepted_socket(self._protocol, connection))
            self._entering.add(entering)
            entering.add_done_callback(self._entering.discard)

    def _pause(self, seconds: float) -> None:
        loop = asyncio.get_running_loop()
        loop.remove_reader(self._listener)
        self._rest = loop.call_later(seconds, self.open)
