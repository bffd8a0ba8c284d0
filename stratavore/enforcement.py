"""The ladder: who has used up a budget is blocked, and stopped if that was said; who has room again goes on.

Rule 1: who stands where follows from the database alone; rows and verdicts are made to agree with that, at each start
too. Nothing is remembered but verdicts that could not be written.
Rule 2: a step is committed, with its event, before it is taken: a verdict is written, a run is stopped, after that.
Rule 3: `warn` is what the ledger tells; `block` holds the next prompt and tool through the agent's own hooks; `stop`
comes a grace later. An agent without hooks cannot be blocked: it is stopped where `stop` was said, else only warned.
Rule 4: what a person wants of a runner holds against this; `extend` and the next period lift it at once.
"""

import asyncio
import logging
from collections import defaultdict
from collections.abc import Coroutine, Mapping, Sequence
from contextlib import suppress
from typing import Any, NamedTuple

from stratavore import admission, booking, verdicts
from stratavore.agents import resolve_or_shell
from stratavore.booking import Moment
from stratavore.context import Context
from stratavore.errors import StratavoreError
from stratavore.failpoints import fp
from stratavore.model import Desired, EndReason, OnExceeded
from stratavore.spawning import wish_of
from stratavore.store import blocks, events, runners, supervision
from stratavore.store.blocks import Block, Excess, Standing
from stratavore.store.database import Rows, Tx
from stratavore.store.reservations import amount
from stratavore.store.supervision import Supervised
from stratavore.waiting import News
from stratavore.wording import budget_title, extending, local_time

log = logging.getLogger(__name__)

ACTOR = "budgets"
_LOOK_SECONDS, _IDLE_SECONDS = 5.0, 60.0
"""While somebody is held, a clock that was set is noticed so soon; else nothing happens by time alone."""
_BREATH_SECONDS = 0.05
"""Between two judgements: many calls that are booked one after the other are judged together."""
_PATIENCE_SECONDS = 3.0
"""So long a verb waits for what follows from it; a judgement of a thousand takes about half of that."""
_TOLD = {"warn": "runner.cannot_be_blocked", "block": "runner.blocked", "stop": "runner.held_to_budget"}


class _Step(NamedTuple):
    """A runner comes onto the rung `block`, or (None) may go on; `was` is where it stood."""

    runner: Supervised
    block: Block | None
    was: Standing | None


