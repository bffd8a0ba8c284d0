"""The supervisor: compares what is wanted with what is seen, and acts.

Rule 1: `plan` thinks and does nothing; it is a pure function of a row, of what was seen, and of the boot clock.
Rule 2: a runner with an action under way is not planned again until that is over, so nothing is done twice at once.
Rule 3: a start after a crash is not special: it is one `reconcile`.
Rule 4: rows are read before the shims are asked. What is newer in the shims is then a change, never a contradiction.
"""

import asyncio
import logging
from collections.abc import Awaitable, Callable, Collection, Mapping
from enum import Enum, auto
from typing import NamedTuple, assert_never

from stratavore import booking
from stratavore.context import Context
from stratavore.ending import Ending
from stratavore.errors import Conflict, StratavoreError
from stratavore.lifecycle import Cause, State
from stratavore.model import Desired, EndReason, Reconciled, ShimId
from stratavore.process import Identity, boot_id, seconds_since_start
from stratavore.shim.client import ExitRecord, Refused
from stratavore.shims import Holding, ShimGone, Survey, ZygoteFailed
from stratavore.spawning import Spawning
from stratavore.store import runners, runs, supervision
from stratavore.store.database import Tx
from stratavore.store.supervision import Supervised

log = logging.getLogger(__name__)


class Absent(NamedTuple):
    """The holder lives and knows nothing of the run."""


class Alive(NamedTuple):
    """The holder has the run's process."""

    who: Identity


class Finished(NamedTuple):
    """The holder waited for the run's process."""

    record: ExitRecord


class HolderGone(NamedTuple):
    """The holder is dead, and its journal says nothing of the run."""


Seen = Absent | Alive | Finished | HolderGone


class Action(Enum):
    """What is to be done about one runner."""

    NOTHING = auto()
    SPAWN = auto()
    BOOK_SPAWNED = auto()
    BOOK_END = auto()
    BOOK_LOST = auto()
    BOOK_NEVER_STARTED = auto()
    PAUSE = auto()
    UNPAUSE = auto()
    STOP = auto()
    STOP_OVERTIME = auto()
    START_AGAIN = auto()


def plan(row: Supervised, seen: Seen, *, boottime: float, boot: str) -> Action:
    """What to do about `row`, given what was `seen` of its last run, at `boottime` of the boot `boot`."""
    match row.state:
        case State.TERMINATED | State.FAILED | State.LOST:
            return Action.START_AGAIN if _is_due(row, boottime, boot) else Action.NOTHING
        case State.STARTING | State.RUNNING | State.PAUSED | State.STOPPING:
            pass
        case _:
            assert_never(row.state)
    match seen:
        case Finished():
            return Action.BOOK_END
        case HolderGone():
            return Action.BOOK_LOST
        case Absent():
            return _plan_absent(row)
        case Alive():
            return _plan_alive(row, boottime, boot)
        case _:
            assert_never(seen)


def _plan_absent(row: Supervised) -> Action:
    if row.state is State.STARTING:
        return Action.SPAWN
    return Action.BOOK_NEVER_STARTED if row.pid is None else Action.BOOK_LOST


def _plan_alive(row: Supervised, boottime: float, boot: str) -> Action:
    if row.pid is None:
        return Action.BOOK_SPAWNED
    if row.state is State.STOPPING:
        return Action.STOP
    if _is_overtime(row, boottime):
        return Action.STOP_OVERTIME
    if row.desired is Desired.PAUSED and row.state is State.RUNNING:
        return Action.PAUSE
    if row.desired is Desired.RUNNING and row.state is State.PAUSED:
        return Action.UNPAUSE
    return Action.NOTHING


def _is_due(row: Supervised, boottime: float, boot: str) -> bool:
    if row.retry_at_boottime is None or row.desired is Desired.STOPPED:
        return False
    return row.retry_boot_id != boot or boottime >= row.retry_at_boottime


def _is_overtime(row: Supervised, boottime: float) -> bool:
    if row.max_seconds is None or row.start_time is None:
        return False
    return seconds_since_start(row.start_time, boottime) >= row.max_seconds


def expected(row: Supervised) -> Seen:
    """What a look would most likely show. If it is wrong, the shim's answer to the action says so."""
    if row.pid is None or row.start_time is None or row.boot_id is None:
        return Absent()
    return Alive(Identity(row.boot_id, row.pid, row.start_time))


def _seen(row: Supervised, survey: Survey, dead: Collection[ShimId]) -> Seen:
    """What was seen of the run; `dead` are the shims whose journals were replayed. Silence shows nothing."""
    match survey.held.get(row.key):
        case Holding() as held:
            return Alive(held.who)
        case ExitRecord() as record:
            return Finished(record)
        case None if row.shim in dead:
            return HolderGone()
        case None if row.shim in survey.answered:
            return Absent()
        case None:
            return expected(row)


