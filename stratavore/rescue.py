"""The living runners without a database: asked of their shims, which keep each one's label.

Rule 1: nothing here needs the daemon or the database, so it works when both are broken.
Rule 2: a shim that lives and does not answer is named, and holds up nobody else's rescue.
Rule 3: a run whose label cannot be read is shown by its key, and can be ended as the others.
Rule 4: what is stopped here is written into the shim's exit record with who asked, and booked when a database is back.
"""

import os
from pathlib import Path
from typing import Any, NamedTuple

from stratavore.booking import past_the_database
from stratavore.ending import polite_steps
from stratavore.errors import Ambiguous, NotFound
from stratavore.label import Label
from stratavore.model import Public
from stratavore.paths import Paths
from stratavore.shim import client
from stratavore.shims.requests import step_message

_GRACE_SECONDS = 10.0
_NO_ANSWER = (OSError, client.Refused, client.WireError)


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
    """What it was started with."""


class Found(NamedTuple):
    """What the shims said."""

    runners: list[Living]
    silent: dict[str, str]
    """Shims that live and gave no answer, and why: what they hold nobody can tell."""


def living(paths: Paths) -> Found:
    """Every run that a shim of this state directory holds."""
    found = Found([], {})
    for directory in sorted(paths.shims.iterdir()) if paths.shims.is_dir() else []:
        try:
            entries = _ask(directory, "list")["entries"]
        except _NO_ANSWER as problem:
            if client.is_locked(directory / "lock"):
                found.silent[directory.name] = str(problem)
            continue
        found.runners.extend(_living(directory.name, entry) for entry in entries if "record" not in entry)
    return found


def end(paths: Paths, references: list[str], *, kill: bool) -> Found:
    """Stop (or kill) runners by name, id or prefix of either, all of them with `*`; returns whom.

    Raises:
        NotFound, Ambiguous: nothing alive is called so; several begin so.
    """
    found = living(paths)
    chosen = (
        found.runners if "*" in references else [each for word in references for each in _fitting(found.runners, word)]
    )
    if not chosen and not found.silent:
        raise NotFound("no living runner is called so", remedy="`stratavore rescue list` shows what lives")
    by = past_the_database(f"rescue uid={os.getuid()} pid={os.getpid()}")
    asked = Found([], dict(found.silent))
    for each in chosen:
        if each.shim in asked.silent:
            continue
        try:
            if kill:
                _ask(paths.shim(each.shim), "kill", key=each.key, by=by)
            else:
                steps = _steps(each)
                _ask(paths.shim(each.shim), "stop", key=each.key, by=by, grace=_GRACE_SECONDS, steps=steps)
        except _NO_ANSWER as problem:
            if client.is_locked(paths.shim(each.shim) / "lock") and getattr(problem, "code", "") != "ended":
                asked.silent[each.shim] = str(problem)
                continue
        asked.runners.append(each)
    return asked


def _ask(directory: Path, op: str, **fields: Any) -> client.Json:
    connection = client.connect(directory)
    try:
        return connection.request(op, **fields)
    finally:
        connection.close()


def _living(shim: str, entry: dict[str, Any]) -> Living:
    label, key = Label.find(entry["label"]), entry["key"]
    return Living(
        id=label.id if label is not None else key.partition(".")[0],
        name=label.name if label is not None else key,
        project=label.project if label is not None else "",
        agent=str(label.columns.get("agent", "")) if label is not None else "",
        state=entry["state"],
        pid=entry["pid"],
        shim=shim,
        key=key,
        tty=entry["tty"],
        argv=label.argv if label is not None else [],
    )


def _fitting(found: list[Living], word: str) -> list[Living]:
    """The runner that `word` means: a name or an id, else the only one that begins so."""
    exact = [each for each in found if word in (each.name, each.id)]
    begun = [each for each in found if word and (each.id.startswith(word) or each.name.startswith(word))]
    if not exact and len(begun) > 1:
        raise Ambiguous(f"{word} fits several runners: {', '.join(each.name for each in begun)}")
    return exact or begun


def _steps(runner: Living) -> list[dict[str, Any]]:
    """As the agent wants it; profiles are not asked for, since the configuration may be what is broken."""
    steps = polite_steps(runner.agent, {}, runner.argv, tty=runner.tty, grace_seconds=_GRACE_SECONDS)
    return [step_message(step) for step in steps]
