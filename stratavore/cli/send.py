"""`send` and `interrupt`: typing into a runner without attaching to it."""

from typing import Any

import click

from stratavore.cli import completing
from stratavore.cli.asking import change, from_stdin
from stratavore.cli.options import json_option, living_runner_argument
from stratavore.cli.output import say, show_json
from stratavore.errors import BudgetExceeded


@click.command
@living_runner_argument
@click.argument("text", required=False)
@click.option(
    "--key",
    "keys",
    metavar="KEY",
    multiple=True,
    shell_complete=completing.keys,
    help="esc, enter, ctrl-c …, typed after the text.",
)
@click.option("--no-submit", is_flag=True, help="Leave the text in the input line.")
@json_option
def send(runner: str, text: str | None, keys: tuple[str, ...], no_submit: bool, as_json: bool) -> None:
    """Paste TEXT (- reads it from stdin) into a runner and submit it; or type keys.

    It ends with 0 where the text was taken, and where nobody can tell: --json says which (`taken`: true or null).
    What is known not to be taken fails: with 10 if a budget holds the runner back, with 4 if it is not at its prompt.
    """
    if text is None and not keys:
        raise click.UsageError("Say what to send: TEXT, - for stdin, or --key.")
    if text == "-":
        text = from_stdin().removesuffix("\n")
    sent = change("send_input", runner=runner, text=text, keys=list(keys), submit=not no_submit)
    _show(sent, as_json)
    if sent["taken"] is False:
        remedy = f"`stratavore explain {runner}` says what lets it go on"
        raise BudgetExceeded(f"not taken: {sent['detail']}", remedy=remedy)


@click.command
@living_runner_argument
@json_option
def interrupt(runner: str, as_json: bool) -> None:
    """Interrupt what an agent is doing, with its own key (Claude: Esc; shell: Ctrl-C); it is not stopped."""
    _show(change("interrupt_runner", runner=runner), as_json)


def _show(sent: dict[str, Any], as_json: bool) -> None:
    if as_json:
        show_json(sent)
    elif sent["taken"] is None:
        say(sent["detail"] or "sent; whether it was taken is unknown")
    elif sent["taken"]:
        say(f"taken: {sent['detail']}" if sent["detail"] else "taken")
