"""`events`: what happened, in order."""

import json
from typing import Any

import click

from stratavore import bounds, control
from stratavore.cli import humane
from stratavore.cli.asking import here, need_daemon, read
from stratavore.cli.options import json_option
from stratavore.cli.output import say, show_json, show_json_line, show_table
from stratavore.cli.quantities import Whole
from stratavore.errors import DaemonUnreachable
from stratavore.routes import LONGEST_WAIT_SECONDS

NEWEST = 50
"""How many are shown when nobody says since when."""


@click.command
@click.option("-f", "--follow", is_flag=True, help="Go on printing as they happen.")
@click.option(
    "--since",
    metavar="SEQ",
    type=Whole(bounds.SEQ),
    help="Only those after the event of this number.",
)
@click.option("-n", "--limit", metavar="N", type=Whole(bounds.EVENTS), help=f"At most N of them [{NEWEST}, or all].")
@json_option
def events(follow: bool, since: int | None, limit: int | None, as_json: bool) -> None:
    """Show the newest events, or all since SEQ. With -f and --json each is one line of JSON."""
    if follow:
        need_daemon()
    first = _first(since, limit)
    if not follow:
        show_json(first) if as_json else _show(first)
        return
    for event in first:
        _tell(event, as_json)
    _follow(first[-1]["seq"] if first else since or _last_seq(), as_json)


def _first(since: int | None, limit: int | None) -> list[dict[str, Any]]:
    if since is None:
        newest: list[dict[str, Any]] = read("list_events", limit=limit or NEWEST, newest=True)
        return newest
    found: list[dict[str, Any]] = []
    while page := read("list_events", quiet=bool(found), since=since, limit=limit or 1000):
        found += page
        if limit or len(page) < 1000:
            break
        since = page[-1]["seq"]
    return found


def _last_seq() -> int:
    newest = read("list_events", limit=1, newest=True)
    return newest[-1]["seq"] if newest else 0


def _follow(seq: int, as_json: bool) -> None:
    """Print what comes, for ever; a daemon that is restarted meanwhile is found again, and nothing is missed."""
    while True:
        try:
            page = control.ask(here(), "list_events", since=seq, wait_seconds=LONGEST_WAIT_SECONDS)
        except DaemonUnreachable:
            need_daemon()
            continue
        for event in page:
            _tell(event, as_json)
            seq = event["seq"]


def _show(found: list[dict[str, Any]]) -> None:
    if found:
        show_table(("SEQ", "WHEN", "EVENT", "OF", "WHO", "WHAT"), [_row(event) for event in found])
    else:
        say("No event.")


def _tell(event: dict[str, Any], as_json: bool) -> None:
    if as_json:
        show_json_line(event)
    else:
        say("  ".join(_row(event)))


def _row(event: dict[str, Any]) -> list[str]:
    payload = event["payload"]
    what = " ".join(f"{key}={value if isinstance(value, str) else json.dumps(value)}" for key, value in payload.items())
    return [
        str(event["seq"]),
        humane.local_time(event["at"]),
        event["type"],
        event["aggregate_id"],
        event["actor"],
        what,
    ]
