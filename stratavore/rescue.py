"""The living runners without a database: asked of their shims, which keep each one's label.

Rule 1: nothing here needs the daemon or the database, so it works when both are broken.
Rule 2: what is stopped here is written into the shim's exit record with who asked, and booked when a database is back.
"""

import os
import signal
from base64 import b64encode
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from stratavore.agents import AGENTS
from stratavore.booking import Label
from stratavore.errors import Ambiguous, NotFound
from stratavore.model import Public
from stratavore.paths import Paths
from stratavore.shim import client

_GRACE_SECONDS = 10.0


class Living(Public, frozen=True):
    """A run that its shim holds."""

    id: str
    name: str
    project: str
    agent: str
    state: str
    pid: int
    shim: str
    key: str
    tty: bool
    argv: list[str]
    """What followed the agent's own; for a shell, all of it."""


def living(paths: Paths) -> list[Living]:
    """Every run that a shim of this state directory holds."""
    return [
        _living(directory.name, entry)
        for directory, connection in _shims(paths)
        for entry in connection.request("list")["entries"]
        if "record" not in entry
    ]


def end(paths: Paths, references: list[str], *, kill: bool) -> list[Living]:
    """Stop (or kill) runners by name, id or prefix of either, all of them with `*`; returns whom.

    Raises:
        NotFound, Ambiguous: nothing alive is called so; several begin so.
    """
    found = living(paths)
    chosen = (
        found
        if "*" in references
        else [each for word in references for each in _fitting(found, word)]
    )
    if not chosen:
        raise NotFound("no living runner is called so", remedy="`stratavore rescue list` shows what lives")
    by = f"rescue uid={os.getuid()} pid={os.getpid()}"
    for each in chosen:
        connection = client.connect(paths.shim(each.shim))
        try:
            if kill:
                connection.request("kill", key=each.key, by=by)
            else:
                connection.request("stop", key=each.key, by=by, grace=_GRACE_SECONDS, steps=_steps(each))
        finally:
            connection.close()
    return chosen


def _shims(paths: Paths) -> Iterator[tuple[Path, client.Connection]]:
    directories = sorted(paths.shims.iterdir()) if paths.shims.is_dir() else []
    for directory in directories:
        try:
            connection = client.connect(directory)
        except (OSError, client.Refused):
            continue  # It is dead, or does not speak with this program.
        try:
            yield directory, connection
        finally:
            connection.close()


def _living(shim: str, entry: dict[str, Any]) -> Living:
    label = Label.read(entry["label"])
    return Living(
        id=label.id,
        name=label.name,
        project=label.project,
        agent=str(label.columns["agent"]),
        state=entry["state"],
        pid=entry["pid"],
        shim=shim,
        key=entry["key"],
        tty=entry["tty"],
        argv=list(label.columns["extra_argv"]),
    )


def _fitting(found: list[Living], word: str) -> list[Living]:
    """The runner that `word` means: a name or an id, else the only one that begins so."""
    exact = [each for each in found if word in (each.name, each.id)]
    begun = [each for each in found if word and (each.id.startswith(word) or each.name.startswith(word))]
    if not exact and len(begun) > 1:
        raise Ambiguous(f"{word} fits several runners: {', '.join(each.name for each in begun)}")
    return exact or begun


def _steps(runner: Living) -> list[dict[str, Any]]:
    agent = AGENTS.get(runner.agent, AGENTS["shell"])
    steps = agent.stop_steps(runner.argv, tty=runner.tty, grace_seconds=_GRACE_SECONDS)
    return [
        {"keys": b64encode(step.keys).decode(), "wait": step.wait_seconds}
        if step.keys
        else {
            "signal": signal.Signals(step.signal).name.removeprefix("SIG"),
            "group": step.to_group,
            "wait": step.wait_seconds,
        }
        for step in steps
    ]
