"""A zygote and its shims in a directory of their own, in one line: `async with House(tmp_path) as house:`.

Everything is real: processes, sockets, SIGKILL. At the end every process that the house started is killed by its pid.
"""

import asyncio
import contextlib
import os
import signal
import time
from collections.abc import Awaitable, Callable
from pathlib import Path
from types import TracebackType
from typing import Any, Self

from stratavore.model import ShimId
from stratavore.paths import Paths
from stratavore.shim.client import MARKER, Connection, ExitRecord, Json, connect
from stratavore.shims import Holding, Shims, Spawned, SpawnRequest

DEADLINE_SECONDS = 20.0
_OURS = "TESTS_PID"
"""In the environment of every run: tests beside these, in another process, use the same names of runners."""


async def until(is_so: Callable[[], object], *, seconds: float = DEADLINE_SECONDS) -> None:
    """Wait for a condition. Raises TimeoutError."""
    deadline = time.monotonic() + seconds
    while not is_so():
        if time.monotonic() > deadline:
            raise TimeoutError("it did not become so")
        await asyncio.sleep(0.01)


def is_alive(pid: int) -> bool:
    """Whether the process runs; a zombie does not."""
    try:
        stat = Path(f"/proc/{pid}/stat").read_text()
    except OSError:
        return False
    return stat.rpartition(")")[2].split()[0] not in "ZX"


def bearers(*runners: str) -> list[int]:
    """The processes with the marker of one of these runners that these tests, not a neighbour's, have started."""
    wanted, found = {f"{MARKER}={runner}".encode() for runner in runners}, []
    ours = f"{_OURS}={os.getpid()}".encode()
    for entry in Path("/proc").iterdir():
        with contextlib.suppress(OSError):
            environ = set((entry / "environ").read_bytes().split(b"\0")) if entry.name.isdigit() else set()
            if ours in environ and not wanted.isdisjoint(environ):
                found.append(int(entry.name))
    return found


class House:
    """The shims of one state directory, and what they told."""

    def __init__(self, state: Path, **options: Any) -> None:
        self.paths = Paths(state, state / "config.toml")
        self.exits: dict[str, ExitRecord] = {}
        self.told: list[ExitRecord] = []
        self.gone: list[ShimId] = []
        self.health: list[tuple[ShimId, str]] = []
        self.places: dict[str, ShimId] = {}
        self._options = {"runners_per_shim": 8, "start_argv": ["true"], **options}
        self._open: list[Shims] = []

    async def __aenter__(self) -> Self:
        self.shims = await self.open()
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        for shims in self._open:
            await shims.close()
        runners = bearers(*(key.partition(".")[0] for key in self.places))
        for pid in [*self.pids("zygotes"), *self.pids("shims"), *runners]:
            end(pid)

    async def open(self, **options: Any) -> Shims:
        """Another daemon's view of the same shims; the first one is `shims`."""
        shims = Shims(
            self.paths, on_exit=self._exited, on_gone=self.gone.append,
            on_health=lambda shim, health: self.health.append((shim, health)), **{**self._options, **options},
        )  # fmt: skip
        self._open.append(shims)
        await shims.start()
        return shims

    async def reopen(self) -> None:
        """The daemon restarts."""
        await self._open.pop().close()
        self.shims = await self.open()

    def pids(self, kind: str) -> list[int]:
        """The processes of `shims` or `zygotes` that have said their pid."""
        found = [path.read_text().strip() for path in (self.paths.state / kind).glob("*/pid")]
        return [int(pid) for pid in found if pid not in ("", "0")]

    def shim_pid(self, key: str) -> int:
        return int((self.paths.shim(self.places[key]) / "pid").read_text())

    async def run(self, key: str, script: str, **fields: Any) -> Spawned:
        """Spawn `sh -c script` under the key; an `argv` among the fields replaces it."""
        return await self.spawn(request(key, script, **fields))

    async def spawn(self, wanted: SpawnRequest, shim: ShimId | None = None) -> Spawned:
        shim = shim or (await self.shims.reserve(1))[0]
        self.places[wanted.key] = shim
        return await self.shims.spawn(shim, wanted)

    async def ended(self, key: str, *, seconds: float = DEADLINE_SECONDS) -> ExitRecord:
        """The exit of the run, when it is told."""
        await until(lambda: key in self.exits, seconds=seconds)
        return self.exits[key]

    def log(self, key: str) -> Path:
        return self.paths.run_log(self.places[key], key)

    def output(self, key: str) -> bytes:
        return self.log(key).read_bytes()

    async def says(self, key: str, text: str) -> None:
        """Wait until the run has printed this."""
        await until(lambda: text.encode() in self.output(key))

    def connect(self, key: str) -> Connection:
        """A blocking connection to the shim of the run, as `attach` makes it."""
        return connect(self.paths.shim(self.places[key]))

    async def holdings(self) -> dict[str, Holding | ExitRecord]:
        """What the shims that answer hold."""
        return (await self.shims.survey()).held

    async def ask(self, op: str, key: str, **fields: Any) -> Json:
        """What the shim of the run answers to this request about it."""
        connection = self.connect(key)
        try:
            return await asyncio.to_thread(connection.request, op, key=key, **fields)
        finally:
            connection.close()

    def _exited(self, record: ExitRecord) -> None:
        self.told.append(record)
        self.exits[record.key] = record


def request(key: str, script: str = "", **fields: Any) -> SpawnRequest:
    """A request to run `sh -c script`, with the marker and a PATH in its environment."""
    environment = {
        "PATH": os.environ["PATH"],
        MARKER: key.partition(".")[0],
        _OURS: str(os.getpid()),
        **fields.pop("env", {}),
    }
    values = {"label": f'{{"key":"{key}"}}', "argv": ["sh", "-c", script], "cwd": "/", **fields}
    return SpawnRequest(key=key, env=environment, **values)


def end(pid: int) -> None:
    """KILL a process of ours."""
    with contextlib.suppress(ProcessLookupError):
        os.kill(pid, signal.SIGKILL)


async def at_once(*work: Awaitable[Any]) -> list[Any]:
    """All of it, within the deadline."""
    return list(await asyncio.wait_for(asyncio.gather(*work), DEADLINE_SECONDS))
