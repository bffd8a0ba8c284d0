"""What the daemon's tasks wait for: news, a hook that holds a request, their turn. On the loop's thread only."""

import asyncio
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from weakref import WeakValueDictionary


class News:
    """Tells everybody who waits that something was committed."""

    def __init__(self) -> None:
        self._next: asyncio.Event | None = None
        self.count = 0
        """How often something was told."""

    def tell(self) -> None:
        """Wake all who wait now."""
        self.count += 1
        if self._next is not None:
            self._next.set()
            self._next = None

    async def wait(self, seconds: float) -> None:
        """Return at the next news, or when the time has passed."""
        event = self._next = self._next or asyncio.Event()
        try:
            async with asyncio.timeout(seconds):
                await event.wait()
        except TimeoutError:
            return


class Holds:
    """Which permission requests a hook holds now, so that there is somebody to learn the decision."""

    def __init__(self) -> None:
        self._held: Counter[str] = Counter()
        self._news = News()

    @contextmanager
    def holding(self, request_id: str) -> Iterator[None]:
        """For as long as the hook waits."""
        self._held[request_id] += 1
        self._news.tell()
        try:
            yield
        finally:
            self._held[request_id] -= 1
            if not self._held[request_id]:
                del self._held[request_id]

    async def comes(self, request_id: str, seconds: float) -> bool:
        """Whether it is held, or is again within that time: between two questions, or two daemons, it is not."""
        deadline = asyncio.get_running_loop().time() + seconds
        while request_id not in self._held:
            left = deadline - asyncio.get_running_loop().time()
            if left <= 0:
                return False
            await self._news.wait(left)
        return True


class Turns:
    """Who works on the same thing does so one after the other."""

    def __init__(self) -> None:
        self._locks = WeakValueDictionary[int, asyncio.Lock]()

    def of(self, number: int) -> asyncio.Lock:
        """To be held for as long as the work takes."""
        return self._locks.setdefault(number, asyncio.Lock())
