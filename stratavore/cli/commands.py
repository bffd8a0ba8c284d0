"""The table of commands: which function answers which word.

Rule 1: a command is a row here and is imported when it is named. The strings are literals, so that a bundler's
configuration can be made from them.
Rule 2: this imports nothing: whoever needs to know which words are taken may look.
"""

from collections.abc import Mapping

COMMANDS: Mapping[str, str] = {
    "up": "stratavore.cli.opening:up",
    "open": "stratavore.cli.opening:open_project",
    "new": "stratavore.cli.projects:new",
    "projects": "stratavore.cli.projects:projects",
    "launch": "stratavore.cli.launch:launch",
    "runners": "stratavore.cli.runners:runners",
    "ps": "stratavore.cli.runners:runners",
    "show": "stratavore.cli.runners:show",
    "explain": "stratavore.cli.runners:explain",
    "rename": "stratavore.cli.runners:rename",
    "rm": "stratavore.cli.ending:rm",
    "sessions": "stratavore.cli.sessions:sessions",
    "import": "stratavore.cli.importing:import_",
    "resume": "stratavore.cli.resume:resume",
    "adopt": "stratavore.cli.resume:adopt",
    "attach": "stratavore.cli.attach:attach",
    "send": "stratavore.cli.send:send",
    "interrupt": "stratavore.cli.send:interrupt",
    "logs": "stratavore.cli.logs:logs",
    "approvals": "stratavore.cli.approvals:approvals",
    "approve": "stratavore.cli.approvals:approve",
    "deny": "stratavore.cli.approvals:deny",
    "stop": "stratavore.cli.ending:stop",
    "kill": "stratavore.cli.ending:kill",
    "pause": "stratavore.cli.pausing:pause",
    "unpause": "stratavore.cli.pausing:unpause",
    "restart": "stratavore.cli.restart:restart",
    "wait": "stratavore.cli.wait:wait",
    "budget": "stratavore.cli.budgets:budget",
    "status": "stratavore.cli.status:status",
    "watch": "stratavore.cli.watch:watch",
    "usage": "stratavore.cli.usage:usage",
    "events": "stratavore.cli.events:events",
    "reconcile": "stratavore.cli.upkeep:reconcile",
    "du": "stratavore.cli.upkeep:du",
    "prune": "stratavore.cli.upkeep:prune",
    "rescue": "stratavore.cli.rescue:rescue",
    "config": "stratavore.cli.config:config",
    "daemon": "stratavore.cli.daemon:daemon",
    "hook": "stratavore.cli.hook:hook",
    "completion": "stratavore.cli.completion:completion",
}


def begins_with(project: str) -> str:
    """What a person types to enter a project: a command's name always beats a project's."""
    return f"stratavore open {project}" if project in COMMANDS else f"stratavore {project}"


COMPLETE = "_STRATAVORE_COMPLETE"
"""Set by the scripts that `completion` prints, when the shell asks what may follow."""
