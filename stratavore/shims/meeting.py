"""Meeting shims and losing them: which are known, whether each answers, and which runs are where.

Rule 1: whoever wants to meet a shim waits for one try. What fails, however it fails, is tried on in the background: one
shim that takes no connection, or a daemon without descriptors, holds up nobody.
Rule 2: a shim that is known and not connected is `unresponsive` (or `incompatible`), so that a person is told.
"""

import asyncio
import logging
import time
from collections.abc import Callable, Coroutine
from typing import Any

from stratavore.model import ShimId
from stratavore.paths import Paths
from stratavore.shim import client
from stratavore.shim.client import ExitRecord, Json, Refused
from stratavore.shims.link import Link
from stratavore.shims.requests import ShimGone
from stratavore.shims.shim import Shim

_SILENT_SECONDS, _ANSWER_SECONDS = 5.0, 5.0
_FIRST_PAUSE_SECONDS, _LONGEST_PAUSE_SECONDS = 0.005, 1.0
_log = logging.getLogger(__name__)


class Meetings:
    """The shims that are known, each with its connection."""

    def __init__(
        self,
        paths: Paths,
        *,
        on_exit: Callable[[ExitRecord], None],
        on_gone: Callable[[ShimId], None],
        on_health: Callable[[ShimId, str], None],
    ) -> None:
        self.shims: dict[ShimId, Shim] = {}
        self.places: dict[str, Shim] = {}
        """Where each run is that has not ended, or whose end was not acked."""
        self._paths = paths
        self._on_exit, self._on_gone, self._on_health = on_exit, on_gone, on_health
        self._tasks: set[asyncio.Task[Any]] = set()
        self._is_closed = False

    async def meet(self, id_: ShimId) -> bool:
        """Try once to connect to a shim, and tell if it is gone; returns whether it is connected.

        If that fails it is tried again and again, and nobody waits for it.
        """
        shim = self.shims.setdefault(id_, Shim(id_))
        if not await self._try(shim):
            self._spend(self._meet_later(shim))
        return shim.link is not None

    def ping(self) -> None:
        """Find out which shims are silent."""
        for shim in self.shims.values():
            if shim.link is not None:
                self._ping(shim, shim.link)

    def leave(self, shim: Shim) -> None:
        """Disconnect from it, and know it no more."""
        if shim.link is not None:
            del self.shims[shim.id]
            shim.link.close()

    async def close(self) -> None:
        """Disconnect from all."""
        self._is_closed = True
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        for shim in self.shims.values():
            if shim.link is not None:
                shim.link.close()
                shim.link = None  # what is still to be acked is told again to the next daemon
        await asyncio.sleep(0)  # the transports close in the loop's next turn

    async def _meet_later(self, shim: Shim) -> None:
        pause, is_settled = _FIRST_PAUSE_SECONDS, False
        while not is_settled:
            await asyncio.sleep(pause)
            pause = min(_LONGEST_PAUSE_SECONDS, 2 * pause)
            is_settled = await self._try(shim)

    async def _try(self, shim: Shim) -> bool:
        """Whether there is nothing more to try: it is connected, speaks no version of ours, or is gone."""
        try:
            if is_alive := client.is_locked(self._paths.shim(shim.id) / "lock"):
                async with asyncio.timeout(_ANSWER_SECONDS):
                    await self._connect(shim)
        except Refused as refused:
            _log.error("shim refused", extra={"shim": shim.id, "reason": refused.text})
            self._set_health(shim, "incompatible")
            return True
        except (OSError, ShimGone, TimeoutError):
            self._set_health(shim, "unresponsive")
            return False
        if is_alive:
            self._set_health(shim, "ok")
        else:
            self._forget(shim)
        return True

    async def _connect(self, shim: Shim) -> None:
        link = await Link.to(self._paths.shim(shim.id))
        try:
            link.on_event = lambda event: self._event(shim, event)
            hello = await link.ask({"op": "hello", "versions": client.SPOKEN})
            shim.build, shim.boot_id, shim.pid = hello["build"], hello["boot_id"], hello["pid"]
            held = await link.ask({"op": "list", "brief": True})
            self.places.update((entry["key"], shim) for entry in held["entries"])
            shim.keys = {entry["key"] for entry in held["entries"] if "record" not in entry}
            await link.ask({"op": "subscribe"})
        except BaseException:
            link.close()
            raise
        shim.link = link
        link.on_lost = lambda: self._lost(shim)

    def _event(self, shim: Shim, event: Json) -> None:
        if event["event"] == "exited":
            record = ExitRecord.from_wire(event["record"])
            shim.keys.discard(record.key)
            shim.used_at = time.monotonic()
            self.places[record.key] = shim
            self._on_exit(record)

    def _lost(self, shim: Shim) -> None:
        shim.link = None
        if not self._is_closed:
            self._set_health(shim, "unresponsive")
            self._spend(self.meet(shim.id))

    def _forget(self, shim: Shim) -> None:
        del self.shims[shim.id]
        for key in [key for key, place in self.places.items() if place is shim]:
            del self.places[key]
        if self._paths.shim(shim.id).exists():  # else it ended because nobody needed it
            self._on_gone(shim.id)

    def _set_health(self, shim: Shim, health: str) -> None:
        if health != shim.health:
            shim.health = health
            self._on_health(shim.id, health)

    def _ping(self, shim: Shim, link: Link) -> None:
        def answered(pong: asyncio.Future[Json]) -> None:
            if shim.link is link:
                self._set_health(shim, "ok" if pong.exception() is None else "unresponsive")

        link.ask({"op": "ping"}, seconds=_SILENT_SECONDS).add_done_callback(answered)

    def _spend(self, work: Coroutine[Any, Any, Any]) -> None:
        task = asyncio.get_running_loop().create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)
