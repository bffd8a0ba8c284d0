"""`watch`: the living runners, drawn anew every second.

Rule: the terminal is given back as it was, whatever ends it.
"""

import os
import select
import sys
import termios
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import click

from stratavore.cli import table
from stratavore.cli.asking import read
from stratavore.cli.listing import HEADS, row
from stratavore.cli.options import SPAN, json_option, project_option
from stratavore.cli.output import say, show_json_line
from stratavore.cli.sanitise import clean_lines
from stratavore.cli.status import summary

ENTER, LEAVE = "\x1b[?1049h\x1b[?25l", "\x1b[?25h\x1b[?1049l"
HOME, CLEAR_LINE, CLEAR_BELOW = "\x1b[H", "\x1b[K", "\x1b[J"


@click.command
@project_option()
@click.option(
    "--interval", metavar="T", type=SPAN, default="1s", show_default=True, help="How often to look."
)
@json_option
def watch(project: str | None, interval: float, as_json: bool) -> None:
    """Show the living runners, again and again, until q or Ctrl-C. Into a pipe: once, whatever changes."""
    if sys.stdout.isatty() and sys.stdin.isatty() and not as_json:
        with _screen():
            while True:
                print(_picture(project), end="", flush=True)
                if _asked_to_end(interval):
                    return
    else:
        _stream(project, interval, as_json)


def _picture(project: str | None) -> str:
    """One drawing of the whole window, without a flicker."""
    window = os.get_terminal_size(sys.stdout.fileno())
    runners = read("list_runners", quiet=True, project=project)
    head = clean_lines(summary(read("status", quiet=True))).split("\n")
    lines = [
        *head,
        "",
        *table.render(HEADS, [row(runner) for runner in runners], window.columns or 80).split("\n"),
    ]
    room = max(1, (window.lines or 24) - 1)
    shown = lines if len(lines) <= room else [*lines[: room - 1], f"… {len(lines) - room + 1} more"]
    drawn = [table.cut(line, window.columns or 80) + CLEAR_LINE for line in shown]
    return HOME + "\r\n".join([*drawn, f"{time.strftime('%H:%M:%S')}  q ends{CLEAR_LINE}"]) + CLEAR_BELOW


def _stream(project: str | None, interval: float, as_json: bool) -> None:
    """Print the table, or the JSON on one line, at first and whenever it has changed. A reader who leaves ends it."""
    before: Any = None
    while True:
        runners = read("list_runners", quiet=before is not None, project=project)
        now = runners if as_json else [[runner["id"], runner["name"], runner["state"]] for runner in runners]
        if now != before:
            show_json_line(runners) if as_json else say(table.render(("ID", "NAME", "STATE"), now) + "\n")
            sys.stdout.flush()
            before = now
        time.sleep(interval)


@contextmanager
def _screen() -> Iterator[None]:
    """The alternate screen without cursor, keys unbuffered."""
    before = termios.tcgetattr(sys.stdin)
    keys = termios.tcgetattr(sys.stdin)
    keys[3] &= ~(termios.ICANON | termios.ECHO)
    try:
        termios.tcsetattr(sys.stdin, termios.TCSADRAIN, keys)
        print(ENTER, end="", flush=True)
        yield
    finally:
        print(LEAVE, end="", flush=True)
        termios.tcsetattr(sys.stdin, termios.TCSADRAIN, before)


def _asked_to_end(seconds: float) -> bool:
    """Wait so long; True when q was typed or the keyboard went away."""
    ready, _, _ = select.select([sys.stdin], [], [], seconds)
    return bool(ready) and os.read(sys.stdin.fileno(), 64) in (b"q", b"Q", b"\x03", b"\x04", b"")
