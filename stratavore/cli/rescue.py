"""`rescue`: the living runners when there is no database to ask."""

from typing import TYPE_CHECKING

import click

from stratavore.cli.asking import here
from stratavore.cli.options import json_option
from stratavore.cli.output import say, show_json
from stratavore.cli.table import render, window_width
from stratavore.errors import TimedOut

if TYPE_CHECKING:
    from stratavore.rescue import Found


@click.group
def rescue() -> None:
    """List and stop living runners without the daemon and the database."""


@rescue.command("list")
@json_option
def list_living(as_json: bool) -> None:
    """The runners that their holders know."""
    from stratavore.rescue import living

    _show(living(here()), as_json)


@rescue.command
@click.argument("runners", metavar="RUNNER...", nargs=-1)
@click.option("--all", "everyone", is_flag=True, help="All of them.")
@json_option
def stop(runners: tuple[str, ...], everyone: bool, as_json: bool) -> None:
    """End runners politely; their holders carry it out."""
    _end(runners, everyone, as_json, kill=False)


@rescue.command
@click.argument("runners", metavar="RUNNER...", nargs=-1)
@click.option("--all", "everyone", is_flag=True, help="All of them.")
@json_option
def kill(runners: tuple[str, ...], everyone: bool, as_json: bool) -> None:
    """End runners now."""
    _end(runners, everyone, as_json, kill=True)


def _end(names: tuple[str, ...], everyone: bool, as_json: bool, *, kill: bool) -> None:
    from stratavore.rescue import end

    if bool(names) == everyone:
        raise click.UsageError("Name runners, or say --all.")
    _show(end(here(), ["*"] if everyone else list(names), kill=kill), as_json)


def _show(found: "Found", as_json: bool) -> None:
    import msgspec

    if as_json:
        show_json(msgspec.to_builtins(found.runners))
    elif not found.runners:
        say("No runner lives, as far as the holders say." if found.silent else "No runner lives.")
    else:
        rows = [[each.id, each.name, each.project, each.agent, each.state, str(each.pid)] for each in found.runners]
        say(render(["ID", "NAME", "PROJECT", "AGENT", "STATE", "PID"], rows, window_width()))
    if found.silent:
        told = ", ".join(f"{shim} ({why})" for shim, why in found.silent.items())
        raise TimedOut(
            f"these holders live and did not answer, so nothing is known of their runners: {told}",
            remedy="look at them with `ps`, wake a stopped one with `kill -CONT`, and ask again",
        )
