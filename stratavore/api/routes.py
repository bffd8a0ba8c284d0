"""Which verb answers which route."""

from collections.abc import Awaitable, Callable, Mapping
from typing import Any

from stratavore import (
    approvals,
    budgets,
    importing,
    input,
    launching,
    projects,
    runners,
    sessions,
    status,
    upkeep,
    usage,
)

Verb = Callable[..., Awaitable[Any]]
"""`verb(context, asker, request, **names in the path)`."""

VERBS: Mapping[str, Verb] = {
    "status": status.status,
    "daemon_status": status.daemon_status,
    "stop_daemon": upkeep.stop_daemon,
    "list_projects": projects.list_projects,
    "new_project": projects.new_project,
    "get_project": projects.get_project,
    "edit_project": projects.edit_project,
    "delete_project": projects.delete_project,
    "list_runners": runners.list_runners,
    "launch": launching.launch,
    "get_runner": runners.get_runner,
    "rename_runner": runners.rename_runner,
    "remove_runners": runners.remove_runners,
    "list_runs": runners.list_runs,
    "explain_runner": status.explain_runner,
    "stop_runners": runners.stop_runners,
    "kill_runners": runners.kill_runners,
    "pause_runners": runners.pause_runners,
    "unpause_runners": runners.unpause_runners,
    "restart_runners": runners.restart_runners,
    "send_input": input.send_input,
    "interrupt_runner": input.interrupt_runner,
    "list_budgets": budgets.list_budgets,
    "set_budget": budgets.set_budget,
    "get_budget": budgets.get_budget,
    "list_budget_history": budgets.list_budget_history,
    "extend_budget": budgets.extend_budget,
    "remove_budget": budgets.remove_budget,
    "usage": usage.usage,
    "list_sessions": sessions.list_sessions,
    "get_session": sessions.get_session,
    "begin_import": importing.begin_import,
    "watch_import": importing.watch_import,
    "stop_import": importing.stop_import,
    "archive_session": sessions.archive_session,
    "read_transcript": sessions.read_transcript,
    "list_approvals": approvals.list_approvals,
    "ask_approval": approvals.ask_approval,
    "decide_approval": approvals.decide_approval,
    "list_events": status.list_events,
    "reconcile": upkeep.reconcile,
    "disk_use": upkeep.disk_use,
    "prune": upkeep.prune,
}
