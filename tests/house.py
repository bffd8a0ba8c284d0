"""A whole daemon inside the test's own process: `async with living(tmp_path / "state") as house:`.

It is built by the composition root's own `build`, with real shims and real children. `restart` ends it and builds the
next one over the same state directory. At the end every process that the house started is killed by its pid.
"""

import asyncio
import contextlib
import os
import signal
import time
from collections.abc import AsyncIterator, Callable, Collection
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path
from typing import Any

import msgspec
import pytest

from stratavore import process
from stratavore.api.routes import VERBS
from stratavore.config import Config
from stratavore.context import Asker, Context
from stratavore.daemon import Daemon, build
from stratavore.lifecycle import FINAL
from stratavore.model import Event, Launched, LaunchPlan, Project, Runner
from stratavore.paths import Paths
from stratavore.protocol import BY_NAME
from stratavore.store import events
from stratavore.store.lock import hold_lock

DEADLINE_SECONDS = 20.0
ME = Asker("cli", os.getuid(), os.getpid(), None)
together = pytest.mark.asyncio(loop_scope="module")
"""For tests that ask for `shared`: they run on its loop."""
ENDED = tuple(state.value for state in FINAL)


async def until(is_so: Callable[[], object], *, seconds: float = DEADLINE_SECONDS) -> None:
    """Wait for a condition. Raises TimeoutError."""
    deadline = time.monotonic() + seconds
    while not is_so():
        if time.monotonic() > deadline:
            raise TimeoutError("it did not become so")
        await asyncio.sleep(0.01)


