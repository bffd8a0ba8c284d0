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
from stratavore.cli.listing import full
from stratavore.cli.options import json_option, project_option
from stratavore.cli.output import show_json_line, show_table
from stratavore.cli.quantities import SOME_TIME
from stratavore.cli.sanitise import clean_lines
from stratavore.cli.status import summary

ENTER, LEAVE = "\x1b[?1049h\x1b[?25l", "\x1b[?25h\x1b[?1049l"
HOME, CLEAR_LINE, CLEAR_BELOW = "\x1b[H", "\x1b[K", "\x1b[J"


@click.command
@project_option()
@click.option("--interval", metavar="T", type=SOME_TIME, default="1s", show_default=True, help="How often to look.")
@json_option
def watch(project: str | None, interval: float, as_json: bool) -> None:
    """Show the living runners, drawn anew, until q or Ctrl-C.

    Into a pipe it is one table. With --json it is a line of JSON now and at every change.
    """
    if as_json:
        _stream(project, interval)
    elif not (sys.stdout.isatty() and sys.stdin.isatty()):
        show_table(*full(read("list_runners", project=project)))
    else:
        with _screen():
            while True:
                print(_picture(project), end="", flush=True)
                if _asked_to_end(interval):
                    return


def _picture(project: str | None) -> str:
    """One drawing of the whole window, without a flicker."""
    window = os.get_terminal_size(sys.stdout.fileno())
    runners = read("list_runners", quiet=True, project=project)
    head = clean_lines(summary(read("status", quiet=True))).split("\n")
    lines = [
        *head,
        "",
        *table.render(*full(runners), window.columns or 80).split("\n"),
    ]
    room = max(1, (window.lines or 24) - 1)
    shown = lines if len(lines) <= room else [*lines[: room - 1], f"… {len(lines) - room + 1} more"]
    drawn = [table.cut(line, window.columns or 80) + CLEAR_LINE for line in shown]
    return HOME + "\r\n".join([*drawn, f"{time.strftime('%H:%M:%S')}  q ends{CLEAR_LINE}"]) + CLEAR_BELOW


def _stream(project: str | None, interval: float) -> None:
    """Print the answer on one line, at first and whenever it has changed. A reader who leaves ends it."""
    before: Any = None
    while True:
        runners = read("list_runners", quiet=before is not None, project=project)
        if runners != before:
            show_json_line(runners)
            before = runners
        if _reader_left(interval):
            raise BrokenPipeError


def _reader_left(seconds: float) -> bool:
    """Wait so long; True as soon as nobody reads our output any more, though nothing was written."""
    poller = select.poll()
    poller.register(sys.stdout.fileno(), 0)
    return bool(poller.poll(seconds * 1000))


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
