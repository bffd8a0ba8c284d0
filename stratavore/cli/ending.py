"""`stop`, `kill` and `rm`."""

import sys
from typing import Any

import click

from stratavore.cli.asking import change, read
from stratavore.cli.choosing import Choice, Listed, chosen, ids
from stratavore.cli.listing import show_runners
from stratavore.cli.options import SPAN, json_option, runners_argument, timeout_option, yes_option
from stratavore.cli.output import say
from stratavore.cli.settling import settle

ENDED = ("terminated", "failed", "lost")


def is_ended(runner: dict[str, Any]) -> bool:
    return runner["state"] in ENDED


def is_over(runner: dict[str, Any]) -> bool:
    """Whether it ended for good: between two runs it is ended, too, but listed among the living."""
    return is_ended(runner) and runner["id"] not in [
        living["id"] for living in read("list_runners", quiet=True)
    ]


@click.command
@runners_argument
@click.option("--grace", metavar="T", type=SPAN, help="Kill after T instead of the runner's own grace.")
@timeout_option("Wait at most so long; what was asked goes on.")
@click.option("--no-wait", is_flag=True, help="Return when the wish is recorded.")
@json_option
def stop(
    runners: tuple[str, ...],
    project: str | None,
    everyone: bool,
    grace: float | None,
    timeout: float | None,
    no_wait: bool,
    as_json: bool,
) -> None:
    """End runners politely; one that does not end within its grace is killed."""
    wished = _each("stop_runners", chosen(runners, project, everyone), grace_seconds=grace)
    show_runners(_ended(wished, timeout, no_wait, "stopped"), as_json)


@click.command
@runners_argument
@timeout_option("Wait at most so long; what was asked goes on.")
@click.option("--no-wait", is_flag=True, help="Return when the wish is recorded.")
@json_option
def kill(
    runners: tuple[str, ...],
    project: str | None,
    everyone: bool,
    timeout: float | None,
    no_wait: bool,
    as_json: bool,
) -> None:
    """End runners now, with their whole process trees."""
    wished = _each("kill_runners", chosen(runners, project, everyone))
    show_runners(_ended(wished, timeout, no_wait, "killed"), as_json)


@click.command
@runners_argument
@click.option("-f", "--force", is_flag=True, help="Kill living ones first.")
@timeout_option("With --force: wait at most so long for their end.")
@yes_option
@json_option
def rm(
    runners: tuple[str, ...],
    project: str | None,
    everyone: bool,
    force: bool,
    timeout: float | None,
    yes: bool,
    as_json: bool,
) -> None:
    """Remove ended runners from the list, with their output. Project directories are not touched."""
    choice = chosen(runners, project, everyone)
    if not runners and not yes and sys.stdin.isatty():
        click.confirm("Remove all of them, with their output?", abort=True, err=True)
    if force:
        known = [
            runner for request in choice.requests() for runner in read("list_runners", **request, all=True)
        ]
        living = ids([runner for runner in known if not is_ended(runner)])
        _ended(_each("kill_runners", living), timeout, False, "killed")
    removed = _each("remove_runners", choice)
    show_runners(removed, as_json) if as_json else say("\n".join(runner["name"] for runner in removed))


def _each(name: str, choice: Choice, **fields: Any) -> Listed:
    return [runner for request in choice.requests() for runner in change(name, **request, **fields)]


def _ended(wished: Listed, timeout: float | None, no_wait: bool, word: str) -> Listed:
    """The runners as they are once ended, or at once with `--no-wait`."""
    if no_wait or not wished:
        return wished
    return settle(ids(wished), "ended", is_ended, timeout=timeout, waiting_for=word)
