"""The writer: the one thread and the one connection that change the database.

Rule 1: a batch is whatever was asked while the batch before it was committed, at most BATCH_LIMIT. No timer: nobody
waits for more to come. Each function runs in a savepoint: one that fails takes back its own changes, nobody else's.
Rule 2: answers go out after COMMIT returned.
Rule 3: after a fault of the storage nothing of the batch was kept, and everyone in it is told so. A failed flush is
the exception: what it leaves on the disk is unknown, so the connection is closed and only a new process goes on.
Rule 4: the writer itself moves the WAL into the file, behind the answers.
"""

import concurrent.futures
import logging
import queue
import random
import threading
import time
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

import apsw

from stratavore.errors import Corrupt, Degraded, StorageFailed, StratavoreError
from stratavore.failpoints import fp
from stratavore.store import faults
from stratavore.store.checkpoint import Checkpoints
from stratavore.store.connect import BUSY_MS, keep_wal_at_close, schema_version
from stratavore.store.health import Condition, Health
from stratavore.store.jobs import Chore, Job, Outcome, answer, do
from stratavore.store.place import Place
from stratavore.store.quarantine import quarantine
from stratavore.store.query import Tx

log = logging.getLogger(__name__)

BATCH_LIMIT = 256
BUSY_PATIENCE_SECONDS = 30.0
LOOK_SECONDS = 5.0  # How often it looks: at its files, at an idle WAL, or whether writes go again.
_PROBE_BUSY_MS = 250


class _Spoilt(Exception):
    """A function ended the transaction that it shared."""

    def __init__(self, error: BaseException) -> None:
        super().__init__()
        self.error = error


class Counts:
    """What the writer has done since it started."""

    def __init__(self) -> None:
        self.writes = 0
        self.commits = 0
        self.refused = 0
        self.commit_seconds = 0.0
        self.slowest_commit_seconds = 0.0
        self.largest_batch = 0

    def committed(self, jobs: int, seconds: float) -> None:
        """Count one batch."""
        self.commits += 1
        self.commit_seconds += seconds
        self.slowest_commit_seconds = max(self.slowest_commit_seconds, seconds)
        self.largest_batch = max(self.largest_batch, jobs)


