"""How a run begins: the agent's plan, the environment, the shim.

Rule 1: the intent is committed before this is called; whatever happens here, the same key is asked of the same shim.
Rule 2: a runner's environment is a 0600 file of its own, and nowhere else. If it has gone, the start fails and says so.
Rule 3: the first prompt is given at the first start only.
"""

import logging
import os
from pathlib import Path
from typing import NamedTuple

from stratavore import booking
from stratavore.agents import Launch, Start, resolve
from stratavore.context import Context
from stratavore.errors import Invalid
from stratavore.failpoints import fp
from stratavore.paths import HOME_VARIABLE
from stratavore.remnants import SharedScan, end_processes
from stratavore.runner_files import read_environment, write_private
from stratavore.shim.client import MARKER
from stratavore.shims import ShimGone, SpawnFailed, SpawnRequest
from stratavore.store import projects, runners
from stratavore.store.database import Tx
from stratavore.store.runners import Supervised

log = logging.getLogger(__name__)

DEFAULT_UMASK = 0o022


class Prepared(NamedTuple):
    """All that a shim needs to know, but for what stands in the row."""

    launch: Launch
    environment: dict[str, str]


class Spawning:
    """Starts runs whose intent is committed."""

    def __init__(self, context: Context) -> None:
        self._context = context
        self._scan = SharedScan()
        # What runs inside finds the same house, wherever that lies.
        self._house = {HOME_VARIABLE: str(context.paths.state)} if HOME_VARIABLE in os.environ else {}

    async def spawn(self, row: Supervised) -> None:
        """Give the run its process, or book why it has none."""
        try:
            prepared = self._prepare(row)
            fp("launch.before_spawn")
            spawned = await self._context.shims.spawn(row.shim, self._request(row, prepared))
        except ShimGone:
            return  # Its death is told separately, and judges this run.
        except (SpawnFailed, Invalid) as failure:
            await self._book_failure(row, str(failure))
            return
        fp("launch.after_spawn")
        self._hold_to_limits(row, spawned.who.pid)
        moment, launch = self._context.moment(), prepared.launch

        def book(tx: Tx) -> None:
            booking.book_spawned(tx, row.key, spawned.who, list(launch.argv), moment)
            if launch.session_id is not None and launch.session_id != row.session_id:
                runners.set_session(tx, row.id, launch.session_id)

        await self._context.write(book)
        fp("launch.after_running")

    async def prepare_again(self, row: Supervised) -> str:
        """End what the last run left behind, and find a shim for the next; returns its id."""
        survivors = await self._scan.marked(row.id)
        if survivors:
            await end_processes(survivors)
        [shim_id] = await self._context.shims.reserve(1)
        return shim_id

    def _prepare(self, row: Supervised) -> Prepared:
        directory = self._context.paths.runner(row.id)
        environment = read_environment(directory)
        agent, _ = resolve(row.agent, self._context.config.agents)
        launch = agent.launch(start_of(row, environment, directory, self._context))
        for name, content in launch.files.items():
            write_private(directory / name, content.encode())
        return Prepared(launch, {**environment, **launch.env, **self._house, MARKER: row.id})

    def _request(self, row: Supervised, prepared: Prepared) -> SpawnRequest:
        path = projects.get_row(self._context.rows, row.project)["path"]
        return SpawnRequest(
            key=row.key,
            label=booking.Label.of(row, path).write(),
            argv=list(prepared.launch.argv),
            env=prepared.environment,
            cwd=row.cwd,
            tty=row.tty,
            rows=row.terminal_rows,
            cols=row.terminal_columns,
            umask=DEFAULT_UMASK if row.umask is None else row.umask,
        )

    def _hold_to_limits(self, row: Supervised, pid: int) -> None:
        """Put the run under its project's hard limits, where the shims live in a delegated cgroup."""
        project = projects.get_row(self._context.rows, row.project)
        memory, cpu = project["max_memory_bytes"], project["max_cpu_percent"]
        if (memory is not None or cpu is not None) and (
            limits := self._context.limits_around(row.shim)
        ) is not None:
            limits.hold(row.project_id, pid, memory_bytes=memory, cpu_percent=cpu)

    async def _book_failure(self, row: Supervised, why: str) -> None:
        moment, pace = self._context.moment(), self._context.pace
        await self._context.write(lambda tx: booking.book_not_started(tx, row.key, why, moment, pace))
        self._context.wake([row.id])


def start_of(row: Supervised, environment: dict[str, str], directory: Path, context: Context) -> Start:
    """What the agent's adapter is asked with for the present run of `row`."""
    _, profile = resolve(row.agent, context.config.agents)
    return Start(
        name=row.name,
        cwd=row.cwd,
        runner_dir=directory,
        env=environment,
        tty=row.tty,
        prompt=row.prompt,
        extra=tuple(row.extra_argv),
        session_id=row.session_id,
        is_restart=row.run > 1,
        profile=profile,
    )
