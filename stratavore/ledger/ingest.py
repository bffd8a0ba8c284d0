"""The loop that keeps the ledger: reads what agents write, a little of each file in turn, and books it.

Rule 1: what waits for the disk or takes time runs in one thread of its own; the event loop only passes things on.
Rule 2: what was just written comes before a backlog, and a backlog before what is imported.
Rule 3: after a failed write nothing that was read counts: it is read again from where the database says.
"""

import asyncio
import logging
import os
from collections import deque
from collections.abc import Callable, Collection, Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import TypeVar

from stratavore.agents.records import Limit, Note
from stratavore.context import Context
from stratavore.errors import StratavoreError
from stratavore.ledger import homes, posting, reading
from stratavore.ledger.homes import Home
from stratavore.ledger.posting import Posted
from stratavore.ledger.prices import Prices
from stratavore.ledger.reading import Piece
from stratavore.ledger.tail import Tails
from stratavore.ledger.watching import Followed, Inhabitant, Watch
from stratavore.runner_files import read_environment
from stratavore.store import installation, samples, tails
from stratavore.store.tails import Tail

log = logging.getLogger(__name__)

T = TypeVar("T")
OnNotes = Callable[[str, Path, Sequence[Note | Limit]], None]

_TURN_SECONDS = 0.5
_WHO_LIVES_SECONDS = 2.0
_PAUSE_SECONDS = 1.0
_PIECES_AT_ONCE = 4
"""Turns that share one transaction: a commit costs as much as reading one of them, and others wait for it."""


class Ingest:
    """Reads the agents' files as they grow. `on_notes` is told what was said of conversations, `on_charged` that
    something was spent; both on the loop, after the commit."""

    def __init__(self, context: Context, on_notes: OnNotes, on_charged: Callable[[], None]) -> None:
        self._context = context
        self._on_notes = on_notes
        self._on_charged = on_charged
        self._prices = Prices(context.config.prices)
        self._thread = ThreadPoolExecutor(1, thread_name_prefix="ledger")
        self._tails = Tails()
        self._watch = Watch(began_at=0.0, known=())
        self._queue: deque[Followed] = deque()
        self._imports: deque[Followed] = deque()
        self._queued: set[Followed] = set()
        self._poked: set[str] = set()
        self._woken = asyncio.Event()
        self._homes: set[Home] = set()
        self._inhabitants: list[Inhabitant] = []
        self._who_lives_at = float("-inf")
        self._listeners: list[Callable[[Posted], None]] = []

    def poke(self, runner_id: str) -> None:
        """Look at the files of that runner now."""
        self._poked.add(runner_id)
        self._woken.set()

    async def run(self) -> None:
        """Keep the ledger, until cancelled."""
        try:
            await self._until_it_works(self._begin)
            while True:
                await self._until_it_works(self._turn)
        finally:
            self._thread.shutdown(wait=True, cancel_futures=True)
            self._tails.close()

    async def _until_it_works(self, work: Callable[[], "asyncio.Future[None]"]) -> None:
        raise NotImplementedError
