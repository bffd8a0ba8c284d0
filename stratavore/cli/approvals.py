"""`approvals`, `approve` and `deny`: what agents ask permission for."""

from typing import Any

import click

from stratavore.cli import humane
from stratavore.cli.asking import change, read
from stratavore.cli.options import asking_runner_argument, json_option
from stratavore.cli.output import say, show_json, show_table

_TELLING = ("command", "file_path", "url", "pattern", "description")
_LONGEST = 200


@click.command
@click.option("-a", "--all", "everything", is_flag=True, help="Decided ones too.")
@json_option
def approvals(everything: bool, as_json: bool) -> None:
    """List what agents ask permission for; who waits longest comes first."""
    found = read("list_approvals", all=everything)
    if as_json:
        show_json(found)
    elif found:
        show_table(("ID", "RUNNER", "PROJECT", "TOOL", "WHAT", "ASKED", "DECISION"), [_row(each) for each in found])
    else:
        say("Nobody asks for a permission.")


@click.command
@asking_runner_argument
@click.option("--for-session", is_flag=True, help="And all requests like it in this conversation.")
@click.option("--reason", metavar="T", help="Kept with the decision.")
@json_option
def approve(runner: str, for_session: bool, reason: str | None, as_json: bool) -> None:
    """Let RUNNER do what it asks for. RUNNER may also be the id of a request.

    With --for-session the agent still asks again where its own rules want that each time, as Claude does of what
    leads out of the project's directory.
    """
    _decide(runner, as_json, allow=True, for_session=for_session, reason=reason)


@click.command
@asking_runner_argument
@click.option("--reason", metavar="T", help="Told to the agent, and kept with the decision.")
@json_option
def deny(runner: str, reason: str | None, as_json: bool) -> None:
    """Refuse what RUNNER asks for; the agent goes on without it. RUNNER may also be the id of a request."""
    _decide(runner, as_json, allow=False, reason=reason)


def _decide(runner: str, as_json: bool, **fields: Any) -> None:
    found = change("decide_approval", runner=runner, **fields)
    if as_json:
        show_json(found)
        return
    word = "allowed" if found["decision"] == "allow" else "denied"
    session = " for this session" if found["for_session"] else ""
    say(f"{found['runner']}: {found['tool']} {word}{session}: {_what(found)}")


def _row(found: dict[str, Any]) -> list[str]:
    decision = found["decision"] or f"open, {_left(found)}"
    who = f" by {found['decided_by']}" if found["decided_by"] else ""
    asked = humane.ago(found["asked_at"])
    return [found["id"], found["runner"], found["project"], found["tool"], _what(found), asked, decision + who]


def _left(found: dict[str, Any]) -> str:
    return f"expires {humane.ago(found['expires_at'])}"


def _what(found: dict[str, Any]) -> str:
    """What tells most of the input, as one line."""
    given = found["input"]
    told = next((given[key] for key in _TELLING if isinstance(given.get(key), str)), None)
    text = told if told is not None else ", ".join(f"{key}={value}" for key, value in given.items())
    return text[:_LONGEST]
