"""Waiting for runners.

Rule 1: the daemon waits, not we: one long question at a time, and no polling but where it answers at once.
Rule 2: nothing is undone when the time is over.
Rule 3: a daemon that is restarted meanwhile is waited for; its runners do not notice, so neither does the waiting.
"""

import sys
import time
from collections.abc import Callable, Sequence
from typing import Any

from stratavore import control
from stratavore.cli import humane
from stratavore.cli.asking import here
from stratavore.cli.choosing import Choice, Listed
from stratavore.cli.listing import standing
from stratavore.cli.sanitise import clean
from stratavore.cli.table import window_width
from stratavore.errors import DaemonUnreachable, TimedOut
from stratavore.routes import LONGEST_WAIT_SECONDS

PATIENCE_SECONDS = 20.0
"""How long a daemon that went away may take to come back."""
PROGRESS_AFTER_SECONDS = 1.0
_TOLD = 5
_NARROW = 80

Done = Callable[[dict[str, Any]], bool]


def settle(
    choice: Choice, until: str, done: Done, *, timeout: float | None, waiting_for: str, asks_activity: bool = False
) -> Listed:
    """The runners of `choice` once all are `done`; `until` is what the daemon is asked to wait for.

    With `asks_activity` it is told, too, where nobody knows what a runner does.

    Raises:
        TimedOut: they were not within `timeout` seconds; the message counts those that are missing.
        Degraded: the database takes nothing now, so that they are could not be told.
    """
    began = time.monotonic()
    deadline = None if timeout is None else began + timeout
    progress = Progress(began, waiting_for, asks_activity)
    try:
        while True:
            room = LONGEST_WAIT_SECONDS if deadline is None else max(0.0, deadline - time.monotonic())
            asked = time.monotonic()
            listed = _list(choice, until, min(room, 1.0 if progress.visible else LONGEST_WAIT_SECONDS))
            missing = [runner for runner in listed if not done(runner)]
            if not missing:
                return listed
            if deadline is not None and time.monotonic() >= deadline:
                share = f"{len(missing)} of {humane.plural(len(listed), 'runner')}"
                raise TimedOut(
                    f"after {timeout:g} s {share} not yet {waiting_for}: "
                    + ", ".join(f"{runner['name']} is {standing(runner, asks_activity)}" for runner in missing[:_TOLD])
                )
            progress.show(len(listed) - len(missing), len(listed), missing)
            if time.monotonic() - asked < 0.02:  # `until` is true already, but `done` wants more
                time.sleep(0.02)
    finally:
        progress.clear()


class Progress:
    """One line on the terminal that counts, shown only when it takes a while and somebody looks."""

    def __init__(self, began: float, what: str, asks_activity: bool = False) -> None:
        self.began = began
        self.what = what
        self.asks_activity = asks_activity
        self.visible = sys.stderr.isatty()
        self._shown = False

    def show(self, done: int, total: int, missing: Sequence[dict[str, Any]] = ()) -> None:
        """Count; of a single one that is missing, tell what it does."""
        if self.visible and time.monotonic() - self.began > PROGRESS_AFTER_SECONDS:
            told = f" ({missing[0]['name']} is {standing(missing[0], self.asks_activity)})" if len(missing) == 1 else ""
            line = clean(f"{done} of {total} {self.what}…{told}")[: (window_width() or _NARROW) - 1]
            print(f"\r{line}\x1b[K", end="", file=sys.stderr, flush=True)
            self._shown = True

    def clear(self) -> None:
        if self._shown:
            print("\r\x1b[K", end="", file=sys.stderr, flush=True)
            self._shown = False


def _list(choice: Choice, until: str, wait_seconds: float) -> Listed:
    found: Listed = []
    for fields in choice.requests():
        found += _patiently({**fields, "all": True, "until": until, "wait_seconds": round(wait_seconds, 3)})
    return found


def _patiently(fields: dict[str, Any]) -> Listed:
    deadline = time.monotonic() + PATIENCE_SECONDS
    while True:
        try:
            answer: Listed = control.ask(here(), "list_runners", **fields)
            return answer
        except DaemonUnreachable:
            if time.monotonic() > deadline:
                raise
            time.sleep(0.1)
