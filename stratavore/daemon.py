"""The composition root: builds the daemon from top to bottom, runs it, and closes it in reverse.

Rule 1: whoever holds the lock is the daemon; it is held from before the database is opened until after it is closed.
Rule 2: nothing here outlives a SIGKILL in memory only: the next start is one pass of the supervisor.
Rule 3: SIGTERM leaves the stop mark, so that the zygote does not start again what a person ended.
"""

import asyncio
import gc
import logging
import os
import resource
import signal
import sys
from collections.abc import AsyncIterator, Awaitable, Callable, Collection
from contextlib import AsyncExitStack, asynccontextmanager
from functools import partial
from pathlib import Path
from typing import Any

from stratavore import failpoints, process
from stratavore.activity import Board
from stratavore.agents import Telemetry
from stratavore.api.server import Server
from stratavore.approvals import Requests
from stratavore.archiving import Archiving
from stratavore.autostart import UNLESS_STOPPED
from stratavore.cgroups import scope_command
from stratavore.clock import SystemClock
from stratavore.config import Config, load
from stratavore.context import Context, Ledger
from stratavore.continuing import Continuing
from stratavore.enforcement import Enforcement
from stratavore.errors import Corrupt, StorageFailed, StratavoreError
from stratavore.executable import daemon_command
from stratavore.imports import Imports
from stratavore.ledger.ingest import Ingest
from stratavore.ledger.otlp import Receiver
from stratavore.ledger.prices import Prices
from stratavore.ledger.repricing import price_again
from stratavore.logs import open_log
from stratavore.model import Reconciled, ShimId
from stratavore.paths import Paths
from stratavore.sampling import Sampling
from stratavore.shim.client import MARKER, ExitRecord
from stratavore.shims import Shims
from stratavore.store import events, installation
from stratavore.store.database import Condition, Database, Health, open_readonly
from stratavore.store.lock import hold_lock
from stratavore.supervisor import Supervisor
from stratavore.upkeep import keep_house, sweep
from stratavore.waiting import Holds, News, Turns
from stratavore.watching import Watching

log = logging.getLogger(__name__)

_FAILURES_BORNE, _FAILURE_MEMORY_SECONDS = 3, 600.0
_LOOK_SECONDS, _PRICING_SECONDS, _HOUSEKEEPING_SECONDS = 1.0, 5.0, 600.0
_SWITCH_SECONDS = 0.0005
"""With Python's own 5 ms, one busy thread costs the loop up to 19 ms a turn."""


class Daemon:
    """What the verbs, the shims and the signals may ask of the daemon as a whole."""

    def __init__(self) -> None:
        self.supervisor: Supervisor | None = None
        self.ingest: Ingest | None = None
        self.receiver: Receiver | None = None
        self.enforcement: Enforcement | None = None
        self.imports = Imports()
        self.exit_code = 0
        self.recovered = asyncio.Event()
        """The database can be written again: what happened meanwhile is still to be booked."""
        self._ended = asyncio.Event()
        self._leaves_mark = False

    def wake(self, runner_ids: Collection[str]) -> None:
        if self.supervisor is not None:
            self.supervisor.wake(runner_ids)

    async def reconcile(self) -> Reconciled:
        assert self.supervisor is not None
        return await self.supervisor.reconcile()

    async def settle(self) -> None:
        assert self.supervisor is not None
        await self.supervisor.settle()

    @property
    def ledger(self) -> Ledger:
        assert self.ingest is not None
        return self.ingest

    def telemetry(self, runner_id: str) -> Telemetry | None:
        return None if self.receiver is None else self.receiver.telemetry(runner_id)

    def judge(self) -> None:
        if self.enforcement is not None:
            self.enforcement.wake()

    async def judged(self) -> None:
        if self.enforcement is not None:
            await self.enforcement.judged()

    def stop(self, *, leave_mark: bool, exit_code: int = 0) -> None:
        self._leaves_mark, self.exit_code = leave_mark, exit_code
        self._ended.set()

    def on_exit(self, record: ExitRecord) -> None:
        """A shim wrote down the end of a run. Before the supervisor is there, nothing is lost: it is not acked."""
        if self.supervisor is not None:
            self.supervisor.on_exit(record)

    def on_gone(self, shim_id: ShimId) -> None:
        """A shim died."""
        if self.supervisor is not None:
            self.supervisor.on_gone(shim_id)

    def on_end_of_work(self, task: asyncio.Future[None]) -> None:
        """What was to go on for good has failed: only a new daemon, which the zygote starts, does it again."""
        if task.cancelled() or (problem := task.exception()) is None or self._ended.is_set():
            return
        log.critical("a part of the daemon failed; starting anew", exc_info=problem)
        self.stop(leave_mark=False, exit_code=StratavoreError.exit_code)

    async def wait(self, stop_mark: Path) -> None:
        """Until somebody asked for the end; then leave the mark if that was wished."""
        await self._ended.wait()
        if self._leaves_mark:
            stop_mark.touch(mode=0o600)


