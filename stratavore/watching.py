"""Looks what every run is doing, and writes down what has changed.

Rule 1: a hook is looked at when it pokes, everything else twice a second; a run of which no agent tells costs nothing.
Rule 2: what has changed, its events, and how far the spools were read are one transaction. What could not be stored is
stored with the next.
Rule 3: an event tells of an edge: that a runner begins to wait, or does so no longer.
Rule 4: an agent that says that it has gone into another conversation is followed there at once.
"""

import asyncio
import logging
import time
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from contextlib import suppress
from datetime import datetime
from typing import NamedTuple

from stratavore import spool
from stratavore.activity import WAITING, Belief, Change, Source
from stratavore.agents import HookTold, Live, account_home, resolve
from stratavore.agents.records import Limit, Window
from stratavore.context import Context
from stratavore.errors import StratavoreError
from stratavore.glimpses import Shown, Watch, compiled
from stratavore.model import Activity
from stratavore.pokes import Pokes
from stratavore.spawning import start_of
from stratavore.store import activity, allowances, events, sessions, supervision, windows
from stratavore.store.activity import Watched
from stratavore.store.database import Tx
from stratavore.store.events import Fact
from stratavore.store.sessions import Conversation

log = logging.getLogger(__name__)

LOOK_SECONDS = 0.5
_BETWEEN_SECONDS = 0.02
_READ_ROWS_SECONDS = 5.0
_SCREENS_AT_ONCE = 8
ACTOR = "activity"

OnTold = Callable[[str, HookTold], None]
OnChanges = Callable[[Sequence[Change]], None]


class _Spooled(NamedTuple):
    """What stood in the spool of a runner."""

    runner_id: str
    piece: spool.Piece


class _Entered(NamedTuple):
    """A run has gone into a conversation."""

    run_key: str
    conversation: Conversation
    at: datetime


class _Seen(NamedTuple):
    """What one round of looks brought."""

    states: list[tuple[str, Live]]
    screens: list[tuple[str, Shown]]
    spooled: list[_Spooled]


