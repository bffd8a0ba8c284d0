"""Tables of runners."""

from collections.abc import Sequence
from typing import Any

from stratavore.cli import humane
from stratavore.cli.output import note, show_json, show_table
from stratavore.cli.table import window_width

_MEASURED = ("ACTIVITY", "CPU", "MEMORY", "TOKENS", "USD")
HEADS = ("ID", "NAME", "PROJECT", "AGENT", "STATE", *_MEASURED, "STARTED", "LAST LINE")
_IF_KNOWN = (*_MEASURED, "LAST LINE")
_IF_WIDE = ("TOKENS", "USD")
_WIDE = 120
_NOTHING = ("", humane.UNKNOWN)


def show_runners(runners: Sequence[dict[str, Any]], as_json: bool, *, doing: bool = False) -> None:
    """The outcome of a verb: who is in which state, how who ended did, and if wished what who lives is doing."""
    if as_json:
        show_json(runners)
    elif runners:
        show_table(*brief(runners, doing=doing))
    else:
        note("none was chosen: no runner lives there")


def brief(runners: Sequence[dict[str, Any]], *, doing: bool = False) -> tuple[list[str], list[list[str]]]:
    """Heads and rows; how they ended is a column only if one of them did, what they do only if that is known."""
    heads = ["ID", "NAME", "STATE"]
    rows = [[runner["id"], runner["name"], state(runner)] for runner in runners]
    if doing and any(map(_why, runners)):
        heads.append("ACTIVITY")
        rows = [[*row, _why(runner)] for row, runner in zip(rows, runners, strict=True)]
    ends = [humane.ending(runner) for runner in runners]
    if not any(ends):
        return heads, rows
    return [*heads, "ENDED"], [[*row, end] for row, end in zip(rows, ends, strict=True)]


def full(runners: Sequence[dict[str, Any]]) -> tuple[list[str], list[list[str]]]:
    """Heads and rows of `runners`, `status` and `watch`; a column in which nothing is known takes no room."""
    rows = [_row(runner) for runner in runners]
    hidden = _IF_WIDE if (window_width() or _WIDE) < _WIDE else ()
    shown = [
        at
        for at, head in enumerate(HEADS)
        if head not in hidden and (head not in _IF_KNOWN or any(row[at] not in _NOTHING for row in rows))
    ]
    return [HEADS[at] for at in shown], [[row[at] for at in shown] for row in rows]


def waits(runners: Sequence[dict[str, Any]]) -> tuple[list[str], list[list[str]]]:
    """Heads and rows of those that wait for a person."""
    heads = ["ID", "NAME", "PROJECT", "AGENT", "WAITS", "FOR", "WHAT"]
    return heads, [
        [
            *(runner[key] for key in ("id", "name", "project", "agent")),
            humane.ago(runner["activity_since"]).removesuffix(" ago"),
            runner["activity"].removeprefix("waiting_"),
            runner["waiting_for"] or "",
        ]
        for runner in runners
    ]


def activity(runner: dict[str, Any]) -> str:
    """What it does, since when, and who says so."""
    if runner["activity_since"] is None:
        return str(runner["activity"])
    return f"{runner['activity']} since {humane.ago(runner['activity_since'])}, by its {runner['activity_source']}"


def standing(runner: dict[str, Any], asks_activity: bool = False) -> str:
    """Its state, and what it does in that and why, in one line; if wished also that nobody tells."""
    why = _why(runner)
    if not why and asks_activity and runner["state"] == "running":
        why = "and nobody tells what it does"
    return f"{state(runner)}, {why}" if why else state(runner)


def _why(runner: dict[str, Any]) -> str:
    """What a living one does, and what keeps it from doing anything else; empty if nobody knows."""
    if runner["ended_at"] is not None:
        return ""
    if runner["blocked"]:
        return f"held back: {runner['blocked']}"
    if runner["activity"] == "unknown":
        return ""
    if runner["prompt_pending"] and runner["activity"] == "idle":
        return "idle, and has not taken its prompt yet"
    told = runner["activity"].replace("_", " for ")
    if runner["waiting_for"]:
        return f"{told}: {runner['waiting_for']}"
    return f"{told} since {humane.ago(runner['activity_since'])}" if runner["activity_since"] else str(told)


def _row(runner: dict[str, Any]) -> list[str]:
    living = runner["ended_at"] is None
    return [
        runner["id"],
        runner["name"],
        runner["project"],
        runner["agent"],
        state(runner) if living else ", ".join(part for part in (runner["state"], humane.ending(runner)) if part),
        _doing(runner) if living else humane.UNKNOWN,
        humane.percent(runner["cpu_percent"]) if living else humane.UNKNOWN,
        humane.size(runner["rss_bytes"]) if living else humane.UNKNOWN,
        humane.count(runner["tokens"]),
        humane.usd(runner["cost_usd"]) + ("*" if runner["unpriced_calls"] else ""),
        humane.ago(runner["started_at"]),
        runner["last_line"] or "",
    ]


def _doing(runner: dict[str, Any]) -> str:
    """In a word; that a budget holds it comes first, for nothing else will happen there."""
    if runner["blocked"]:
        return "held back"
    return humane.UNKNOWN if runner["activity"] == "unknown" else str(runner["activity"])


def state(runner: dict[str, Any]) -> str:
    """The state, with what a person would ask next: how it ended, or when it is tried again."""
    if runner["state"] == "backoff" and runner["retry_at"]:
        return f"backoff, {humane.ago(runner['retry_at'])}"
    if runner["health"] == "unresponsive":
        return f"{runner['state']}, holder silent"
    return str(runner["state"])
