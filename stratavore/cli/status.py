"""`status`, and what the bare command shows."""

import sys
from typing import Any

import click

from stratavore.cli import humane
from stratavore.cli.asking import here, read
from stratavore.cli.options import json_option
from stratavore.cli.output import say, show_json

ORDER = ("running", "starting", "backoff", "paused", "stopping", "failed", "lost", "terminated")


@click.command
@json_option
def status(as_json: bool) -> None:
    """The whole house in a line: runners by state, projects, what they use, what is wrong."""
    found = read("status")
    show_json(found) if as_json else say(summary(found))


def summary(found: dict[str, Any]) -> str:
    """The line, and a line for each warning."""
    counted = [f"{found['by_state'][state]} {state}" for state in ORDER if found["by_state"].get(state)]
    runners = humane.plural(found["runners"], "runner") + (f": {', '.join(counted)}" if counted else "")
    parts = [runners, humane.plural(found["projects"], "project")]
    if found["cpu_percent"] is not None:
        parts.append(f"CPU {humane.percent(found['cpu_percent'])}")
    if found["rss_bytes"] is not None:
        parts.append(f"memory {humane.size(found['rss_bytes'])}")
    return "\n".join([" · ".join(parts), *(f"! {warning}" for warning in found["warnings"])])


def overview(ctx: click.Context) -> None:
    """What `stratavore` alone shows: help to whoever has nothing yet, else how things stand."""
    if not here().database.exists():
        click.echo(ctx.get_help())
        click.echo("\nBegin with `stratavore up`: this folder becomes a project, with a runner in it.")
        return
    say(summary(read("status")))
    living = read("list_runners", quiet=True)
    if living:
        from stratavore.cli.listing import full
        from stratavore.cli.output import show_table

        print()
        show_table(*full(living))
    if sys.stdout.isatty():
        print()
        say("`stratavore up` works in this folder, `stratavore PROJECT` goes to a project, `--help` lists the rest.")
