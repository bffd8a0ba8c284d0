"""`wait`: block until runners are in a state."""

from typing import Any

import click

from stratavore.cli.asking import need_daemon, read
from stratavore.cli.choosing import chosen, ids
from stratavore.cli.ending import ENDED, is_over
from stratavore.cli.listing import show_runners
from stratavore.cli.options import json_option, runners_argument, timeout_option
from stratavore.cli.runners import STATES
from stratavore.cli.settling import settle
from stratavore.errors import Conflict, RunnerFailed, StratavoreError

WORDS = {
    "settled": frozenset(STATES) - {"starting"},
    "ended": frozenset(ENDED),
    "done": frozenset(ENDED),
    **{state: frozenset({state}) for state in STATES},
}
DOING = {"working": ("working",), "waiting": ("waiting_permission", "waiting_input"), "idle": ("idle",)}
"""What the agent of a running runner does."""


@click.command
@runners_argument
@click.option(
    "--until",
    metavar="STATE",
    required=True,
    help="A state, what its agent does, or several with commas.",
    shell_complete=lambda ctx, param, start: [word for word in (*WORDS, *DOING) if word.startswith(start)],
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
    """Wait until runners are in a state.

    STATE is starting, running, paused, stopping, backoff (between two runs), terminated (ended well, or as it was
    told), failed or lost; `ended`, also written `done`, is any of the last three, `settled` all but starting.
    `working`, `waiting` (for a person) and `idle` are what its agent does, as far as that tells. A runner that has
    ended otherwise ends the waiting at once, with exit code 7 if it failed or was lost, else 4.
    """
    wanted, doing = _states(until), _doing(until)
    need_daemon()
    choice = chosen(runners, project, everyone)
    if not runners:  # who ends meanwhile is waited for, too
        choice = ids(read("list_runners", project=project))

    def is_there(runner: dict[str, Any]) -> bool:
        if runner["state"] == "running" and runner["activity"] in doing and not _begins_yet(runner):
            return True
        if runner["state"] not in wanted and is_over(runner):
            raise _never(runner, until)
        return runner["state"] in wanted

    # Whoever ended meanwhile must be seen too, or it would be waited for in vain.
    listed = settle(choice, f"{until},ended", is_there, timeout=timeout, waiting_for=until, asks_activity=bool(doing))
    show_runners(listed, as_json, doing=True)


def _begins_yet(runner: dict[str, Any]) -> bool:
    """It shows its input line already, and has not taken the prompt that it was launched with."""
    return bool(runner["activity"] == "idle" and runner["prompt_pending"])


def _never(runner: dict[str, Any], until: str) -> StratavoreError:
    name, ended = runner["name"], runner["state"]
    remedy = f"`stratavore explain {name}` says why, `stratavore restart {name}` starts it again"
    cls = Conflict if ended == "terminated" else RunnerFailed
    return cls(f"{name} has ended ({ended}), so it will not be {until}", remedy=remedy)


def _states(until: str) -> frozenset[str]:
    found: set[str] = set()
    for word in until.split(","):
        if word.strip() not in (*WORDS, *DOING):
            known = ", ".join((*WORDS, *DOING))
            raise click.BadParameter(f"{word!r} is no state; these are: {known}.", param_hint="--until")
        found |= WORDS.get(word.strip(), frozenset())
    return frozenset(found)


def _doing(until: str) -> frozenset[str]:
    return frozenset(activity for word in until.split(",") for activity in DOING.get(word.strip(), ()))