def run(paths: Paths, config_file: Path | None, *, unless_stopped: bool = False) -> int:
    """Be the daemon of this state directory until asked to end; returns the exit code.

    With `unless_stopped` it ends at once where a stop mark lies: whoever starts it acts for nobody.

    Raises:
        StratavoreError: it cannot start.
    """
    sys.setswitchinterval(_SWITCH_SECONDS)
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    loaded = load(paths, config_file, os.environ)
    for directory in (paths.state, paths.runners, paths.environments):
        directory.mkdir(mode=0o700, parents=True, exist_ok=True)
    open_log(loaded.config.daemon)
    with hold_lock(paths.lock):
        if unless_stopped and paths.stop_mark.exists():
            log.info("a person stopped the daemon, so this one ends", extra={"pid": os.getpid()})
            return 0
        paths.stop_mark.unlink(missing_ok=True)
        _refuse_a_failing_disk(paths)
        try:
            return asyncio.run(_serve(paths, loaded.config, config_file))
        except Corrupt:
            paths.stop_mark.touch(mode=0o600)  # Every new start would find the same damage.
            raise


async def _serve(paths: Paths, config: Config, config_file: Path | None) -> int:
    daemon = Daemon()
    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, lambda: daemon.stop(leave_mark=True))
    async with AsyncExitStack() as stack:
        end = asyncio.ensure_future(daemon.wait(paths.stop_mark))
        building = asyncio.ensure_future(stack.enter_async_context(build(paths, config, daemon, config_file)))
        await asyncio.wait({building, end}, return_when=asyncio.FIRST_COMPLETED)
        if end.done() and not building.done():
            await _cancel(building)
        else:
            building.result()  # or why it could not be built
            gc.freeze()  # What is here now stays to the end: the collector need not look through it again and again.
            log.info("the daemon is ready", extra={"pid": os.getpid()})
        await end
    log.info("the daemon ends", extra={"pid": os.getpid(), "exit_code": daemon.exit_code})
    return daemon.exit_code


@asynccontextmanager
async def build(
    paths: Paths, config: Config, daemon: Daemon, config_file: Path | None = None
) -> AsyncIterator[Context]:
    """All parts of a daemon, started in order and closed in reverse; tests start this same function."""
    loop, clock = asyncio.get_running_loop(), SystemClock()
    async with AsyncExitStack() as stack:

        def on_health(health: Health) -> None:
            loop.call_soon_threadsafe(_judge, health, daemon, paths)

        database = Database.open(
            paths.database,
            durability=config.daemon.durability,
            check=_needs_check(paths),
            on_health=on_health,
        )
        stack.callback(database.close)
        await database.write(
            lambda tx: installation.begin(tx, process.boot_id(), timezone=config.budgets.timezone, now=clock.now())
        )
        shims = Shims(
            paths,
            runners_per_shim=config.shim.runners_per_shim,
            on_exit=daemon.on_exit,
            on_gone=daemon.on_gone,
            log_cap_bytes=config.output.cap_per_runner,
            start_argv=[*daemon_command(config_file), UNLESS_STOPPED],
            start_env=_start_environment(paths),
            launcher=partial(scope_command, os.environ),
            runners_may_control=config.runners.runners_may_control,
            idle_seconds=config.shim.idle_exit,
        )
        prices, now = Prices(config.prices), clock.now()
        pricing = asyncio.ensure_future(_try(partial(price_again, database, prices, daemon.judge, now=now)))
        stack.push_async_callback(_cancel, pricing)
        await asyncio.wait([pricing], timeout=_PRICING_SECONDS)  # a long ledger is priced beside all else
        board, holds, copying = Board(clock.now), Holds(), Turns()
        context = Context(config, paths, database, shims, clock, News(), daemon, now, board, holds, copying, prices)
        supervisor = daemon.supervisor = Supervisor(context)
        ingest = daemon.ingest = Ingest(context, on_notes=context.activity.heard, on_charged=daemon.judge)
        enforcement = daemon.enforcement = Enforcement(context)
        requests, continuing = Requests(context), Continuing(context)
        stack.push_async_callback(shims.close)
        stack.push_async_callback(supervisor.close)
        if config.ledger.otlp:
            receiver = daemon.receiver = Receiver(context, on_charged=daemon.judge)
            stack.push_async_callback(receiver.close)
            await receiver.start()
        await shims.start()
        await supervisor.reconcile()
        await sweep(context)
        for work in (
            supervisor.run(),
            enforcement.run(),
            Sampling(context).run(),
            ingest.run(),
            Archiving(context).run(),
            Watching(context, on_told=[lambda runner_id, told: ingest.poke(runner_id), requests.told]).run(),
            _every(config.supervision.reconcile_interval, supervisor.reconcile),
            _whenever(daemon.recovered, supervisor.reconcile),
            _every(_LOOK_SECONDS, requests.look),
            _every(_LOOK_SECONDS, continuing.look),
            _every(_HOUSEKEEPING_SECONDS, lambda: keep_house(context)),
        ):
            task = asyncio.ensure_future(work)
            task.add_done_callback(daemon.on_end_of_work)
            stack.push_async_callback(_cancel, task)
        stack.push_async_callback(daemon.imports.stop)
        server = Server(context)
        await server.start()
        stack.push_async_callback(server.close)
        await _tell(context, "daemon.started")
        stack.push_async_callback(_tell, context, "daemon.stopped")
        yield context


