"""Runners as the supervisor sees them: each with its last run, and what its starts are made from."""

from collections.abc import Collection
from datetime import datetime

import msgspec

from stratavore.errors import NotFound
from stratavore.lifecycle import FINAL, State
from stratavore.model import Desired, EndReason, OnExceeded, RestartPolicy, ShimId
from stratavore.store.database import Rows
from stratavore.store.rows import column, load


class Supervised(msgspec.Struct, frozen=True):
    """A runner and its last run, as the supervisor sees them: all living ones again and again, so no more than that."""

    id: str
    name: str
    project: str
    project_id: int
    agent: str
    desired: Desired
    tty: bool
    session_id: str | None
    stop_grace_seconds: float
    max_seconds: float | None
    alive: bool
    then_start: bool
    retry_at_boottime: float | None
    retry_boot_id: str | None
    run: int
    key: str
    shim: ShimId
    state: State
    argv: list[str]
    pid: int | None
    start_time: int | None
    boot_id: str | None
    started_at: datetime | None
    stop_reason: EndReason | None
    stop_by: str | None
    run_grace_seconds: float | None

    @property
    def is_over(self) -> bool:
        """Whether its last run has ended."""
        return self.state in FINAL

    def whose(self) -> dict[str, str]:
        """The runner, as events name it."""
        return {"name": self.name, "project": self.project, "agent": self.agent}


_SUPERVISED = """
SELECT r.id, r.name, p.name AS project, r.project_id, r.agent, r.desired, r.tty, r.session_id, r.stop_grace_seconds,
       r.max_seconds, r.alive, r.then_start, r.retry_at_boottime, r.retry_boot_id, r.run, n.key, n.shim, n.state,
       n.argv, n.pid, n.start_time, n.boot_id, n.started_at, n.stop_reason, n.stop_by,
       n.stop_grace_seconds AS run_grace_seconds
  FROM runners AS r
  JOIN projects AS p ON p.id = r.project_id
  JOIN runs AS n ON n.runner_id = r.id AND n.number = r.run
"""


class Recipe(msgspec.Struct, frozen=True):
    """What a start of a runner is made from: what was launched, and what its project allows."""

    id: str
    name: str
    project: str
    project_id: int
    project_path: str
    max_memory_bytes: int | None
    max_cpu_percent: float | None
    agent: str
    run: int
    restart_policy: RestartPolicy
    max_restarts: int
    tty: bool
    terminal_rows: int
    terminal_columns: int
    extra_argv: list[str]
    cwd: str
    umask: int | None
    prompt: str | None
    prompt_taken: bool
    session_id: str | None
    fork_of: str | None
    stop_grace_seconds: float
    max_seconds: float | None
    max_turns: int | None
    on_exceeded: OnExceeded
    allow_unpriced: bool


_RECIPE = """
SELECT r.id, r.name, p.name AS project, r.project_id, p.path AS project_path, p.max_memory_bytes, p.max_cpu_percent,
       r.agent, r.run, r.restart_policy, r.max_restarts, r.tty, r.terminal_rows, r.terminal_columns, r.extra_argv,
       r.cwd, r.umask, r.prompt, r.prompt_taken, r.session_id, r.fork_of, r.stop_grace_seconds, r.max_seconds,
       r.max_turns, r.on_exceeded, r.allow_unpriced
  FROM runners AS r JOIN projects AS p ON p.id = r.project_id
 WHERE r.id = ?
"""


def list_supervised(rows: Rows, ids: Collection[str] | None = None) -> list[Supervised]:
    """The living runners, or those with these ids, living or not."""
    if ids is None:
        found = rows.all(_SUPERVISED + " WHERE r.alive = 1")
    else:
        wanted = column(list(ids))
        found = rows.all(_SUPERVISED + " WHERE r.id IN (SELECT value FROM json_each(?))", (wanted,))
    return [load(Supervised, row) for row in found]


def get_supervised(rows: Rows, runner_id: str) -> Supervised:
    """One of them; raises NotFound."""
    found = list_supervised(rows, [runner_id])
    if not found:
        raise NotFound(f"there is no runner {runner_id}")
    return found[0]


def get_recipe(rows: Rows, runner_id: str) -> Recipe:
    """What the starts of a runner are made from; raises NotFound."""
    row = rows.one_or_none(_RECIPE, (runner_id,))
    if row is None:
        raise NotFound(f"there is no runner {runner_id}")
    return load(Recipe, row)
