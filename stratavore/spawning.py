"""How a run begins: the agent's plan, the environment, the shim.

Rule 1: the intent is committed before this is called; whatever happens here, the same key is asked of the same shim.
Rule 2: a runner's environment is a 0600 file of its own, and nowhere else. If it has gone, the start fails and says so.
Rule 3: the first prompt is given at the first start only.
"""

import asyncio
import logging
import os
from datetime import datetime

from stratavore import admission, booking, verdicts
from stratavore.admission import Wish
from stratavore.agents import Hooks, Launch, Plain, Start, account_home, resolve, resolve_or_shell
from stratavore.archiving import make_ready
from stratavore.clock import from_unix_ms
from stratavore.context import Context
from stratavore.errors import BudgetExceeded, Conflict, StratavoreError
from stratavore.executable import hook_command, status_line_command
from stratavore.failpoints import fp
from stratavore.hook import FAIL_CLOSED
from stratavore.label import Label, Process
from stratavore.lifecycle import State
from stratavore.model import ShimId
from stratavore.paths import HOME_VARIABLE
from stratavore.remnants import SharedScan, end_processes
from stratavore.resumable import other_writer
from stratavore.runner_files import read_environment, write_files
from stratavore.shim.client import MARKER, Refused
from stratavore.shims import ShimGone, SpawnFailed, SpawnRequest
from stratavore.store import blocks, reservations, runs, sessions, supervision
from stratavore.store.database import Rows
from stratavore.store.supervision import Recipe, Supervised

log = logging.getLogger(__name__)

DEFAULT_UMASK = 0o022
_AT_ONCE = 128
"""Starts that are under way together: enough to keep every shim busy; a thousand environments at once need 10 MiB."""


class Spawning:
    """Starts runs whose intent is committed."""

    def __init__(self, context: Context) -> None:
        self._context = context
        self._scan = SharedScan()
        self._room = asyncio.Semaphore(_AT_ONCE)
        self._begun: dict[str, Process] = {}
        self._booking: asyncio.Task[None] | None = None
        # What runs inside finds the same house, wherever that lies.
        self._house = {HOME_VARIABLE: str(context.paths.state)} if HOME_VARIABLE in os.environ else {}

    async def spawn(self, row: Supervised) -> None:
        """Give the run its process, or book why it has none.

        Raises:
            ShimGone: its shim does not answer, or is dead, which is told separately and judges the run.
        """
        async with self._room:
            if runs.get(self._context.rows, row.key).state is State.STARTING:
                await self._spawn(row)
            else:  # it was stopped while it waited: the supervisor books that, and frees its place
                self._context.wake([row.id])

    async def _spawn(self, row: Supervised) -> None:
        recipe = supervision.get_recipe(self._context.rows, row.id)
        try:
            await self._make_ready(recipe)
            launch, request = self._prepare(recipe, row)
        except StratavoreError as refusal:
            await self.give_up(row, str(refusal))
            return
        try:
            fp("launch.before_spawn")
            spawned = await self._context.shims.spawn(row.shim, request)
        except SpawnFailed as failure:  # it used up the place
            await self._book_failure(row, str(failure))
            return
        fp("launch.after_spawn")
        self._hold_to_limits(recipe, row.shim, spawned.who.pid)
        process = Process(spawned.who, from_unix_ms(spawned.started_at), list(launch.argv))
        await self._book(row, process)
        fp("launch.after_running")

    async def _make_ready(self, recipe: Recipe) -> None:
        """See to the conversation that it goes on with.

        If its agent removed it, it is put back: else the agent would begin anew in silence.

        Raises:
            Conflict: another process is in it.
            StorageFailed: the copy of it is damaged.
        """
        agent, profile = resolve(recipe.agent, self._context.config.agents)
        for session_id in (recipe.session_id, recipe.fork_of):
            if session_id is not None:
                environment = read_environment(self._context.paths, recipe.id)
                for line in await make_ready(self._context, agent.name, session_id, environment):
                    log.warning("a session goes on", extra={"run": f"{recipe.id}.{recipe.run}", "told": line})
        if recipe.run > 1 and recipe.session_id is not None:
            home = str(account_home(agent.name, read_environment(self._context.paths, recipe.id), profile))
            other = await asyncio.to_thread(other_writer, agent.name, home, recipe.session_id, runner_id=recipe.id)
            if other is not None:
                raise Conflict(f"{other} is in its session {recipe.session_id}", remedy="end that first")

    async def _book(self, row: Supervised, process: Process) -> None:
        """Commit that it runs, together with all that were answered in this turn of the loop."""
        self._begun[row.key] = process
        if self._booking is None:
            self._booking = asyncio.ensure_future(self._book_all())
        await asyncio.shield(self._booking)

    async def _book_all(self) -> None:
        await asyncio.sleep(0)
        begun, self._begun, self._booking = self._begun, {}, None
        moment = self._context.moment()
        await self._context.write(lambda tx: booking.book_all_spawned(tx, begun, moment))

    async def give_up(self, row: Supervised, why: str) -> None:
        """Book that the run will have no process; its place in the shim is free again."""
        self._context.shims.release(row.shim)
        await self._book_failure(row, why)

    async def begin_again(self, row: Supervised) -> None:
        """End what the last run left behind, and commit the intent of the next, if that is still wanted then."""
        await self._clear_away(row)
        [shim_id] = await self._context.shims.reserve(1)
        now, has_begun = self._context.clock.now(), False
        try:
            asked = wish_of(self._context, self._context.rows, row.id, now=now)
            has_begun = await self._context.write(lambda tx: booking.begin_again(tx, row, shim_id, asked, now=now))
        except BudgetExceeded as refusal:
            moment, why = self._context.moment(), refusal
            await self._context.write(lambda tx: booking.wait_for_room(tx, row, why, moment))
        finally:
            if not has_begun:
                self._context.shims.release(shim_id)
        self._context.house.judge()  # what held the last run need not hold this one

    async def _clear_away(self, row: Supervised) -> None:
        """End what the last run left: its shim knows that at once; if it is gone, all processes are looked through."""
        try:
            if left := await self._context.shims.end_survivors(row.shim, row.key):
                log.error("processes that survive KILL", extra={"run": row.key, "pids": left})
        except (ShimGone, Refused):
            await end_processes(await self._scan.marked(row.id))

    def _prepare(self, recipe: Recipe, row: Supervised) -> tuple[Launch, SpawnRequest]:
        start = start_of(self._context, recipe)
        agent, _ = resolve(recipe.agent, self._context.config.agents)
        launch = agent.launch(start)
        write_files(start.runner_dir, launch.files)
        if launch.files and agent.takes_verdicts:
            standing = blocks.find(self._context.rows, recipe.id)  # a run before may have been held for what is past
            verdicts.write(self._context.paths, recipe.id, None if standing is None else standing.verdict)
        return launch, SpawnRequest(
            key=row.key,
            label=Label.of(recipe, row.shim, launch.argv).write(),
            argv=launch.argv,
            env={**start.env, **launch.env, **self._house, MARKER: recipe.id},
            cwd=recipe.cwd,
            tty=recipe.tty,
            rows=recipe.terminal_rows,
            cols=recipe.terminal_columns,
            umask=DEFAULT_UMASK if recipe.umask is None else recipe.umask,
        )

    def _hold_to_limits(self, recipe: Recipe, shim: ShimId, pid: int) -> None:
        """Put the run under its project's hard limits, where the shims live in a delegated cgroup."""
        memory, cpu = recipe.max_memory_bytes, recipe.max_cpu_percent
        if (memory is not None or cpu is not None) and (limits := self._context.limits_around(shim)) is not None:
            limits.hold(recipe.project_id, pid, memory_bytes=memory, cpu_percent=cpu)

    async def _book_failure(self, row: Supervised, why: str) -> None:
        moment, pace = self._context.moment(), self._context.pace
        await self._context.write(lambda tx: booking.book_not_started(tx, row.key, why, moment, pace))
        self._context.wake([row.id])


