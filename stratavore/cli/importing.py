"""`import`: what agents left on this machine before Stratavore came."""

import os
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import click

from stratavore.cli import humane
from stratavore.cli.asking import change, read
from stratavore.cli.options import UserPath, agent_option, json_option
from stratavore.cli.output import note, say, show_json
from stratavore.errors import StorageFailed

WHERE = ("HOME", "CLAUDE_CONFIG_DIR", "CODEX_HOME", "GEMINI_CLI_HOME", "XDG_DATA_HOME")
"""What says where account directories lie."""
_LOOK_SECONDS = 0.2
_TELL_SECONDS = 3.0

Progress = dict[str, Any]


@click.command("import")
@agent_option
@click.argument("path", required=False, type=UserPath(exists=True, files=False))
@json_option
def import_(agent: str | None, path: Path | None, as_json: bool) -> None:
    """Read what agents left before: sessions, what they used, what was said.

    PATH is an agent's own directory, such as ~/.claude or CODEX_HOME; without one, all are read where the agents keep
    them. It may be repeated, and interrupted: what was read is kept, and never counted twice.
    """
    where = {name: os.environ[name] for name in WHERE if name in os.environ}
    began = change("begin_import", agent=agent, path=None if path is None else str(path), environment=where)
    try:
        ended = _with_bar(began) if sys.stderr.isatty() else _with_lines(began)
    except KeyboardInterrupt:
        note(_interrupted(change("stop_import")))
        raise
    if ended["failed"] is not None:
        raise StorageFailed(
            f"the import ended early: {ended['failed']}; {_told(ended)}", remedy="import again: it goes on"
        )
    show_json(ended) if as_json else say(_told(ended))


def _until_over(progress: Progress, tell: Callable[[Progress], None]) -> Progress:
    while progress["is_running"]:
        tell(progress)
        progress = read("watch_import", wait_seconds=_LOOK_SECONDS)
    tell(progress)
    return progress


def _with_bar(progress: Progress) -> Progress:
    """On a terminal: a bar of the bytes that are read."""
    with click.progressbar(length=max(1, progress["total_bytes"]), label="Reading", file=sys.stderr) as bar:

        def tell(now: Progress) -> None:
            bar.length = max(1, now["total_bytes"])
            bar.update(max(0, min(now["bytes"], bar.length) - bar.pos))

        return _until_over(progress, tell)


def _with_lines(progress: Progress) -> Progress:
    """Elsewhere: a line now and then."""
    told_at = time.monotonic()

    def tell(now: Progress) -> None:
        nonlocal told_at
        if now["is_running"] and time.monotonic() - told_at >= _TELL_SECONDS:
            told_at = time.monotonic()
            size, total = humane.size(now["bytes"]), humane.size(now["total_bytes"])
            note(f"{size} of {total} read, {humane.plural(now['sessions'], 'session')} so far")

    return _until_over(progress, tell)


def _interrupted(progress: Progress) -> str:
    if progress["failed"] is None:
        return f"the import had ended: {_told(progress)}"
    return f"the import is stopped; {_told(progress)}; another one goes on from there"


def _told(progress: Progress) -> str:
    bad = f"; {progress['bad_lines']} lines could not be read" if progress["bad_lines"] else ""
    known = progress["known_sessions"]
    besides = f" ({humane.plural(known, 'session')} known already)" if known else ""
    return (
        f"{humane.plural(progress['new_sessions'], 'session')} and {humane.plural(progress['calls'], 'call')} brought"
        f" in{besides} from {humane.plural(progress['files'], 'file')} ({humane.size(progress['bytes'])}){bad}"
    )
