"""The supervisor: compares what is wanted with what is seen, and acts.

Rule 1: what is to be done says `planning.plan`; here it is carried out.
Rule 2: a runner with an action under way is not planned again until that is over, so nothing is done twice at once.
Rule 3: a start after a crash is not special: it is one `reconcile`.
Rule 4: rows are read before the shims are asked. What is newer in the shims is then a change, never a contradiction.
"""

import asyncio
import logging
from collections.abc import Awaitable, Callable, Collection, Mapping

from stratavore import booking
from stratavore.context import Context
from stratavore.ending import Ending
from stratavore.errors import Conflict, StratavoreError
from stratavore.lifecycle import Cause
from stratavore.model import Desired, EndReason, Reconciled, ShimId
from stratavore.planning import Action, Alive, Finished, HolderGone, Seen, expected, plan, seen_of
from stratavore.process import boot_id, seconds_since_start
from stratavore.shim.client import ExitRecord, Refused
from stratavore.shims import Holding, ShimGone, ZygoteFailed
from stratavore.spawning import Spawning
from stratavore.store import runners, runs, supervision
from stratavore.store.database import Tx
from stratavore.store.supervision import Supervised

log = logging.getLogger(__name__)


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
            seen = seen_of(row, survey, dead)
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
        match held := seen_of(row, survey, ()):
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
