"""`wait`: block until runners are in a state."""

from typing import Any

import click

from stratavore.cli.asking import need_daemon
from stratavore.cli.choosing import chosen
from stratavore.cli.ending import ENDED, is_over
from stratavore.cli.listing import show_runners
from stratavore.cli.options import json_option, runners_argument, timeout_option
from stratavore.cli.runners import STATES
from stratavore.cli.settling import settle
from stratavore.errors import RunnerFailed

WORDS = {
    "settled": frozenset(STATES) - {"starting"},
    "ended": frozenset(ENDED),
    "done": frozenset(ENDED),
    **{state: frozenset({state}) for state in STATES},
}


@click.command
@runners_argument
@click.option(
    "--until", metavar="STATE", required=True, help="A state, several with commas, `settled` or `ended`."
)
@timeout_option("Give up after so long, with exit code 9.")
@json_option
def wait(
    runners: tuple[str, ...],
    project: str | None,
    everyone: bool,
    until: str,
    timeout: float | None,
    as_json: bool,
) -> None:
    """Wait until runners are in a state: running, paused, backoff, terminated, failed, lost, ended …"""
    wanted = _states(until)
    need_daemon()

    def is_there(runner: dict[str, Any]) -> bool:
        if runner["state"] not in wanted and is_over(runner):
            raise RunnerFailed(f"{runner['name']} is {runner['state']} and will not be {until}")
        return runner["state"] in wanted

    choice = chosen(runners, project, everyone)
    # Whoever ended meanwhile must be seen too, or it would be waited for in vain.
    listed = settle(choice, f"{until},ended", is_there, timeout=timeout, waiting_for=until)
    show_runners(listed, as_json)


def _states(until: str) -> frozenset[str]:
    found: set[str] = set()
    for word in until.split(","):
        if word.strip() not in WORDS:
            raise click.BadParameter(
                f"{word!r} is no state; these are: {', '.join(WORDS)}.", param_hint="--until"
            )
        found |= WORDS[word.strip()]
    return frozenset(found)