class Watching:
    """The loop that looks. `on_told` hears of every call of a hook, `on_changes` of what was stored."""

    def __init__(
        self, context: Context, *, on_told: Sequence[OnTold] = (), on_changes: Sequence[OnChanges] = ()
    ) -> None:
        self._context, self._board = context, context.activity
        self._on_told, self._on_changes = on_told, on_changes
        self._patterns = compiled(context.config.activity.patterns)
        self._pokes = Pokes(context.paths.state, self._poke)
        self._poked: set[str] = set()
        self._wakeup = asyncio.Event()
        self._watches: dict[str, Watch] = {}
        self._offsets: dict[str, int] = {}
        self._unstored: dict[str, Change] = {}
        self._offsets_unstored: dict[str, int] = {}
        self._emptied: dict[str, int] = {}
        self._windows: dict[tuple[str, str, str], Window] = {}
        self._prompted: set[str] = set()
        self._named: dict[str, str] = {}
        self._entered: dict[str, _Entered] = {}
        self._news_read, self._rows_read_at, self._looked_at = -1, 0.0, 0.0

    async def run(self) -> None:
        """Look, until cancelled."""
        self._pokes.open()
        try:
            while True:
                try:
                    await self.look()
                except StratavoreError as error:
                    log.warning("what runners do could not be stored", extra={"why": error.message})
                except Exception:
                    log.exception("a look at what runners do failed")
                await self._pause()
        finally:
            self._pokes.close()

    async def look(self) -> None:
        """One round: whoever poked; and everything, if that is due."""
        is_round = time.monotonic() - self._looked_at >= LOOK_SECONDS - _BETWEEN_SECONDS
        poked, self._poked = self._poked, set()
        if is_round or not poked <= self._watches.keys():
            self._read_rows()
        if is_round:
            self._looked_at = time.monotonic()
        meant = self._watches.keys() if is_round else poked & self._watches.keys()
        watches = [self._watches[each] for each in meant]
        mute = {watch.row.id for watch in watches if not watch.has_state_file and not self._is_told_of(watch.row.id)}
        spools = {each: self._offsets[each] for each in poked if each in self._offsets}
        seen = await asyncio.to_thread(self._see, watches, mute, spools) if watches else _Seen([], [], [])
        self._hear(seen)
        await self._store({each.runner_id for each in seen.spooled})

    def _poke(self, runner_id: str) -> None:
        self._poked.add(runner_id)
        self._wakeup.set()

    async def _pause(self) -> None:
        """Until a hook pokes, or it is time for all."""
        await asyncio.sleep(_BETWEEN_SECONDS)
        with suppress(TimeoutError):
            async with asyncio.timeout(LOOK_SECONDS - _BETWEEN_SECONDS):
                await self._wakeup.wait()
        self._wakeup.clear()

    def _read_rows(self) -> None:
        """Follow the runs that live, if anything was committed; and now and then in any case."""
        now = time.monotonic()
        if self._news_read == self._context.news.count and now - self._rows_read_at < _READ_ROWS_SECONDS:
            return
        self._news_read, self._rows_read_at = self._context.news.count, now
        but = () if self._patterns else ("shell",)
        rows = {row.id: row for row in activity.list_watched(self._context.rows, but=but)}
        followed = self._board.runs()
        over = [each for each in followed if each not in rows]
        self._board.forget(over)
        for runner_id in over:
            del self._watches[runner_id], self._offsets[runner_id]
            self._named.pop(runner_id, None)
        for row in rows.values():
            if followed.get(row.id) != row.key:
                self._follow(row)
            if row.id in self._watches:
                self._board.enters(row.id, row.session_id)

    def _follow(self, row: Watched) -> None:
        try:
            agent, _ = resolve(row.agent, self._context.config.agents)
            recipe = supervision.get_recipe(self._context.rows, row.id)
            start = None if agent.name == "shell" else start_of(self._context, recipe)
        except StratavoreError as problem:
            log.warning("nobody can look what it does", extra={"run": row.key, "why": problem.message})
            return
        log_file = self._context.paths.run_log(row.shim, row.key)
        self._watches[row.id] = Watch(row, agent, start, log_file)
        self._offsets[row.id] = row.spool_offset
        self._board.follow(row.id, row.key, agent.name, row.created_at, _believed(row))
        if row.prompt_taken:
            self._prompted.add(row.id)
        else:
            self._prompted.discard(row.id)
        self._poked.add(row.id)  # what was left while nobody listened
        self._wakeup.set()

    def _see(self, watches: Sequence[Watch], mute: Collection[str], spools: Mapping[str, int]) -> _Seen:
        """Look at files; beside the loop. `mute`: those of which nothing but a screen tells."""
        states = [(watch.row.id, live) for watch in watches if (live := _tried(watch)) is not None]
        screens = list[tuple[str, Shown]]()
        for watch in watches:
            if len(screens) < _SCREENS_AT_ONCE and self._is_screen_due(watch, is_mute=watch.row.id in mute):
                screens.append((watch.row.id, watch.screen(self._patterns)))
        runner = self._context.paths.runner
        return _Seen(states, screens, [_Spooled(each, spool.read(runner(each), spools[each])) for each in spools])

    def _is_screen_due(self, watch: Watch, *, is_mute: bool) -> bool:
        if watch.has_state_file:
            return False
        if watch.agent.dialogs:
            return (is_mute or watch.agent.asks_on_screen) and watch.is_screen_due(is_restless=is_mute)
        return bool(self._patterns) and watch.is_screen_due(is_restless=True)

    def _is_told_of(self, runner_id: str) -> bool:
        return any(source is not Source.SCREEN for source, _ in self._board.evidence(runner_id))

    def _hear(self, seen: _Seen) -> None:
        now = self._context.clock.now()
        for runner_id, live in seen.states:
            self._board.say(runner_id, Source.STATE_FILE, live.activity, live.said, live.at or now)
            self._board.unsay(runner_id, Source.SCREEN)
            if live.session_id is not None and self._named.get(runner_id) != live.session_id:
                self._named[runner_id] = live.session_id
                self._enters(self._watches[runner_id], live.session_id, now)
        for runner_id, shown in seen.screens:
            if shown.live is None:
                self._board.unsay(runner_id, Source.SCREEN)
            else:
                self._board.say(runner_id, Source.SCREEN, shown.live.activity, shown.live.said, now)
        for runner_id, piece in seen.spooled:
            for heard in piece.heard:
                self._hook(runner_id, heard)
            self._has_read(runner_id, piece)

    def _hook(self, runner_id: str, heard: spool.Heard) -> None:
        watch = self._watches.get(runner_id)
        if watch is None:
            return
        told = watch.agent.hooked(heard.event, heard.said, heard.at, is_blocked=heard.is_blocked)
        if told.activity is not None:
            self._board.say(runner_id, Source.HOOK, told.activity, told.said, heard.at)
        if told.limit is not None:
            limit = Limit(session_id="", at=heard.at, resets_at=told.limit.resets_at, said=told.limit.said)
            self._board.limited(runner_id, limit)
        if told.windows and watch.start is not None:
            home = str(account_home(watch.agent.name, watch.start.env, watch.start.profile))
            self._windows |= {(watch.agent.name, home, each.name): each for each in told.windows}
        if told.entered is not None and heard.at >= watch.row.created_at:  # an earlier one was another run's
            self._enters(watch, told.entered, heard.at)
        for listener in self._on_told:
            listener(runner_id, told)

    def _enters(self, watch: Watch, session_id: str, at: datetime) -> None:
        if watch.start is not None:
            home = str(account_home(watch.agent.name, watch.start.env, watch.start.profile))
            found = Conversation(watch.agent.name, home, session_id)
            self._entered[watch.row.id] = _Entered(watch.row.key, found, at)

    def _has_read(self, runner_id: str, piece: spool.Piece) -> None:
        if runner_id not in self._offsets:
            return
        if piece.offset != self._offsets[runner_id]:
            self._offsets[runner_id] = self._offsets_unstored[runner_id] = piece.offset
        if piece.is_more:
            self._poke(runner_id)
        elif spool.is_worth_emptying(piece.offset):
            self._emptied[runner_id] = piece.offset

    async def _store(self, heard_of: set[str]) -> None:
        for change in self._board.judge():
            earlier = self._unstored.get(change.runner_id)
            self._unstored[change.runner_id] = change if earlier is None else change._replace(was=earlier.was)
        prompted = [each for each in self._watches if each not in self._prompted and self._board.has_worked(each)]
        changes, offsets = list(self._unstored.values()), dict(self._offsets_unstored)
        told, entered = dict(self._windows), dict(self._entered)
        if not (changes or offsets or prompted or entered):
            return
        offsets |= dict.fromkeys(self._emptied, 0)  # before the files are: a crash then has them read again
        now = self._context.clock.now()
        watched = {runner_id: watch.row for runner_id, watch in self._watches.items()}

        def store(tx: Tx) -> None:
            for change in changes:
                belief = change.now
                activity.tell(
                    tx,
                    change.runner_id,
                    activity=belief.activity,
                    since=belief.since,
                    source=belief.source,
                    waiting_for=belief.waiting_for,
                    limit_resets_at=belief.limit_resets_at,
                    now=now,
                )
            activity.beat(tx, heard_of, now=now)
            activity.set_offsets(tx, offsets)
            activity.note_prompts_taken(tx, prompted)
            for each in entered.values():
                sessions.follow(tx, each.run_key, each.conversation, now=each.at)
            for (agent, home, _), window in told.items():
                windows.note_all(tx, agent, home, [window])
            if told:
                allowances.note(tx, now=now)
            known = [change for change in changes if change.runner_id in watched]
            facts = [fact for change in known for fact in _facts(change, watched[change.runner_id])]
            events.append_all(tx, facts, now=now)

        if changes or prompted or entered:
            await self._context.write(store)
        else:  # that is no news
            await self._context.database.write(store)
        self._has_stored(changes, offsets, prompted)
        self._entered = {key: each for key, each in self._entered.items() if entered.get(key) is not each}
        if told:
            self._windows = {key: window for key, window in self._windows.items() if told.get(key) is not window}
            self._context.house.judge()

    def _has_stored(self, changes: Sequence[Change], offsets: dict[str, int], prompted: Iterable[str]) -> None:
        for change in changes:
            if self._unstored.get(change.runner_id) is change:
                del self._unstored[change.runner_id]
        self._prompted.update(prompted)
        self._offsets_unstored.clear()
        emptied, self._emptied = self._emptied, {}
        for runner_id, offset in emptied.items():
            if spool.empty(self._context.paths.runner(runner_id), offset):
                self._offsets[runner_id] = 0
            else:
                self._offsets_unstored[runner_id] = offset
        for listener in self._on_changes:
            listener(changes)


