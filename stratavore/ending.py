"""How runs end: asked to, by themselves, or with the shim that held them.

Rule 1: an exit is acknowledged to the shim only after it was committed; until then the shim keeps it.
Rule 2: a run whose shim died is lost only after nothing of it lives any more: what still does is ended first, so that
a restart never makes a second copy beside a living one.
"""

import asyncio
import logging
import os
import signal
from collections.abc import Callable, Collection, Mapping, Sequence
from datetime import datetime
from pathlib import Path

from stratavore import booking, conversation, process
from stratavore.agents import NamedProfile, Step, resolve_or_shell
from stratavore.agents.limits import resets_at
from stratavore.clock import from_unix_ms
from stratavore.context import Context
from stratavore.errors import StratavoreError
from stratavore.failpoints import fp
from stratavore.label import Label
from stratavore.lifecycle import FINAL
from stratavore.model import EndReason, RestartPolicy, ShimId
from stratavore.process import Identity
from stratavore.remnants import SharedScan, end_processes
from stratavore.shim.client import ExitRecord
from stratavore.shims import Keys, Signal
from stratavore.store import runs, sessions, supervision
from stratavore.store.sessions import Conversation
from stratavore.store.supervision import Supervised
from stratavore.terminal.render import last_line

log = logging.getLogger(__name__)

_TAIL_BYTES = 8192
_LIMIT_BYTES = 64 << 10
"""So far from its end the output is searched for the words of a limit; what stands before them may be long past."""


class Ending:
    """Books ends, carries out stops, and clears away after dead shims."""

    def __init__(self, context: Context, wake: Callable[[Collection[str]], None]) -> None:
        self._context = context
        self._wake = wake
        self._out_of_memory = process.OutOfMemory()
        self._scan = SharedScan()
        self._exits: list[ExitRecord] = []
        self._booking: asyncio.Task[None] | None = None
        self.unbooked: set[str] = set()
        """The keys of runs whose end is known, and could not be booked yet."""

    def book(self, record: ExitRecord) -> None:
        """Commit the end of a run soon, then acknowledge it to its shim. Those that come together are one batch."""
        self._exits.append(record)
        if self._booking is None or self._booking.done():
            self._booking = asyncio.ensure_future(self._book_exits())

    async def replay(self, shim_id: ShimId) -> bool:
        """Book what the journal of a dead shim tells, then let go of it; returns False while some could not be."""
        if not await self._book_each(await self._context.shims.replay(shim_id)):
            return False
        await self._context.shims.forget(shim_id)
        return True

    async def stop(self, row: Supervised) -> None:
        """Have the shim end the run as was asked; it carries that out even if we die now."""
        by = row.stop_by or booking.ACTOR
        fp("stop.before_signal")
        if row.stop_reason is EndReason.KILLED:
            await self._context.shims.kill(row.key, by=by)
            return
        grace = row.stop_grace_seconds if row.run_grace_seconds is None else row.run_grace_seconds
        steps = polite_steps(row.agent, self._context.config.agents, row.argv, tty=row.tty, grace_seconds=grace)
        await self._context.shims.stop(row.key, steps, grace, by=by)
        fp("stop.after_signal")

    async def lose(self, row: Supervised, *, holder_is_gone: bool) -> None:
        """End what still lives of the run, then book it as lost; nothing if its end was booked meanwhile.

        What bears the runner's marker would then be its next run.
        """
        if runs.get(self._context.rows, row.key).state in FINAL:
            return
        if row.boot_id is not None and row.boot_id != process.boot_id():
            reason, why = EndReason.REBOOT, "the machine was started anew"
        elif holder_is_gone:
            reason, why = EndReason.SHIM_DIED, f"the process that held its terminal (shim {row.shim}) died"
        else:
            reason, why = EndReason.VANISHED, f"shim {row.shim} knows nothing of it any more"
        if reason is not EndReason.REBOOT:
            await self.end_remnants(row)
        moment, pace = self._context.moment(), self._context.pace
        await self._context.write(lambda tx: booking.book_lost(tx, row.key, reason, why, moment, pace))
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

    async def _book_exits(self) -> None:
        while self._exits:
            batch, self._exits = self._exits, []
            await self._book_each(batch)

    async def _book_each(self, batch: Sequence[ExitRecord]) -> bool:
        """Whether all could be booked: together, or else one by one, so that one that cannot holds up no other."""
        if not batch or await self._book_batch(batch):
            return True
        return len(batch) > 1 and all([await self._book_batch([record]) for record in batch])

    async def _book_batch(self, batch: Sequence[ExitRecord]) -> bool:
        """Whether they could be booked; if not, their shims keep them for the next reconciliation."""
        keys = {record.key for record in batch}
        self.unbooked |= keys
        try:
            await self._commit(batch)
        except StratavoreError as error:
            log.warning("exits could not be booked yet", extra={"runs": len(batch), "why": error.message})
            return False
        except Exception:
            log.exception("an exit could not be booked", extra={"run": batch[0].key, "batch": len(batch)})
            return False
        self.unbooked -= keys
        for record in batch:
            await self._context.shims.ack(record.key)
        return True

    async def _commit(self, batch: Sequence[ExitRecord]) -> None:
        ends = await asyncio.to_thread(lambda: [self._examine(record) for record in batch])
        moment, pace = self._context.moment(), self._context.pace

        fp("end.before_commit")
        again = await self._context.write(lambda tx: booking.book_ends(tx, ends, moment, pace))
        fp("end.after_commit")
        self._wake(again)
        self._context.house.judge()  # what was held for them is free

    def _examine(self, record: ExitRecord) -> booking.End:
        """Whatever takes a look at files; it runs in a thread beside the loop. A bug in it holds up no end."""
        try:
            return self._examined(record)
        except StratavoreError:
            raise
        except Exception:
            log.exception("what a run left could not be looked at", extra={"run": record.key})
            return booking.End(record=record, good=False, out_of_memory=False, last_line=None)

    def _examined(self, record: ExitRecord) -> booking.End:
        label = Label.read(record.label)
        output = self._context.paths.run_log(label.shim, record.key)
        tail = read_tail(output) if record.output_bytes else b""
        killed_by_kernel = record.exit_signal == 9 and record.stop_by is None and self._out_of_memory.killed(record.pid)
        good = self._is_good(label, record, tail)
        agent = resolve_or_shell(str(label.columns["agent"]), self._context.config.agents)
        return booking.End(
            record=record,
            good=good,
            out_of_memory=killed_by_kernel,
            last_line=last_line(tail, () if good else agent.failures),
            conversation=self._conversation_of(label, tail),
            limit_resets_at=None if good else _limit_in(label, record, output),
        )

    def _conversation_of(self, label: Label, tail: bytes) -> Conversation | None:
        """The conversation that the run was in last: some agents tell it only now."""
        if label.columns["agent"] == "shell":
            return None
        known = supervision.list_supervised(self._context.rows, [label.id])
        if not known or known[0].started_at is None:
            return None
        row, text = known[0], tail.decode(errors="replace")
        theirs = sessions.others_since(self._context.rows, known[0].started_at)
        taken = [session_id for session_id, whose in theirs.items() if whose - {row.id}]
        found = conversation.look(self._context, row.id, row.agent, row.started_at, (), taken, text)
        return found if isinstance(found, Conversation) else None

    def _is_good(self, label: Label, record: ExitRecord, tail: bytes) -> bool:
        if record.exit_code is None:
            return False
        agent = resolve_or_shell(str(label.columns["agent"]), self._context.config.agents)
        is_tty = bool(label.columns["tty"])
        return agent.succeeded(record.exit_code, tty=is_tty, output_tail=tail.decode(errors="replace"))


