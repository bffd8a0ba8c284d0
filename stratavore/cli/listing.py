"""Tables of runners."""

from collections.abc import Sequence
from typing import Any

from stratavore.cli import humane
from stratavore.cli.output import note, show_json, show_table

HEADS = ("ID", "NAME", "PROJECT", "AGENT", "STATE", "ACTIVITY", "CPU", "MEMORY", "STARTED", "LAST LINE")


def show_runners(runners: Sequence[dict[str, Any]], as_json: bool) -> None:
    """The outcome of a verb: who is in which state, and how who ended did."""
    if as_json:
        show_json(runners)
    elif runners:
        show_table(("ID", "NAME", "STATE", "ENDED"), [brief(runner) for runner in runners])
    else:
        note("there was no such runner")


def brief(runner: dict[str, Any]) -> list[str]:
    return [runner["id"], runner["name"], state(runner), humane.ending(runner)]


def row(runner: dict[str, Any]) -> list[str]:
    """One line of `runners` and `watch`."""
    living = runner["ended_at"] is None
    return [
        runner["id"],
        runner["name"],
        runner["project"],
        runner["agent"],
        state(runner)
        if living
        else ", ".join(part for part in (runner["state"], humane.ending(runner)) if part),
        runner["activity"] if living and runner["activity"] != "unknown" else humane.UNKNOWN,
        humane.percent(runner["cpu_percent"]) if living else humane.UNKNOWN,
        humane.size(runner["rss_bytes"]) if living else humane.UNKNOWN,
        humane.ago(runner["started_at"]),
        runner["last_line"] or "",
    ]


def state(runner: dict[str, Any]) -> str:
    """The state, with what a person would ask next: how it ended, or when it is tried again."""
    if runner["state"] == "backoff" and runner["retry_at"]:
        return f"backoff, {humane.ago(runner['retry_at'])}"
    if runner["health"] == "unresponsive":
        return f"{runner['state']}, holder silent"
    return str(runner["state"])
