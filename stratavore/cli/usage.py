"""`usage`: what agents used, and what it cost."""

from collections.abc import Sequence
from typing import Any

import click

from stratavore.cli import humane
from stratavore.cli.asking import read
from stratavore.cli.options import DAY_OR_MOMENT, json_option, project_option
from stratavore.cli.output import note, say, show_json, show_table

BY = ("day", "hour", "project", "session", "runner", "model", "agent", "block")
_CLASSES = ("input_tokens", "output_tokens", "cache_write_5m_tokens", "cache_write_1h_tokens", "cache_read_tokens")
UNPRICED = "*"


@click.command
@click.option(
    "--by",
    metavar="WHAT",
    type=click.Choice(BY),
    default="day",
    help=f"Add up by {', '.join(BY[:-1])}, or block: Claude's windows of five hours. [day]",
)
@click.option("--since", metavar="T", type=DAY_OR_MOMENT, help="Only since then: 7d (ago), 2026-01-31, or a time.")
@project_option("Only what was used in this project.")
@json_option
def usage(by: str, since: str | None, project: str | None, as_json: bool) -> None:
    """What agents used, and what it cost: of every conversation on this machine, whoever started it.

    Tokens are in disjoint classes: what came from a cache is not input, and reasoning is output. Days and hours are
    those of `[budgets] timezone`, as the periods of budgets are; blocks are shown by your clock.
    """
    found = read("usage", by=by, project=project, **_from(since))
    if as_json:
        show_json(found)
    elif not found["rows"]:
        say("Nothing was used.")
    else:
        show_table(*table(found, by))
        if found["total"]["unpriced_calls"]:
            note(remark(found["total"]["unpriced_calls"]))


def _from(since: str | None) -> dict[str, Any]:
    """A moment; a bare day begins by the clock of the budgets, as the days of the report do."""
    return {"since_day": since} if since is not None and len(since) == len("2026-01-31") else {"since": since}


def table(found: dict[str, Any], by: str) -> tuple[Sequence[str], list[list[str]]]:
    """Heads and rows, the total last; a cost that leaves calls out is marked."""
    keys = [row["key"] for row in found["rows"]]
    heads = (by.upper(), "CALLS", "INPUT", "OUTPUT", "CACHED 5M", "CACHED 1H", "CACHE READ", "USD")
    rows = [[_key(row["key"], by, keys), *_numbers(row)] for row in found["rows"]]
    return heads, [*rows, ["TOTAL", *_numbers(found["total"])]]


def remark(unpriced_calls: int) -> str:
    """What the mark means."""
    calls = humane.plural(unpriced_calls, "call")
    return f'{UNPRICED} without {calls} of models of which no price is known; `[prices."MODEL"]` gives them one'


def _key(key: str, by: str, keys: Sequence[str]) -> str:
    if not key:
        return f"(no {by})"
    if by == "hour":
        return _hour(key, keys)
    return humane.local_time(key) if by == "block" else key


def _hour(key: str, keys: Sequence[str]) -> str:
    """As times stand elsewhere; with its offset if the reader's clock has another, or if the hour came twice."""
    told = humane.clock_time(key)
    is_plain = told == humane.local_time(key) and [humane.clock_time(each) for each in keys].count(told) == 1
    return told if is_plain else f"{told} {key[-6:]}"


def _numbers(row: dict[str, Any]) -> list[str]:
    mark = UNPRICED if row["unpriced_calls"] else ""
    cost = humane.UNKNOWN if row["cost_usd"] is None else humane.usd(row["cost_usd"])
    return [str(row["calls"]), *(f"{row[name]:,}" for name in _CLASSES), cost + mark]
