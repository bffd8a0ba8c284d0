"""`logs`: what a runner printed, read from the files that its holder writes.

Rule 1: by default the output is rendered: no escape sequence of a runner reaches the terminal.
Rule 2: reading asks no holder for output: it costs the runner nothing, and works when the holder is gone.
"""

import sys
from collections.abc import Iterable, Iterator
from typing import TYPE_CHECKING, Any

import click

from stratavore import bounds
from stratavore.cli import humane
from stratavore.cli.asking import need_daemon, read
from stratavore.cli.options import MOMENT, json_option, runner_argument
from stratavore.cli.output import note, say, show_json, show_json_line
from stratavore.cli.quantities import Whole
from stratavore.cli.runs import DEFAULT_SIZE, following, runs_of

if TYPE_CHECKING:
    from stratavore.terminal.output import Edge
    from stratavore.terminal.runlog import Piece, Run

    Stream = Iterable[tuple[Run, Piece | Edge]]


@click.command
@runner_argument
@click.option("-f", "--follow", is_flag=True, help="Go on printing, also what later runs of it print.")
@click.option("-n", "--tail", metavar="N", type=Whole(bounds.LINES), help="Only the last N lines.")
@click.option("--since", metavar="T", type=MOMENT, help="Only what came since: 10m (ago), 2026-01-31T12:00.")
@click.option("--raw", is_flag=True, help="The bytes as they are, escape sequences included.")
@click.option("--screen", is_flag=True, help="What its terminal shows now.")
@json_option
def logs(
    runner: str, follow: bool, tail: int | None, since: str | None, raw: bool, screen: bool, as_json: bool
) -> None:
    """Print the output of a runner, all its runs, as readable text."""
    if raw + screen + as_json > 1 and not (screen and as_json and not raw):
        raise click.UsageError("--raw goes neither with --screen nor with --json.")
    if screen and (follow or since or tail is not None):
        raise click.UsageError("--screen shows what is there now; it takes no --follow, --since or --tail.")
    if tail is not None and since is not None:
        raise click.UsageError("Use --tail or --since, not both.")
    since_ms = None if since is None else round(humane.moment(since).timestamp() * 1000)
    if follow:
        need_daemon()
    found = read("get_runner", runner=runner)
    if screen:
        show_screen(found, as_json)
        return
    runs = runs_of(found)
    if not runs:
        note(f"{found['name']} has printed nothing: it never ran")
        return
    if tail is not None and not follow and not raw:
        _print_tail(runs, tail, as_json)
        return
    stream = _stream(found["id"], runs, follow, tail, since_ms)
    _print_raw(stream) if raw else _print(stream, follow, as_json)


def show_screen(found: dict[str, Any], as_json: bool = False) -> None:
    """The screen of a runner's last run as lines of text."""
    from stratavore.terminal.runlog import LogFile
    from stratavore.terminal.screen import FED_BYTES, snapshot

    runs = runs_of(found)
    lines: list[str] = []
    if runs and runs[-1].log.exists():
        with LogFile(runs[-1].log) as log:
            start = max(log.size - FED_BYTES, log.sidecar().head)
            tail = log.sidecar().preamble + b"".join(piece for piece in log.pieces(start) if isinstance(piece, bytes))
        lines = snapshot(tail, runs[-1].rows, runs[-1].cols or DEFAULT_SIZE[1])
    show_json(lines) if as_json else say("\n".join(lines))


def _stream(
    runner_id: str, runs: "list[Run]", follow: bool, tail: int | None, since_ms: int | None
) -> "Iterator[tuple[Run, Piece | Edge]]":
    """The output that was asked for, from the oldest byte on."""
    from stratavore.terminal import output
    from stratavore.terminal.runlog import LogFile

    *earlier, last = runs
    start = 0
    if tail is not None:
        earlier = []
        if last.log.exists():
            with LogFile(last.log) as log:
                start = output.raw_tail(log, tail)
                if not follow:
                    yield from ((last, piece) for piece in log.pieces(start))
    elif since_ms is not None and last.log.exists():
        with LogFile(last.log) as log:
            start = log.offset_at(since_ms)
    if follow:
        yield from output.read(earlier, since_ms=since_ms)
        yield from output.follow(last, start=start, next_run=following(runner_id, last.key))
    elif tail is None:
        yield from output.read(runs, since_ms=since_ms)


def _print(stream: "Stream", follow: bool, as_json: bool) -> None:
    from stratavore.terminal.output import rendered

    if as_json and not follow:
        show_json("".join(rendered(stream)).split("\n")[:-1])
        return
    for text in rendered(stream):
        if as_json:
            for line in text.removesuffix("\n").split("\n"):
                show_json_line(line)
        else:
            sys.stdout.write(text)
            sys.stdout.flush()


def _print_raw(stream: "Stream") -> None:
    for _, piece in stream:
        if isinstance(piece, bytes):
            sys.stdout.buffer.write(piece)
            sys.stdout.buffer.flush()
        elif marker := getattr(piece, "marker", ""):
            note(marker)


def _print_tail(runs: "list[Run]", lines: int, as_json: bool) -> None:
    from stratavore.terminal.output import tail

    found = tail(runs, lines)
    if as_json:
        show_json(found)
    elif found:
        print("\n".join(found))