class Enforcement:
    """Judges whenever it is woken, and when a period or a grace ends."""

    def __init__(self, context: Context) -> None:
        self._context = context
        self._wakeup = asyncio.Event()
        self._begun = self._finished = 0
        self._news = News()
        self._unwritten: dict[str, str | None] = {}

    def wake(self) -> None:
        """Something was used, somebody ended, or a budget changed."""
        self._wakeup.set()

    async def judged(self) -> None:
        """Return once a judgement that began after this is carried out, or after some seconds."""
        mine = self._begun + 1
        self.wake()
        with suppress(TimeoutError):
            async with asyncio.timeout(_PATIENCE_SECONDS):
                while self._finished < mine:
                    await self._news.wait(_PATIENCE_SECONDS)

    async def run(self) -> None:
        """Judge until cancelled."""
        await self._round(self.restore())
        while True:
            with suppress(TimeoutError):
                async with asyncio.timeout(self._pause()):
                    await self._wakeup.wait()
            self._wakeup.clear()
            await self._round(self.judge())
            await asyncio.sleep(_BREATH_SECONDS)

    async def _round(self, work: Coroutine[Any, Any, None]) -> None:
        self._begun += 1
        await _try(work)
        self._finished = self._begun
        self._news.tell()

    async def restore(self) -> None:
        """Judge, and make every verdict agree with that: nobody knows which of them a crash left behind."""
        await self.judge()
        rows = self._context.rows
        held, living = blocks.list_all(rows), supervision.list_supervised(rows)
        await self._deliver({row.id: _verdict(held.get(row.id)) for row in living if self._takes_verdicts(row.agent)})

    async def judge(self) -> None:
        """Bring everybody onto the rung where they belong."""
        context, moment = self._context, self._context.moment()
        steps = await asyncio.to_thread(lambda: self._steps(context.database.reader(), moment))
        if steps:
            fp("budget.before_step")
            steps = await context.write(lambda tx: self._take_all(tx, moment))
            fp("budget.after_step")
        verdicts_due = {
            step.runner.id: _verdict(step.block)
            for step in steps
            if step.runner.alive and self._takes_verdicts(step.runner.agent)
        }
        if verdicts_due or self._unwritten:
            await self._deliver(verdicts_due)
        context.wake([step.runner.id for step in steps])

    def _take_all(self, tx: Tx, moment: Moment) -> list[_Step]:
        """Commit every step that is due now; what was read before may be different meanwhile."""
        steps = self._steps(tx, moment)
        facts = [fact for step in steps if (fact := _take(tx, step, moment)) is not None]
        events.append_all(tx, facts, now=moment.now)
        return steps

    def _steps(self, rows: Rows, moment: Moment) -> list[_Step]:
        """What is to change, by what is booked."""
        standing, excesses = blocks.list_all(rows), defaultdict[str, list[Excess]](list)
        for excess in blocks.list_excesses(rows, now=moment.now):
            excesses[excess.runner_id].append(excess)
        concerned = {*standing, *excesses}
        if not concerned:
            return []
        steps = []
        for row in supervision.list_supervised(rows, concerned):
            was = standing.get(row.id)
            wanted = self._wait(rows, row, was, moment) if row.is_over else self._rung(excesses[row.id], was, moment)
            if _differs(wanted, was):
                steps.append(_Step(row, wanted, was))
        return steps

    def _wait(self, rows: Rows, row: Supervised, was: Standing | None, moment: Moment) -> Block | None:
        """Between two runs: it goes on waiting if it waited for room, and there is still none."""
        if was is None or was.rung != "wait" or not row.alive or row.desired is Desired.STOPPED:
            return None
        asked = wish_of(self._context, rows, row.id, now=moment.now)
        has_room = admission.find_refusal(rows, asked, now=moment.now) is None
        return None if has_room else Block(was.runner_id, was.budget_id, was.rung, was.reason)

    def _rung(self, excesses: Sequence[Excess], was: Standing | None, moment: Moment) -> Block | None:
        """Where a living run belongs: on the highest rung that one of its excesses names."""
        if not excesses:
            return None
        worst = max(excesses, key=_weight)
        rung = "block"
        if not self._takes_verdicts(worst.agent):
            rung = "stop" if worst.on_exceeded is OnExceeded.STOP else "warn"
        elif worst.on_exceeded is OnExceeded.STOP and was is not None and was.budget_id == worst.budget_id:
            is_due = was.boot_id != moment.boot_id or moment.boottime >= self._grace_ends(was)
            rung = "stop" if is_due or was.rung == "stop" else "block"
        return Block(worst.runner_id, worst.budget_id, rung, _words(worst))

    def _grace_ends(self, standing: Standing) -> float:
        return standing.since_boottime + self._context.config.budgets.stop_grace

    def _takes_verdicts(self, agent: str) -> bool:
        config = self._context.config
        return config.hooks.enabled and resolve_or_shell(agent, config.agents).takes_verdicts

    async def _deliver(self, due: Mapping[str, str | None]) -> None:
        """Write verdicts; one that cannot be written is tried again at the next judgement."""
        all_due = {**self._unwritten, **due}
        self._unwritten = await asyncio.to_thread(self._write, all_due)

    def _write(self, due: Mapping[str, str | None]) -> dict[str, str | None]:
        unwritten, written = dict[str, str | None](), dict[str | None, str]()
        for runner_id, reason in due.items():
            try:
                verdicts.write(self._context.paths, runner_id, reason, like=written.get(reason))
                written.setdefault(reason, runner_id)
            except OSError as problem:
                log.warning("a verdict could not be written", extra={"runner": runner_id, "why": str(problem)})
                unwritten[runner_id] = reason
        return unwritten

    def _pause(self) -> float:
        """Until something may change by time alone."""
        try:
            held = blocks.list_all(self._context.rows)
            if not held and not self._unwritten:
                return _IDLE_SECONDS
            moment = self._context.moment()
            pauses = [_LOOK_SECONDS]
            pauses += [self._grace_ends(each) - moment.boottime for each in held.values() if each.rung == "block"]
            rollover = blocks.next_rollover(self._context.rows, now=moment.now)
        except StratavoreError:
            return _LOOK_SECONDS
        if rollover is not None:
            pauses.append((rollover - moment.now).total_seconds())
        return max(0.05, min(each for each in pauses if each > 0))


