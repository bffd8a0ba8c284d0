"""One epoll loop with timers, and the peers that talk to it: what shim and zygote have in common.

Rule 1: nothing here blocks. A peer that does not read gets its events later, and is dropped when too much waits.
Rule 2: a peer of another uid is refused before a byte of it is parsed; garbage closes that peer only.
Rule 3: a bug in one callback ends that callback, not the process that others live in.
Rule 4: without descriptors for a new peer the listener rests for a second; no busy loop.
"""

import heapq
import itertools
import os
import select
import signal
import socket
import struct
import sys
import time
from collections.abc import Callable, Mapping, Set

from stratavore.shim import place
from stratavore.shim.kernel import ancestors
from stratavore.shim.wire import INPUT, PROTOCOL, SPOKEN, Decoder, Json, WireError, common_version, control

Operation = Callable[["Peer", Json], Json | None]

RESETTABLE = signal.valid_signals() - {signal.SIGKILL, signal.SIGSTOP}
READ, WRITE = select.EPOLLIN, select.EPOLLOUT
_MAX_PEERS = 256
_MAX_UNREAD = 8 << 20
_RECEIVED_BYTES = 1 << 13


def complain(text: str) -> None:
    """One line into the log that standard error is; a full disk must not matter."""
    try:
        os.write(2, f"{time.strftime('%FT%TZ', time.gmtime())} pid {os.getpid()}: {text}\n".encode())
    except OSError:
        pass


def prepare_signals() -> None:
    """Once, before the first Loop: what its `on_signal` hears of, what is ignored. Forks inherit it, runners do not."""
    for signum in RESETTABLE:
        signal.signal(signum, signal.SIG_DFL)
    for signum in (signal.SIGINT, signal.SIGHUP, signal.SIGPIPE, signal.SIGXFSZ):
        signal.signal(signum, signal.SIG_IGN)
    for signum in (signal.SIGCHLD, signal.SIGTERM):
        signal.signal(signum, lambda *_: None)


class Refusal(Exception):
    """The answer to a request is an error of this code."""

    def __init__(self, code: str, text: str, **detail: object) -> None:
        super().__init__(text)
        self.error: Json = {"code": code, "text": text, **detail}


class Loop:
    """Callbacks for descriptors, for times and for the end of children."""

    def __init__(self, on_signal: Callable[[bytes], None]) -> None:
        self._epoll = select.epoll()
        self._callbacks: dict[int, Callable[[int], None]] = {}
        self._timers: list[tuple[float, int, Callable[[], None]]] = []
        self._tickets = itertools.count()
        self._on_signal = on_signal
        self._signals, wakeup = os.pipe2(os.O_CLOEXEC | os.O_NONBLOCK)
        signal.set_wakeup_fd(wakeup, warn_on_full_buffer=False)
        self.watch(self._signals, self._signalled)

    def watch(self, fd: int, callback: Callable[[int], None], events: int = READ) -> None:
        self._callbacks[fd] = callback
        self._epoll.register(fd, events)

    def change(self, fd: int, events: int) -> None:
        if fd in self._callbacks:
            self._epoll.modify(fd, events)

    def forget(self, fd: int) -> None:
        if self._callbacks.pop(fd, None) is not None:
            self._epoll.unregister(fd)

    def later(self, seconds: float, callback: Callable[[], None]) -> None:
        heapq.heappush(self._timers, (time.monotonic() + seconds, next(self._tickets), callback))

    def turn(self) -> None:
        """Wait for something to happen and serve all of it."""
        wait = max(0.0, self._timers[0][0] - time.monotonic()) if self._timers else -1
        for fd, events in self._epoll.poll(wait):
            if callback := self._callbacks.get(fd):  # an earlier one of this turn may have closed it
                try:
                    callback(events)
                except Exception:  # a bug; the runners must outlive it
                    sys.excepthook(*sys.exc_info())
                    if fd != self._signals:
                        self.forget(fd)
        now = time.monotonic()
        while self._timers and self._timers[0][0] <= now:
            try:
                heapq.heappop(self._timers)[2]()
            except Exception:
                sys.excepthook(*sys.exc_info())

    def _signalled(self, _events: int) -> None:
        self._on_signal(os.read(self._signals, 4096))


