"""One epoll loop with timers, and the peers that talk to it: what shim and zygote have in common.

Rule 1: nothing here blocks. A peer that does not read gets its events later, and is dropped when too much waits.
A long answer is poured: it goes out as the peer reads it, and until then the peer is served nothing else.
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
from collections import deque
from collections.abc import Callable, Iterable, Mapping, Set

from stratavore.shim import place
from stratavore.shim.kernel import ancestors
from stratavore.shim.wire import INPUT, PROTOCOL, SPOKEN, Decoder, Json, common_version, control

Operation = Callable[["Peer", Json], Json | None]

RESETTABLE = signal.valid_signals() - {signal.SIGKILL, signal.SIGSTOP}
READ, WRITE = select.EPOLLIN, select.EPOLLOUT
_MAX_PEERS = 256
_MAX_UNREAD = 8 << 20
_MAX_POURED = 1 << 14
_PIECE_BYTES = 1 << 16
_RECEIVED_BYTES = 1 << 13


def complain(text: str) -> None:
    """One line into the log that standard error is; a full disk must not matter."""
    try:
        os.write(2, f"{time.strftime('%FT%TZ', time.gmtime())} pid {os.getpid()}: {text}\n".encode())
    except OSError:
        pass


def guarded(callback: Callable[..., object], *args: object) -> bool:
    """Call it; a bug in it is told in the log and ends nothing else. Whether there was none."""
    try:
        callback(*args)
    except Exception:  # the runners must outlive it
        sys.excepthook(*sys.exc_info())
        return False
    return True


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
        self._vital: set[int] = set()
        self._timers: list[tuple[float, int, Callable[[], None]]] = []
        self._tickets = itertools.count()
        self._on_signal = on_signal
        self._signals, wakeup = os.pipe2(os.O_CLOEXEC | os.O_NONBLOCK)
        signal.set_wakeup_fd(wakeup, warn_on_full_buffer=False)
        self.watch(self._signals, self._signalled, is_vital=True)

    def watch(self, fd: int, callback: Callable[[int], None], events: int = READ, *, is_vital: bool = False) -> None:
        """Call back when it is ready; after a bug in the callback no more, unless all the others depend on it."""
        self._callbacks[fd] = callback
        if is_vital:
            self._vital.add(fd)
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
            callback = self._callbacks.get(fd)  # an earlier one of this turn may have closed it
            if callback and not guarded(callback, events) and fd not in self._vital:
                self.forget(fd)
        now = time.monotonic()
        while self._timers and self._timers[0][0] <= now:
            guarded(heapq.heappop(self._timers)[2])

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
        self._poured: deque[Json] = deque()
        self._held = False
        self._events = READ
        self._loop.watch(sock.fileno(), self._ready)

    def send(self, message: Json) -> None:
        """Queue a message; what the socket does not take now goes out when the peer has read."""
        if not self.is_open:
            return
        if self._poured:
            self._poured.append(message)
        else:
            self._unsent += control(message)
        self._flush()
        if len(self._unsent) > _MAX_UNREAD or len(self._poured) > _MAX_POURED:
            self._held = True  # serve nothing more of it
            self._loop.later(0, self.close)  # not now: the caller may be walking over its peers

    def pour(self, messages: Iterable[Json]) -> None:
        """Send them one by one as it reads, for together they may be more than may wait for it."""
        self._poured.extend(messages)
        self._flush()

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
                self._loop.later(0, self._go_on)

    def close(self) -> None:
        if self.is_open:
            self.is_open = False
            self._loop.forget(self._sock.fileno())
            self._sock.close()
            self._server.gone(self)

    def _register(self) -> None:
        events = READ * (not self._is_busy) | WRITE * bool(self._unsent)
        if events != self._events:
            self._events = events
            self._loop.change(self._sock.fileno(), events)

    @property
    def _is_busy(self) -> bool:
        return self._held or bool(self._poured)

    def _flush(self) -> None:
        was_pouring = bool(self._poured)
        try:
            while self._fill():
                del self._unsent[: self._sock.send(self._unsent)]
        except BlockingIOError:
            pass
        except OSError:  # it is gone; what it sent before is still to be read, and ends with its end
            self._unsent.clear()
            self._poured.clear()
        self._register()
        if was_pouring and not self._is_busy:
            self._loop.later(0, self._go_on)

    def _fill(self) -> bool:
        while self._poured and len(self._unsent) < _PIECE_BYTES:
            self._unsent += control(self._poured.popleft())
        return bool(self._unsent)

    def _go_on(self) -> None:
        if self.is_open and not self._is_busy:
            self._take(b"")

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
                if self._is_busy or not self.is_open:
                    return
        except Exception as problem:  # no frame, or a bug over what was typed
            complain(f"closing the peer with pid {self.pid}: {problem!r}")
            self.close()

    def _serve(self, request: Json) -> None:
        try:
            reply = self._server.serve(self, request)
            if reply is not None:
                self.answer(request, {"ok": True, **reply})
        except Refusal as refusal:
            self.answer(request, {"error": refusal.error})
        except (KeyError, TypeError, ValueError, AttributeError, OverflowError) as problem:
            self.answer(request, {"error": {"code": "invalid", "text": f"malformed request: {problem!r}"}})
        except Exception as problem:  # a bug, or a resource that is short
            sys.excepthook(*sys.exc_info())
            self.answer(request, {"error": {"code": "internal", "text": f"this request failed: {problem!r}"}})


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
        loop.watch(listener.fileno(), self._accept, is_vital=True)

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
