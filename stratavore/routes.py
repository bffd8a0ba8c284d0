"""Where each question is asked: the table of routes, without what is sent and answered.

Rule 1: a route is one row here; its request and its answer are one row of `protocol.SHAPES` under the same name.
Rule 2: importing this costs nothing: every one-shot command does.

`{runner}` in a path is a name, an id, a unique prefix of either, a comma-separated list of such, or `*` for all
(neither `,` nor `*` can stand in a name).
"""

from collections.abc import Mapping
from typing import NamedTuple

PREFIX = "/api/v1"
VERSION_HEADER = "Stratavore-Version"
LONGEST_WAIT_SECONDS = 25
"""The longest `wait_seconds` that a request may ask for: less than anybody waits for an answer."""


class Place(NamedTuple):
    """Method and path of one thing that can be asked, and the words by which a person asks it."""

    method: str
    path: str
    verb: str
    is_own: bool = False
    """A runner's own processes may ask it, of their own runner."""

    @property
    def reads(self) -> bool:
        """Whether it changes nothing; a runner's own processes may ask only such."""
        return self.method == "GET"

    @property
    def has_body(self) -> bool:
        """Whether its fields travel as JSON in the body; those of the others stand in the query string."""
        return self.method in ("POST", "PATCH")


PLACES: Mapping[str, Place] = {
    "status": Place("GET", "/status", "status"),
    "daemon_status": Place("GET", "/daemon", "daemon status"),
    "stop_daemon": Place("POST", "/daemon/stop", "daemon stop"),
    "list_projects": Place("GET", "/projects", "projects"),
    "new_project": Place("POST", "/projects", "new"),
    "get_project": Place("GET", "/projects/{project}", "projects show"),
    "edit_project": Place("PATCH", "/projects/{project}", "projects set"),
    "delete_project": Place("DELETE", "/projects/{project}", "projects delete"),
    "list_runners": Place("GET", "/runners", "runners"),
    "launch": Place("POST", "/runners", "launch"),
    "get_runner": Place("GET", "/runners/{runner}", "show"),
    "rename_runner": Place("PATCH", "/runners/{runner}", "rename"),
    "remove_runners": Place("DELETE", "/runners/{runner}", "rm"),
    "list_runs": Place("GET", "/runners/{runner}/runs", "show"),
    "explain_runner": Place("GET", "/runners/{runner}/explanation", "explain"),
    "stop_runners": Place("POST", "/runners/{runner}/stop", "stop"),
    "kill_runners": Place("POST", "/runners/{runner}/kill", "kill"),
    "pause_runners": Place("POST", "/runners/{runner}/pause", "pause"),
    "unpause_runners": Place("POST", "/runners/{runner}/unpause", "unpause"),
    "restart_runners": Place("POST", "/runners/{runner}/restart", "restart"),
    "send_input": Place("POST", "/runners/{runner}/input", "send"),
    "interrupt_runner": Place("POST", "/runners/{runner}/interrupt", "interrupt"),
    "list_budgets": Place("GET", "/budgets", "budget list"),
    "set_budget": Place("POST", "/budgets", "budget set"),
    "get_budget": Place("GET", "/budgets/{budget}", "budget show"),
    "list_budget_history": Place("GET", "/budgets/{budget}/history", "budget show"),
    "extend_budget": Place("POST", "/budgets/{budget}/extend", "budget extend"),
    "remove_budget": Place("DELETE", "/budgets/{budget}", "budget remove"),
    "usage": Place("GET", "/usage", "usage"),
    "list_sessions": Place("GET", "/sessions", "sessions"),
    "get_session": Place("GET", "/sessions/{session}", "sessions show"),
    "begin_import": Place("POST", "/import", "import"),
    "watch_import": Place("GET", "/import", "import"),
    "stop_import": Place("POST", "/import/stop", "import"),
    "archive_session": Place("POST", "/sessions/{session}/archive", "sessions archive"),
    "read_transcript": Place("GET", "/sessions/{session}/transcript", "sessions transcript"),
    "list_approvals": Place("GET", "/approvals", "approvals"),
    "ask_approval": Place("POST", "/runners/{runner}/approvals", "hook", is_own=True),
    "decide_approval": Place("POST", "/runners/{runner}/decision", "approve"),
    "list_events": Place("GET", "/events", "events"),
    "reconcile": Place("POST", "/reconcile", "reconcile"),
    "disk_use": Place("GET", "/disk", "du"),
    "prune": Place("POST", "/prune", "prune"),
}
"""By the name of the client's method, which is the verb's too."""