def _start_environment(paths: Paths) -> dict[str, str]:
    """What a daemon that the zygote starts must know to be the daemon of this very state directory."""
    names = ("XDG_STATE_HOME", "XDG_CONFIG_HOME", "XDG_RUNTIME_DIR", "USER", "LOGNAME", "SHELL", "TZ")
    kept = {
        name: value
        for name, value in os.environ.items()
        if name in names or (name.startswith("STRATAVORE_") and name not in (MARKER, failpoints.VARIABLE))
    }
    if "STRATAVORE_HOME" in kept:  # it may be relative, and the zygote's directory is /
        kept["STRATAVORE_HOME"] = str(paths.state)
    return kept


async def _every(seconds: float, work: Callable[[], Awaitable[object]]) -> None:
    """Do it again and again."""
    while True:
        await asyncio.sleep(seconds)
        await _try(work)


async def _whenever(event: asyncio.Event, work: Callable[[], Awaitable[object]]) -> None:
    """Do it once each time that this happens."""
    while True:
        await event.wait()
        event.clear()
        await _try(work)


async def _try(work: Callable[[], Awaitable[object]]) -> None:
    """A failure is logged, and the next time is another try."""
    name = getattr(getattr(work, "func", work), "__qualname__", "")
    try:
        await work()
    except StratavoreError as error:
        log.warning("put off", extra={"work": name, "why": error.message})
    except Exception:
        log.exception("regular work failed", extra={"work": name})


async def _cancel(task: "asyncio.Future[Any]") -> None:
    task.cancel()
    await asyncio.gather(task, return_exceptions=True)


async def _tell(context: Context, type: str) -> None:
    now, who = context.clock.now(), str(os.getpid())
    try:
        await context.write(lambda tx: events.append(tx, type, who, {"pid": os.getpid()}, actor="daemon", now=now))
    except StratavoreError as error:
        log.warning("could not record that the daemon starts or ends", extra={"why": error.message})


def _needs_check(paths: Paths) -> bool:
    """Whether the machine was started anew, or the disk failed, since the database was last written."""
    if not paths.database.exists():
        return False
    if _disk_failures(paths):
        return True
    try:
        with open_readonly(paths.database) as rows:
            return installation.last_boot_id(rows) != process.boot_id()
    except StratavoreError:
        return True


def _disk_failures(paths: Paths) -> list[float]:
    """When the disk failed us, in seconds of this boot; what is older than ten minutes is forgotten."""
    try:
        lines = [line.split() for line in paths.disk_failures.read_text().splitlines()]
        moments = [float(moment) for boot, moment in lines if boot == process.boot_id()]
    except (OSError, ValueError):
        return []
    now = SystemClock().boottime()
    return [moment for moment in moments if now - _FAILURE_MEMORY_SECONDS <= moment]


def _refuse_a_failing_disk(paths: Paths) -> None:
    if len(_disk_failures(paths)) >= _FAILURES_BORNE:
        raise StorageFailed(
            f"the disk failed {_FAILURES_BORNE} times in {_FAILURE_MEMORY_SECONDS / 60:.0f} minutes",
            remedy="look at the disk; reading verbs and `stratavore rescue` work meanwhile",
        )


def _note_disk_failure(paths: Paths) -> None:
    try:
        moments = [*_disk_failures(paths), SystemClock().boottime()]
        lines = [f"{process.boot_id()} {moment}\n" for moment in moments]
        paths.disk_failures.write_text("".join(lines))
    except OSError as problem:
        log.error("the failure could not be noted", extra={"why": str(problem)})


def _judge(health: Health, daemon: Daemon, paths: Paths) -> None:
    """The disk lost something or the file is damaged: only a new process, with a check, may go on."""
    match health.condition:
        case Condition.FAILED:
            log.error("the disk failed; starting anew", extra={"why": health.reason})
            _note_disk_failure(paths)
            daemon.stop(leave_mark=False, exit_code=StorageFailed.exit_code)
        case Condition.CORRUPT:
            log.error("the database is damaged", extra={"why": health.reason})
            daemon.stop(leave_mark=True, exit_code=Corrupt.exit_code)
        case Condition.DEGRADED:
            log.warning("the database is degraded", extra={"why": health.reason})
        case Condition.OK:
            log.warning("the database is ok again")
            daemon.recovered.set()