def _tried(watch: Watch) -> Live | None:
    """A look at a state file; a bug in reading that of one hides no other."""
    try:
        return watch.state()
    except Exception:
        log.exception("the state of an agent could not be read", extra={"run": watch.row.key})
        return None


def _believed(row: Watched) -> Belief:
    """What was stored of the run last."""
    if row.activity is None:
        return Belief(limit_resets_at=row.limit_resets_at)
    known = row.activity_source in list(Source)
    source = Source(row.activity_source) if known and row.activity_source else None
    return Belief(row.activity, row.activity_since, source, row.waiting_for, row.limit_resets_at)


def _facts(change: Change, row: Watched) -> Iterable[Fact]:
    was, now, whose = change.was.activity, change.now.activity, row.whose()
    told = {**whose, "activity": now.value, "waiting_for": change.now.waiting_for, "source": change.now.source}
    if now in WAITING and now is not was:
        yield Fact("runner.waiting", row.id, told, ACTOR)
    elif was in WAITING and now not in WAITING:
        over = "runner.resumed_working" if now is Activity.WORKING else "runner.stopped_waiting"
        yield Fact(over, row.id, {**whose, "activity": now.value, "source": change.now.source}, ACTOR)
    if change.dispute is not None:
        source, evidence = change.dispute
        believed = {"activity": now.value, "source": change.now.source}
        other = {"other_activity": evidence.activity.value, "other_source": source.value, "other_said": evidence.said}
        yield Fact("runner.activity_disputed", row.id, {**whose, **believed, **other}, ACTOR)
