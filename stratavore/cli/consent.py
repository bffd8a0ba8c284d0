"""Asking before something is destroyed.

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
