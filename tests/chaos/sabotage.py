"""A daemon with one seeded bug: `python tests/chaos/sabotage.py BUG` in place of `python -m stratavore daemon run`.

Each bug breaks one rule that a chaos test guards; test_negative_controls.py sees that its check then fails, for a check
that cannot fail proves nothing.
"""

import asyncio
import itertools
import os
import sys
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import msgspec

from stratavore import booking, clock, daemon, ending, launching, process, spawning
from stratavore.agents.records import Call
from stratavore.label import Label
from stratavore.lifecycle import Cause
from stratavore.model import EndReason, ShimId
from stratavore.paths import locate
from stratavore.process import Identity
from stratavore.shim.client import MARKER, ExitRecord
from stratavore.shims import Shims, SpawnRequest
from stratavore.store import projects, runs, usage
from stratavore.store.database import Tx


def spawn_before_the_intent_is_committed() -> None:
    ids: list[str] = []
    make_id, reserve = clock.new_runner_id, Shims.reserve

    def remembered() -> str:
        ids.append(make_id())
        return ids[-1]

    async def reserve_and_spawn(self: Shims, count: int) -> list[ShimId]:
        found = await reserve(self, count)
        for runner_id, shim in zip(ids[-count:], found, strict=True):
            await self.spawn(shim, hasty(runner_id, shim))
        return found

    launching.new_runner_id = remembered  # type: ignore[attr-defined]
    Shims.reserve = reserve_and_spawn  # type: ignore[method-assign]


def hasty(runner_id: str, shim: ShimId) -> SpawnRequest:
    """What a launch would ask of the shim if it did so too early."""
    columns: dict[str, Any] = {
        "agent": "shell", "restart_policy": "never", "max_restarts": 0, "tty": True, "terminal_rows": 24,
        "terminal_columns": 80, "extra_argv": ["sleep", "60"], "cwd": "/", "umask": None, "prompt": None,
        "session_id": None, "stop_grace_seconds": 1.0, "max_seconds": None,
    }  # fmt: skip
    label = Label(runner_id, f"hasty-{runner_id}", "p", "/", 1, shim, columns, ["sleep", "60"])
    env = {MARKER: runner_id, "CHAOS_HOUSE": os.environ["STRATAVORE_HOME"], "PATH": os.environ["PATH"]}
    return SpawnRequest(key=f"{runner_id}.1", label=label.write(), argv=["sleep", "60"], env=env, cwd="/")


def believe_a_bare_pid() -> None:
    def is_alive(who: Identity) -> bool:
        return process.identify(who.pid) is not None

    process.is_alive = is_alive


def call_an_unknown_end_a_success() -> None:
    def book_lost(tx: Tx, key: str, reason: EndReason, why: str, moment: booking.Moment, pace: Any) -> None:
        facts = {"end_reason": EndReason.EXITED, "exit_code": 0}
        over = booking._Over(runs.get(tx, key), Cause.SUCCEEDED, 1.0, facts)
        booking._finish_all(tx, [over], moment, pace)

    booking.book_lost = book_lost


def ack_before_the_commit() -> None:
    book = ending.Ending.book

    def hasty_book(self: ending.Ending, record: ExitRecord) -> None:
        async def acked_first() -> None:
            await self._context.shims.ack(record.key)
            await asyncio.sleep(0.1)  # the shim has it before anything is written here
            book(self, record)

        task = asyncio.ensure_future(acked_first())
        hasty_tasks.add(task)

    ending.Ending.book = hasty_book  # type: ignore[method-assign]


hasty_tasks: set["asyncio.Task[None]"] = set()


def leave_a_survivor_beside_the_next_copy() -> None:
    async def end_nobody(remnants: Any) -> None:
        return

    ending.end_processes = end_nobody  # type: ignore[attr-defined]
    spawning.end_processes = end_nobody  # type: ignore[attr-defined]


def call_silence_a_loss() -> None:
    survey = Shims.survey

    async def all_answered(self: Shims) -> Any:
        found = await survey(self)
        return found._replace(answered=frozenset(self.health()))

    Shims.survey = all_answered  # type: ignore[method-assign]


def read_the_quota_before_it_is_taken() -> None:
    def take_slots(tx: Tx, project_id: int, count: int, *, partial: bool) -> int:
        projects.book_slot(tx, project_id)  # whoever read that there is room, takes it
        return count

    projects.take_slots = take_slots


def keep_the_first_telling() -> None:
    def merged(old: usage.Entry, new: usage.Entry, *, new_owns: bool) -> usage.Entry:
        return old

    usage.merged = merged


def count_every_line() -> None:
    record, lines = usage.record, itertools.count()

    def record_each(tx: Tx, agent: str, path: str, calls: Sequence[Call], **facts: Any) -> list[usage.Charge]:
        each = [msgspec.structs.replace(call, key=f"{call.key}#{next(lines)}") for call in calls]
        return record(tx, agent, path, each, **facts)

    usage.record = record_each


def give_a_call_to_whoever_told_first() -> None:
    merged = usage.merged

    def first_owns(old: usage.Entry, new: usage.Entry, *, new_owns: bool) -> usage.Entry:
        return merged(old, new, new_owns=False)

    usage.merged = first_owns


BUGS: Mapping[str, Callable[[], None]] = {
    bug.__name__: bug
    for bug in (
        spawn_before_the_intent_is_committed,
        believe_a_bare_pid,
        call_an_unknown_end_a_success,
        ack_before_the_commit,
        leave_a_survivor_beside_the_next_copy,
        call_silence_a_loss,
        read_the_quota_before_it_is_taken,
        keep_the_first_telling,
        count_every_line,
        give_a_call_to_whoever_told_first,
    )
}

if __name__ == "__main__":
    BUGS[sys.argv[1]]()
    sys.exit(daemon.run(locate(), None))
