"""What the agents left on this machine before Stratavore came: found, read whole, booked.

Rule 1: there is one import at a time; it is the daemon's, and goes on when the asker goes away.
Rule 2: it may be stopped at any moment and asked for again: what was booked stays, and is not booked twice.
"""

import asyncio
import os
from pathlib import Path

from stratavore.agents import RECORDS, resolve
from stratavore.context import Asker, Context
from stratavore.errors import Conflict, Invalid, NotFound
from stratavore.imports import Imports
from stratavore.ledger import homes
from stratavore.model import ImportProgress
from stratavore.protocol import BeginImport, Nothing, WatchImport


async def begin_import(context: Context, asker: Asker, request: BeginImport) -> ImportProgress:
    """Begin to read what agents left; returns how far it is.

    Raises:
        Conflict: an import is under way.
        Invalid, NotFound: the path is no account directory; there is none.
    """
    imports = context.house.imports
    _refuse_a_second(imports)
    found = await asyncio.to_thread(_find, context, request)
    _refuse_a_second(imports)  # one may have begun meanwhile
    imports.begin(context.house.ledger.bring_in(found, imports.hear))
    await imports.wait(0)
    return imports.progress


async def watch_import(context: Context, asker: Asker, request: WatchImport) -> ImportProgress:
    """How far the import is that is under way, or how the last one ended."""
    await context.house.imports.wait(request.wait_seconds)
    return context.house.imports.progress


async def stop_import(context: Context, asker: Asker, request: Nothing) -> ImportProgress:
    """Stop the import, if one is under way; what was booked stays."""
    await context.house.imports.stop()
    return context.house.imports.progress


def _refuse_a_second(imports: Imports) -> None:
    if imports.is_running:
        raise Conflict(
            "an import is under way already", remedy="wait for its end, or stop it with Ctrl-C where it began"
        )


def _find(context: Context, request: BeginImport) -> list[homes.Home]:
    """The account directories that are meant."""
    profiles = context.config.agents
    kind = None if request.agent is None else resolve(request.agent, profiles)[0].name
    if kind is not None and kind not in RECORDS:
        raise Invalid(f"{kind} keeps no conversations", remedy=f"name one of {', '.join(RECORDS)}")
    if request.path is not None:
        return [_at(Path(os.path.realpath(request.path)), kind)]
    environment = {**os.environ, **request.environment}
    found = {home for home in homes.defaults(environment, profiles) if home.path.is_dir()}
    if request.agent is not None and request.agent in profiles:
        own = homes.of_agent(request.agent, environment, profiles)
        found = {own} if own is not None and own.path.is_dir() else set()
    chosen = sorted(home for home in found if kind in (None, home.agent))
    if not chosen:
        raise NotFound(
            f"{kind or 'no agent'} has left {'nothing' if kind else 'anything'} here", remedy="name its directory"
        )
    return chosen


def _at(path: Path, kind: str | None) -> homes.Home:
    if not path.is_dir():
        raise Invalid(f"{path} is not a directory", remedy="name an agent's own, such as ~/.claude")
    marked = [name for name, records in RECORDS.items() if any(path.glob(records.mark))]
    if kind is None and len(marked) != 1:
        fitting = ", ".join(marked) or "none"
        raise Invalid(f"{path} may be the directory of {fitting}", remedy=f"say --agent, one of {', '.join(RECORDS)}")
    return homes.Home(kind or marked[0], path)
