"""What runs leave behind: processes that still live when their run has ended, or its holder is dead."""

import asyncio
import logging
import signal
from collections.abc import Collection

from stratavore import process
from stratavore.process import Identity

log = logging.getLogger(__name__)

_POLITE_SECONDS = 2.0
_LOOK_SECONDS = 0.05
_GATHER_SECONDS = 0.01


class SharedScan:
    """One scan of all processes for every runner that asks at the same time."""

    def __init__(self) -> None:
        self._wanted: set[str] = set()
        self._scan: asyncio.Task[dict[str, list[Identity]]] | None = None

    async def marked(self, runner_id: str) -> list[Identity]:
        """The living processes that bear the marker of this runner."""
        self._wanted.add(runner_id)
        if self._scan is None:
            self._scan = asyncio.ensure_future(self._run())
        return (await asyncio.shield(self._scan)).get(runner_id, [])

    async def _run(self) -> dict[str, list[Identity]]:
        await asyncio.sleep(_GATHER_SECONDS)  # So that all who are about to ask share this one.
        wanted, self._wanted, self._scan = self._wanted, set(), None
        return await asyncio.to_thread(process.marked, wanted)


async def end_processes(remnants: Collection[Identity]) -> None:
    """Ask them to end, and kill what has not after two seconds; return when they are gone, for a KILL takes time."""
    process.send_signal(remnants, signal.SIGTERM)
    process.send_signal(remnants, signal.SIGCONT)
    if not await _are_gone(remnants, _POLITE_SECONDS):
        process.send_signal(remnants, signal.SIGKILL)
        if not await _are_gone(remnants, _POLITE_SECONDS):
            log.error("processes that survive KILL", extra={"pids": [who.pid for who in remnants]})


async def _are_gone(remnants: Collection[Identity], seconds: float) -> bool:
    """Whether all of them end within that time."""
    for _ in range(int(seconds / _LOOK_SECONDS)):
        if not any(process.is_alive(who) for who in remnants):
            return True
        await asyncio.sleep(_LOOK_SECONDS)
    return False
