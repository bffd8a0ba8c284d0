"""The import that is under way, or was last: there is one at a time."""

import asyncio
from collections.abc import Coroutine
from typing import Any

import msgspec

from stratavore.model import NO_IMPORT, ImportProgress


class Imports:
    """The import that is under way, or was last."""

    def __init__(self) -> None:
        self.progress = NO_IMPORT
        self._task: asyncio.Task[ImportProgress] | None = None

    @property
    def is_running(self) -> bool:
        return self._task is not None and not self._task.done()

    def begin(self, work: Coroutine[Any, Any, ImportProgress]) -> None:
        """Let it run; how it ends is kept."""
        self.progress = msgspec.structs.replace(NO_IMPORT, is_running=True)
        self._task = asyncio.ensure_future(self._keep(work))

    def hear(self, progress: ImportProgress) -> None:
        """It is so far."""
        self.progress = progress

    async def wait(self, seconds: float) -> None:
        """Until it is over, or so long."""
        if self._task is not None:
            await asyncio.wait({self._task}, timeout=seconds)

    async def stop(self) -> None:
        """End it now, if it runs."""
        if self._task is not None and self._task.cancel():
            await asyncio.wait({self._task})

    async def _keep(self, work: Coroutine[Any, Any, ImportProgress]) -> ImportProgress:
        try:
            self.progress = await work
        except BaseException as problem:
            is_stopped = isinstance(problem, asyncio.CancelledError)
            why = "stopped" if is_stopped else f"{type(problem).__name__}: {problem}"
            self.progress = msgspec.structs.replace(self.progress, is_running=False, failed=why)
            raise
        self.progress = msgspec.structs.replace(self.progress, is_running=False)
        return self.progress
