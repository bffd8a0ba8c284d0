"""What the writer is asked to do, and how the answers get back.

Rule 1: a future is answered in the thread that waits for it: on its event loop, with one wake-up per loop and batch.
Rule 2: every future is answered, unless its asker was cancelled.
"""

import asyncio
import concurrent.futures
from collections.abc import Callable
from contextlib import suppress
from typing import Any, NamedTuple

from stratavore.store.query import Tx

_Future = asyncio.Future[Any] | concurrent.futures.Future[Any]


class Job(NamedTuple):
    """A function to run in a transaction, and who waits for it; `loop` is None for a plain thread."""

    fn: Callable[[Tx], Any]
    future: _Future
    loop: asyncio.AbstractEventLoop | None


class Chore(NamedTuple):
    """Something to do between two batches."""

    fn: Callable[[], None]
    future: concurrent.futures.Future[None]


class Outcome(NamedTuple):
    """What came of a job: its value, or the error."""

    job: Job
    value: Any
    error: BaseException | None


def answer(outcomes: list[Outcome]) -> None:
    """Give every asker what came of his job."""
    of_loop: dict[asyncio.AbstractEventLoop, list[Outcome]] = {}
    for outcome in outcomes:
        if outcome.job.loop is None:
            _settle([outcome])
        else:
            of_loop.setdefault(outcome.job.loop, []).append(outcome)
    for loop, own in of_loop.items():
        with suppress(RuntimeError):  # The loop has been closed: nobody waits any more.
            loop.call_soon_threadsafe(_settle, own)


def do(chore: Chore) -> None:
    """Carry it out and answer; an error is the asker's, and is raised here too."""
    try:
        chore.fn()
    except BaseException as error:
        chore.future.set_exception(error)
        raise
    chore.future.set_result(None)


def _settle(outcomes: list[Outcome]) -> None:
    for job, value, error in outcomes:
        if job.future.done():
            continue  # Its asker was cancelled; what was written stands.
        if error is None:
            job.future.set_result(value)
        elif isinstance(error, StopIteration):
            job.future.set_exception(RuntimeError("a write raised StopIteration"))  # No future takes that one.
        else:
            job.future.set_exception(error)
