"""One shim: it holds the runs that it spawned, serves whoever asks about them, and ends when nobody needs it.

Rule 1: a key is spawned once. Asked again, the shim tells what became of it.
Rule 2: an exit is told when it is durable, and kept until it is acked.
Rule 3: a peer that a runner started may look, and nothing else, unless the options say `runners_may_control`.
Rule 4: it ends when there is no run, no peer, and a minute has passed; with unacked exits it leaves its journal.
"""

import errno
import os
import re
import signal
import time
from base64 import b64decode
from collections.abc import Callable

from stratavore.shim import kernel, place
from stratavore.shim.journal import Disk, Journal
from stratavore.shim.launch import spawn_failed
from stratavore.shim.log import Log
from stratavore.shim.loop import Loop, Operation, Peer, Refusal, Server
from stratavore.shim.record import ExitRecord
from stratavore.shim.run import Run
from stratavore.shim.wire import Json, encode

_IDLE_SECONDS = 60.0
_TICK_SECONDS = 1.0
_MAX_INPUT = 1 << 20
_HOLD_INPUT = 1 << 16
_MAX_LABEL = 1 << 19  # as JSON; half a frame, so that whatever tells of the run fits into one
_RECORD_BYTES = 1024  # of a record in the journal, without its label
_KEY = re.compile(r"[A-Za-z0-9_-][A-Za-z0-9._-]{0,127}")
_LOOKING = {"hello", "ping", "list", "survivors", "attach", "seen"}