class House:
    """A daemon and what tests ask of it; `context` is that of the daemon which lives now."""

    def __init__(self, state: Path, config: Config) -> None:
        self.paths = Paths(state, state / "config.toml")
        self.config = config
        self._stack = AsyncExitStack()

    async def start(self) -> None:
        for directory in (self.paths.state, self.paths.runners, self.paths.environments):
            directory.mkdir(mode=0o700, parents=True, exist_ok=True)
        self.daemon = Daemon()
        self._stack = AsyncExitStack()
        self.context: Context = await self._stack.enter_async_context(build(self.paths, self.config, self.daemon))

    async def stop(self) -> None:
        await self._stack.aclose()

    async def restart(self) -> None:
        await self.stop()
        await self.start()

    async def ask(self, verb: str, *path: str, **fields: Any) -> Any:
        """The verb's answer; `path` fills the names in the route's path, `fields` the request."""
        route = BY_NAME[verb]
        names = [part[1:-1] for part in route.path.split("/") if part.startswith("{")]
        request = msgspec.convert(fields, route.request)
        return await VERBS[verb](self.context, ME, request, **dict(zip(names, path, strict=True)))

    async def project(self, name: str, directory: Path | None = None, **fields: Any) -> Project:
        if directory is None:
            directory = self.paths.state.parent / f"project-{name}"
            directory.mkdir(exist_ok=True)
        found: Project = await self.ask("new_project", name=name, path=str(directory), **{"agent": "shell", **fields})
        return found

    async def launch(self, project: str, script: str = "exec sleep 1000", **fields: Any) -> Runner:
        """One runner of `sh -c script`; it is starting."""
        return (await self.launch_all(project, script, **fields)).runners[0]

    async def launch_all(self, project: str, script: str = "exec sleep 1000", **fields: Any) -> Launched:
        answer = await self.ask("launch", project=project, **{"argv": ["sh", "-c", script], **fields})
        assert isinstance(answer, Launched)
        return answer

    async def plan(self, project: str, **fields: Any) -> LaunchPlan:
        answer = await self.ask("launch", project=project, dry_run=True, **fields)
        assert isinstance(answer, LaunchPlan)
        return answer

    async def running(self, project: str, script: str = "exec sleep 1000", **fields: Any) -> Runner:
        """The same, once it runs."""
        return await self.reaches((await self.launch(project, script, **fields)).id, "running")

    async def reaches(self, runner: str, *states: str, run: int | None = None) -> Runner:
        """The runner as soon as it is in one of these states (and in that run)."""
        deadline = time.monotonic() + DEADLINE_SECONDS
        while time.monotonic() < deadline:
            [found] = await self.ask("list_runners", runner=runner, until=",".join(states), wait_seconds=0.5)
            if found.state in states and run in (None, found.run):
                return found  # type: ignore[no-any-return]
            await asyncio.sleep(0.005)
        found = await self.get(runner)
        raise TimeoutError(f"{found.name} is {found.state} in run {found.run}: {found.end_detail}")

    async def ended(self, runner: str) -> Runner:
        return await self.reaches(runner, *ENDED)

    async def over(self, runner: str) -> Runner:
        """The runner once nothing will start it again by itself: it has given its slot back."""
        await until(lambda: not self.is_living(runner))
        return await self.get(runner)

    async def get(self, runner: str) -> Runner:
        found: Runner = await self.ask("get_runner", runner)
        return found

    def is_living(self, runner_id: str) -> bool:
        """Whether it holds a slot."""
        return bool(self.context.rows.scalar("SELECT alive FROM runners WHERE id = ?", (runner_id,)))

    def living_names(self, prefix: str) -> list[str]:
        found = self.context.rows.all("SELECT name FROM runners WHERE alive = 1 ORDER BY name")
        return [row["name"] for row in found if row["name"].startswith(prefix)]

    def slots(self, project: str) -> int:
        """Slots of its quota that are taken."""
        return int(self.context.rows.scalar("SELECT live_runners FROM projects WHERE name = ?", (project,)))

    async def wish(self, sql: str, *values: Any) -> None:
        """Change rows behind the daemon's back."""
        await self.context.database.write(lambda tx: tx.execute(sql, values))

    def told(self, runner_id: str) -> list[str]:
        """The types of the events about a runner, oldest first."""
        return [event.type for event in self.events_of(runner_id)]

    def events_of(self, aggregate_id: str) -> list[Event]:
        found = events.list_events(self.context.rows)
        return [event for event in found if event.aggregate_id == aggregate_id]

    def output(self, runner: Runner, run: int | None = None) -> bytes:
        """What a run of it has printed so far."""
        key = f"{runner.id}.{run or runner.run}"
        found = list(self.paths.logs.glob(f"*/{key}"))
        return found[0].read_bytes() if found else b""

    async def says(self, runner: Runner, text: str, run: int | None = None) -> None:
        await until(lambda: text.encode() in self.output(runner, run))

    async def stays(self, is_so: Callable[[], object], *, passes: int = 3) -> None:
        """The condition holds through some passes of the supervisor over everything."""
        for _ in range(passes):
            assert is_so()
            await self.ask("reconcile")
            assert self.daemon.supervisor is not None
            await self.daemon.supervisor.settle()
        assert is_so()

    def pids(self, kind: str) -> list[int]:
        """The processes of `shims` or `zygotes`."""
        found = [path.read_text().strip() for path in (self.paths.state / kind).glob("*/pid")]
        return [int(pid) for pid in found if pid]

    def end_everything(self) -> None:
        """KILL all that this house started; the zygotes first, which would start a daemon again."""
        kept = self.paths.environments
        runners = [path.name for path in kept.iterdir()] if kept.is_dir() else []
        for pid in (*self.pids("zygotes"), *self.pids("shims")):
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
        for found in process.marked(runners).values():
            process.send_signal(found, signal.SIGKILL)


def is_alive(pid: int | None) -> bool:
    """Whether the process runs; a zombie does not."""
    return pid is not None and process.identify(pid) is not None


@asynccontextmanager
async def living(state: Path, config: Config | None = None) -> AsyncIterator[House]:
    """A daemon over `state`, ended with all its runners afterwards."""
    house = House(state, config or quick())
    house.paths.state.mkdir(mode=0o700, parents=True, exist_ok=True)
    with hold_lock(house.paths.lock):  # all the time: no zygote starts a daemon between two of ours
        await house.start()
        try:
            yield house
        finally:
            await house.stop()
            house.end_everything()


def quick(**sections: Any) -> Config:
    """A configuration for tests: the first pause of a backoff is short, stops are quick."""
    runners = {"backoff_first": 0.05, "stop_grace": 5.0, **sections.pop("runners", {})}
    supervision = {"sample_interval": 3600.0, "heartbeat_ttl": 3600.0, "reconcile_interval": 3600.0}
    return msgspec.convert(
        {"runners": runners, "supervision": supervision | sections.pop("supervision", {}), **sections}, Config
    )


def names_of(runners: Collection[Runner]) -> list[str]:
    return [runner.name for runner in runners]
