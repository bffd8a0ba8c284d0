"""Why a run ended, as a word and as a line for people."""

import signal
from datetime import timedelta

from stratavore.clock import from_unix_ms
from stratavore.model import EndReason
from stratavore.shim.client import ExitRecord
from stratavore.store import events
from stratavore.store.database import Rows
from stratavore.store.runs import RunRow

_INTERRUPT_WORKS_WITHIN = timedelta(seconds=10)
_EVENTS_LOOKED_AT = 5
_INTERRUPTED_CODE = 128 + signal.SIGINT
"""What shells end with when their command was interrupted."""


def why_ended(rows: Rows, run: RunRow, record: ExitRecord, *, out_of_memory: bool) -> tuple[EndReason, str]:
    """`out_of_memory`: the kernel killed it for want of that."""
    how = f"exit code {record.exit_code}" if record.exit_signal is None else f"signal {record.exit_signal}"
    if run.stop_reason is not None:
        return run.stop_reason, f"{how}; asked by {run.stop_by}"
    if out_of_memory:
        return EndReason.OUT_OF_MEMORY, f"{how}: the kernel ran out of memory and killed it"
    by = _who_interrupted(rows, run, record)
    if record.exit_signal is not None:
        return EndReason.SIGNALED, f"{how}, interrupted by {by}" if by else f"{how}, sent by nobody we know"
    return EndReason.EXITED, f"{how}, interrupted by {by}" if by else how


def _who_interrupted(rows: Rows, run: RunRow, record: ExitRecord) -> str | None:
    """Who had Ctrl-C typed into it just before, if that is what it ended of."""
    if record.exit_signal != signal.SIGINT and record.exit_code != _INTERRUPTED_CODE:
        return None
    ended_at = from_unix_ms(record.ended_at)
    for event in reversed(events.list_of_runner(rows, run.runner_id, limit=_EVENTS_LOOKED_AT)):
        if event.payload.get("interrupts") and event.at >= max(run.created_at, ended_at - _INTERRUPT_WORKS_WITHIN):
            return event.actor
    return None
