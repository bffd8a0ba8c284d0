"""`open` and `up`: into a project's runner with one word.

Rule: who lives is attached to; only when nobody lives there is somebody launched.
"""

import os
import re
import sys
from pathlib import Path
from typing import Any

import click

from stratavore.cli.asking import change, need_daemon, read
from stratavore.cli.choosing import Listed
from stratavore.cli.commands import COMMANDS
from stratavore.cli.consent import choice
from stratavore.cli.launch import TakesArgv, wish
from stratavore.cli.listing import brief, show_runners
from stratavore.cli.options import UserPath, agent_option, project_argument
from stratavore.cli.output import note, show_table
from stratavore.cli.starting import refuse_failed, started
from stratavore.errors import Ambiguous, Invalid

LONGEST_NAME = 64


@click.command("open", cls=TakesArgv)
@project_argument
@agent_option
@click.pass_context
def open_project(ctx: click.Context, project: str, agent: str | None) -> None:
    """Attach to PROJECT's runner if one lives, else launch one and attach to it."""
    need_daemon()
    ctx.exit(_enter(project, agent, ctx.obj))


@click.command(cls=TakesArgv)
@click.argument("directory", default=".", type=UserPath(exists=True, files=False))
@agent_option
@click.pass_context
def up(ctx: click.Context, directory: Path, agent: str | None) -> None:
    """Make DIRECTORY (this one) a project, unless it is one; launch a runner there and attach to it.

    The agent is the first agent CLI found on PATH, else your shell.
    """
    need_daemon()
    ctx.exit(_enter(project_of(directory.resolve()), agent, ctx.obj))


def _enter(project: str, agent: str | None, argv: list[str]) -> int:
    living = [runner for runner in read("list_runners", project=project) if runner["state"] != "stopping"]
    if living and (agent or argv):
        note(f"{project} has a runner already, so --agent and ARGV go unused; `stratavore launch` makes another")
    if living:
        runner = _pick(living)
    else:
        runners = started(change("launch", **wish(project, argv), agent=agent)["runners"])
        refuse_failed(runners)
        runner = runners[0]
    if not (sys.stdin.isatty() and sys.stdout.isatty()):
        show_runners([runner], as_json=False)
        return 0
    from stratavore.cli.attach import attach_to

    return attach_to(runner)


def _pick(living: Listed) -> dict[str, Any]:
    """The only one, or the one that the person chooses."""
    if len(living) == 1:
        return living[0]
    names = ", ".join(runner["name"] for runner in living)
    if not (sys.stdin.isatty() and sys.stdout.isatty()):
        raise Ambiguous(f"several runners live there: {names}", remedy="`stratavore attach RUNNER` names one")
    heads, rows = brief(living)
    show_table(["", *heads], [[str(number), *row] for number, row in enumerate(rows, 1)])
    return living[choice(len(living)) - 1]


def project_of(directory: Path) -> str:
    """The project whose directory this is; registered now if there is none."""
    projects = read("list_projects")
    for project in projects:
        if project["path"] == str(directory):
            return str(project["name"])
    taken = {project["name"] for project in projects + read("list_projects", status="archived")}
    made = change("new_project", name=free_name(directory.name, taken), path=str(directory))
    note(f"{directory} is now the project {made['name']}")
    return str(made["name"])


def free_name(folder: str, taken: set[str]) -> str:
    """A legal name after the folder's, with a number behind it if that one is taken or is a command's."""
    name = re.sub(r"[^A-Za-z0-9._-]+", "-", folder).strip("-")[:LONGEST_NAME].rstrip("-") or "project"
    if not name.strip("."):
        name = "project"
    candidates = [name, *(f"{name[: LONGEST_NAME - 5]}-{number}" for number in range(2, 1000))]
    for candidate in candidates:
        if candidate not in taken and candidate not in COMMANDS:
            return candidate
    raise Invalid(f"every name like {name} is taken", remedy=f"`stratavore new NAME --path {os.fspath(folder)}`")
