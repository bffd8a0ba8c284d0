"""What is to be done about a runner, given its row and what was seen of its last run.

Rule 1: `plan` thinks and does nothing; it is a pure function of a row, of what was seen, and of the boot clock.
Rule 2: silence shows nothing: of a shim that did not answer, only what the row says is expected.
"""

from enum import Enum, auto
from typing import NamedTuple, assert_never

from stratavore.lifecycle import State
from stratavore.model import Desired
from stratavore.process import Identity, seconds_since_start
from stratavore.shim.client import ExitRecord
from stratavore.shims import Holding, Survey
from stratavore.store.supervision import Supervised


class Absent(NamedTuple):
    """The holder lives and knows nothing of the run."""


class Alive(NamedTuple):
    """The holder has the run's process."""

    who: Identity
    held: Holding | None = None
    """What the holder tells of it; None if that was only expected."""


class Finished(NamedTuple):
    """The holder waited for the run's process."""

    record: ExitRecord


class HolderGone(NamedTuple):
    """The holder is dead, and its journal says nothing of the run."""


Seen = Absent | Alive | Finished | HolderGone


class Action(Enum):
    """What is to be done about one runner."""

    NOTHING = auto()
    SPAWN = auto()
    BOOK_SPAWNED = auto()
    BOOK_END = auto()
    BOOK_LOST = auto()
    BOOK_NEVER_STARTED = auto()
    PAUSE = auto()
    UNPAUSE = auto()
    BOOK_PAUSED = auto()
    BOOK_UNPAUSED = auto()
    STOP = auto()
    STOP_OVERTIME = auto()
    START_AGAIN = auto()


def plan(row: Supervised, seen: Seen, *, boottime: float, boot: str) -> Action:
    """What to do about `row`, given what was `seen` of its last run, at `boottime` of the boot `boot`."""
    match row.state:
        case State.TERMINATED | State.FAILED | State.LOST:
            return Action.START_AGAIN if _is_due(row, boottime, boot) else Action.NOTHING
        case State.STARTING | State.RUNNING | State.PAUSED | State.STOPPING:
            pass
        case _:
            assert_never(row.state)
    match seen:
        case Finished():
            return Action.BOOK_END
        case HolderGone():
            return Action.BOOK_LOST
        case Absent():
            return _plan_absent(row)
        case Alive():
            return _plan_alive(row, seen.held, boottime)
        case _:
            assert_never(seen)


def _plan_absent(row: Supervised) -> Action:
    if row.state is State.STARTING:
        return Action.SPAWN
    return Action.BOOK_NEVER_STARTED if row.pid is None else Action.BOOK_LOST


def _plan_alive(row: Supervised, held: Holding | None, boottime: float) -> Action:
    if row.pid is None:
        return Action.BOOK_SPAWNED
    if row.state is State.STOPPING:
        return Action.STOP
    if _is_overtime(row, boottime):
        return Action.STOP_OVERTIME
    match row.state, held and held.state:
        case State.RUNNING, "paused":
            return Action.BOOK_PAUSED
        case State.PAUSED, "running":
            return Action.BOOK_UNPAUSED
        case _, "stopping" | "ending":
            return Action.NOTHING
    if row.desired is Desired.PAUSED and row.state is State.RUNNING:
        return Action.PAUSE
    if row.desired is Desired.RUNNING and row.state is State.PAUSED:
        return Action.UNPAUSE
    return Action.NOTHING


def _is_due(row: Supervised, boottime: float, boot: str) -> bool:
    if row.retry_at_boottime is None or row.desired is Desired.STOPPED:
        return False
    return row.retry_boot_id != boot or boottime >= row.retry_at_boottime


def _is_overtime(row: Supervised, boottime: float) -> bool:
    if row.max_seconds is None or row.start_time is None:
        return False
    return seconds_since_start(row.start_time, boottime) >= row.max_seconds


def expected(row: Supervised) -> Seen:
    """What a look would most likely show. If it is wrong, the shim's answer to the action says so."""
    if row.pid is None or row.start_time is None or row.boot_id is None:
        return Absent()
    return Alive(Identity(row.boot_id, row.pid, row.start_time))


def seen_of(row: Supervised, survey: Survey, *, is_orphan: bool) -> Seen:
    """What a look showed of the run; `is_orphan`: its shim is dead, and left no word of it."""
    match survey.held.get(row.key):
        case Holding() as held:
            return Alive(held.who, held)
        case ExitRecord() as record:
            return Finished(record)
        case None if is_orphan:
            return HolderGone()
        case None if row.shim in survey.answered:
            return Absent()
        case None:
            return expected(row)
