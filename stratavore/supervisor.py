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
from stratavore.label import Process
from stratavore.lifecycle import Cause, State
from stratavore.model import Desired, EndReason, Reconciled, ShimId
from stratavore.planning import Action, Alive, Finished, HolderGone, Seen, expected, plan, seen_of
from stratavore.process import boot_id, seconds_since_start
from stratavore.shim.client import ExitRecord, Refused
from stratavore.shims import Holding, ShimGone, ZygoteFailed
from stratavore.spawning import Spawning
from stratavore.store import runs, supervision
from stratavore.store.supervision import Supervised

log = logging.getLogger(__name__)


class Supervisor:
    """Carries out plans, one at a time for each runner, all runners beside each other."""

    def __init__(self, context: Context) -> None:
        self._context = context
        self._spawning = Spawning(context)
        self._ending = Ending(context, self.wake)
        self._dirty: set[str] = set()
        self._again: set[str] = set()
        self._wakeup = asyncio.Event()
        self._alarms: dict[str, asyncio.TimerHandle] = {}
        self._busy: dict[str, asyncio.Task[None]] = {}
        self._deaths: set[asyncio.Task[None]] = set()
        self._dead: set[ShimId] = set()
        """Shims that died, and whose journals were read."""
        self._unread: dict[ShimId, float] = {}
        """Shims that died and left what could not be read or booked yet, each with the pause before the next try."""
        self._acts: Mapping[Action, Callable[[Supervised, Seen], Awaitable[None]]] = {
            Action.SPAWN: self._spawn,
            Action.BOOK_SPAWNED: self._book_spawned,
            Action.BOOK_END: self._book_end,
            Action.BOOK_LOST: self._book_lost,
            Action.BOOK_NEVER_STARTED: self._book_never_started,
            Action.PAUSE: self._pause,
            Action.UNPAUSE: self._unpause,
            Action.BOOK_PAUSED: self._book_paused,
            Action.BOOK_UNPAUSED: self._book_unpaused,
            Action.STOP: self._stop,
            Action.STOP_OVERTIME: self._stop_overtime,
            Action.START_AGAIN: self._start_again,
        }

    def wake(self, runner_ids: Collection[str]) -> None:
        """Look at these runners soon."""
        self._dirty.update(runner_ids)
        self._wakeup.set()

    def wake_after(self, seconds: float, runner_id: str) -> None:
        """Look at it when that time has passed, if nothing has it looked at earlier; then its row says when next."""
        self._set(runner_id, seconds, lambda: self.wake([runner_id]))

    def on_exit(self, record: ExitRecord) -> None:
        """A shim wrote down the end of a run."""
        self._ending.book(record)

    def on_gone(self, shim_id: ShimId) -> None:
        """A shim died: its runs are judged, with what its journal tells."""
        task = asyncio.ensure_future(self._replay(shim_id))
        self._deaths.add(task)
        task.add_done_callback(self._deaths.discard)

    async def run(self) -> None:
        """Act on what changed, until cancelled."""
        while True:
            await self._wakeup.wait()
            self._wakeup.clear()
            dirty, self._dirty = self._dirty, set()
            self._look_at(dirty)

    async def reconcile(self) -> Reconciled:
        """Compare every living runner, and everything the shims hold, with each other, and act until they agree."""
        read = {row.id: row for row in supervision.list_supervised(self._context.rows)}
        shims = {row.shim for row in read.values() if not row.is_over}
        for shim_id in filter(self._context.shims.is_gone, shims - self._dead):
            await self._replay(shim_id)
        survey = await self._context.shims.survey()
        adopted = await self._take_in(survey.held)
        changed, losses = 0, list[Supervised]()
        for row in supervision.list_supervised(self._context.rows):
            if row != read.get(row.id):  # the shims may have been asked before that: it is looked at afresh
                self.wake([row.id])
                continue
            action = self._act_on(row, seen_of(row, survey, is_orphan=self._is_orphan(row)))
            self._set_alarm(row)
            changed += action is not Action.NOTHING
            if action is Action.BOOK_LOST:
                losses.append(row)
        lost = await self._lost_of(losses)
        return Reconciled(examined=len(read), changed=changed, lost=lost, adopted=adopted)

    async def settle(self) -> None:
        """Wait until no action is under way."""
        while (tasks := {*self._busy.values(), *self._deaths}) or self._dirty:
            await asyncio.wait(tasks) if tasks else await asyncio.sleep(0)

    async def close(self) -> None:
        """Give up what is under way; a later daemon finds it as it is."""
        for alarm in self._alarms.values():
            alarm.cancel()
        tasks = [*self._busy.values(), *self._deaths]
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    def _look_at(self, runner_ids: Collection[str]) -> None:
        """One pass; if it fails over a bug, each runner is looked at by itself, so that one holds up no other."""
        try:
            for row in supervision.list_supervised(self._context.rows, runner_ids):
                self._act_on(row, self._remembered(row))
                self._set_alarm(row)
        except StratavoreError as error:
            log.warning("the runners could not be read; will retry", extra={"why": error.message})
            for runner_id in runner_ids:
                self.wake_after(self._context.config.runners.backoff_first, runner_id)
        except Exception:
            if len(runner_ids) > 1:
                for runner_id in runner_ids:
                    self._look_at([runner_id])
                return
            log.exception("a look at a runner failed", extra={"runners": list(runner_ids)})

    async def _take_in(self, holdings: Mapping[str, Holding | ExitRecord]) -> list[str]:
        """Book the ends and adopt the lives that the database does not know of; one that cannot be stops no other."""
        adopted, unknown = list[str](), runs.unknown(self._context.rows, holdings.keys())
        for key, held in holdings.items():
            match held:
                case ExitRecord() as record:
                    self._ending.book(record)
                case Holding() if key in unknown:
                    adopted += await self._adopt(held)
        return adopted

    async def _adopt(self, held: Holding) -> list[str]:
        moment = self._context.moment()
        try:
            held = await self._context.shims.labelled(held)
            process, label = Process.of(held), str(held.label)
            taken = await self._context.write(lambda tx: booking.adopt(tx, label, process, moment))
        except (StratavoreError, ShimGone, Refused) as error:
            log.warning("not adopted yet", extra={"run": held.key, "why": str(error)})
            return []
        except Exception:
            log.exception("a runner that the database does not know cannot be adopted", extra={"run": held.key})
            return []
        if taken is None:
            return []
        log.warning("adopted a runner that the database did not know", extra={"run": held.key})
        return [taken]

    async def _lost_of(self, rows: Collection[Supervised]) -> list[str]:
        """Wait until the losses of these are booked; the names of those whose loss it was in the end."""
        if tasks := [self._busy[row.id] for row in rows if row.id in self._busy]:
            await asyncio.wait(tasks)
        found = [(row.name, runs.find(self._context.rows, row.key)) for row in rows]
        return [name for name, run in found if run is not None and run.state is State.LOST]

    async def _replay(self, shim_id: ShimId) -> None:
        """Book what a dead shim left, and have its runs judged; again and again until there is nothing to add."""
        settings, is_booked = self._context.config.runners, False
        pause = self._unread.setdefault(shim_id, settings.backoff_first)
        try:
            is_booked = await self._ending.replay(shim_id)
            orphans = [run.runner_id for run in runs.list_unended(self._context.rows) if run.shim == shim_id]
            self._dead.add(shim_id)
            self.wake(orphans)
        except Exception:
            log.exception("what a dead shim left cannot be read yet", extra={"shim": shim_id})
        if is_booked:
            self._unread.pop(shim_id, None)
            return
        self._unread[shim_id] = min(2 * pause, settings.backoff_max)
        self._set(shim_id, pause, lambda: self.on_gone(shim_id))

    def _is_orphan(self, row: Supervised) -> bool:
        return row.shim in self._dead and row.key not in self._ending.unbooked

    def _remembered(self, row: Supervised) -> Seen:
        """What is taken for seen without a look."""
        return HolderGone() if self._is_orphan(row) else expected(row)

    def _set(self, name: str, seconds: float, then: Callable[[], None]) -> None:
        """One alarm for each runner or shim: the earliest that was wanted."""
        loop = asyncio.get_running_loop()
        at, known = loop.time() + max(0.0, seconds), self._alarms.get(name)
        if known is not None:
            if known.when() <= at:
                return
            known.cancel()
        self._alarms[name] = loop.call_at(at, self._ring, name, then)

    def _ring(self, name: str, then: Callable[[], None]) -> None:
        del self._alarms[name]
        then()

    def _set_alarm(self, row: Supervised) -> None:
        """Wake at what is still to come; what is due already was planned in the same pass."""
        now, seconds = self._context.clock.boottime(), 0.0
        if row.is_over and row.retry_at_boottime is not None:
            seconds = row.retry_at_boottime - now
        elif row.state in (State.RUNNING, State.PAUSED) and row.max_seconds is not None and row.start_time is not None:
            seconds = row.max_seconds - seconds_since_start(row.start_time, now)
        if seconds > 0:
            self.wake_after(seconds, row.id)

    def _act_on(self, row: Supervised, seen: Seen) -> Action:
        """Begin what is to be done; returns that, which is nothing yet for one with an action under way."""
        if row.id in self._busy:
            self._again.add(row.id)
            return Action.NOTHING
        action = plan(row, seen, boottime=self._context.clock.boottime(), boot=boot_id())
        if action is not Action.NOTHING:
            self._busy[row.id] = asyncio.ensure_future(self._carry_out(action, row, seen))
        return action

    async def _carry_out(self, action: Action, row: Supervised, seen: Seen) -> None:
        settings = self._context.config.runners
        try:
            await self._acts[action](row, seen)
        except Conflict as conflict:
            log.debug("somebody was quicker", extra={"run": row.key, "why": conflict.message})
        except (StratavoreError, ShimGone, ZygoteFailed, Refused, OSError) as error:
            log.warning("will retry", extra={"run": row.key, "action": action.name, "why": str(error)})
            self._put_off(row.id, settings.backoff_first)
        except Exception:
            log.exception("an action failed", extra={"run": row.key, "action": action.name})
            self._put_off(row.id, settings.backoff_max)
        finally:
            del self._busy[row.id]
            if row.id in self._again:
                self._again.discard(row.id)
                self.wake([row.id])

    def _put_off(self, runner_id: str, seconds: float) -> None:
        """Its action failed: the next try, and whatever else was to be looked at, has to wait."""
        self._again.discard(runner_id)
        self.wake_after(seconds, runner_id)

    async def _spawn(self, row: Supervised, seen: Seen) -> None:
        await self._spawning.spawn(row)
        if row.max_seconds is not None or row.desired is Desired.PAUSED:
            self.wake([row.id])

    async def _book_spawned(self, row: Supervised, seen: Seen) -> None:
        assert isinstance(seen, Alive)
        assert seen.held is not None
        moment, process = self._context.moment(), Process.of(await self._context.shims.labelled(seen.held))
        await self._context.write(lambda tx: booking.book_spawned(tx, row.key, process, moment))
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
        match held := seen_of(row, survey, is_orphan=False):
            case Alive():
                await self._book_spawned(row, held)
            case Finished():
                await self._book_end(row, held)
            case _:
                await self._spawning.give_up(row, "stopped before it started")

    async def _pause(self, row: Supervised, seen: Seen) -> None:
        await self._context.shims.pause(row.key)
        moment = self._context.moment()
        await self._context.write(lambda tx: booking.book_paused(tx, row.key, Cause.PAUSED, moment))

    async def _unpause(self, row: Supervised, seen: Seen) -> None:
        await self._context.shims.unpause(row.key)
        moment = self._context.moment()
        await self._context.write(lambda tx: booking.book_paused(tx, row.key, Cause.UNPAUSED, moment))

    async def _book_paused(self, row: Supervised, seen: Seen) -> None:
        await self._book_found(row, Cause.PAUSED)

    async def _book_unpaused(self, row: Supervised, seen: Seen) -> None:
        await self._book_found(row, Cause.UNPAUSED)

    async def _book_found(self, row: Supervised, cause: Cause) -> None:
        moment = self._context.moment()
        await self._context.write(lambda tx: booking.book_pause_found(tx, row.key, cause, moment))

    async def _stop(self, row: Supervised, seen: Seen) -> None:
        await self._ending.stop(row)

    async def _stop_overtime(self, row: Supervised, seen: Seen) -> None:
        now, instead_of = self._context.clock.now(), (Desired.RUNNING, Desired.PAUSED)
        if await self._context.write(
            lambda tx: booking.stop_unasked(tx, row, EndReason.MAX_TIME, instead_of=instead_of, now=now)
        ):  # else the row is as it was, and would be found overtime again and again
            self.wake([row.id])

    async def _start_again(self, row: Supervised, seen: Seen) -> None:
        await self._spawning.begin_again(row)
        self.wake([row.id])