def wish_of(context: Context, rows: Rows, runner_id: str, *, now: datetime) -> Wish:
    """What the next run of a runner asks the budgets for."""
    config = context.config
    recipe, profiles = supervision.get_recipe(rows, runner_id), config.agents
    agent = (recipe.agent, resolve_or_shell(recipe.agent, profiles), profiles.get(recipe.agent) or Plain())
    return admission.wish(
        rows,
        config,
        agent,
        context.price,
        project_id=recipe.project_id,
        runner_id=runner_id,
        extra=recipe.extra_argv,
        allow_unpriced=recipe.allow_unpriced,
        own=reservations.own_limits(rows, runner_id),
        account=sessions.account_of(rows, runner_id),
        now=now,
    )


def start_of(context: Context, recipe: Recipe) -> Start:
    """What the agent's adapter is asked with for the present run of a runner.

    Raises:
        Invalid: its environment has gone, or its agent.
    """
    _, profile = resolve(recipe.agent, context.config.agents)
    return Start(
        name=recipe.name,
        cwd=recipe.cwd,
        runner_dir=context.paths.runner(recipe.id),
        env=read_environment(context.paths, recipe.id),
        tty=recipe.tty,
        prompt=recipe.prompt,
        extra=tuple(recipe.extra_argv),
        session_id=recipe.session_id,
        fork_of=recipe.fork_of,
        is_restart=recipe.run > 1,
        prompt_taken=recipe.prompt_taken,
        profile=profile,
        hooks=_hooks(context, recipe),
        telemetry=context.house.telemetry(recipe.id),
    )


def _hooks(context: Context, recipe: Recipe) -> Hooks | None:
    settings = context.config.hooks
    if not settings.enabled:
        return None
    profile = context.config.agents.get(recipe.agent)
    return Hooks(
        command=(*hook_command(), str(context.paths.runner(recipe.id))),
        options=(FAIL_CLOSED,) if settings.fail_closed else (),
        hold_seconds=settings.approval_timeout,
        status_line=status_line_command() if profile is not None and profile.status_line_tee else (),
    )