def _take(tx: Tx, step: _Step, moment: Moment) -> events.Fact | None:
    """Take one step; returns what is to be told of it."""
    row, now = step.runner, moment.now
    if step.block is None:
        return _let_go(tx, step, moment)
    block = step.block
    if not blocks.put(tx, block, boottime=moment.boottime, boot_id=moment.boot_id, now=now):
        blocks.reword(tx, block)
        return None
    instead_of = (Desired.RUNNING, Desired.PAUSED)
    if block.rung == "stop":
        booking.stop_unasked(tx, row, EndReason.BUDGET, instead_of=instead_of, now=now)
    told = {**row.whose(), "budget": block.budget_id, "why": block.reason}
    return events.Fact(_TOLD[block.rung], row.id, told, ACTOR)


def _let_go(tx: Tx, step: _Step, moment: Moment) -> events.Fact | None:
    """It may go on; if it waited between two runs, the next is due."""
    row, was = step.runner, step.was
    assert was is not None
    blocks.remove(tx, row.id)
    if was.rung == "wait":
        runners.put_off(tx, row.id, at=moment.now, at_boottime=moment.boottime)
    if was.rung == "warn" or not row.alive or row.desired is Desired.STOPPED:
        return None
    return events.Fact("runner.unblocked", row.id, {**row.whose(), "budget": was.budget_id, "was": was.rung}, ACTOR)


def _differs(wanted: Block | None, was: Standing | None) -> bool:
    if wanted is None or was is None:
        return (wanted is None) != (was is None)
    return (wanted.budget_id, wanted.rung, wanted.reason) != (was.budget_id, was.rung, was.reason)


def _verdict(block: Block | Standing | None) -> str | None:
    return None if block is None else block.verdict


def _weight(excess: Excess) -> tuple[bool, str, int]:
    """The one that ends the run, else the one that holds it longest."""
    return excess.on_exceeded is OnExceeded.STOP, excess.resets_at or "~", excess.budget_id or 0


def _words(excess: Excess) -> str:
    """Why, and what lifts it, for a person."""
    if excess.kind == "turns":
        return f"this run was given {excess.limit:.0f} turns, and has had them."
    title = budget_title(excess.period, excess.scope, excess.name)
    budget = f"{title}, {amount(excess.limit, excess.unit)}"
    lifted = f"{extending(excess.budget_id or 0, excess.unit)}, typed outside of this runner, goes on now."
    when = "" if excess.resets_at is None else f" It resets at {local_time(excess.resets_at)}."
    if excess.kind == "unpriced":
        model = "".join(letter for letter in (excess.model or "")[:100] if letter.isprintable())
        priced = "a price for it in the configuration and `stratavore daemon restart`"
        lifted = f"`stratavore budget remove {excess.budget_id}`, or {priced}, goes on."
        return f"{budget}, cannot bound the model {model}, which has no price.{when} {lifted}"
    return f"{budget}, is used up.{when} {lifted}"


async def _try(work: Coroutine[Any, Any, None]) -> None:
    """A judgement that fails is logged; the next is another try."""
    try:
        await work
    except StratavoreError as error:
        log.warning("nobody was judged", extra={"why": error.message})
    except Exception:
        log.exception("a judgement failed")
