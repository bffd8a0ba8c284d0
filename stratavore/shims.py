"""All shims of this state directory, from the daemon's side.

Rule 1: nothing is kept here that the shims do not know. After a restart `start` finds them all again.
Rule 2: a shim is gone when its lock is free, never because it is silent: silent ones are flagged, and recover.
Rule 3: requests are pipelined. Many spawns to one shim wait for none of their replies.
Rule 4: new runners go only to shims forked by a zygote of this very build; older ones are spoken to, and drain.
"""

import asyncio
import errno
import itertools
import json
import logging
import os
import secrets
import shutil
import sys
import time
import zlib
from base64 import b64encode
from collections.abc import Callable, Coroutine, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NamedTuple, assert_never

import msgspec

from stratavore import __version__
from stratavore.model import ShimId
from stratavore.paths import Paths
from stratavore.process import Identity
from stratavore.shim import client
from stratavore.shim.client import CONTROL, MAX_FRAME, Decoder, ExitRecord, Json, Refused, frame

_ROOT = Path(__file__).resolve().parent.parent
_PING_SECONDS = 4.0
_SILENT_SECONDS = 5.0
_ANSWER_SECONDS = 5.0
_SPARE_SECONDS = 60.0
_MAX_PER_SHIM = 64
_log = logging.getLogger(__name__)
_encode = msgspec.json.Encoder().encode


class SpawnFailed(Exception):
    """The program could not be started; nothing is left of the attempt."""

    def __init__(self, errno: int, text: str) -> None:
        super().__init__(text)
        self.errno = errno
        self.text = text


class ShimGone(Exception):
    """The shim that this is about does not live any more, or cannot be spoken to."""


class ZygoteFailed(Exception):
    """No new shim can be made."""


@dataclass(frozen=True, slots=True)
class SpawnRequest:
    """What a run is started with. `env` carries the marker `STRATAVORE_RUNNER=<runner id>`."""

    key: str
    """`<runner id>.<run number>`"""
    label: str
    """The runner's row as JSON; the shim gives it back."""
    argv: Sequence[str]
    env: Mapping[str, str]
    cwd: str
    umask: int = 0o022
    tty: bool = True
    rows: int = 24
    cols: int = 80
    log_cap_bytes: int | None = None
    """None: that of all runners."""
    oom_score_adj: int = 300


class Spawned(NamedTuple):
    """The process of a run."""

    pid: int
    start_time: int
    boot_id: str
    started_at: int
    """UTC, milliseconds."""
    ended: ExitRecord | None = None
    """Set if the same key was spawned before and its run has ended."""

    @property
    def who(self) -> Identity:
        """The process, as nobody else can be."""
        return Identity(self.boot_id, self.pid, self.start_time)


class Holding(NamedTuple):
    """A run that lives, as its shim tells it."""

    shim: ShimId
    key: str
    label: str
    pid: int
    start_time: int
    boot_id: str
    started_at: int
    state: str
    """`running`, `paused`, `stopping`, or `ending` (reaped; its record comes)."""
    output_bytes: int
    tty: bool

    @property
    def who(self) -> Identity:
        """The process, as nobody else can be."""
        return Identity(self.boot_id, self.pid, self.start_time)


class Keys(NamedTuple):
    """A step of a stop: type this."""

    data: bytes
    wait_seconds: float


class Signal(NamedTuple):
    """A step of a stop: send this signal (`TERM`, `INT`, …) to the process, or to its process group."""

    name: str
    wait_seconds: float
    group: bool = False


class Part(NamedTuple):
    """A piece of a `send`: bytes, and the pause after them."""

    data: bytes
    pause_seconds: float = 0.0


