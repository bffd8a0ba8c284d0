"""`stop`, `kill` and `rm`."""

from typing import Any

import click

from stratavore.cli import humane
from stratavore.cli.asking import change, need_daemon, read
from stratavore.cli.choosing import Choice, Listed, chosen, ids
from stratavore.cli.consent import consent
from stratavore.cli.listing import show_runners
from stratavore.cli.options import json_option, living_runners_argument, runners_argument, timeout_option, yes_option
from stratavore.cli.output import note, say, show_json
from stratavore.cli.quantities import SPAN
from stratavore.cli.settling import settle

ENDED = ("terminated", "failed", "lost")


def is_ended(runner: dict[str, Any]) -> bool:
    return runner["state"] in ENDED


def is_over(runner: dict[str, Any]) -> bool:
    """Whether it ended for good: between two runs it is ended, too, but listed among the living."""
    return is_ended(runner) and runner["id"] not in [living["id"] for living in read("list_runners", quiet=True)]


@click.command
@living_runners_argument
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
@living_runners_argument
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
    """Remove ended runners from the list, with their output. Project directories are not touched.

    With --all or --project those that live are kept and named; with --force they are killed and removed, too.
    """
    choice = chosen(runners, project, everyone)
    need_daemon()
    known = _known(choice)
    living_ids = {runner["id"] for runner in read("list_runners", project=project)}
    living = [runner for runner in known if runner["id"] in living_ids]
    doomed = known if force or runners else [runner for runner in known if runner not in living]
    if doomed and (force or not runners):
        killed = f"kills {humane.plural(len(living), 'living runner')} and " if force and living else ""
        consent(f"This {killed}removes {humane.plural(len(doomed), 'runner')} with all output.", yes)
    if force:
        _ended(_each("kill_runners", ids(living)), timeout, False, "killed")
    removed = _each("remove_runners", ids(doomed))
    if as_json:
        show_json(removed)
    elif removed:
        say("\n".join(runner["name"] for runner in removed))
    else:
        note("there was no ended runner to remove")
    if living and not force:
        names = ", ".join(runner["name"] for runner in living)
        note(f"kept, for they live: {names}; `--force` kills and removes them, too")


def _known(choice: Choice) -> Listed:
    """The chosen runners, ended ones too."""
    if choice.references == ("*",):
        everyone: Listed = read("list_runners", project=choice.project, all=True)
        return everyone
    return [
        runner for request in choice.requests() for runner in read("list_runners", **request, all=True, strict=True)
    ]


def _each(name: str, choice: Choice, **fields: Any) -> Listed:
    return [runner for request in choice.requests() for runner in change(name, **request, **fields)]


def _ended(wished: Listed, timeout: float | None, no_wait: bool, word: str) -> Listed:
    """The runners as they are once ended, or at once with `--no-wait`."""
    if no_wait or not wished:
        return wished
    return settle(ids(wished), "ended", is_ended, timeout=timeout, waiting_for=word)
