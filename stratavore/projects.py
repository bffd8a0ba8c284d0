"""The verbs on projects."""

import asyncio
import os
import stat
from typing import Any

import msgspec

from stratavore import runner_files, writers
from stratavore.agents import resolve
from stratavore.context import Asker, Context
from stratavore.errors import Conflict, Invalid
from stratavore.model import Acknowledged, Project
from stratavore.protocol import EditProject, ListProjects, NewProject, Nothing
from stratavore.store import projects, runners, runs
from stratavore.store.database import Tx


async def list_projects(context: Context, asker: Asker, request: ListProjects) -> list[Project]:
    """All projects but the archived, or those of one status."""
    return projects.list_projects(context.rows, request.status)


async def get_project(context: Context, asker: Asker, request: Nothing, project: str) -> Project:
    """One project."""
    return projects.get_project(context.rows, project)


async def new_project(context: Context, asker: Asker, request: NewProject) -> Project:
    """Make a directory a project.

    Raises:
        Invalid: the directory or the agent cannot be used.
        Conflict: the name is taken.
    """
    columns = msgspec.structs.asdict(request)
    columns["path"] = usable_directory(request.path)
    if request.agent is not None:
        resolve(request.agent, context.config.agents)
    if request.max_runners is None:
        columns["max_runners"] = context.config.projects.max_runners
    if request.on_quota is None:
        columns["on_quota"] = context.config.projects.on_quota
    now = context.clock.now()
    return await context.write(lambda tx: projects.insert(tx, columns, actor=str(asker), now=now))


async def edit_project(context: Context, asker: Asker, request: EditProject, project: str) -> Project:
    """Change what a project says; living runners keep what they were launched with."""
    changes: dict[str, Any] = {
        field: value for field, value in msgspec.structs.asdict(request).items() if value is not msgspec.UNSET
    }
    now = context.clock.now()
    if "archived" in changes:
        changes["archived_at"] = now if changes.pop("archived") else None
    if "path" in changes:
        changes["path"] = usable_directory(changes["path"])
    if changes.get("agent") is not None:
        resolve(changes["agent"], context.config.agents)
    return await context.write(lambda tx: projects.edit(tx, project, changes, actor=str(asker), now=now))


async def delete_project(context: Context, asker: Asker, request: Nothing, project: str) -> Acknowledged:
    """Forget a project and its ended runners. Its directory is not touched."""
    now = context.clock.now()
    await _refuse_under_the_living(context, projects.get_project(context.rows, project))

    def delete(tx: Tx) -> tuple[list[str], list[str]]:
        logs = runs.list_logs_of_project(tx, project, context.paths.logs)
        return projects.delete(tx, project, actor=str(asker), now=now), logs

    forgotten, logs = await context.write(delete)
    for runner_id in forgotten:
        runner_files.remove(context.paths, runner_id)
    for log_file in logs:
        runner_files.remove_log(log_file)
    return Acknowledged()


async def _refuse_under_the_living(context: Context, project: Project) -> None:
    """Raise Conflict if somebody else is at work in its directory: another project's runner, or nobody's agent."""
    inside = runners.list_in(context.rows, project.path, below=True)
    found = [runner.name for runner in inside if runner.project != project.name]
    for agent in await asyncio.to_thread(writers.inside, project.path):
        if writers.who(agent.pid) is None:
            found.append(f"{agent.kind} (pid {agent.pid}, which Stratavore did not start)")
    if found:
        verb = "works" if len(found) == 1 else "work"
        raise Conflict(f"{', '.join(found[:5])} {verb} in {project.path}", remedy="stop who works there first")


def usable_directory(path: str) -> str:
    """The real path of a directory in which a runner can work.

    Raises:
        Invalid: it is no directory, or may not be entered and read.
    """
    if not os.path.isabs(path):
        raise Invalid(f"{path!r} is not an absolute path", remedy="name the directory from the root")
    try:
        real = os.path.realpath(path)
        mode = os.stat(real).st_mode
    except (OSError, ValueError):  # not there, too long, a NUL in it
        real, mode = path, 0
    if not stat.S_ISDIR(mode):
        raise Invalid(f"{path!r} is not a directory", remedy="make it first, or name another with --path")
    if not os.access(real, os.R_OK | os.X_OK):
        raise Invalid(f"{real} cannot be read", remedy=f"chmod u+rx {real}")
    return real
