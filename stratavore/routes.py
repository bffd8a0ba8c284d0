"""Where each question is asked: the table of routes, without what is sent and answered.

Rule 1: a route is one row here; its request and its answer are one row of `protocol.SHAPES` under the same name.
Rule 2: importing this costs nothing: every one-shot command does.

`{runner}` in a path is a name, an id, a unique prefix of either, a comma-separated list of such, or `*` for all
(neither `,` nor `*` can stand in a name).
"""

from collections.abc import Mapping
from typing import NamedTuple

PREFIX = "/api/v1"


class Place(NamedTuple):
    """Method and path of one thing that can be asked."""

    method: str
    path: str

    @property
    def reads(self) -> bool:
        """Whether it changes nothing; a runner's own processes may ask only such."""
        return self.method == "GET"

    @property
    def has_body(self) -> bool:
        """Whether its fields travel as JSON in the body; those of the others stand in the query string."""
        return self.method in ("POST", "PATCH")


PLACES: Mapping[str, Place] = {
    "status": Place("GET", "/status"),
    "daemon_status": Place("GET", "/daemon"),
    "stop_daemon": Place("POST", "/daemon/stop"),
    "list_projects": Place("GET", "/projects"),
    "new_project": Place("POST", "/projects"),
    "get_project": Place("GET", "/projects/{project}"),
    "edit_project": Place("PATCH", "/projects/{project}"),
    "delete_project": Place("DELETE", "/projects/{project}"),
    "list_runners": Place("GET", "/runners"),
    "launch": Place("POST", "/runners"),
    "get_runner": Place("GET", "/runners/{runner}"),
    "rename_runner": Place("PATCH", "/runners/{runner}"),
    "remove_runners": Place("DELETE", "/runners/{runner}"),
    "list_runs": Place("GET", "/runners/{runner}/runs"),
    "explain_runner": Place("GET", "/runners/{runner}/explanation"),
    "stop_runners": Place("POST", "/runners/{runner}/stop"),
    "kill_runners": Place("POST", "/runners/{runner}/kill"),
    "pause_runners": Place("POST", "/runners/{runner}/pause"),
    "unpause_runners": Place("POST", "/runners/{runner}/unpause"),
    "restart_runners": Place("POST", "/runners/{runner}/restart"),
    "send_input": Place("POST", "/runners/{runner}/input"),
    "interrupt_runner": Place("POST", "/runners/{runner}/interrupt"),
    "list_events": Place("GET", "/events"),
    "reconcile": Place("POST", "/reconcile"),
    "disk_use": Place("GET", "/disk"),
    "prune": Place("POST", "/prune"),
}
"""By the name of the client's method, which is the verb's too."""
