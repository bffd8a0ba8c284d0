"""`pause` and `unpause`."""

import click

from stratavore.cli.asking import change
from stratavore.cli.choosing import Choice, Listed, chosen, ids
from stratavore.cli.listing import show_runners
from stratavore.cli.options import json_option, living_runners_argument, timeout_option
from stratavore.cli.settling import settle


@click.command
@living_runners_argument
@timeout_option("Wait at most so long; what was asked goes on.")
@json_option
def pause(runners: tuple[str, ...], project: str | None, everyone: bool, timeout: float | None, as_json: bool) -> None:
    """Halt runners with all their processes (SIGSTOP); `unpause` lets them go on."""
    wished = _each("pause_runners", chosen(runners, project, everyone))
    show_runners(_until("paused", wished, timeout), as_json)


@click.command
@living_runners_argument
@timeout_option("Wait at most so long; what was asked goes on.")
@json_option
def unpause(
    runners: tuple[str, ...], project: str | None, everyone: bool, timeout: float | None, as_json: bool
) -> None:
    """Let paused runners go on."""
    wished = _each("unpause_runners", chosen(runners, project, everyone))
    show_runners(_until("running", wished, timeout), as_json)


def _each(name: str, choice: Choice) -> Listed:
    return [runner for request in choice.requests() for runner in change(name, **request)]


def _until(state: str, wished: Listed, timeout: float | None) -> Listed:
    """Once all are in `state`, or ended on the way there."""
    if not wished:
        return wished
    left = {"paused": ("starting", "running"), "running": ("paused",)}[state]
    return settle(
        ids(wished),
        f"{state},ended,stopping,backoff",
        lambda runner: runner["state"] not in left,
        timeout=timeout,
        waiting_for=state,
    )
