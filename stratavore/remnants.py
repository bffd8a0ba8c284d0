"""What runs leave behind: processes that still live when their run has ended, or its holder is dead."""

import asyncio
import signal
from collections.abc import Collection

from stratavore import process
from stratavore.process import Identity

_POLITE_SECONDS = 2.0
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
    """Ask them to end, and kill what has not after two seconds."""
    process.send_signal(remnants, signal.SIGTERM)
    process.send_signal(remnants, signal.SIGCONT)
    for _ in range(int(_POLITE_SECONDS / 0.05)):
        if not any(process.is_alive(who) for who in remnants):
            return
        await asyncio.sleep(0.05)
    process.send_signal(remnants, signal.SIGKILL)
