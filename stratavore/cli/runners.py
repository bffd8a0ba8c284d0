"""`runners` (`ps`), `show`, `explain` and `rename`."""

import shlex
from typing import Any

import click

from stratavore.cli import humane
from stratavore.cli.asking import change, read
from stratavore.cli.listing import activity, full, state, waits
from stratavore.cli.options import json_option, project_option, runner_argument
from stratavore.cli.output import say, show_facts, show_json, show_table

STATES = ("starting", "running", "paused", "stopping", "backoff", "terminated", "failed", "lost")


@click.command
@project_option()
@click.option("--state", metavar="S", type=click.Choice(STATES), help=f"Only those that are {', '.join(STATES)}.")
@click.option("-a", "--all", "everyone", is_flag=True, help="Ended ones too.")
@click.option("--waiting", is_flag=True, help="Only those that wait for you, who waits longest first.")
@json_option
def runners(project: str | None, state: str | None, everyone: bool, waiting: bool, as_json: bool) -> None:
    """List the living runners."""
    found = read("list_runners", project=project, state=state, all=everyone, waiting=waiting)
    if as_json:
        show_json(found)
    elif waiting:
        show_table(*waits(found)) if found else say("Nobody waits for you.")
    elif found:
        show_table(*full(found))
    else:
        say("No runner" + ("." if everyone or state else " lives; `stratavore runners --all` lists those that ended."))


@click.command
@runner_argument
@click.option("--screen", is_flag=True, help="What its terminal shows now.")
@json_option
def show(runner: str, screen: bool, as_json: bool) -> None:
    """Everything known about a runner, and its runs."""
    found = read("get_runner", runner=runner)
    if screen:
        from stratavore.cli.logs import show_screen

        show_screen(found, as_json)
        return
    if as_json:
        show_json(found)
        return
    show_facts(_facts(found))
    runs = read("list_runs", quiet=True, runner=found["id"])
    print()
    show_table(("RUN", "STATE", "PID", "STARTED", "ENDED", "HOW", "BY", "OUTPUT"), [_run(run) for run in runs])


@click.command
@runner_argument
@json_option
def explain(runner: str, as_json: bool) -> None:
    """Why a runner is in its state, who says so, and what comes next."""
    found = read("explain_runner", runner=runner)
    if as_json:
        show_json(found)
        return
    runner_state = found["runner"]["state"]
    word = "in backoff" if runner_state == "backoff" else runner_state
    say(f"{found['runner']['name']} is {word}: {found['summary']}")
    if found["evidence"]:
        print()
        show_table(
            ("SOURCE", "SAYS", "WHEN"),
            [[piece["source"], piece["says"], humane.ago(piece["observed_at"])] for piece in found["evidence"]],
        )
        print()
    say(f"Next: {found['next']}")


@click.command
@runner_argument
@click.argument("name")
@json_option
def rename(runner: str, name: str, as_json: bool) -> None:
    """Give a runner another name."""
    renamed = change("rename_runner", runner=runner, name=name)
    show_json(renamed) if as_json else say(f"{renamed['id']} is now called {renamed['name']}")


def _facts(runner: dict[str, Any]) -> list[tuple[str, str]]:
    restarts = f"{runner['restarts']} so far; by itself: {runner['restart_policy']}"
    if runner["restart_policy"] != "never":
        restarts += f", at most {runner['max_restarts']} in a row"
    return [
        ("id", runner["id"]),
        ("name", runner["name"]),
        ("project", runner["project"]),
        ("agent", runner["agent"]),
        ("state", state(runner)),
        ("activity", activity(runner)),
        ("waits for", runner["waiting_for"] or ""),
        ("blocked", runner["blocked"] or ""),
        (
            "limit",
            "" if runner["limit_resets_at"] is None else f"its provider goes on {_at(runner['limit_resets_at'])}",
        ),
        ("ended", ": ".join(part for part in (humane.ending(runner), runner["end_detail"] or "") if part)),
        ("pid", humane.UNKNOWN if runner["pid"] is None else str(runner["pid"])),
        ("command", shlex.join(runner["argv"])),
        ("directory", runner["cwd"]),
        ("terminal", "yes" if runner["tty"] else "no"),
        ("restarts", restarts),
        ("cpu", humane.percent(runner["cpu_percent"])),
        ("memory", humane.size(runner["rss_bytes"])),
        ("processes", "" if runner["children"] is None else str(runner["children"] + 1)),
        ("created", humane.ago(runner["created_at"])),
        ("started", humane.ago(runner["started_at"])),
        ("session", runner["session_id"] or _unknown(runner["session_detail"])),
        ("tokens", "" if runner["tokens"] is None else f"{runner['tokens']:,}"),
        ("cost", _cost(runner)),
        ("output", humane.size(runner["output_bytes"])),
        ("last line", runner["last_line"] or ""),
    ]


def _cost(runner: dict[str, Any]) -> str:
    calls = runner["unpriced_calls"]
    if runner["cost_usd"] is None:
        return f"unknown: {calls} calls of models that have no price" if calls else ""
    return f"{humane.usd(runner['cost_usd'])} USD" + (
        f", without {calls} calls of models that have no price" if calls else ""
    )


def _unknown(why: str | None) -> str:
    return f"unknown: {why}" if why else ""


def _at(iso: str) -> str:
    return f"{humane.ago(iso)}, at {humane.local_time(iso)}"


def _run(run: dict[str, Any]) -> list[str]:
    return [
        run["key"],
        run["state"],
        humane.UNKNOWN if run["pid"] is None else str(run["pid"]),
        humane.ago(run["started_at"]),
        humane.ago(run["ended_at"]),
        humane.ending(run),
        run["ended_by"] or "",
        humane.size(run["output_bytes"]),
    ]
