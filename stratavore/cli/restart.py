"""`restart`: end the run, begin the next one, keep name and session."""

import time
from typing import Any

import click

from stratavore.cli.asking import change, need_daemon, read
from stratavore.cli.choosing import Listed, chosen, ids
from stratavore.cli.ending import is_ended, is_over
from stratavore.cli.listing import show_runners
from stratavore.cli.options import json_option, runners_argument, timeout_option
from stratavore.cli.quantities import SPAN
from stratavore.cli.settling import settle
from stratavore.cli.starting import refuse_failed
from stratavore.errors import Conflict

LEFT_BEHIND = ("starting", "stopping")


@click.command
@runners_argument
@click.option("--grace", metavar="T", type=SPAN, help="Kill after T instead of the runner's own grace.")
@timeout_option("Wait at most so long; what was asked goes on.")
@click.option("--when-idle", is_flag=True, help="Not before its agent says that it is idle, or has ended.")
@click.option("--no-wait", is_flag=True, help="Return when the wish is recorded.")
@json_option
def restart(
    runners: tuple[str, ...],
    project: str | None,
    everyone: bool,
    grace: float | None,
    timeout: float | None,
    when_idle: bool,
    no_wait: bool,
    as_json: bool,
) -> None:
    """Stop runners and start them again, each with its session where the agent can resume it."""
    if when_idle and no_wait:
        raise click.UsageError("--when-idle waits, so it does not go with --no-wait.")
    need_daemon()
    requests = list(chosen(runners, project, everyone).requests())
    runs_before = {
        runner["id"]: runner["run"]
        for request in requests
        for runner in read("list_runners", **request, all=request["runner"] != "*", strict=True)
    }
    wished: Listed = [
        runner
        for request in requests
        for runner in (_when_idle(request, grace, timeout) if when_idle else _now(request, grace))
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


def _now(request: dict[str, Any], grace: float | None) -> Listed:
    listed: Listed = change("restart_runners", **request, grace_seconds=grace)
    return listed


def _when_idle(request: dict[str, Any], grace: float | None, timeout: float | None) -> Listed:
    """One after the other, each as soon as it is idle; who goes to work in the last moment is waited for again."""
    listed: Listed = read("list_runners", **request, all=request["runner"] != "*", strict=True)
    deadline = None if timeout is None else time.monotonic() + timeout
    for runner in listed:
        while not _is_restarted(runner, grace):
            left = None if deadline is None else max(0.0, deadline - time.monotonic())
            settle(ids([runner]), "idle,waiting,ended", _rests, timeout=left, waiting_for="idle", asks_activity=True)
    return _again(listed)


def _is_restarted(runner: dict[str, Any], grace: float | None) -> bool:
    try:
        change("restart_runners", runner=runner["id"], grace_seconds=grace, only_idle=True)
    except Conflict as busy:
        if "not idle" not in busy.message:
            raise
        return False
    return True


def _rests(runner: dict[str, Any]) -> bool:
    """Whether it is idle; who waits for input by the word of those that know no screen stands there after a failure."""
    doing, source = runner["activity"], runner["activity_source"]
    return doing == "idle" or (doing == "waiting_input" and source in ("hook", "records")) or is_ended(runner)


def _again(listed: Listed) -> Listed:
    """The same runners as they are now."""
    return [read("get_runner", quiet=True, runner=runner["id"]) for runner in listed]
