"""The two ways in which a command asks.

Rule 1: `read` never starts a daemon: with none, the answer comes from the database, and stderr says so.
Rule 2: `change` has one started if need be.
"""

import sys
from functools import cache
from pathlib import Path
from typing import Any

import click

from stratavore import control
from stratavore.errors import DaemonUnreachable
from stratavore.paths import Paths, locate


@cache
def here() -> Paths:
    """Where this user's Stratavore lives."""
    return locate()


def config_file() -> Path | None:
    """The file that `--config` named."""
    found: Path | None = click.get_current_context().find_root().meta.get("config_file")
    return found


def read(name: str, /, *, quiet: bool = False, timeout: float = control.TIMEOUT_SECONDS, **fields: Any) -> Any:
    """What the daemon answers to the reading route `name`, or the database in its place."""
    try:
        return control.ask(here(), name, timeout=timeout, **fields)
    except DaemonUnreachable as unreachable:
        from stratavore import offline

        if name not in offline.ANSWERS:
            raise
        answer = offline.read(here(), name, fields)
        if not quiet:
            from stratavore.cli.output import note

            note(f"{unreachable.message}; {offline.provenance(here())}")
        return answer


def change(name: str, /, *, timeout: float = control.TIMEOUT_SECONDS, **fields: Any) -> Any:
    """What the daemon answers to the changing route `name`; it is started first if it is not there."""
    need_daemon()
    return control.ask(here(), name, timeout=timeout, **fields)


def need_daemon() -> None:
    """Return once a daemon answers."""
    from stratavore.autostart import ensure_daemon

    ensure_daemon(here(), config_file())


def from_stdin() -> str:
    """All of stdin as text; bytes that are no UTF-8 are replaced, as they could not travel."""
    return sys.stdin.buffer.read().decode(errors="replace")