def _limit_in(label: Label, record: ExitRecord, output: Path) -> datetime | None:
    """When the provider goes on, where what the agent printed last says so: its records may be read too late."""
    if label.columns["restart_policy"] != RestartPolicy.ON_LIMIT_RESET:
        return None
    ended_at = from_unix_ms(record.ended_at)
    lines = read_tail(output, _LIMIT_BYTES).decode(errors="replace").splitlines()
    found = (resets_at(line, ended_at) for line in reversed(lines))
    return next(filter(None, found), None)


def polite_steps(
    agent: str, profiles: Mapping[str, NamedProfile], argv: Sequence[str], *, tty: bool, grace_seconds: float
) -> list[Keys | Signal]:
    """How a shim is to ask the run `argv` to end: as its agent, whose name this is, wants it."""
    found = resolve_or_shell(agent, profiles)
    return [_rung(step) for step in found.stop_steps(argv, tty=tty, grace_seconds=grace_seconds)]


def _rung(step: Step) -> Keys | Signal:
    if step.keys:
        return Keys(step.keys, step.wait_seconds)
    return Signal(signal.Signals(step.signal).name.removeprefix("SIG"), step.wait_seconds, step.to_group)


def read_tail(log_file: Path, size: int = _TAIL_BYTES) -> bytes:
    """The last bytes of a run's output; none if the file has gone."""
    try:
        with open(log_file, "rb") as file:
            length = os.fstat(file.fileno()).st_size
            file.seek(max(0, length - size))
            return file.read(size)
    except OSError:
        return b""