class Peer:
    """One connection. Its requests go to `serve`, input frames to `type_in`, its end to `gone`."""

    def __init__(self, server: "Server", sock: socket.socket, pid: int) -> None:
        self.pid = pid
        self.version = 0
        self.may_control = False
        self.is_open = True
        self._server, self._loop, self._sock = server, server.loop, sock
        self._decoder = Decoder()
        self._unsent = bytearray()
        self._held = False
        self._events = READ
        self._loop.watch(sock.fileno(), self._ready)

    def send(self, message: Json) -> None:
        """Queue a message; what the socket does not take now goes out when the peer has read."""
        if not self.is_open:
            return
        self._unsent += control(message)
        self._flush()
        if len(self._unsent) > _MAX_UNREAD:
            self._held = True  # serve nothing more of it
            self._loop.later(0, self.close)  # not now: the caller may be walking over its peers

    def answer(self, request: Json, reply: Json) -> None:
        """The answer to a request that wants one."""
        if "id" in request:
            self.send({"id": request["id"], **reply})

    def hold(self, held: bool) -> None:
        """Read nothing more of this peer (back-pressure), or go on with what it sent."""
        if self.is_open and held != self._held:
            self._held = held
            self._register()
            if not held:
                self._loop.later(0, lambda: self._take(b""))

    def close(self) -> None:
        if self.is_open:
            self.is_open = False
            self._loop.forget(self._sock.fileno())
            self._sock.close()
            self._server.gone(self)

    def _register(self) -> None:
        events = READ * (not self._held) | WRITE * bool(self._unsent)
        if events != self._events:
            self._events = events
            self._loop.change(self._sock.fileno(), events)

    def _flush(self) -> None:
        try:
            del self._unsent[: self._sock.send(self._unsent)]
        except BlockingIOError:
            pass
        except OSError:  # it is gone; what it sent before is still to be read, and ends with its end
            self._unsent.clear()
        self._register()

    def _ready(self, events: int) -> None:
        if events & WRITE:
            self._flush()
        if events & ~WRITE and self.is_open:
            try:
                data = self._sock.recv(_RECEIVED_BYTES)
            except BlockingIOError:
                return
            except OSError:
                data = b""
            if data:
                self._take(data)
            else:
                self.close()

    def _take(self, data: bytes) -> None:
        try:
            for kind, payload in self._decoder.feed(data):
                if kind == INPUT:
                    self._server.type_in(self, payload)
                else:
                    self._serve(payload)
                if self._held or not self.is_open:
                    return
        except WireError as problem:
            complain(f"closing the peer with pid {self.pid}: {problem}")
            self.close()

    def _serve(self, request: Json) -> None:
        try:
            reply = self._server.serve(self, request)
        except Refusal as refusal:
            self.answer(request, {"error": refusal.error})
        except (KeyError, TypeError, ValueError, AttributeError, OverflowError) as problem:
            self.answer(request, {"error": {"code": "invalid", "text": f"malformed request: {problem!r}"}})
        else:
            if reply is not None:
                self.answer(request, {"ok": True, **reply})


class Server:
    """A listener, its peers, and the operations that they may ask for."""

    def __init__(
        self,
        loop: Loop,
        listener: socket.socket,
        state: str,
        operations: Mapping[str, Operation],
        for_runners: Set[str],
        options: Json,
    ) -> None:
        self.loop = loop
        self.peers: set[Peer] = set()
        self._listener = listener
        self._state = state
        self._table = {"hello": self._hello, "ping": lambda peer, request: {}, **operations}
        self._for_runners = for_runners
        self._options = options
        loop.watch(listener.fileno(), self._accept)

    def about(self) -> Json:
        """What `hello` tells besides the version."""
        return {}

    def type_in(self, peer: Peer, data: bytes) -> None:
        """Raw bytes for a terminal."""

    def gone(self, peer: Peer) -> None:
        """The peer's connection is closed."""
        self.peers.discard(peer)

    def serve(self, peer: Peer, request: Json) -> Json | None:
        """The reply to a request, or None if it comes later. Raises Refusal."""
        name = request["op"]
        operation = self._table.get(name)
        if operation is None:
            raise Refusal("invalid", f"protocol {PROTOCOL} has no `{name}` here")
        if not peer.version and name != "hello":
            raise Refusal("version", "the first request must be `hello`")
        if not peer.may_control and (name not in self._for_runners or request.get("role") == "writer"):
            raise Refusal("forbidden", f"`{name}` is not for a process that runs inside a runner")
        return operation(peer, request)

    def _hello(self, peer: Peer, request: Json) -> Json:
        version = common_version(request["versions"])
        if version is None:
            raise Refusal("version", f"protocol {list(SPOKEN)} is spoken here, not {request['versions']}")
        peer.version = version
        peer.may_control = self._options.get("runners_may_control") or not is_inside(peer.pid, self._state)
        return {"version": version, "pid": os.getpid(), "may_control": peer.may_control, **self.about()}

    def _accept(self, _events: int) -> None:
        try:
            sock, _ = self._listener.accept()
        except BlockingIOError:
            return
        except OSError as problem:
            complain(f"cannot take a new peer: {problem}")
            self.loop.forget(self._listener.fileno())
            self.loop.later(1, lambda: self.loop.watch(self._listener.fileno(), self._accept))
            return
        credentials = sock.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, 12)
        pid, uid, _gid = struct.unpack("3i", credentials)
        if uid != os.getuid() or len(self.peers) >= _MAX_PEERS:
            sock.close()
            return
        sock.setblocking(False)
        self.peers.add(Peer(self, sock, pid))


def is_inside(pid: int, state: str) -> bool:
    """Whether the process descends from a shim of this state directory, that is from a runner. One that has gone
    counts as inside: an honest peer waits for the answer to its hello."""
    shims = set(place.living(f"{state}/shims").values())
    for _ in range(3):
        try:
            return not shims.isdisjoint(ancestors(pid))
        except OSError:  # an ancestor ended while we looked, and its children have another now
            continue
    return True
