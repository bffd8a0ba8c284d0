"""Failpoints: named places at which a test makes the program die, fail or wait.

Rule 1: nothing is armed unless STRATAVORE_FAILPOINTS was set when this module was imported; a name then costs one `if`.
Rule 2: a bundled executable never arms them.

The variable is a list of `name=action` with `;` between them. An action is `kill` (SIGKILL to this process), `raise`,
`enospc`, or `sleep:SECONDS`; `@N` behind it waits for the N-th time. `trace:FILE` appends every name that is passed.

    STRATAVORE_FAILPOINTS="launch.after_commit=kill@2;store.commit=sleep:0.5;trace:/tmp/names"
"""

import errno
import os
import signal
import sys
import time
from typing import NamedTuple

VARIABLE = "STRATAVORE_FAILPOINTS"


class FailpointHit(RuntimeError):
    """A test asked for a failure here."""


class _Armed(NamedTuple):
    action: str
    seconds: float
    nth: int


def fp(name: str) -> None:
    """Do here what the environment asks for `name`: nothing, as a rule."""
    if _on:
        _pass(name)


def _parse(text: str) -> tuple[dict[str, _Armed], str | None]:
    """The actions by name, and the file of the trace."""
    actions: dict[str, _Armed] = {}
    trace: str | None = None
    for part in filter(None, (part.strip() for part in text.split(";"))):
        if part.startswith("trace:"):
            trace = part.removeprefix("trace:")
            continue
        name, _, rest = part.partition("=")
        action, _, nth = rest.partition("@")
        word, _, seconds = action.partition(":")
        if word not in ("kill", "raise", "enospc", "sleep"):
            raise ValueError(f"{VARIABLE}: {part!r} is not name=kill|raise|enospc|sleep:SECONDS[@N]")
        actions[name] = _Armed(word, float(seconds or 0), int(nth or 1))
    return actions, trace


def _pass(name: str) -> None:
    if _trace is not None:
        _append(_trace, name)
    armed = _actions.get(name)
    if armed is None:
        return
    _hits[name] = _hits.get(name, 0) + 1
    if _hits[name] == armed.nth or (armed.action == "sleep" and _hits[name] > armed.nth):
        _act(name, armed)


def _act(name: str, armed: _Armed) -> None:
    match armed.action:
        case "kill":
            os.kill(os.getpid(), signal.SIGKILL)
        case "raise":
            raise FailpointHit(name)
        case "enospc":
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), name)
        case "sleep":
            time.sleep(armed.seconds)


def _append(path: str, name: str) -> None:
    # O_APPEND and one write: a name is whole in the file even when the next one kills.
    descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC, 0o600)
    try:
        os.write(descriptor, f"{name}\n".encode())
    finally:
        os.close(descriptor)


_hits: dict[str, int] = {}
_actions, _trace = _parse("" if getattr(sys, "frozen", False) else os.environ.get(VARIABLE, ""))
_on = bool(_actions) or _trace is not None
