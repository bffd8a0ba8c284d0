"""What may be asked of the daemon: one frozen Struct per request, and which route takes and answers what.

Rule 1: a route is one row of `routes.PLACES` and one of SHAPES; server, client and documents are made from both.
Rule 2: a request Struct says all that is checked by shape; what needs the database is checked by its verb.
Rule 3: a field that is left out stays as it is; null clears it.
"""

from collections.abc import Mapping
from typing import Any, NamedTuple

from stratavore.model import (
    Acknowledged,
    Approval,
    Budget,
    BudgetHistory,
    BudgetInPeriods,
    DaemonStatus,
    DiskUse,
    Event,
    Explanation,
    Held,
    ImportProgress,
    Launched,
    LaunchPlan,
    Project,
    Pruned,
    Reconciled,
    Run,
    Runner,
    Sent,
    Session,
    Status,
    Transcript,
    Usage,
)
from stratavore.protocol.approvals import AskApproval, DecideApproval, ListApprovals
from stratavore.protocol.base import Choose, Name, Nothing, Request, refusal
from stratavore.protocol.budgets import ExtendBudget, ListBudgets, RemoveBudget, SetBudget
from stratavore.protocol.daemon import ListEvents, Prune, StopDaemon
from stratavore.protocol.projects import EditProject, ListProjects, NewProject
from stratavore.protocol.runners import (
    ENDED,
    SETTLED,
    Input,
    Launch,
    ListRunners,
    Rename,
    Restart,
    Stop,
    activities_of,
    states_of,
)
from stratavore.protocol.sessions import BeginImport, ListSessions, ReadTranscript, WatchImport
from stratavore.protocol.usage import ShowUsage
from stratavore.routes import PLACES, PREFIX

__all__ = [
    "BY_NAME",
    "ENDED",
    "ROUTES",
    "SETTLED",
    "SHAPES",
    "AskApproval",
    "BeginImport",
    "Choose",
    "DecideApproval",
    "EditProject",
    "ExtendBudget",
    "Input",
    "Launch",
    "ListApprovals",
    "ListBudgets",
    "ListEvents",
    "ListProjects",
    "ListRunners",
    "ListSessions",
    "Name",
    "NewProject",
    "Nothing",
    "Prune",
    "ReadTranscript",
    "RemoveBudget",
    "Rename",
    "Request",
    "Restart",
    "Route",
    "SetBudget",
    "ShowUsage",
    "Stop",
    "StopDaemon",
    "WatchImport",
    "activities_of",
    "refusal",
    "states_of",
]

SHAPES: Mapping[str, tuple[type[Request], Any]] = {
    "status": (Nothing, Status),
    "daemon_status": (Nothing, DaemonStatus),
    "stop_daemon": (StopDaemon, Acknowledged),
    "list_projects": (ListProjects, list[Project]),
    "new_project": (NewProject, Project),
    "get_project": (Nothing, Project),
    "edit_project": (EditProject, Project),
    "delete_project": (Nothing, Acknowledged),
    "list_runners": (ListRunners, list[Runner]),
    "launch": (Launch, Launched | LaunchPlan),
    "get_runner": (Nothing, Runner),
    "rename_runner": (Rename, Runner),
    "remove_runners": (Choose, list[Runner]),
    "list_runs": (Nothing, list[Run]),
    "explain_runner": (Nothing, Explanation),
    "stop_runners": (Stop, list[Runner]),
    "kill_runners": (Choose, list[Runner]),
    "pause_runners": (Choose, list[Runner]),
    "unpause_runners": (Choose, list[Runner]),
    "restart_runners": (Restart, list[Runner]),
    "send_input": (Input, Sent),
    "interrupt_runner": (Nothing, Sent),
    "list_budgets": (ListBudgets, list[Budget]),
    "set_budget": (SetBudget, Budget),
    "get_budget": (Nothing, BudgetInPeriods),
    "list_budget_history": (Nothing, list[BudgetHistory]),
    "extend_budget": (ExtendBudget, Budget),
    "remove_budget": (RemoveBudget, Acknowledged),
    "usage": (ShowUsage, Usage),
    "list_sessions": (ListSessions, list[Session]),
    "get_session": (Nothing, Session),
    "begin_import": (BeginImport, ImportProgress),
    "watch_import": (WatchImport, ImportProgress),
    "stop_import": (Nothing, ImportProgress),
    "archive_session": (Nothing, Session),
    "read_transcript": (ReadTranscript, Transcript),
    "list_approvals": (ListApprovals, list[Approval]),
    "ask_approval": (AskApproval, Held),
    "decide_approval": (DecideApproval, Approval),
    "list_events": (ListEvents, list[Event]),
    "reconcile": (Nothing, Reconciled),
    "disk_use": (Nothing, DiskUse),
    "prune": (Prune, Pruned),
}
"""What is sent and what is answered, by the route's name."""


class Route(NamedTuple):
    """One thing that can be asked. `name` is the client's method and the verb's name, `verb` what a person types."""

    name: str
    verb: str
    method: str
    path: str
    reads: bool
    has_body: bool
    is_own: bool
    request: type[Request]
    answer: Any


ROUTES = tuple(
    Route(name, place.verb, place.method, PREFIX + place.path, place.reads, place.has_body, place.is_own, *SHAPES[name])
    for name, place in PLACES.items()
)
BY_NAME = {route.name: route for route in ROUTES}
