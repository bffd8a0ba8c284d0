"""The loop that keeps the ledger: reads what agents write, a little of each file in turn, and books it.

Rule 1: what waits for the disk or takes time runs in one thread of its own; the event loop only passes things on.
Rule 2: what was just written comes before what is imported.
Rule 3: after a failed write nothing that was read counts: it is read again from where the database says.
"""

import asyncio
import logging
import os
import time
from collections import deque
from collections.abc import Awaitable, Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from datetime import timedelta
from functools import partial
from pathlib import Path
from typing import NamedTuple, TypeVar

from stratavore.agents import REPORTED
from stratavore.agents.records import Limit, Note
from stratavore.context import Context
from stratavore.errors import StratavoreError
from stratavore.ledger import homes, posting, reading
from stratavore.ledger.bringing_in import BringingIn
from stratavore.ledger.homes import Home
from stratavore.ledger.posting import Posted
from stratavore.ledger.reading import Piece
from stratavore.ledger.tail import Tails
from stratavore.ledger.watching import Followed, Inhabitant, Watch
from stratavore.model import ImportProgress
from stratavore.money import nano
from stratavore.runner_files import read_environment
from stratavore.store import attribution, installation, reported, samples, session_views, sessions, tails
from stratavore.store.attribution import Entrance
from stratavore.store.reported import Ended
from stratavore.store.tails import Tail

log = logging.getLogger(__name__)

T = TypeVar("T")
OnNotes = Callable[[str, Path, Sequence[Note | Limit]], None]

_TURN_SECONDS = 0.5
_WHO_LIVES_SECONDS = 2.0
_PAUSE_SECONDS = 1.0
_EXIT_MEMORY_SECONDS = 600.0
_FILES_AT_ONCE = 64
_BYTES_AT_ONCE = 1024 * 1024
"""What shares one transaction: others wait for it, and a commit costs as much as to read some of it."""


class _Batch(NamedTuple):
    """What one step of the thread brought, which files are read to their ends, and which were not reached."""

    pieces: list[Piece]
    read: list[Followed]
    left: list[Followed]


