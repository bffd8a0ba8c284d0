"""`restart`: end the run, begin the next one, keep name and session."""

from typing import Any

import click

from stratavore.cli.asking import change, need_daemon, read
from stratavore.cli.choosing import Listed, chosen, ids
from stratavore.cli.ending import is_over
from stratavore.cli.listing import show_runners
from stratavore.cli.options import SPAN, json_option, runners_argument, timeout_option
from stratavore.cli.settling import settle
from stratavore.cli.starting import refuse_failed
from stratavore.errors import Conflict

LEFT_BEHIND = ("starting", "stopping")


@click.command
@runners_argument
@click.option("--grace", metavar="T", type=SPAN, help="Kill after T instead of the runner's own grace.")
@timeout_option("Wait at most so long; what was asked goes on.")
@click.option("--no-wait", is_flag=True, help="Return when the wish is recorded.")
@json_option
def restart(
    runners: tuple[str, ...],
    project: str | None,
    everyone: bool,
    grace: float | None,
    timeout: float | None,
    no_wait: bool,
    as_json: bool,
) -> None:
    """Stop runners and start them again, each with its session where the agent can resume it."""
    need_daemon()
    requests = list(chosen(runners, project, everyone).requests())
    runs_before = {
        runner["id"]: runner["run"]
        for request in requests
        for runner in read("list_runners", **request, all=request["runner"] != "*")
    }
    wished: Listed = [
        runner for request in requests for runner in change("restart_runners", **request, grace_seconds=grace)
    ]
    if wished and not no_wait:

        def is_again(runner: dict[str, Any]) -> bool:
            if runner["run"] > runs_before.get(runner["id"], 0):
                return runner["state"] not in LEFT_BEHIND
            if is_over(runner):
                raise Conflict(
                    f"{runner['name']} was stopped meanwhile, so it does not start again",
                    remedy=f"`stratavore explain {runner['name']}` says by whom",
                )
            return False

        wished = settle(
            ids(wished),
            "running,paused,backoff,ended",
            is_again,
            timeout=timeout,
            waiting_for="running again",
        )
    show_runners(wished, as_json)
    refuse_failed(wished)
