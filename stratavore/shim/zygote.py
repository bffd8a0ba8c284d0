"""The zygote: a pristine process that forks shims, and starts a dead daemon again while runners live.

Rule 1: it never holds a runner and never has a thread, so a fork of it is whole and small, and closes what it inherits.
Rule 2: everything is imported, and rehearsed, before the first fork: the installation may vanish afterwards.
Rule 3: it starts the daemon only if `zygote.current` names it, the daemon's lock has been free for two seconds,
a shim (anybody's) is busy, and no stop mark lies there; then again after 1, 2, 4 … 60 s.
Rule 4: it ends when for a minute it had no shim and no peer, nor was the current one with a living daemon or busy
shims.
"""

import gc
import json
import os
import re
import signal
import sys
import time
from typing import NoReturn

from stratavore.shim import place
from stratavore.shim.holder import Holder
from stratavore.shim.loop import RESETTABLE, Loop, Peer, Refusal, Server, complain, prepare_signals
from stratavore.shim.wire import SPOKEN, Json, control

_KEPT = ("PATH", "HOME", "LANG")
_ALL = 1 << 20
_TICK_SECONDS = 1.0
_PATIENCE_SECONDS = 2.0
_MAX_BACKOFF_SECONDS = 60.0
_IDLE_SECONDS = 60.0
_SHIM = re.compile(r"[A-Za-z0-9_-]{1,64}")
_rehearsed: list[Holder] = []
"""Kept: their descriptors are closed by number, and a destructor would close them a second time."""


def main() -> None:
    """`… <state directory> <zygote id> <options as JSON>`. The first process ends when the zygote listens or fails."""
    state, zygote, options = sys.argv[2:5]
    status = _detach()
    try:
        environment = {name: os.environ[name] for name in _KEPT if name in os.environ}
        os.environ.clear()
        os.environ.update(environment)
        directory = f"{state}/zygotes/{zygote}"
        os.makedirs(os.path.dirname(directory), 0o700, exist_ok=True)
        os.makedirs(f"{state}/shims", 0o700, exist_ok=True)
        held = place.settle(directory)
        _redirect(f"{directory}/log")
        _rehearse(f"{directory}/rehearsal")
        os.dup2(status, 3)
        os.dup2(held, 4)
        os.closerange(5, _ALL)
        server = Zygote(state, zygote, json.loads(options))
        gc.collect()
        gc.freeze()
        os.write(3, b"ok")
        os.close(3)
        server.run()
    except BaseException as problem:
        sys.excepthook(*sys.exc_info())
        os.write(status, repr(problem).encode())
    os._exit(0)


