"""Asking: before something is destroyed, and which of several is meant.

Rule: without a yes nothing goes. Where nobody can be asked, the command refuses, and says how to say yes beforehand.
"""

import sys

import click

from stratavore.errors import Invalid


def consent(question: str, yes: bool) -> None:
    """Return if the person agrees, or said `--yes`.

    Raises:
        Invalid: stdin is no terminal, so nobody can be asked. click.Abort: the answer was no.
    """
    if yes:
        return
    if not sys.stdin.isatty():
        raise Invalid(
            f"nobody can be asked here, so nothing was done. {question}",
            remedy="agree beforehand with `--yes`",
        )
    click.confirm(question, abort=True, err=True)


def choice(count: int) -> int:
    """Which of the lines 1 to `count` the person chooses. Raises click.Abort: none."""

    def number(typed: str) -> int:
        if typed.strip().lower() in ("q", "quit"):
            raise click.Abort
        if typed.strip() not in map(str, range(1, count + 1)):
            raise click.UsageError(f"say a number from 1 to {count}, or q to choose none.")
        return int(typed)

    return int(click.prompt("Which one (q: none)", default="1", value_proc=number, err=True))