class Writer:
    """The thread that owns the writing connection. What has a `_` in front runs in that thread."""

    def __init__(
        self,
        path: Path,
        connection: apsw.Connection,
        *,
        on_health: Callable[[Health], None] | None,
        busy_patience_seconds: float,
    ) -> None:
        self.refusal: StratavoreError | None = None
        self.counts = Counts()
        self.checkpoints = Checkpoints(path, connection)
        self.place = Place(path)
        self._connection = connection
        self._tx = Tx(connection, schema_is_fixed=True)
        self._on_health = on_health
        self._busy_patience_seconds = busy_patience_seconds
        self._busy_ms = min(BUSY_MS, int(busy_patience_seconds * 1000))
        self._queue: queue.SimpleQueue[Job | Chore] = queue.SimpleQueue()
        self._closing = threading.Event()
        self._ended = False
        self._look_at = time.monotonic() + LOOK_SECONDS
        self._thread = threading.Thread(target=self._main, name="database-writer", daemon=True)
        self._thread.start()

    @property
    def health(self) -> Health:
        """The condition, and the reason of the refusal if there is one."""
        match self.refusal:
            case None:
                return Health(Condition.OK)
            case Corrupt(message=reason):
                return Health(Condition.CORRUPT, reason)
            case Degraded(message=reason):
                return Health(Condition.DEGRADED, reason)
            case fault:
                return Health(Condition.FAILED, fault.message)

    @property
    def queued(self) -> int:
        """How many wait."""
        return self._queue.qsize()

    def submit(self, job: Job) -> None:
        """Queue `job`; its future is answered in any case.

        Raises:
            Degraded, StorageFailed, Corrupt: no writes are taken now.
        """
        refusal = self.refusal  # Read once: the thread may recover meanwhile.
        if refusal is not None:
            self.counts.refused += 1
            raise _again(refusal)
        self._put(job)

    def between_batches(self, fn: Callable[[], None]) -> None:
        """Run `fn` in the writer's thread, outside of any transaction, and wait for it."""
        chore = Chore(fn, concurrent.futures.Future())
        self._put(chore)
        chore.future.result()

    def probe(self) -> None:
        """Look now whether writes go again."""
        self.between_batches(self._probe)

    def condemn(self, fault: Corrupt) -> None:
        """Stop writing, because a reader met damage."""
        self._put(Chore(lambda: self._enter(fault), concurrent.futures.Future()))

    def close(self) -> None:
        """Serve what is queued, empty the WAL, close the connection, end the thread."""
        if not self._closing.is_set():
            self._closing.set()
            self._put(Chore(self._close, concurrent.futures.Future()))
        self._thread.join()

    def _put(self, item: Job | Chore) -> None:
        self._queue.put(item)
        if self._ended:
            self._refuse_the_rest()  # The thread may have ended just before: nobody else would answer.

    def _main(self) -> None:
        while not self._ended:
            jobs, chore = self._gather()
            try:
                if jobs:
                    self._serve(jobs)
                if chore is not None:
                    do(chore)
                self._tend(idle=not jobs)
            except Exception as error:
                # The border of this thread: a bug in here must leave nobody waiting for ever.
                log.exception("the database writer failed")
                self._enter(StorageFailed(f"the database writer failed: {error!r}"))
                self._refuse(jobs)
                if chore is not None and not chore.future.done():
                    self._queue.put(chore)
        self._refuse_the_rest()

    def _gather(self) -> tuple[list[Job], Chore | None]:
        """What is queued, up to a full batch or the next chore; nothing when nothing came for a while."""
        jobs: list[Job] = []
        try:
            item = self._queue.get(timeout=LOOK_SECONDS)
            while isinstance(item, Job):
                jobs.append(item)
                if len(jobs) == BATCH_LIMIT:
                    return jobs, None
                item = self._queue.get_nowait()
        except queue.Empty:
            return jobs, None
        return jobs, item

    def _serve(self, jobs: list[Job]) -> None:
        if self.refusal is not None:
            return self._refuse(jobs)
        try:
            outcomes = self._transact(jobs)
        except _Spoilt as spoilt:
            self._roll_back()
            if len(jobs) > 1:
                for job in jobs:
                    self._serve([job])
                return None
            outcomes = [Outcome(jobs[0], None, spoilt.error)]
        except (apsw.Error, OSError, StratavoreError) as error:
            self._roll_back()
            self._enter(self._explain(error))
            return self._refuse(jobs)
        self.counts.writes += sum(outcome.error is None for outcome in outcomes)
        return answer(outcomes)

    def _transact(self, jobs: list[Job]) -> list[Outcome]:
        self.place.verify()
        self._begin()
        self._tx.memo.clear()
        outcomes = [self._attempt(job) for job in jobs]
        fp("store.commit")
        began = time.perf_counter()
        self._connection.execute("COMMIT")
        self.counts.committed(len(jobs), time.perf_counter() - began)
        fp("store.after_commit")
        return outcomes

    def _begin(self) -> None:
        """BEGIN IMMEDIATE, which only a foreign writer can delay. Raises apsw.BusyError when one does for long."""
        self._connection.set_busy_timeout(self._busy_ms)
        give_up = time.monotonic() + self._busy_patience_seconds
        while True:
            try:
                self._connection.execute("BEGIN IMMEDIATE")
                return
            except apsw.BusyError:
                if time.monotonic() >= give_up or self._closing.is_set():
                    raise
            # Jitter: two that wait for each other's moments would else keep missing them.
            self._closing.wait(random.uniform(0.02, 0.2))

    def _attempt(self, job: Job) -> Outcome:
        execute = self._connection.execute
        execute("SAVEPOINT job")
        try:
            value = job.fn(self._tx)
        except BaseException as error:
            if faults.is_of_storage(error):
                raise
            if not self._connection.in_transaction:
                raise _Spoilt(error) from error
            execute("ROLLBACK TO job")
            self._tx.memo.clear()
            execute("RELEASE job")
            return Outcome(job, None, error)
        execute("RELEASE job")
        return Outcome(job, value, None)

    def _tend(self, *, idle: bool) -> None:
        """What is due besides serving: checkpoints, and every few seconds a look at the files or a probe."""
        look = time.monotonic() >= self._look_at
        if look:
            self._look_at = time.monotonic() + LOOK_SECONDS
        match self.refusal:
            case None:
                self._keep_house(idle=idle, look=look)
            case Degraded() if look and not self._ended:
                self._probe()

    def _keep_house(self, *, idle: bool, look: bool) -> None:
        try:
            if look:
                self.place.verify()
            if idle and look:
                self.checkpoints.truncate()
            else:
                self.checkpoints.after_batch()
        except (apsw.Error, OSError, StratavoreError) as error:
            fault = self._explain(error)
            if isinstance(fault, Degraded) and not isinstance(error, Degraded):
                # The WAL still takes writes; if it does not, the next of them will say so.
                log.warning("checkpoint postponed", extra={"reason": fault.message})
            else:
                self._enter(fault)

    def _probe(self) -> None:
        """While degraded: recover if the files are there, have room, and take a write."""
        if not isinstance(self.refusal, Degraded) or self._ended:
            return
        self._look_at = time.monotonic() + LOOK_SECONDS
        try:
            self.place.verify()
            # A full disk often has room again once the WAL is in the file; and who cannot move it has too little.
            self.checkpoints.truncate()
            faults.prove_room(self.place.path)
            self._write_something()
        except (apsw.Error, OSError, StratavoreError) as error:
            self._roll_back()
            self._enter(self._explain(error))
        else:
            self._recover()

    def _write_something(self) -> None:
        """Commit one page that says what it said before."""
        self._connection.set_busy_timeout(_PROBE_BUSY_MS)
        self._connection.execute("BEGIN IMMEDIATE")
        self._connection.execute(f"PRAGMA user_version = {schema_version(self._connection)}")
        self._connection.execute("COMMIT")

    def _explain(self, error: Exception) -> StratavoreError:
        return faults.explain(error, self.place.path, system_errno=self._connection.system_errno)

    def _roll_back(self) -> None:
        # After a fault SQLite has often rolled back by itself; after a worse one even that fails.
        with suppress(apsw.Error):
            if self._connection.in_transaction:
                self._connection.execute("ROLLBACK")

    def _enter(self, fault: StratavoreError) -> None:
        """Take no writes from now on, for this reason."""
        if isinstance(self.refusal, (Corrupt, StorageFailed)):
            return  # Nothing better can follow.
        if not isinstance(fault, Degraded):
            # What the WAL holds is evidence, and after a failed flush not to be trusted: closing must not move it.
            keep_wal_at_close(self._connection, True)
            self._connection.close(True)
        if isinstance(fault, Corrupt):
            fault = quarantine(self.place.path, fault.message)
        self._look_at = time.monotonic() + LOOK_SECONDS
        before, self.refusal = self.health, fault
        if self.health != before:
            log.error("the database takes no writes", extra=self.health._asdict())
            self._tell()

    def _recover(self) -> None:
        self.refusal = None
        log.info("the database takes writes again")
        self._tell()

    def _tell(self) -> None:
        if self._on_health is None:
            return
        try:
            self._on_health(self.health)
        except Exception:
            # A bug of the listener must not end the thread that everyone waits for.
            log.exception("the listener to the database's health failed")

    def _refuse(self, jobs: list[Job]) -> None:
        assert self.refusal is not None
        self.counts.refused += len(jobs)
        answer([Outcome(job, None, _again(self.refusal)) for job in jobs])

    def _close(self) -> None:
        if self.refusal is None or isinstance(self.refusal, Degraded):
            # A WAL that could not be written, or that another file's may lie in the place of, is not for us to delete.
            keep_wal_at_close(self._connection, self.refusal is not None)
            with suppress(apsw.Error):
                self._connection.close(True)
        if self.refusal is None:
            self.refusal = Degraded("the database is closed", remedy="the daemon is stopping; ask again when it is up")
        self._ended = True

    def _refuse_the_rest(self) -> None:
        with suppress(queue.Empty):
            while True:
                item = self._queue.get_nowait()
                if isinstance(item, Job):
                    self._refuse([item])
                else:
                    item.future.set_result(None)


def _again(fault: StratavoreError) -> StratavoreError:
    """The same error as a new object: each asker adds its own traceback."""
    return type(fault)(fault.message, remedy=fault.remedy)