class Zygote(Server):
    """Forks shims; watches over the daemon."""

    def __init__(self, state: str, zygote: str, options: Json) -> None:
        self._zygote = zygote
        self._directory = f"{state}/zygotes/{zygote}"
        self._shims: set[int] = set()
        self._free_since: float | None = None
        self._next_start = 0.0
        self._backoff = 1.0
        self._needed_at = time.monotonic()
        operations = {"fork": self._fork, "configure": self._configure, "start_daemon": self._start_daemon}
        listener = place.listen(self._directory)
        for_runners = {"hello", "ping", "start_daemon"}
        super().__init__(Loop(self._on_signal), listener, state, operations, for_runners, options)

    def run(self) -> None:
        """Serve until nobody needs it."""
        self._tick()
        while time.monotonic() - self._needed_at < self._options.get("idle_seconds", _IDLE_SECONDS):
            self.loop.turn()
        place.leave(self._directory)

    def _fork(self, peer: Peer, request: Json) -> None:
        if not _SHIM.fullmatch(request["shim"]):
            raise Refusal("invalid", f"{request['shim']!r} cannot be the id of a shim")
        ends: tuple[int, ...] = ()
        try:
            ends = reading, writing = os.pipe()
            pid = os.fork()
        except OSError as problem:
            for end in ends:
                os.close(end)
            raise Refusal("fork_failed", f"the zygote cannot fork: {problem.strerror}") from None
        if not pid:
            self._become_shim(request["shim"], writing)
        os.close(writing)
        self._shims.add(pid)

        def settled(_events: int) -> None:
            text = os.read(reading, 1 << 16).decode()
            self.loop.forget(reading)
            os.close(reading)
            failure = {"error": {"code": "fork_failed", "text": text or "the new shim died at once"}}
            peer.answer(request, {"ok": True, "pid": pid} if text == "ok" else failure)

        self.loop.watch(reading, settled)

    def _become_shim(self, shim: str, status: int) -> NoReturn:
        """The fork. What it inherited is closed by number; the objects are never destroyed, for this never returns."""
        try:
            signal.set_wakeup_fd(-1)
            os.dup2(status, 3)
            os.closerange(4, _ALL)
            os.setsid()
            holder = Holder(self._state, shim, self._options)
            os.write(3, b"ok")
            os.close(3)
            holder.run()
        except BaseException as problem:
            sys.excepthook(*sys.exc_info())
            os.write(status, repr(problem).encode())
        os._exit(0)

    def _configure(self, peer: Peer, request: Json) -> Json:
        self._options.update(request["options"])
        return {}

    def _start_daemon(self, peer: Peer, request: Json) -> Json:
        if os.path.exists(f"{self._state}/stopped"):
            raise Refusal("stopped", "a person stopped the daemon")
        if not self._is_current():
            raise Refusal("invalid", "another zygote starts the daemon of this state directory")
        if place.is_locked(f"{self._state}/state.lock") or time.monotonic() < self._next_start:
            return {"started": False}
        self._start()
        return {"started": True}

    def _is_current(self) -> bool:
        try:
            with open(f"{self._state}/zygote.current", "rb", buffering=0) as file:
                return file.read(256).decode().strip() == self._zygote
        except OSError:
            return False

    def _has_busy_shims(self) -> bool:
        shims = f"{self._state}/shims"
        return any(place.is_locked(f"{shims}/{shim}/busy") for shim in os.listdir(shims))

    def _tick(self) -> None:
        self.loop.later(_TICK_SECONDS, self._tick)
        try:
            is_needed = self._watch_over_daemon() if self._is_current() else False
        except OSError as problem:
            complain(f"cannot look after the daemon: {problem}")
            return
        if is_needed or self._shims or self.peers:
            self._needed_at = time.monotonic()

    def _watch_over_daemon(self) -> bool:
        """Start it if that is due; whether there is something to watch over."""
        now = time.monotonic()
        if place.is_locked(f"{self._state}/state.lock"):
            self._free_since, self._backoff = None, 1.0
            return True
        if os.path.exists(f"{self._state}/stopped") or not self._has_busy_shims():
            self._free_since = None
            return False
        if self._free_since is None:
            self._free_since = now
        if now - self._free_since >= _PATIENCE_SECONDS and now >= self._next_start:
            self._start()
        return True

    def _start(self) -> None:
        self._next_start = time.monotonic() + self._backoff
        self._backoff = min(2 * self._backoff, _MAX_BACKOFF_SECONDS)
        argv, environment = self._options["start_argv"], {**os.environ, **self._options.get("start_env", {})}
        log = (os.POSIX_SPAWN_OPEN, 2, f"{self._state}/daemon.log", os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)
        try:
            os.posix_spawnp(
                argv[0], argv, environment, file_actions=[log], setsid=True, setsigmask=(), setsigdef=RESETTABLE
            )
        except OSError as problem:
            complain(f"cannot start the daemon with {argv}: {problem}")
        else:
            complain("the daemon was gone; started it")

    def _on_signal(self, received: bytes) -> None:
        if signal.SIGTERM in received:
            place.leave(self._directory)
            os._exit(0)
        self._reap()

    def _reap(self) -> None:
        while True:
            try:
                pid, status = os.waitpid(-1, os.WNOHANG)
            except ChildProcessError:
                return
            if not pid:
                return
            if pid in self._shims:
                self._shims.remove(pid)
                if status:
                    complain(f"the shim with pid {pid} died: {os.waitstatus_to_exitcode(status)}")


def _detach() -> int:
    """Go on as an orphan in a session of our own; the first process waits, and tells what became of it."""
    reading, writing = os.pipe()
    if os.fork():
        os.close(writing)
        with open(reading, "rb") as pipe:
            text = pipe.read()
        if text != b"ok":
            sys.stderr.buffer.write(text or b"the zygote died at once\n")
        os._exit(text != b"ok")
    os.setsid()
    if os.fork():
        os._exit(0)
    os.chdir("/")
    os.umask(0o077)
    prepare_signals()
    return writing


def _redirect(log: str) -> None:
    null = os.open(os.devnull, os.O_RDWR)
    errors = os.open(log, os.O_WRONLY | os.O_CREAT | os.O_APPEND | os.O_NOFOLLOW, 0o600)
    for source, target in ((null, 0), (null, 1), (errors, 2)):
        os.dup2(source, target)


def _rehearse(state: str) -> None:
    """Spawn, drain and reap a few runs, so that the memory this needs is there to be shared by the forks."""
    os.makedirs(f"{state}/shims")
    holder = Holder(state, "rehearsal", {})
    request = {"label": "{}", "env": {}, "cwd": "/", "umask": 0o077}
    request |= {"rows": 24, "cols": 80, "log_cap_bytes": 1 << 20}
    try:
        for number in range(6):
            argv = ["/bin/sh", "-c", "echo rehearsal"]
            holder.launch({**request, "key": f"rehearsal.{number}", "argv": argv, "tty": number % 2 == 0})
    except Refusal as refusal:
        complain(f"rehearsal: {refusal.error}")
    peer = place.reach(f"{state}/shims/rehearsal", timeout_seconds=0)
    peer.send(control({"op": "hello", "id": 1, "versions": SPOKEN}) + control({"op": "list", "id": 2}))
    while holder.runs:
        holder.loop.turn()
        holder.disk.catch_up()
    peer.close()
    _rehearsed.append(holder)
    for number in range(6):
        for suffix in ("", ".idx"):
            path = f"{state}/logs/rehearsal/rehearsal.{number}{suffix}"
            if os.path.exists(path):
                os.unlink(path)
    place.leave(f"{state}/shims/rehearsal")
    for empty in ("logs/rehearsal", "logs", "shims", ""):
        os.rmdir(f"{state}/{empty}")