class Ingest:
    """Reads the agents' files as they grow.

    `on_notes` is told what was said of conversations and limits, `on_charged` that something was spent: both on the
    event loop, once it is committed.
    """

    def __init__(self, context: Context, on_notes: OnNotes, on_charged: Callable[[], None]) -> None:
        self._context = context
        self._on_notes = on_notes
        self._on_charged = on_charged
        self._thread = ThreadPoolExecutor(1, thread_name_prefix="ledger")
        self._tails = Tails()
        self._watch: Watch | None = None
        self._queue: deque[Followed] = deque()
        self._queued: set[Followed] = set()
        self._unbooked: list[_Batch] = []
        self._brought_in: list[BringingIn] = []
        self._poked: set[str] = set()
        self._asked: list[asyncio.Future[None]] = []
        self._woken = asyncio.Event()
        self._homes: set[Home] = set()
        self._home_of: dict[str, Home | None] = {}
        self._inhabitants: list[Inhabitant] = []
        self._who_lives_at = float("-inf")
        self._entered: set[Entrance] = set()
        self._attributed: set[Entrance] = set()
        self._reports: list[tuple[Ended, int]] = []
        self._asked_at_exit: set[tuple[int, str, str]] = set()

    def poke(self, runner_id: str) -> None:
        """Look at the files of that runner now."""
        self._poked.add(runner_id)
        self._woken.set()

    async def catch_up(self) -> None:
        """Return once everything is booked that stood in the files when this was asked."""
        asked: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._asked.append(asked)
        self._woken.set()
        await asked

    async def run(self) -> None:
        """Keep the ledger, until cancelled."""
        try:
            while True:
                await self._try(self._turn)
        finally:
            self._thread.shutdown(wait=True, cancel_futures=True)
            self._tails.close()

    async def bring_in(
        self, found: Sequence[tuple[str, Path]], on_progress: Callable[[ImportProgress], None]
    ) -> ImportProgress:
        """Read these account directories whole, however old what is in them; returns how it ended.

        To cancel it is to interrupt it: what was booked stays, and the next time goes on from there.
        """
        watch = await self._beside(self._watching)
        files = await self._beside(lambda: [file for home in found for file in watch.follow_all(Home(*home))])
        paths = [str(file.path) for file, _ in files]
        told = await self._beside(lambda: session_views.of_files(self._context.database.reader(), paths))
        work = BringingIn(files, on_progress, known=sessions.newest(self._context.rows), told_before=told)
        self._brought_in.append(work)
        self._woken.set()
        try:
            return await work.wait()
        finally:
            self._brought_in.remove(work)

    async def _try(self, work: Callable[[], Awaitable[None]]) -> None:
        """A failure is logged, and everything is read again from where the database says."""
        try:
            await work()
            return
        except StratavoreError as error:
            log.warning("the ledger waits", extra={"why": error.message})
        except Exception:
            log.exception("a turn of the ledger failed")
        self._start_over()
        await asyncio.sleep(_PAUSE_SECONDS)

    async def _turn(self) -> None:
        """Look around, and read and book what there is until the next look is due."""
        loop = asyncio.get_running_loop()
        ends_at = loop.time() + _TURN_SECONDS
        poked, self._poked = self._poked, set()
        self._woken.clear()
        asked = list(self._asked)
        for file in await self._beside(lambda: self._look(poked, everywhere=bool(asked))):
            self._enqueue(file)
        await self._attribute()
        await self._read_until(ends_at)
        if not self._queue:
            await self._keep_reports()
            self._answer(asked)
        if not self._queue and not any(work.is_waiting for work in self._brought_in):
            with suppress(TimeoutError):
                async with asyncio.timeout_at(ends_at):
                    await self._woken.wait()

    def _answer(self, asked: Sequence["asyncio.Future[None]"]) -> None:
        for each in asked:
            self._asked.remove(each)
            if not each.done():
                each.set_result(None)

    async def _read_until(self, ends_at: float) -> None:
        """Book one batch while the next is read."""
        loop = asyncio.get_running_loop()
        booking: asyncio.Task[None] | None = None
        try:
            while loop.time() < ends_at and (files := self._next()):
                batch = await self._beside(lambda files=files: self._read(files))  # type: ignore[misc]
                self._unbooked.append(batch)
                if booking is not None:
                    await booking
                booking = loop.create_task(self._book(batch))
                self._put_back(batch)
        finally:
            if booking is not None:
                await booking

    async def _attribute(self) -> None:
        """Runs that were found to be in a conversation made the calls that are nobody's in it."""
        new = self._entered - self._attributed
        if new:
            numbers, now = {number for number, _, _ in new}, self._context.clock.now()
            if await self._context.database.write(lambda tx: attribution.attribute(tx, numbers, now=now)):
                self._on_charged()
        self._attributed = self._entered

    async def _keep_reports(self) -> None:
        """What agents said at their exits, once everything before it is booked."""
        reports, self._reports = self._reports, []
        for ended, nano_usd in reports:
            await self._context.database.write(partial(reported.keep, ended=ended, nano_usd=nano_usd))

    def _next(self) -> list[Followed]:
        """Whose turn it is."""
        if not self._queue:
            for work in self._brought_in:
                for file in work.next(_FILES_AT_ONCE):
                    self._enqueue(file)
        return [self._queue.popleft() for _ in range(min(len(self._queue), _FILES_AT_ONCE))]

    def _enqueue(self, file: Followed) -> None:
        if file not in self._queued:
            self._queued.add(file)
            self._queue.append(file)

    def _put_back(self, batch: _Batch) -> None:
        """Those that were not reached come first, those of which there is more last."""
        self._queue.extendleft(reversed(batch.left))
        self._queued -= set(batch.read)
        done = {*batch.read, *batch.left}
        self._queue += dict.fromkeys(piece.file for piece in batch.pieces if piece.file not in done)

    def _start_over(self) -> None:
        """Forget what was read and perhaps not booked."""
        unbooked = {piece.file for batch in self._unbooked for piece in batch.pieces}
        for file in self._queued | unbooked:
            file.tail, file.seen = None, ()
        self._queue.clear()
        self._queued.clear()
        self._unbooked.clear()
        for work in self._brought_in:
            work.start_over()

    async def _book(self, batch: _Batch) -> None:
        pieces = [piece for piece in batch.pieces if not piece.is_nothing]
        posted = Posted((), (), frozenset(), ())
        if pieces:
            price, now = self._context.price, self._context.clock.now()
            posted = await self._context.database.write(lambda tx: posting.post(tx, pieces, price, now=now))
        self._unbooked.remove(batch)
        for piece in posted.passed_over:
            piece.file.tail = None
            self._enqueue(piece.file)
        for work in self._brought_in:
            work.hear(posted, batch.read)
        for piece in posted.pieces:
            if piece.notes:
                self._on_notes(piece.now.agent, Path(piece.now.home), piece.notes)
        if posted.charges or any(piece.windows for piece in posted.pieces):
            self._on_charged()

    async def _beside(self, work: Callable[[], T]) -> T:
        """Do it in the ledger's own thread."""
        return await asyncio.get_running_loop().run_in_executor(self._thread, work)

    # From here on: in the thread.

    def _look(self, poked: set[str], *, everywhere: bool) -> list[Followed]:
        now = time.monotonic()
        if everywhere or now - self._who_lives_at >= _WHO_LIVES_SECONDS or poked - self._home_of.keys():
            self._who_lives_at = now
            self._inhabitants = self._who_lives()
        return self._watching().look(now, self._homes, self._inhabitants, poked, everywhere=everywhere)

    def _watching(self) -> Watch:
        if self._watch is None:
            rows = self._context.database.reader()
            self._homes = homes.defaults({"HOME": str(Path.home()), **os.environ}, self._context.config.agents)
            self._homes |= {Home(agent, Path(path)) for agent, path in tails.list_homes(rows)}
            began_at = installation.began_at(rows).timestamp()
            self._watch = Watch(began_at=began_at, known=tails.list_paths(rows))
        return self._watch

    def _who_lives(self) -> list[Inhabitant]:
        """The living runners whose agents keep files."""
        rows = self._context.database.reader()
        since = self._context.clock.now() - timedelta(seconds=10 * _WHO_LIVES_SECONDS)
        self._entered = attribution.list_entrances(rows, since=since)
        self._reports += self._reported()
        found = samples.list_living(rows)
        known, self._home_of = self._home_of, {}
        inhabitants = []
        for runner in found:
            home = known[runner.id] if runner.id in known else self._home(runner.id, runner.agent)
            self._home_of[runner.id] = home
            if home is not None:
                self._homes.add(home)
                log_file = self._context.paths.run_log(runner.shim, runner.key)
                inhabitants.append(Inhabitant(runner.id, home, runner.session_id, log_file))
        return inhabitants

    def _reported(self) -> list[tuple[Ended, int]]:
        """What agents said of their costs that have just ended, each asked once; some write that down a little late."""
        now, known, found = self._context.clock.now(), self._asked_at_exit, list[tuple[Ended, int]]()
        since, until = now - timedelta(seconds=_EXIT_MEMORY_SECONDS), now - timedelta(seconds=_WHO_LIVES_SECONDS)
        ended = reported.list_ended(self._context.database.reader(), since=since, until=until)
        self._asked_at_exit = {(each.session, each.run_key, each.until_at) for each in ended}
        for each in ended:
            tell = REPORTED.get(each.agent)
            if (each.session, each.run_key, each.until_at) in known or tell is None or each.cwd is None:
                continue
            told = tell(Path(each.home), each.cwd)
            if told is not None and told.session_id == each.id:
                found.append((each, nano(told.cost_usd)))
        return found

    def _home(self, runner_id: str, agent: str) -> Home | None:
        try:
            environment = read_environment(self._context.paths, runner_id)
        except StratavoreError:
            return None
        return homes.of_agent(agent, environment, self._context.config.agents)

    def _read(self, files: Sequence[Followed]) -> _Batch:
        """The next turns of these files: of each one, of a single one several."""
        self._find_tails(files)
        batch = _Batch([], [], [])
        size, turns = 0, max(1, 4 // len(files))
        for at, file in enumerate(files):
            if size >= _BYTES_AT_ONCE:
                batch.left.extend(files[at:])
                break
            for _ in range(turns):
                assert file.tail is not None
                piece = reading.read(self._tails, file, file.tail, now=self._context.clock.now())
                batch.pieces.append(piece)
                file.tail = piece.now
                size += piece.bytes
                if not piece.is_more:
                    batch.read.append(file)
                    file.tail = None
                    if piece.is_gone:
                        self._watching().drop(file)
                    break
        return batch

    def _find_tails(self, files: Sequence[Followed]) -> None:
        """Where each of them was read to, as the database says."""
        missing = {str(file.path): file for file in files if file.tail is None}
        known = tails.find_all(self._context.database.reader(), missing) if missing else {}
        for path, file in missing.items():
            file.tail = known.get(path) or Tail(
                path,
                file.home.agent,
                str(file.home.path),
                file.record.session_id if file.record else None,
                int(file.record.is_subagent) if file.record else 0,
            )
