"""`new` and `projects`."""

from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeVar

import click

from stratavore import bounds
from stratavore.cli import humane
from stratavore.cli.asking import change, read
from stratavore.cli.commands import COMMANDS, begins_with
from stratavore.cli.consent import consent
from stratavore.cli.options import (
    UserPath,
    agent_option,
    json_option,
    project_argument,
    yes_option,
)
from stratavore.cli.output import note, say, show_facts, show_json, show_table
from stratavore.cli.quantities import SHARE, SIZE, Whole

F = TypeVar("F", bound=Callable[..., Any])
STATUSES = ("active", "idle", "archived")


def _settings(function: F) -> F:
    """The options that `new` and `projects set` share; one that is not given is None."""
    for decorator in (
        click.option("--on-quota", type=click.Choice(("warn", "pause", "stop")), help="When memory or CPU is over."),
        click.option("--max-cpu", metavar="P", type=SHARE, help="Percent of one core, of all its runners."),
        click.option("--max-memory", metavar="M", type=SIZE, help="Memory of all its runners, such as 8G."),
        click.option("--max-runners", metavar="N", type=Whole(bounds.SLOTS), help="How many may live at a time."),
        click.option("--tag", metavar="T", multiple=True, help="A word to find it by; may be repeated."),
        click.option("--description", metavar="T", help="What it is."),
        agent_option,
        click.option("--path", metavar="DIR", type=UserPath(), help="Its directory."),
    ):
        function = decorator(function)
    return function


@click.command
@click.argument("name")
@_settings
@json_option
def new(name: str, as_json: bool, **settings: Any) -> None:
    """Register a directory (this one, unless --path says otherwise) as the project NAME."""
    made = change("new_project", name=name, **{"path": str(Path.cwd()), **_given(settings)})
    _warn_of_a_commands_name(made["name"])
    show_json(made) if as_json else say(f"{made['name']} is {made['path']}; `{begins_with(name)}` begins.")


@click.group(invoke_without_command=True)
@click.option("--status", type=click.Choice(STATUSES), help="Only those.")
@json_option
@click.pass_context
def projects(ctx: click.Context, status: str | None, as_json: bool) -> None:
    """List the projects; or show, change, put away and delete one."""
    if ctx.invoked_subcommand is None:
        _list(status, as_json)


@projects.command("list")
@click.option("--status", type=click.Choice(STATUSES), help="Only those.")
@json_option
def list_(status: str | None, as_json: bool) -> None:
    """List the projects; archived ones with --status archived."""
    _list(status, as_json)


@projects.command
@project_argument
@json_option
def show(project: str, as_json: bool) -> None:
    """Everything known about a project."""
    found = read("get_project", project=project)
    show_json(found) if as_json else show_facts(_facts(found))


@projects.command("set")
@project_argument
@_settings
@click.option("--no-max-memory", is_flag=True, help="No limit on memory.")
@click.option("--no-max-cpu", is_flag=True, help="No limit on CPU.")
@json_option
def set_(project: str, no_max_memory: bool, no_max_cpu: bool, as_json: bool, **settings: Any) -> None:
    """Change what is given; the rest stays. An empty --agent leaves the choice to the configuration."""
    changes = _given(settings)
    if changes.get("agent") == "":
        changes["agent"] = None
    if no_max_memory:
        changes["max_memory_bytes"] = None
    if no_max_cpu:
        changes["max_cpu_percent"] = None
    if not changes:
        raise click.UsageError("Say what to change; `stratavore projects set --help` lists it.")
    edited = change("edit_project", project=project, **changes)
    show_json(edited) if as_json else show_facts(_facts(edited))


@projects.command
@project_argument
@json_option
def archive(project: str, as_json: bool) -> None:
    """Put a project away: it is kept, but nothing can be launched in it."""
    edited = change("edit_project", project=project, archived=True)
    show_json(edited) if as_json else say(f"{edited['name']} is archived")


@projects.command
@project_argument
@json_option
def unarchive(project: str, as_json: bool) -> None:
    """Bring an archived project back."""
    edited = change("edit_project", project=project, archived=False)
    show_json(edited) if as_json else say(f"{edited['name']} is back")


@projects.command
@project_argument
@click.argument("name")
@json_option
def rename(project: str, name: str, as_json: bool) -> None:
    """Give a project another name."""
    edited = change("edit_project", project=project, name=name)
    _warn_of_a_commands_name(edited["name"])
    show_json(edited) if as_json else say(f"{project} is now called {edited['name']}")


@projects.command
@project_argument
@yes_option
@json_option
def delete(project: str, yes: bool, as_json: bool) -> None:
    """Forget a project and its ended runners. Its directory is not touched."""
    path = read("get_project", project=project)["path"]
    consent(f"This forgets {project} and the output of its runners; {path} is not touched.", yes)
    answer = change("delete_project", project=project)
    show_json(answer) if as_json else say(f"{project} is forgotten; its directory is as it was")


def _warn_of_a_commands_name(name: str) -> None:
    if name in COMMANDS:
        note(f"{name} is a command, too, so this project is entered with `{begins_with(name)}`")


def _list(status: str | None, as_json: bool) -> None:
    found = read("list_projects", status=status)
    if as_json:
        show_json(found)
    elif found:
        show_table(("NAME", "STATUS", "RUNNERS", "AGENT", "TAGS", "PATH"), [_row(project) for project in found])
    else:
        say("No project" + (f" is {status}." if status else "; `stratavore up` makes one of this folder."))


def _row(project: dict[str, Any]) -> list[str]:
    return [
        project["name"],
        project["status"],
        f"{project['runners']}/{project['max_runners']}",
        project["agent"] or humane.UNKNOWN,
        " ".join(project["tags"]),
        project["path"],
    ]


def _facts(project: dict[str, Any]) -> list[tuple[str, str]]:
    memory, cpu = project["max_memory_bytes"], project["max_cpu_percent"]
    return [
        ("name", project["name"]),
        ("directory", project["path"]),
        ("status", project["status"]),
        ("description", project["description"]),
        ("tags", " ".join(project["tags"])),
        ("agent", project["agent"] or "as configured"),
        ("runners", f"{project['runners']} of {project['max_runners']}"),
        ("memory", "no limit" if memory is None else f"at most {humane.size(memory)}"),
        ("cpu", "no limit" if cpu is None else f"at most {humane.percent(cpu)}"),
        ("over quota", project["on_quota"]),
        ("created", humane.ago(project["created_at"])),
        ("archived", "" if project["archived_at"] is None else humane.ago(project["archived_at"])),
    ]


def _given(settings: dict[str, Any]) -> dict[str, Any]:
    """The options that were given, in the words of the protocol."""
    renamed = {
        "path": None if settings["path"] is None else str(settings["path"].resolve()),
        "agent": settings["agent"],
        "description": settings["description"],
        "tags": list(settings["tag"]) or None,
        "max_runners": settings["max_runners"],
        "max_memory_bytes": settings["max_memory"],
        "max_cpu_percent": settings["max_cpu"],
        "on_quota": settings["on_quota"],
    }
    return {key: value for key, value in renamed.items() if value is not None}
