"""An import, while it is under way: which files are left, and how far it is."""

import asyncio
from collections import deque
from collections.abc import Callable, Collection, Sequence

import msgspec

from stratavore.ledger.posting import Posted
from stratavore.ledger.watching import Followed
from stratavore.model import NO_IMPORT, ImportProgress


class BringingIn:
    """Files that are to be read whole, each once. `on_progress` is told after each step.

    Conversations up to the number `known` were known before; those `told_before` had been read in these files.
    """

    def __init__(
        self,
        files: Sequence[tuple[Followed, int]],
        on_progress: Callable[[ImportProgress], None],
        *,
        known: int = 0,
        told_before: Collection[int] = (),
    ) -> None:
        self._known = known
        self._told_before = frozenset(told_before)
        self._sizes = dict(files)
        self._on_progress = on_progress
        self._waiting = deque(self._sizes)
        self.left = set(self._sizes)
        """What is not read to its end yet."""
        self._read_bytes: dict[Followed, int] = {}
        self._bytes = 0
        self._sessions: set[int] = set()
        self._is_over = asyncio.Event()
        self._progress = msgspec.structs.replace(
            NO_IMPORT,
            is_running=True,
            total_files=len(self._sizes),
            total_bytes=sum(self._sizes.values()),
            known_sessions=len(self._told_before),
        )
        self._tell()

    async def wait(self) -> ImportProgress:
        """Until everything is booked."""
        await self._is_over.wait()
        return self._progress

    def next(self, count: int) -> list[Followed]:
        """Up to so many files that were not handed out yet."""
        return [self._waiting.popleft() for _ in range(min(count, len(self._waiting)))]

    @property
    def is_waiting(self) -> bool:
        """There are such."""
        return bool(self._waiting)

    def start_over(self) -> None:
        """What was handed out was perhaps not booked."""
        self._waiting = deque(self.left)

    def hear(self, posted: Posted, read: Sequence[Followed]) -> None:
        """This was booked, and these files are read to their ends."""
        own = [piece for piece in posted.pieces if piece.file in self._sizes]
        done = self.left.intersection(read)
        if not own and not done:
            return
        for piece in own:
            self._reached(piece.file, piece.now.offset)
        for file in done:
            self._reached(file, self._sizes[file])
        self.left -= done
        if own:
            self._sessions |= posted.sessions
        before = self._progress
        self._progress = msgspec.structs.replace(
            before,
            files=before.files + len(done),
            bytes=self._bytes,
            sessions=len(self._sessions),
            new_sessions=sum(number > self._known for number in self._sessions),
            known_sessions=sum(number <= self._known for number in self._sessions | self._told_before),
            calls=before.calls + (len(posted.charges) if own else 0),
            bad_lines=before.bad_lines + sum(piece.now.bad_lines - piece.was.bad_lines for piece in own),
        )
        self._tell()

    def _reached(self, file: Followed, offset: int) -> None:
        reached = min(offset, self._sizes[file])
        self._bytes += reached - self._read_bytes.get(file, 0)
        self._read_bytes[file] = reached

    def _tell(self) -> None:
        if not self.left:
            self._progress = msgspec.structs.replace(self._progress, is_running=False)
            self._is_over.set()
        self._on_progress(self._progress)
