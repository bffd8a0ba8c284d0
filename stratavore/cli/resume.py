"""`resume` and `adopt`: a new runner that goes on with a session."""

import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeVar

import click

from stratavore.cli import completing
from stratavore.cli.asking import change, need_daemon, read
from stratavore.cli.consent import choice
from stratavore.cli.launch import TakesArgv, goes_on_with, variables, wish
from stratavore.cli.listing import show_runners
from stratavore.cli.opening import project_of
from stratavore.cli.options import Reference, agent_option, json_option, project_option
from stratavore.cli.output import note, show_json, show_table
from stratavore.cli.sessions import HEADS, row
from stratavore.cli.starting import refuse_failed, started
from stratavore.errors import Conflict, Forbidden, Invalid, NotFound

F = TypeVar("F", bound=Callable[..., Any])
_PICKED_FROM = 20


def _how(function: F) -> F:
    """The options of a launch that goes on with a session."""
    for decorator in (
        json_option,
        click.option("--no-wait", is_flag=True, help="Return when the wish is recorded."),
        click.option("--attach", "then_attach", is_flag=True, help="Attach to it when it runs."),
        click.option("--env", metavar="K[=V]", multiple=True, help="A variable for it; K alone takes yours."),
        click.option("--no-tty", is_flag=True, help="No terminal: the agent runs headless, and needs a prompt."),
        click.option("--prompt", metavar="TEXT", help="What to say first."),
        click.option("--name", metavar="N", help="The runner's name."),
        agent_option,
    ):
        function = decorator(function)
    return function


@click.command(cls=TakesArgv)
@click.argument("session", required=False, type=Reference("session"), shell_complete=completing.sessions)
@project_option("Choose among the sessions of this project; with SESSION: refuse that of another one.")
@_how
@click.pass_context
def resume(ctx: click.Context, /, session: str | None, project: str | None, agent: str | None, **how: Any) -> None:
    """Go on with a session in a new runner, where it was and with what its last runner might do unasked.

    Without SESSION, on a terminal, it is chosen from a list. One that somebody is in is refused.
    """
    if session is None:
        session = _pick(project)
    found = read("get_session", session=session)
    if project is not None and project != found["project"]:
        whose = f"of project {found['project']}" if found["project"] else "of no project"
        raise Invalid(f"session {found['id']} is {whose}, not of {project}", remedy="leave --project out")
    ctx.exit(_go_on(ctx, found, agent, **how))


@click.command(cls=TakesArgv)
@click.argument("session", type=Reference("session"), shell_complete=completing.foreign_sessions)
@_how
@click.pass_context
def adopt(ctx: click.Context, /, session: str, agent: str | None, **how: Any) -> None:
    """Take over a session that was started elsewhere and has ended there: go on with it in a runner."""
    found = read("get_session", session=session)
    if not found["is_foreign"]:
        raise Conflict(f"session {found['id']} is ours already", remedy=f"`stratavore resume {found['id']}`")
    ctx.exit(_go_on(ctx, found, agent, **how))


def _go_on(
    ctx: click.Context,
    session: dict[str, Any],
    agent: str | None,
    *,
    name: str | None,
    prompt: str | None,
    no_tty: bool,
    env: tuple[str, ...],
    then_attach: bool,
    no_wait: bool,
    as_json: bool,
) -> int:
    if then_attach and (no_tty or no_wait):
        raise click.UsageError("--attach does not go with --no-tty or --no-wait.")
    if not session["resumable"]:
        raise Conflict(
            f"session {session['id']} cannot be resumed: {session['why_not']}",
            remedy="`stratavore sessions --resumable` lists those that can",
        )
    need_daemon()
    project = session["project"] or project_of(Path(session["cwd"]))
    try:
        answer = change(
            "launch",
            **wish(project, ctx.obj),
            resume=session["id"],
            agent=agent,
            name=name,
            prompt=prompt,
            tty=not no_tty,
            env=variables(env),
        )
    except Forbidden as refusal:  # which tells of the route
        raise Forbidden(refusal.message.replace("stratavore launch", ctx.command_path), remedy=refusal.remedy) from None
    note(goes_on_with(answer["goes_on_with"]))
    for warning in answer["warnings"]:
        note(warning)
    runners = answer["runners"] if no_wait else started(answer["runners"])
    refuse_failed(runners)
    if then_attach:
        from stratavore.cli.attach import attach_to

        return attach_to(runners[0])
    show_json({**answer, "runners": runners}) if as_json else show_runners(runners, as_json=False)
    return 0


def _pick(project: str | None) -> str:
    """The one that the person chooses."""
    if not (sys.stdin.isatty() and sys.stdout.isatty()):
        raise Invalid("which session?", remedy="name one; `stratavore sessions --resumable` lists them")
    found = read("list_sessions", project=project, resumable=True, limit=1000)[:_PICKED_FROM]
    if not found:
        raise NotFound("no session can be resumed", remedy="`stratavore sessions` says why not")
    show_table(["", *HEADS], [[str(number), *row(session)] for number, session in enumerate(found, 1)])
    return str(found[choice(len(found)) - 1]["id"])