@dataclass(eq=False, slots=True)
class _Shim:
    """What the daemon keeps about one shim."""

    id: ShimId
    link: "_Link | None" = None
    build: str = ""
    boot_id: str = ""
    pid: int = 0
    keys: set[str] = field(default_factory=set)
    """Runs that occupy a place: live ones."""
    reserved: int = 0
    health: str = "ok"
    """`ok`, `unresponsive` or `incompatible`."""
    is_pinged: bool = False
    used_at: float = field(default_factory=time.monotonic)

    def linked(self) -> "_Link":
        if self.link is None:
            raise ShimGone(f"shim {self.id} is not connected ({self.health})")
        return self.link


class Shims:
    """Places runs into shims, speaks to them, and tells of their ends."""

    def __init__(
        self,
        paths: Paths,
        *,
        runners_per_shim: int,
        on_exit: Callable[[ExitRecord], None],
        on_gone: Callable[[ShimId], None],
        on_health: Callable[[ShimId, str], None] = lambda shim, health: None,
        log_cap_bytes: int = 64 << 20,
        start_argv: Sequence[str] = (sys.executable, "-m", "stratavore", "daemon", "run"),
        start_env: Mapping[str, str] | None = None,
        runners_may_control: bool = False,
        launcher: Sequence[str] = (),
        idle_seconds: float = 60.0,
    ) -> None:
        """Nothing is done before `start`.

        Args:
            on_exit: called on the loop with each exit that is durable and not acked; again after a reconnection.
            on_gone: called on the loop with each shim that died, and in `start` with each found dead: `replay` it,
                then `forget` it.
            on_health: called on the loop when a shim becomes `unresponsive` or `ok` again.
            start_argv: what the zygote executes to start a dead daemon again, with `start_env` beside its own
                environment.
            launcher: what stands before the zygote's command, as `systemd-run --user --scope --`.
        """
        if not 0 < runners_per_shim <= _MAX_PER_SHIM:
            raise ValueError(f"a shim holds 1 to {_MAX_PER_SHIM} runners, not {runners_per_shim}")
        self._paths = paths
        self._per_shim = runners_per_shim
        self._on_exit, self._on_gone, self._on_health = on_exit, on_gone, on_health
        self._log_cap_bytes = log_cap_bytes
        self._launcher = tuple(launcher)
        self._build = build_id()
        self._options: Json = {
            "build": self._build,
            "start_argv": list(start_argv),
            "start_env": dict(start_env or {}),
            "runners_may_control": runners_may_control,
            "idle_seconds": idle_seconds,
        }
        self._shims: dict[ShimId, _Shim] = {}
        self._places: dict[str, _Shim] = {}
        self._zygote: _Link | None = None
        self._forking, self._finding = asyncio.Lock(), asyncio.Lock()
        self._tasks: set[asyncio.Task[None]] = set()
        self._is_closed = False

    # Life

    async def start(self) -> None:
        """Have a zygote of this build, and speak to every shim there is.

        Raises:
            ZygoteFailed: no zygote can be started.
        """
        for directory in (self._paths.shims, self._paths.zygotes, self._paths.logs):
            directory.mkdir(mode=0o700, parents=True, exist_ok=True)
        await self._find_zygote()
        await asyncio.gather(*(self._meet(ShimId(entry.name)) for entry in sorted(self._paths.shims.iterdir())))
        self._spend(self._look_after())

    async def close(self) -> None:
        """Disconnect. Touches no shim."""
        self._is_closed = True
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        for link in [self._zygote, *(shim.link for shim in self._shims.values())]:
            if link is not None:
                link.close()
        await asyncio.sleep(0)  # the transports close in the loop's next turn

    def health(self) -> dict[ShimId, str]:
        """`ok`, `unresponsive` or `incompatible`, of every shim that lives."""
        return {shim.id: shim.health for shim in self._shims.values()}

    def answers(self, shim: ShimId) -> bool:
        """Whether that shim lives and answers."""
        found = self._shims.get(shim)
        return found is not None and found.link is not None and found.health == "ok"

    def pids(self) -> frozenset[int]:
        """The processes below which the runners live."""
        return frozenset(shim.pid for shim in self._shims.values() if shim.pid)

    def pid_of(self, shim: ShimId) -> int | None:
        """The process of that shim, if it lives."""
        found = self._shims.get(shim)
        return found.pid if found is not None and found.pid else None

    def shim_of(self, key: str) -> ShimId | None:
        """The living shim that holds the run, or keeps its exit."""
        shim = self._places.get(key)
        return shim.id if shim else None

    # Launching

    async def reserve(self, count: int) -> list[ShimId]:
        """One shim per run to come. Each place is taken until its `spawn`, or `release`.

        Raises:
            ZygoteFailed: new shims are needed and cannot be made.
        """
        taken = self._take(count)
        if len(taken) == count:
            return taken
        async with self._forking:
            try:
                taken += self._take(count - len(taken))
                while missing := count - len(taken):
                    await asyncio.gather(*(self._fork() for _ in range(-(-missing // self._per_shim))))
                    taken += self._take(missing)
            except BaseException:
                for shim in taken:
                    self.release(shim)
                raise
        return taken

    def release(self, shim: ShimId) -> None:
        """A reserved place is not needed after all."""
        if found := self._shims.get(shim):
            found.reserved = max(0, found.reserved - 1)

    async def spawn(self, shim: ShimId, request: SpawnRequest) -> Spawned:
        """Start a run, or learn what became of it if this key was spawned there before. Uses up one reserved place.

        Raises:
            SpawnFailed: the program cannot be started.
            ShimGone: the shim is not there (any more); nobody knows whether it was started, unless `replay` tells.
        """
        found = self._shims.get(shim)
        if found is None:
            raise ShimGone(f"there is no shim {shim}")
        if request.key not in found.keys:
            found.reserved = max(0, found.reserved - 1)
        found.keys.add(request.key)
        self._places[request.key] = found
        try:
            reply = await found.linked().ask(self._spawn_message(request))
        except Refused as refused:
            found.keys.discard(request.key)
            self._places.pop(request.key, None)
            raise SpawnFailed(refused.detail.get("errno", 0), refused.text) from None
        if ended := reply.get("ended"):
            found.keys.discard(request.key)
            record = ExitRecord.from_wire(ended)
            return Spawned(record.pid, record.start_time, record.boot_id, record.started_at, record)
        return Spawned(reply["pid"], reply["start_time"], found.boot_id, reply["started_at"])

    # Runs

    async def stop(self, key: str, steps: Sequence[Keys | Signal], grace_seconds: float, *, by: str) -> None:
        """Have the run stopped; its shim carries it out to the end. A second stop can only shorten the grace."""
        plan = [_step(step) for step in steps]
        await self._about(key, {"op": "stop", "steps": plan, "grace": grace_seconds, "by": by})

    async def kill(self, key: str, *, by: str) -> None:
        """KILL the run's whole tree now."""
        await self._about(key, {"op": "kill", "by": by})

    async def pause(self, key: str) -> None:
        """SIGSTOP the run's whole tree."""
        await self._about(key, {"op": "pause"})

    async def unpause(self, key: str) -> None:
        """SIGCONT the run's whole tree."""
        await self._about(key, {"op": "unpause"})

    async def resize(self, key: str, rows: int, cols: int) -> None:
        """Give the terminal a size. Raises Refused (`busy`) while somebody is attached as writer."""
        await self._about(key, {"op": "resize", "rows": rows, "cols": cols})

    async def send(self, key: str, parts: Sequence[Part]) -> None:
        """Type the parts, with nobody's keys between them; returns when they are written.

        Raises:
            Refused: `input_full`: the program reads nothing; `invalid`: it has no terminal; `ended`, `not_found`.
        """
        wire = [{"data": b64encode(part.data).decode(), "pause": part.pause_seconds} for part in parts]
        await self._place(key).linked().ask({"op": "send", "key": key, "parts": wire})

    async def survivors(self, key: str) -> list[int]:
        """The processes that an ended run left behind."""
        reply = await self._place(key).linked().ask({"op": "survivors", "key": key})
        return list(reply["pids"])

    async def end_survivors(self, key: str, *, grace_seconds: float = 2.0) -> list[int]:
        """TERM what an ended run left behind, then KILL it; the pids that even that did not end."""
        ask = {"op": "end_survivors", "key": key, "grace": grace_seconds}
        reply = await self._place(key).linked().ask(ask)
        return list(reply["pids"])

    async def ack(self, key: str) -> None:
        """The exit was committed: its shim may forget it."""
        shim = self._places.pop(key, None)
        if shim is not None and shim.link is not None:
            shim.link.tell({"op": "ack", "key": key})

    async def holdings(self) -> dict[str, Holding | ExitRecord]:
        """What every shim that answers holds: a run that lives, or the exit of one, by key. What is missing here is
        lost only if `is_gone` says so of its shim."""
        asked = [self._list(shim) for shim in list(self._shims.values()) if shim.link and shim.health == "ok"]
        found: dict[str, Holding | ExitRecord] = {}
        for answer in await asyncio.gather(*asked):
            found.update(answer)
        return found

    # Dead shims

    def is_gone(self, shim: ShimId) -> bool:
        """Whether it lives no more: its lock is free, or its directory is not there."""
        return not client.is_locked(self._paths.shim(shim) / "lock")

    async def replay(self, shim: ShimId) -> list[ExitRecord]:
        """The exits in the journal of a dead shim that were not acked."""
        return await asyncio.to_thread(client.replay, self._paths.shim(shim) / "journal")

    async def forget(self, shim: ShimId) -> None:
        """Remove what a dead shim left, apart from the logs, after its exits were committed."""
        if not self.is_gone(shim):
            raise ValueError(f"shim {shim} lives")
        await asyncio.to_thread(shutil.rmtree, self._paths.shim(shim), ignore_errors=True)

    # Placing

    def _take(self, count: int) -> list[ShimId]:
        taken: list[ShimId] = []
        for shim in self._shims.values():
            if len(taken) == count:
                break
            if shim.build == self._build and shim.link is not None and shim.health == "ok":
                room = min(count - len(taken), self._per_shim - len(shim.keys) - shim.reserved)
                if room > 0:
                    shim.reserved += room
                    shim.used_at = time.monotonic()
                    taken += [shim.id] * room
        return taken

    def _spawn_message(self, request: SpawnRequest) -> Json:
        cap = self._log_cap_bytes if request.log_cap_bytes is None else request.log_cap_bytes
        return {
            "op": "spawn", "key": request.key, "label": request.label, "argv": list(request.argv),
            "env": dict(request.env), "cwd": request.cwd, "umask": request.umask, "tty": request.tty,
            "rows": request.rows, "cols": request.cols, "log_cap_bytes": cap, "oom_score_adj": request.oom_score_adj,
        }  # fmt: skip

    def _place(self, key: str) -> _Shim:
        shim = self._places.get(key)
        if shim is None:
            raise Refused({"code": "not_found", "text": f"no shim holds {key}"})
        return shim

    async def _about(self, key: str, message: Json) -> None:
        """Ask something that is moot once the run has ended."""
        try:
            await self._place(key).linked().ask({**message, "key": key})
        except Refused as refused:
            if refused.code != "ended":
                raise

    async def _list(self, shim: _Shim) -> dict[str, Holding | ExitRecord]:
        try:
            reply = await asyncio.wait_for(shim.linked().ask({"op": "list"}), _ANSWER_SECONDS)
        except (ShimGone, TimeoutError):
            return {}
        return {entry["key"]: _holding(shim, entry) for entry in reply["entries"]}

    # The zygote

    async def _find_zygote(self) -> "_Link":
        """A zygote of this build, started if there is none, and named as the current one."""
        async with self._finding:
            if self._zygote is not None:
                return self._zygote
            for entry in sorted(self._paths.zygotes.iterdir()):
                if not client.is_locked(entry / "lock"):
                    await asyncio.to_thread(shutil.rmtree, entry, ignore_errors=True)
                elif entry.name.startswith(f"{self._build}-") and (link := await self._greet_zygote(entry)):
                    return self._adopt_zygote(entry.name, link)
            zygote = f"{self._build}-{secrets.token_hex(4)}"
            await self._start_zygote(zygote)
            if link := await self._greet_zygote(self._paths.zygotes / zygote):
                return self._adopt_zygote(zygote, link)
            raise ZygoteFailed("the new zygote does not answer")

    async def _greet_zygote(self, directory: Path) -> "_Link | None":
        link = None
        try:
            async with asyncio.timeout(_ANSWER_SECONDS):
                link = await _Link.to(directory)
                await link.ask({"op": "hello", "versions": client.SPOKEN})
                await link.ask({"op": "configure", "options": self._options})
        except (OSError, ShimGone, TimeoutError, Refused) as problem:
            _log.warning("zygote unusable", extra={"zygote": directory.name, "reason": str(problem)})
            if link is not None:
                link.close()
            return None
        return link

    def _adopt_zygote(self, zygote: str, link: "_Link") -> "_Link":
        link.on_lost = self._lost_zygote
        self._zygote = link
        fresh = self._paths.current_zygote.with_suffix(".new")
        fresh.write_text(zygote + "\n")
        fresh.replace(self._paths.current_zygote)
        return link

    async def _start_zygote(self, zygote: str) -> None:
        """Run it until it says that it listens."""
        argv = [*self._launcher, *_zygote_command(), str(self._paths.state), zygote, json.dumps(self._options)]
        null, pipe = asyncio.subprocess.DEVNULL, asyncio.subprocess.PIPE
        process = await asyncio.create_subprocess_exec(
            *argv, stdin=null, stdout=null, stderr=pipe, env=_clean_environment(), cwd="/"
        )
        _, text = await process.communicate()
        if process.returncode:
            reason = text.decode(errors="replace").strip() or f"exit code {process.returncode}"
            raise ZygoteFailed(f"the zygote cannot start: {reason}")

    def _lost_zygote(self) -> None:
        self._zygote = None
        if not self._is_closed:
            _log.warning("zygote gone")
            self._spend(self._replace_zygote())

    async def _replace_zygote(self) -> None:
        try:
            await self._find_zygote()
        except ZygoteFailed as problem:
            _log.error("no zygote", extra={"reason": str(problem)})

    # Meeting and losing shims

    async def _fork(self) -> None:
        shim = ShimId(secrets.token_hex(4))
        try:
            zygote = self._zygote or await self._find_zygote()
            await zygote.ask({"op": "fork", "shim": shim})
        except (Refused, ShimGone) as problem:
            raise ZygoteFailed(f"cannot make a shim: {problem}") from None
        await self._meet(shim)

    async def _meet(self, id_: ShimId) -> None:
        """Connect to a shim, or tell that it is gone."""
        shim = self._shims.setdefault(id_, _Shim(id_))
        pause = 0.005
        while not self.is_gone(id_):
            try:
                await asyncio.wait_for(self._connect(shim), _ANSWER_SECONDS)
            except Refused as refused:
                _log.error("shim refused", extra={"shim": id_, "reason": refused.text})
                self._set_health(shim, "incompatible")
                return
            except (OSError, ShimGone, TimeoutError) as problem:
                if isinstance(problem, TimeoutError):
                    self._set_health(shim, "unresponsive")
                    self._spend(self._meet_later(shim, pause))
                    return
                await asyncio.sleep(pause)
                pause = min(1.0, 2 * pause)
            else:
                self._set_health(shim, "ok")
                return
        del self._shims[id_]
        for key in [key for key, place in self._places.items() if place is shim]:
            del self._places[key]
        if self._paths.shim(id_).exists():  # else it ended because nobody needed it
            self._on_gone(id_)

    async def _meet_later(self, shim: _Shim, seconds: float) -> None:
        await asyncio.sleep(seconds)
        await self._meet(shim.id)

    async def _connect(self, shim: _Shim) -> None:
        link = await _Link.to(self._paths.shim(shim.id))
        try:
            link.on_event = lambda event: self._event(shim, event)
            hello = await link.ask({"op": "hello", "versions": client.SPOKEN})
            shim.build, shim.boot_id, shim.pid = hello["build"], hello["boot_id"], hello["pid"]
            held = await link.ask({"op": "list"})
            self._places.update((entry["key"], shim) for entry in held["entries"])
            shim.keys = {entry["key"] for entry in held["entries"] if "record" not in entry}
            await link.ask({"op": "subscribe"})
        except BaseException:
            link.close()
            raise
        shim.link = link
        link.on_lost = lambda: self._lost(shim)

    def _event(self, shim: _Shim, event: Json) -> None:
        if event["event"] == "exited":
            record = ExitRecord.from_wire(event["record"])
            shim.keys.discard(record.key)
            shim.used_at = time.monotonic()
            self._places[record.key] = shim
            self._on_exit(record)

    def _lost(self, shim: _Shim) -> None:
        shim.link = None
        if not self._is_closed:
            self._spend(self._meet(shim.id))

    def _set_health(self, shim: _Shim, health: str) -> None:
        if health != shim.health:
            shim.health = health
            self._on_health(shim.id, health)

    async def _look_after(self) -> None:
        """Notice silent shims, and let spare ones end."""
        while True:
            await asyncio.sleep(_PING_SECONDS)
            for shim in self._shims.values():
                if shim.link is not None and not shim.is_pinged:
                    self._ping(shim, shim.link)
            self._let_go(time.monotonic())

    def _ping(self, shim: _Shim, link: "_Link") -> None:
        def answered(pong: asyncio.Future[Json]) -> None:
            alarm.cancel()
            shim.is_pinged = False
            if pong.exception() is None and shim.link is link:
                self._set_health(shim, "ok")

        shim.is_pinged = True
        alarm = asyncio.get_running_loop().call_later(_SILENT_SECONDS, self._set_health, shim, "unresponsive")
        link.ask({"op": "ping"}).add_done_callback(answered)

    def _let_go(self, now: float) -> None:
        """Disconnect from shims that were empty for a minute, but for one of this build: they end by themselves."""
        full = {shim.id for shim in self._places.values()}
        kept = next((shim for shim in self._shims.values() if shim.build == self._build), None)
        for shim in list(self._shims.values()):
            is_spare = shim.id not in full and not shim.reserved and now - shim.used_at > _SPARE_SECONDS
            if is_spare and shim is not kept and shim.link is not None:
                del self._shims[shim.id]
                shim.link.close()

    def _spend(self, work: Coroutine[Any, Any, None]) -> None:
        task = asyncio.get_running_loop().create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

class _Link(asyncio.Protocol):
    """One connection: requests out, answers and events in."""

    def __init__(self) -> None:
        self.on_event: Callable[[Json], None] = lambda event: None
        self.on_lost: Callable[[], None] = lambda: None
        self._decoder = Decoder()
        self._numbers = itertools.count(1)
        self._asked: dict[int, asyncio.Future[Json]] = {}
        self._entries: dict[int, list[Json]] = {}
        self._unsent: list[bytes] = []
        self._transport: asyncio.Transport | None = None

    @classmethod
    async def to(cls, directory: Path) -> "_Link":
        """Connect to whoever listens in the directory. Raises OSError."""
        sock = client.reach(directory, timeout_seconds=0)
        _, link = await asyncio.get_running_loop().create_unix_connection(cls, sock=sock)
        return link

    def ask(self, message: Json) -> "asyncio.Future[Json]":
        """Send a request; the future brings its answer, Refused or ShimGone."""
        number = next(self._numbers)
        future: asyncio.Future[Json] = asyncio.get_running_loop().create_future()
        try:
            self.tell({**message, "id": number})
        except (ShimGone, Refused) as problem:
            future.set_exception(problem)
        else:
            self._asked[number] = future
        return future

    def tell(self, message: Json) -> None:
        """Send a request that wants no answer. What is sent in one turn of the loop leaves in one piece."""
        if self._transport is None:
            raise ShimGone("the connection is closed")
        payload = _encode(message)
        if len(payload) > MAX_FRAME:
            text = f"{len(payload)} bytes of arguments and environment are too many"
            raise Refused({"code": "spawn_failed", "errno": errno.E2BIG, "text": text})
        if not self._unsent:
            asyncio.get_running_loop().call_soon(self._flush)
        self._unsent.append(frame(CONTROL, payload))

    def close(self) -> None:
        """Disconnect, without a word to `on_lost`."""
        self.on_lost = lambda: None
        if self._transport is not None:
            self._transport.close()

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        assert isinstance(transport, asyncio.Transport)
        self._transport = transport

    def connection_lost(self, exc: Exception | None) -> None:
        self._transport = None
        asked, self._asked = self._asked, {}
        for future in asked.values():
            if not future.done():
                future.set_exception(ShimGone("the connection was lost"))
        self.on_lost()

    def data_received(self, data: bytes) -> None:
        try:
            for _, message in self._decoder.feed(data):
                self._received(message)
        except client.WireError:
            _log.exception("nonsense from a shim")
            if self._transport is not None:
                self._transport.abort()

    def _received(self, message: Json) -> None:
        number = message.get("id")
        if number is None:
            self.on_event(message)
        elif "entry" in message:
            self._entries.setdefault(number, []).append(message["entry"])
        else:
            future = self._asked.pop(number, None)
            entries = self._entries.pop(number, [])
            if future is None or future.done():
                return
            if error := message.get("error"):
                future.set_exception(Refused(error))
            else:
                future.set_result({**message, "entries": entries})

    def _flush(self) -> None:
        if self._transport is not None:
            self._transport.write(b"".join(self._unsent))
        self._unsent.clear()


def build_id() -> str:
    """The version, and a checksum of the shim's sources: zygotes of another build are not used."""
    checksum = 0
    for source in sorted((_ROOT / "stratavore" / "shim").glob("*.py")):
        checksum = zlib.crc32(source.read_bytes(), checksum)
    return f"{__version__}-{checksum:08x}"


def _zygote_command() -> list[str]:
    """A clean interpreter: no site, no environment, nothing that was imported here."""
    if getattr(sys, "frozen", False):
        return [sys.executable, "_zygote"]
    code = f"import sys; sys.path.insert(0, {str(_ROOT)!r}); from stratavore.shim.zygote import main; main()"
    return [sys.executable, "-I", "-S", "-c", code, "stratavore-zygote"]


def _clean_environment() -> dict[str, str]:
    """Nothing of the bundler, nothing of whoever called the daemon."""
    kept = {name: os.environ[name] for name in ("PATH", "HOME", "LANG") if name in os.environ}
    return {**kept, "PYINSTALLER_RESET_ENVIRONMENT": "1"} if getattr(sys, "frozen", False) else kept


def _step(step: Keys | Signal) -> Json:
    match step:
        case Keys():
            return {"keys": b64encode(step.data).decode(), "wait": step.wait_seconds}
        case Signal():
            return {"signal": step.name, "group": step.group, "wait": step.wait_seconds}
        case _:
            assert_never(step)


def _holding(shim: _Shim, entry: Json) -> Holding | ExitRecord:
    if record := entry.get("record"):
        return ExitRecord.from_wire(record)
    return Holding(shim=shim.id, boot_id=shim.boot_id, **entry)