class Supervisor:
    """Carries out plans, one at a time for each runner, all runners beside each other."""

    def __init__(self, context: Context) -> None:
        self._context = context
        self._spawning = Spawning(context)
        self._ending = Ending(context, self.wake)
        self._dirty: set[str] = set()
        self._busy: set[str] = set()
        self._again: set[str] = set()
        self._wakeup = asyncio.Event()
        self._tasks: set[asyncio.Task[None]] = set()
        self._acts: Mapping[Action, Callable[[Supervised, Seen], Awaitable[None]]] = {
            Action.SPAWN: self._spawn,
            Action.BOOK_SPAWNED: self._book_spawned,
            Action.BOOK_END: self._book_end,
            Action.BOOK_LOST: self._book_lost,
            Action.BOOK_NEVER_STARTED: self._book_never_started,
            Action.PAUSE: self._pause,
            Action.UNPAUSE: self._unpause,
            Action.STOP: self._stop,
            Action.STOP_OVERTIME: self._stop_overtime,
            Action.START_AGAIN: self._start_again,
        }

    def wake(self, runner_ids: Collection[str]) -> None:
        """Look at these runners soon."""
        self._dirty.update(runner_ids)
        self._wakeup.set()

    def wake_after(self, seconds: float, runner_id: str) -> None:
        """Look at it when that time has passed."""
        asyncio.get_running_loop().call_later(max(0.0, seconds), self.wake, [runner_id])

    def on_exit(self, record: ExitRecord) -> None:
        """A shim wrote down the end of a run."""
        self._ending.book(record)

    def on_gone(self, shim_id: ShimId) -> None:
        """A shim died: its runs are judged, with what its journal tells."""
        self._keep(asyncio.ensure_future(self._after_shim_death(shim_id)))

    async def run(self) -> None:
        """Act on what changed, until cancelled."""
        while True:
            await self._wakeup.wait()
            self._wakeup.clear()
            dirty, self._dirty = self._dirty, set()
            try:
                rows = supervision.list_supervised(self._context.rows, dirty)
            except StratavoreError as error:
                log.warning("the runners could not be read; will retry", extra={"why": error.message})
                for runner_id in dirty:
                    self.wake_after(self._context.config.runners.backoff_first, runner_id)
                continue
            for row in rows:
                self._act_on(row, expected(row))
                self._set_timers(row)

    async def reconcile(self) -> Reconciled:
        """Compare every living runner, and everything the shims hold, with each other, and act until they agree."""
        rows = supervision.list_supervised(self._context.rows)
        dead = {
            shim
            for shim in {row.shim for row in rows if not row.is_over}
            if self._context.shims.is_gone(shim)
        }
        for shim_id in dead:
            await self._ending.replay(shim_id)
        survey = await self._context.shims.survey()
        adopted = await self._take_in(survey.held)
        changed, lost = 0, []
        for row in rows:
            seen = _seen(row, survey, dead)
            action = plan(row, seen, boottime=self._context.clock.boottime(), boot=boot_id())
            changed += action is not Action.NOTHING
            if action is Action.BOOK_LOST:
                lost.append(row.name)
            self._act_on(row, seen)
            self._set_timers(row)
        return Reconciled(examined=len(rows), changed=changed, lost=lost, adopted=adopted)

    async def settle(self) -> None:
        """Wait until no action is under way."""
        while self._tasks or self._dirty:
            await asyncio.wait(self._tasks) if self._tasks else await asyncio.sleep(0)

    async def close(self) -> None:
        """Give up what is under way; a later daemon finds it as it is."""
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)

    async def _take_in(self, holdings: Mapping[str, Holding | ExitRecord]) -> list[str]:
        """Book the ends and adopt the lives that the database does not know of."""
        adopted, unknown = [], runs.unknown(self._context.rows, holdings.keys())
        for key, held in holdings.items():
            match held:
                case ExitRecord() as record:
                    self._ending.book(record)
                case Holding() if key in unknown:
                    adopted += await self._adopt(held)
        return adopted

    async def _adopt(self, held: Holding) -> list[str]:
        moment = self._context.moment()
        taken = await self._context.write(lambda tx: booking.adopt(tx, held.label, held.who, moment))
        if taken is None:
            return []
        log.warning("adopted a runner that the database did not know", extra={"run": held.key})
        return [taken]

    def _set_timers(self, row: Supervised) -> None:
        """Wake at what is still to come; what is due already was planned in the same pass."""
        now, ahead = self._context.clock.boottime(), list[float]()
        if row.retry_at_boottime is not None:
            ahead.append(row.retry_at_boottime - now)
        if row.max_seconds is not None and row.start_time is not None and not row.is_over:
            ahead.append(row.max_seconds - seconds_since_start(row.start_time, now))
        for seconds in ahead:
            if seconds > 0:
                self.wake_after(seconds, row.id)

    def _act_on(self, row: Supervised, seen: Seen) -> None:
        if row.id in self._busy:
            self._again.add(row.id)
            return
        action = plan(row, seen, boottime=self._context.clock.boottime(), boot=boot_id())
        if action is not Action.NOTHING:
            self._busy.add(row.id)
            self._keep(asyncio.ensure_future(self._carry_out(action, row, seen)))

    def _keep(self, task: "asyncio.Future[None]") -> None:
        assert isinstance(task, asyncio.Task)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def _carry_out(self, action: Action, row: Supervised, seen: Seen) -> None:
        try:
            await self._acts[action](row, seen)
        except Conflict as conflict:
            log.debug("somebody was quicker", extra={"run": row.key, "why": conflict.message})
        except (StratavoreError, ShimGone, ZygoteFailed, Refused, OSError) as error:
            log.warning("will retry", extra={"run": row.key, "action": action.name, "why": str(error)})
            self.wake_after(self._context.config.runners.backoff_first, row.id)
        except Exception:
            log.exception("an action failed", extra={"run": row.key, "action": action.name})
        finally:
            self._busy.discard(row.id)
            if row.id in self._again:
                self._again.discard(row.id)
                self.wake([row.id])

    async def _spawn(self, row: Supervised, seen: Seen) -> None:
        await self._spawning.spawn(row)
        if row.max_seconds is not None or row.desired is Desired.PAUSED:
            self.wake([row.id])

    async def _book_spawned(self, row: Supervised, seen: Seen) -> None:
        assert isinstance(seen, Alive)
        moment, argv = self._context.moment(), supervision.get_recipe(self._context.rows, row.id).extra_argv
        await self._context.write(lambda tx: booking.book_spawned(tx, row.key, seen.who, argv, moment))
        self.wake([row.id])

    async def _book_end(self, row: Supervised, seen: Seen) -> None:
        assert isinstance(seen, Finished)
        self._ending.book(seen.record)

    async def _book_lost(self, row: Supervised, seen: Seen) -> None:
        await self._ending.lose(row, holder_is_gone=isinstance(seen, HolderGone))

    async def _book_never_started(self, row: Supervised, seen: Seen) -> None:
        """Look first: that there is no process may only have been expected, and a living one would be forgotten."""
        survey = await self._context.shims.survey()
        if row.shim not in survey.answered:
            raise ShimGone(f"shim {row.shim} does not say whether it started")
        match held := _seen(row, survey, ()):
            case Alive():
                await self._book_spawned(row, held)
            case Finished():
                await self._book_end(row, held)
            case _:
                moment, pace = self._context.moment(), self._context.pace
                why = "stopped before it started"
                await self._context.write(lambda tx: booking.book_not_started(tx, row.key, why, moment, pace))

    async def _pause(self, row: Supervised, seen: Seen) -> None:
        await self._context.shims.pause(row.key)
        await self._book_pause(row, Cause.PAUSED)

    async def _unpause(self, row: Supervised, seen: Seen) -> None:
        await self._context.shims.unpause(row.key)
        await self._book_pause(row, Cause.UNPAUSED)

    async def _book_pause(self, row: Supervised, cause: Cause) -> None:
        moment = self._context.moment()
        await self._context.write(lambda tx: booking.book_paused(tx, row.key, cause, moment))

    async def _stop(self, row: Supervised, seen: Seen) -> None:
        await self._ending.stop(row)

    async def _stop_overtime(self, row: Supervised, seen: Seen) -> None:
        now = self._context.clock.now()

        def ask(tx: Tx) -> None:
            runners.want(tx, row.id, Desired.STOPPED)
            booking.ask_stop(tx, row, EndReason.MAX_TIME, actor=booking.ACTOR, now=now)

        await self._context.write(ask)
        self.wake([row.id])

    async def _start_again(self, row: Supervised, seen: Seen) -> None:
        shim_id = await self._spawning.prepare_again(row)
        now = self._context.clock.now()
        await self._context.write(lambda tx: booking.begin_again(tx, row, shim_id, now=now))
        self.wake([row.id])

    async def _after_shim_death(self, shim_id: ShimId) -> None:
        await self._ending.replay(shim_id)
        orphans = [run.runner_id for run in runs.list_unended(self._context.rows) if run.shim == shim_id]
        for row in supervision.list_supervised(self._context.rows, orphans):
            if not row.is_over:
                self._act_on(row, HolderGone())
