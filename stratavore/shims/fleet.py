"""All shims of this state directory, from the daemon's side: placing runs, asking about them, hearing of their ends."""

import asyncio
import os
import shutil
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress

from stratavore.model import ShimId
from stratavore.paths import Paths
from stratavore.shim import client
from stratavore.shim.client import ExitRecord, Json, Refused
from stratavore.shims.link import Link
from stratavore.shims.meeting import Meetings
from stratavore.shims.nursery import Launcher, Nursery
from stratavore.shims.requests import (
    Holding,
    Keys,
    Part,
    ShimGone,
    Signal,
    Spawned,
    SpawnFailed,
    SpawnRequest,
    Survey,
    ZygoteFailed,
    part_message,
    step_message,
)
from stratavore.shims.shim import Shim

_PING_SECONDS = 4.0
_SPARE_SECONDS = 60.0
_MAX_PER_SHIM = 64
_FORK_TRIES = 2


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
        start_argv: Sequence[str],
        log_cap_bytes: int = 64 << 20,
        start_env: Mapping[str, str] | None = None,
        runners_may_control: bool = False,
        launcher: Launcher = lambda zygote: (),
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
            launcher: what stands before the command of a zygote, as `systemd-run --user --scope --`.
        """
        if not 0 < runners_per_shim <= _MAX_PER_SHIM:
            raise ValueError(f"a shim holds 1 to {_MAX_PER_SHIM} runners, not {runners_per_shim}")
        self._paths = paths
        self._per_shim = runners_per_shim
        self._log_cap_bytes = log_cap_bytes
        options = {
            "start_argv": list(start_argv),
            "start_env": dict(start_env or {}),
            "runners_may_control": runners_may_control,
            "idle_seconds": idle_seconds,
        }
        self._nursery = Nursery(paths, options, launcher)
        self._met = Meetings(paths, on_exit=on_exit, on_gone=on_gone, on_health=on_health)
        self._forking = asyncio.Lock()
        self._looking: asyncio.Task[None] | None = None

    # Life

    async def start(self) -> None:
        """Have a zygote of this build, now or later (`problem` says why not now), and meet every shim there is.

        Those that cannot be met at once are met later, as soon as that can be.
        """
        for directory in (self._paths.shims, self._paths.zygotes, self._paths.logs):
            directory.mkdir(mode=0o700, parents=True, exist_ok=True)
        await self._nursery.open()
        await asyncio.gather(*(self._met.meet(ShimId(name)) for name in sorted(os.listdir(self._paths.shims))))
        self._looking = asyncio.get_running_loop().create_task(self._look_after())

    async def close(self) -> None:
        """Disconnect. Touches no shim."""
        if self._looking is not None:
            self._looking.cancel()
            await asyncio.gather(self._looking, return_exceptions=True)
        await self._nursery.close()
        await self._met.close()

    def health(self) -> dict[ShimId, str]:
        """`ok`, `unresponsive` or `incompatible`, of every shim that lives."""
        return {shim.id: shim.health for shim in self._met.shims.values()}

    @property
    def problem(self) -> str | None:
        """Why no new shim can be made; None if one can."""
        return self._nursery.problem

    def pids(self) -> frozenset[int]:
        """The processes below which the runners live, those of shims that have not answered yet among them."""
        met = {shim.id: shim.pid for shim in self._met.shims.values() if shim.pid}
        is_whole = met.keys() >= set(os.listdir(self._paths.shims))  # as a rule; to look at all locks takes longer
        living = {} if is_whole else client.living(self._paths.shims)
        return frozenset(met.values()) | frozenset(living.values())

    def pid_of(self, shim: ShimId) -> int | None:
        """The process of that shim, if it lives."""
        found = self._met.shims.get(shim)
        return found.pid if found is not None and found.pid else None

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
        if found := self._met.shims.get(shim):
            found.reserved = max(0, found.reserved - 1)

    async def spawn(self, shim: ShimId, request: SpawnRequest) -> Spawned:
        """Start a run, or learn what became of it if this key was spawned there before. Uses up one reserved place.

        Raises:
            SpawnFailed: the program cannot be started.
            ShimGone: the shim is not there (any more); nobody knows whether it was started, unless `replay` tells.
        """
        found = self._met.shims.get(shim)
        if found is None:
            raise ShimGone(f"there is no shim {shim}")
        if request.key not in found.keys:
            found.reserved = max(0, found.reserved - 1)
        found.keys.add(request.key)
        self._met.places[request.key] = found
        try:
            reply = await found.linked().ask(request.message(self._log_cap_bytes))
        except Refused as refused:
            found.keys.discard(request.key)
            self._met.places.pop(request.key, None)
            raise SpawnFailed(refused.detail.get("errno", 0), refused.text) from None
        if ended := reply.get("ended"):
            found.keys.discard(request.key)
            record = ExitRecord.from_wire(ended)
            return Spawned(record.pid, record.start_time, record.boot_id, record.started_at, record)
        return Spawned(reply["pid"], reply["start_time"], found.boot_id, reply["started_at"])

    # Runs

    async def stop(self, key: str, steps: Sequence[Keys | Signal], grace_seconds: float, *, by: str) -> None:
        """Have the run stopped; its shim carries it out to the end. A second stop can only shorten the grace."""
        plan = [step_message(step) for step in steps]
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
        asked = {"op": "send", "key": key, "parts": [part_message(part) for part in parts]}
        pauses = sum(part.pause_seconds for part in parts)
        await self._place(key).linked().ask(asked, seconds=Link.answer_seconds + pauses)

    async def end_survivors(self, shim: ShimId, key: str, *, grace_seconds: float = 2.0) -> list[int]:
        """TERM what an ended run left behind in its shim, then KILL it; the pids that even that did not end.

        Raises:
            ShimGone: the shim does not answer, or is dead.
        """
        asked = {"op": "end_survivors", "key": key, "grace": grace_seconds}
        link = self._met.shims.get(shim, Shim(shim)).linked()
        reply = await link.ask(asked, seconds=Link.answer_seconds + grace_seconds)
        return list(reply["pids"])

    async def ack(self, key: str) -> None:
        """The exit was committed: its shim may forget it."""
        shim = self._met.places.pop(key, None)
        if shim is not None and shim.link is not None:
            with suppress(ShimGone):  # Its journal is replayed then, and what was committed is not booked twice.
                shim.link.tell({"op": "ack", "key": key})

    async def survey(self) -> Survey:
        """What every shim that answers holds."""
        asked = [shim for shim in self._met.shims.values() if shim.link and shim.health == "ok"]
        answers = await asyncio.gather(*map(self._list, asked))
        told = {shim.id: answer for shim, answer in zip(asked, answers, strict=True) if answer is not None}
        return Survey({key: entry for answer in told.values() for key, entry in answer.items()}, frozenset(told))

    async def labelled(self, held: Holding) -> Holding:
        """The same with its label. Raises ShimGone; Refused `not_found`: it has ended."""
        found = (await self._place(held.key).list(key=held.key)).get(held.key)
        if isinstance(found, Holding):
            return found
        raise Refused({"code": "not_found", "text": f"{held.key} has ended"})

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
        for shim in self._met.shims.values():
            if len(taken) == count:
                break
            if shim.build == self._nursery.build and shim.link is not None and shim.health == "ok":
                room = min(count - len(taken), self._per_shim - len(shim.keys) - shim.reserved)
                if room > 0:
                    shim.reserved += room
                    shim.used_at = time.monotonic()
                    taken += [shim.id] * room
        return taken

    def _place(self, key: str) -> Shim:
        shim = self._met.places.get(key)
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

    async def _list(self, shim: Shim) -> dict[str, Holding | ExitRecord] | None:
        try:
            return await shim.list(brief=True)
        except (ShimGone, Refused):
            return None

    async def _fork(self) -> None:
        for _ in range(_FORK_TRIES):
            if await self._met.meet(await self._nursery.fork()):
                return
        raise ZygoteFailed("new shims are made, and cannot be reached")

    async def _look_after(self) -> None:
        """Notice silent shims, and let spare ones end."""
        while True:
            await asyncio.sleep(_PING_SECONDS)
            self._met.ping()
            self._let_go(time.monotonic())

    def _let_go(self, now: float) -> None:
        """Disconnect from shims that were empty for a minute, but for one of this build: they end by themselves."""
        full = {shim.id for shim in self._met.places.values()}
        kept = next((shim for shim in self._met.shims.values() if shim.build == self._nursery.build), None)
        for shim in list(self._met.shims.values()):
            is_spare = shim.id not in full and not shim.reserved and now - shim.used_at > _SPARE_SECONDS
            if is_spare and shim is not kept:
                self._met.leave(shim)
