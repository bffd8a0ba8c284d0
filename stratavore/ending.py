"""How runs end: asked to, by themselves, or with the shim that held them.

Rule 1: an exit is acknowledged to the shim only after it was committed; until then the shim keeps it.
Rule 2: a run whose shim died is lost only after nothing of it lives any more: what still does is ended first, so that
a restart never makes a second copy beside a living one.
"""

import asyncio
import logging
import os
import signal
from collections.abc import Callable, Collection, Sequence
from pathlib import Path

from stratavore import booking, process
from stratavore.agents import Step, resolve
from stratavore.context import Context
from stratavore.errors import StratavoreError
from stratavore.failpoints import fp
from stratavore.model import EndReason, ShimId
from stratavore.process import Identity
from stratavore.shim.client import ExitRecord
from stratavore.shims import Keys, Signal
from stratavore.store import runners
from stratavore.store.runners import Supervised
from stratavore.terminal.render import last_line

log = logging.getLogger(__name__)

_TAIL_BYTES = 8192
_POLITE_SECONDS = 2.0


class Ending:
    """Books ends, carries out stops, and clears away after dead shims."""

    def __init__(self, context: Context, wake: Callable[[Collection[str]], None]) -> None:
        self._context = context
        self._wake = wake
        self._out_of_memory = process.OutOfMemory()
        self._scan = SharedScan()
        self._bookings: set[asyncio.Task[None]] = set()

    def book(self, record: ExitRecord) -> None:
        """Commit the end of a run soon, then acknowledge it to its shim."""
        task = asyncio.ensure_future(self._book(record))
        self._bookings.add(task)
        task.add_done_callback(self._bookings.discard)

    async def replay(self, shim_id: ShimId) -> None:
        """Book what the journal of a dead shim tells, then let go of it."""
        for record in await self._context.shims.replay(shim_id):
            await self._commit(record)
        await self._context.shims.forget(shim_id)

    async def stop(self, row: Supervised) -> None:
        """Have the shim end the run as was asked; it carries that out even if we die now."""
        by = row.stop_by or booking.ACTOR
        fp("stop.before_signal")
        if row.stop_reason is EndReason.KILLED:
            await self._context.shims.kill(row.key, by=by)
            return
        grace = row.stop_grace_seconds if row.run_grace_seconds is None else row.run_grace_seconds
        agent, _ = resolve(row.agent, self._context.config.agents)
        steps = agent.stop_steps(row.argv, tty=row.tty, grace_seconds=grace)
        await self._context.shims.stop(row.key, rungs(steps), grace, by=by)
        fp("stop.after_signal")

    async def lose(self, row: Supervised, *, holder_is_gone: bool) -> None:
        """End what still lives of the run, then book it as lost."""
        if row.boot_id is not None and row.boot_id != process.boot_id():
            reason, why = EndReason.REBOOT, "the machine was started anew"
        elif holder_is_gone:
            reason, why = EndReason.SHIM_DIED, f"the process that held its terminal (shim {row.shim}) died"
        else:
            reason, why = EndReason.VANISHED, f"shim {row.shim} knows nothing of it any more"
        if reason is not EndReason.REBOOT:
            await self.end_remnants(row)
        moment, pace = self._context.moment(), self._context.pace
        await self._context.write(
            lambda tx: booking.book_lost(tx, row.key, reason, why, moment, pace)
        )
        self._wake([row.id])

    async def end_remnants(self, row: Supervised) -> None:
        """TERM, then KILL, whatever lives of the runner's last run."""
        remnants = await self._scan.marked(row.id)
        if row.pid is not None and row.start_time is not None and row.boot_id is not None:
            root = Identity(row.boot_id, row.pid, row.start_time)
            if process.is_alive(root) and root not in remnants:
                remnants = [root, *remnants]
        if remnants:
            log.warning("ending what a dead shim left", extra={"run": row.key, "processes": len(remnants)})
            await end_processes(remnants)

    async def close(self) -> None:
        """Wait for what is being booked."""
        if self._bookings:
            await asyncio.wait(self._bookings)

    async def _book(self, record: ExitRecord) -> None:
        try:
            await self._commit(record)
            await self._context.shims.ack(record.key)
        except StratavoreError as error:
            log.warning("an exit could not be booked yet", extra={"run": record.key, "why": error.message})
        except Exception:
            log.exception("an exit could not be booked", extra={"run": record.key})

    async def _commit(self, record: ExitRecord) -> None:
        end = self._examine(record)
        moment, pace = self._context.moment(), self._context.pace
        fp("end.before_commit")
        await self._context.write(lambda tx: booking.book_end(tx, end, moment, pace))
        fp("end.after_commit")
        self._wake([record.key.partition(".")[0]])

    def _examine(self, record: ExitRecord) -> booking.End:
        runner_id, _, _ = record.key.partition(".")
        shim_id = booking.shim_of(record.label)
        tail = read_tail(self._context.paths.run_log(shim_id, record.key))
        killed_by_kernel = record.exit_signal == 9 and record.stop_by is None and self._out_of_memory.killed(record.pid)
        return booking.End(
            record=record,
            good=self._is_good(runner_id, record, tail),
            out_of_memory=killed_by_kernel,
            last_line=last_line(tail),
        )

    def _is_good(self, runner_id: str, record: ExitRecord, tail: bytes) -> bool:
        known = runners.list_supervised(self._context.rows, [runner_id])
        name, tty = (known[0].agent, known[0].tty) if known else ("shell", True)
        if record.exit_code is None:
            return False
        agent, _ = resolve(name, self._context.config.agents)
        return agent.succeeded(record.exit_code, tty=tty, output_tail=tail.decode(errors="replace"))


class SharedScan:
    """One scan of all processes for every runner that asks at the same time."""

    def __init__(self) -> None:
        self._wanted: set[str] = set()
        self._scan: asyncio.Task[dict[str, list[Identity]]] | None = None

    async def marked(self, runner_id: str) -> list[Identity]:
        """The living processes that bear the marker of this runner."""
        self._wanted.add(runner_id)
        if self._scan is None:
            self._scan = asyncio.ensure_future(self._run())
        return (await asyncio.shield(self._scan)).get(runner_id, [])

    async def _run(self) -> dict[str, list[Identity]]:
        await asyncio.sleep(0.01)  # So that all who are about to ask share this one.
        wanted, self._wanted, self._scan = self._wanted, set(), None
        return await asyncio.to_thread(process.marked, wanted)


def rungs(steps: Sequence[Step]) -> list[Keys | Signal]:
    """An agent's polite stop, as a shim carries it out."""
    return [
        Keys(step.keys, step.wait_seconds)
        if step.keys
        else Signal(signal.Signals(step.signal).name.removeprefix("SIG"), step.wait_seconds, step.to_group)
        for step in steps
    ]


async def end_processes(remnants: Collection[Identity]) -> None:
    """Ask them to end, and kill what has not after two seconds."""
    process.send_signal(remnants, signal.SIGTERM)
    process.send_signal(remnants, signal.SIGCONT)
    for _ in range(int(_POLITE_SECONDS / 0.05)):
        if not any(process.is_alive(who) for who in remnants):
            return
        await asyncio.sleep(0.05)
    process.send_signal(remnants, signal.SIGKILL)


def read_tail(log_file: Path, size: int = _TAIL_BYTES) -> bytes:
    """The last bytes of a run's output; none if the file has gone."""
    try:
        with open(log_file, "rb") as file:
            length = os.fstat(file.fileno()).st_size
            file.seek(max(0, length - size))
            return file.read(size)
    except OSError:
        return b""