class Holder(Server):
    """The runs of one shim."""

    def __init__(self, state: str, shim: str, options: Json) -> None:
        """Settle in `<state>/shims/<shim>`, which must not exist: lock, pid, journal, and last the socket."""
        self._directory = f"{state}/shims/{shim}"
        self._logs = f"{state}/logs/{shim}"
        self._lock = place.settle(self._directory)
        loop = Loop(self._on_signal)
        self.disk = Disk(loop)
        self._journal = Journal(f"{self._directory}/journal", loop, self.disk)
        self._boot_id = kernel.boot_id()
        self._idle_seconds: float = options.get("idle_seconds", _IDLE_SECONDS)
        self._idle_since = time.monotonic()
        self._is_retiring = False
        self.runs: dict[str, Run] = {}
        """Until their exit is durable."""
        self._leaders: dict[int, Run] = {}
        self._ended: dict[str, ExitRecord] = {}
        self._rooms: dict[str, int] = {}
        self._busy: int | None = None
        self._subscribers: set[Peer] = set()
        self._due: list[tuple[str, int, int, Callable[[list[int]], None]]] = []
        self._grown: set[Log] = set()
        self._syncing: set[Log] = set()
        super().__init__(loop, place.listen(self._directory), state, self._operations(), _LOOKING, options)

    def run(self) -> None:
        """Serve until nobody needs it."""
        kernel.become_subreaper()
        self.disk.start()
        self._rest()
        while not self._is_over():
            self.loop.turn()
        if not self._ended:
            place.leave(self._directory)

    def about(self) -> Json:
        return {"boot_id": self._boot_id, "build": self._options.get("build", "")}

    def type_in(self, peer: Peer, data: bytes) -> None:
        for run in self.runs.values():
            if run.writer is peer:
                run.type(data)
                peer.hold(run.queued_bytes > _HOLD_INPUT)

    def gone(self, peer: Peer) -> None:
        super().gone(peer)
        self._subscribers.discard(peer)
        for run in self.runs.values():
            self._leave(run, peer)
        self._rest()

    # What a run asks

    def grew(self, run: Run) -> None:
        if not self._grown:
            self.loop.later(_TICK_SECONDS, self._tick)
        self._grown.add(run.log)
        for peer in run.viewers:
            self._tell_growth(run, peer)

    def typed(self, run: Run) -> None:
        if run.writer is not None:
            run.writer.hold(False)

    def ended(self, run: Run) -> None:
        run.log.mark()
        self.disk.do(run.log.close)
        record = run.record(self._boot_id)
        self._journal.write(record, self._rooms.pop(run.key), lambda: self._tell_exit(run, record))

    def sweep(self, runner: str, leader: int, signum: int, then: Callable[[list[int]], None]) -> None:
        if not self._due:
            self.loop.later(0, self._sweep)  # at the end of this turn: one look at /proc serves all that is due
        self._due.append((runner, leader, signum, then))

    # Operations

    def _operations(self) -> dict[str, Operation]:
        return {
            "spawn": self._spawn, "list": self._list, "subscribe": self._subscribe, "ack": self._ack,
            "stop": self._stop, "kill": self._kill, "pause": self._pause, "unpause": self._unpause,
            "attach": self._attach, "seen": self._seen, "resize": self._resize,
            "send": self._send, "survivors": self._survivors, "end_survivors": self._end_survivors,
        }  # fmt: skip

    def _spawn(self, peer: Peer, request: Json) -> Json:
        key = request["key"]
        if record := self._ended.get(key):
            return {"ended": record._asdict()}
        run = self.runs.get(key) or self.launch(request)
        return {"pid": run.pid, "start_time": run.start_time, "started_at": run.started_at}

    def launch(self, request: Json) -> Run:
        """Start a run that is not there yet. Raises Refusal."""
        key = request["key"]
        if not _KEY.fullmatch(key):
            raise Refusal("invalid", f"{key!r} cannot be the key of a run")
        room = len(encode(request["label"])) + _RECORD_BYTES
        if room > _MAX_LABEL:
            raise spawn_failed(errno.E2BIG, f"a label of {room} bytes is too long; shorten the prompt or the arguments")
        try:
            self._journal.promise(room)
        except OSError as problem:
            raise spawn_failed(problem.errno or errno.EIO, f"the exit journal: {problem.strerror}") from None
        try:
            log = self._open_log(key, request["log_cap_bytes"])
            try:
                run = Run(request, log, self.loop, self)
            except BaseException:
                log.discard()
                raise
        except BaseException:
            self._journal.release(room)
            raise
        self.runs[key] = self._leaders[run.pid] = run
        self._rooms[key] = room
        self._be_busy()
        return run

    def _open_log(self, key: str, cap_bytes: int) -> Log:
        try:
            try:
                return Log(f"{self._logs}/{key}", cap_bytes)
            except FileNotFoundError:
                os.makedirs(self._logs, 0o700, exist_ok=True)
                return Log(f"{self._logs}/{key}", cap_bytes)
        except OSError as problem:
            raise spawn_failed(problem.errno or errno.EIO, f"{self._logs}/{key}: {problem.strerror}") from None

    def _list(self, peer: Peer, request: Json) -> None:
        """All runs, or that of one `key`; without their labels if `brief`: these are most of it."""
        entries: list[Json] = [{"key": record.key, "record": record._asdict()} for record in self._ended.values()]
        for key, run in self.runs.items():
            if request.get("key", key) == key:
                about = {"key": key, "pid": run.pid, "start_time": run.start_time, "state": run.state,
                         "started_at": run.started_at, "output_bytes": run.log.size, "tty": run.is_tty}  # fmt: skip
                entries.append(about if request.get("brief") else {**about, "label": run.label})
        peer.pour([{"id": request["id"], "entry": entry} for entry in entries])
        peer.answer(request, {"ok": True})

    def _subscribe(self, peer: Peer, request: Json) -> Json:
        self._subscribers.add(peer)
        peer.pour([_exited(record) for record in self._ended.values()])
        return {}

    def _ack(self, peer: Peer, request: Json) -> Json:
        if self._ended.pop(request["key"], None):
            self._journal.ack(request["key"])
        if not self.runs and not self._ended and self._busy is not None:
            os.close(self._busy)
            self._busy = None
        return {}

    def _stop(self, peer: Peer, request: Json) -> Json:
        steps = [{**step, "keys": b64decode(step["keys"])} if "keys" in step else step for step in request["steps"]]
        self._live(request).stop(steps, request["grace"], request["by"])
        return {}

    def _kill(self, peer: Peer, request: Json) -> Json:
        self._live(request).kill(request["by"])
        return {}

    def _pause(self, peer: Peer, request: Json) -> Json:
        self._live(request).pause(signal.SIGSTOP)
        return {}

    def _unpause(self, peer: Peer, request: Json) -> Json:
        self._live(request).pause(signal.SIGCONT)
        return {}

    def _send(self, peer: Peer, request: Json) -> Json | None:
        run = self._live(request)
        parts = [(b64decode(part["data"]), part.get("pause", 0)) for part in request["parts"]]
        if not run.is_tty:
            raise Refusal("invalid", "this run has no terminal to type into")
        if run.queued_bytes + sum(len(data) for data, _ in parts) > _MAX_INPUT:
            raise Refusal("input_full", "the program does not read what was typed before")
        for data, pause in parts:
            run.type(data, pause)
        run.type(b"", then=lambda done: peer.answer(request, {"ok": True} if done else _error(_gone(run.key))))
        return None

    def _attach(self, peer: Peer, request: Json) -> Json:
        key = request["key"]
        if record := self._ended.get(key):
            return {"size": record.output_bytes, "rows": 0, "cols": 0, "pid": record.pid, "ended": record._asdict()}
        run = self._live(request)
        if request["role"] == "writer":
            self._seat(run, peer, request.get("takeover", False))
            run.resize(request["rows"], request["cols"], repaint=True)
        run.viewers[peer] = run.log.size
        rows, cols = run.size
        return {"size": run.log.size, "rows": rows, "cols": cols, "pid": run.pid, "ended": None}

    def _seat(self, run: Run, peer: Peer, is_takeover: bool) -> None:
        """Make the peer the writer of this run, and of no other."""
        if not run.is_tty:
            raise Refusal("invalid", "this run has no terminal to type into")
        if run.writer not in (None, peer):
            if not is_takeover:
                raise Refusal("busy", f"process {run.writer.pid} is attached and types here", pid=run.writer.pid)
            run.writer.hold(False)
            run.writer.send({"event": "taken", "key": run.key, "pid": peer.pid})
        for other in self.runs.values():
            if other.writer is peer:
                other.writer = None
        run.writer = peer

    def _seen(self, peer: Peer, request: Json) -> None:
        """It has read up to there, and may be told of more."""
        if (run := self.runs.get(request["key"])) and peer in run.viewers:
            run.viewers[peer] = request["size"]
            self._tell_growth(run, peer)

    def _resize(self, peer: Peer, request: Json) -> Json:
        run = self._live(request)
        if run.writer not in (None, peer):
            raise Refusal("busy", f"the size belongs to process {run.writer.pid}", pid=run.writer.pid)
        run.resize(request["rows"], request["cols"])
        return {}

    def _survivors(self, peer: Peer, request: Json) -> None:
        self.sweep(_runner(request), 0, 0, lambda pids: peer.answer(request, {"ok": True, "pids": pids}))

    def _end_survivors(self, peer: Peer, request: Json) -> None:
        kill_at = time.monotonic() + request["grace"]
        give_up_at = kill_at + 2

        def look(pids: list[int]) -> None:
            now = time.monotonic()
            signum = signal.SIGKILL if now >= kill_at else 0
            if pids and now < give_up_at:
                self.loop.later(0.05, lambda: self.sweep(_runner(request), 0, signum, look))
            else:
                peer.answer(request, {"ok": True, "pids": pids})

        self.sweep(_runner(request), 0, signal.SIGTERM, look)

    def _live(self, request: Json) -> Run:
        if run := self.runs.get(request["key"]):
            return run
        raise (_gone(request["key"]) if request["key"] in self._ended else Refusal("not_found", "no such run here"))

    # Telling

    def _tell_growth(self, run: Run, peer: Peer) -> None:
        seen = run.viewers[peer]
        if seen is not None and run.log.size > seen:
            run.viewers[peer] = None
            peer.send({"event": "grown", "key": run.key, "size": run.log.size})

    def _tell_exit(self, run: Run, record: ExitRecord) -> None:
        del self.runs[run.key]
        self._ended[run.key] = record
        for peer in self._subscribers | run.viewers.keys():
            peer.send(_exited(record))
        if run.writer is not None:
            run.writer.hold(False)
        self._rest()

    def _leave(self, run: Run, peer: Peer) -> None:
        run.viewers.pop(peer, None)
        if run.writer is peer:
            run.writer = None
            peer.hold(False)

    # Housekeeping

    def _reap(self) -> None:
        while True:
            try:
                pid, status, usage = os.wait4(-1, os.WNOHANG)
            except ChildProcessError:
                return
            if not pid:
                return
            if run := self._leaders.pop(pid, None):  # else an orphan that we adopted
                run.reaped(status, usage.ru_utime, usage.ru_stime, usage.ru_maxrss * 1024)

    def _sweep(self) -> None:
        due, self._due = self._due, []
        found: dict[str, list[int]] = {}
        # What a run leaves behind becomes our child: without a strange child there is nothing to look for.
        if any(leader for _, leader, _, _ in due) or kernel.children() - self._leaders.keys():
            found = kernel.bearing(runner for runner, _, _, _ in due if runner)
        for runner, leader, signum, then in due:
            pids = [pid for pid in found.get(runner, ()) if pid != leader and self._belongs(pid, leader)]
            for pid in pids:
                _signal(pid, signum)
            then(pids)

    def _belongs(self, pid: int, leader: int) -> bool:
        """Whether a process descends from us, and not from the process of another run."""
        try:
            for ancestor in kernel.ancestors(pid):
                if ancestor == os.getpid():
                    return True
                if ancestor in self._leaders and ancestor != leader:
                    return False
        except OSError:
            pass
        return False

    def _tick(self) -> None:
        ready = self._grown - self._syncing
        self._grown -= ready
        for log in ready:
            log.mark()
            self._syncing.add(log)
            self.disk.do(log.sync, lambda log=log: self._syncing.discard(log))  # type: ignore[misc]
        if self._grown:
            self.loop.later(_TICK_SECONDS, self._tick)

    def _be_busy(self) -> None:
        """Hold the lock that says: here live runners, or ends of which no daemon knows yet.

        Whoever probes it holds it for a moment.
        """
        if self._busy is None and self.runs:
            self._busy = place.lock(f"{self._directory}/busy")
            if self._busy is None:
                self.loop.later(0.05, self._be_busy)

    def _on_signal(self, received: bytes) -> None:
        if signal.SIGTERM in received:
            self._is_retiring = True
        self._reap()

    def _rest(self) -> None:
        self._idle_since = time.monotonic()
        self.loop.later(self._idle_seconds + 0.01, lambda: None)

    def _is_over(self) -> bool:
        if self.runs:
            return False
        is_unused = not self.peers and time.monotonic() - self._idle_since >= self._idle_seconds
        return is_unused or self._is_retiring


def _runner(request: Json) -> str:
    return str(request["key"]).rpartition(".")[0]


def _exited(record: ExitRecord) -> Json:
    return {"event": "exited", "key": record.key, "record": record._asdict()}


def _gone(key: str) -> Refusal:
    return Refusal("ended", f"{key} has ended")


def _error(refusal: Refusal) -> Json:
    return {"error": refusal.error}


def _signal(pid: int, signum: int) -> None:
    try:
        if signum:
            os.kill(pid, signum)
        if signum == signal.SIGTERM:
            os.kill(pid, signal.SIGCONT)
    except (ProcessLookupError, PermissionError):
        pass
