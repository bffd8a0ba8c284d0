"""Runs: the one place that writes a run's state.

Rule 1: `insert` writes the first state, `advance` every other; both announce it in the same transaction.
Rule 2: a change is guarded by the state that was read; whoever comes second gets Conflict and looks again.
"""

from collections.abc import Collection, Sequence
from datetime import datetime
from pathlib import Path
from typing import Any, NamedTuple

import msgspec

from stratavore.clock import iso
from stratavore.errors import Conflict, NotFound
from stratavore.lifecycle import FINAL, Cause, State, next_state
from stratavore.model import Desired, EndReason, RestartPolicy, Run, ShimId
from stratavore.store import events
from stratavore.store.database import Row, Rows, Tx
from stratavore.store.rows import column, load

_ANNOUNCED = {
    State.RUNNING: "runner.started",
    State.PAUSED: "runner.paused",
    State.STOPPING: "runner.stop_asked",
    State.TERMINATED: "runner.stopped",
    State.FAILED: "runner.failed",
    State.LOST: "runner.lost",
}


_NOT_TOLD = frozenset({"argv", "last_line"})
"""Too long, or hostile: events go out to channels."""

Whose = dict[str, str]
"""A runner as its events name it: `name`, `project`, `agent`."""


class RunRow(msgspec.Struct, frozen=True):
    """A row of `runs`, and what of its runner decides what follows its end."""

    key: str
    runner_id: str
    number: int
    shim: ShimId
    state: State
    created_at: datetime
    pid: int | None
    start_time: int | None
    boot_id: str | None
    started_at: datetime | None
    ended_at: datetime | None
    stop_reason: EndReason | None
    stop_by: str | None
    stop_grace_seconds: float | None
    name: str
    project: str
    agent: str
    desired: Desired
    restart_policy: RestartPolicy
    max_restarts: int
    failures: int
    then_start: bool

    def whose(self) -> Whose:
        """Its runner, as events name it."""
        return {"name": self.name, "project": self.project, "agent": self.agent}


_RUN = """
SELECT n.key, n.runner_id, n.number, n.shim, n.state, n.created_at, n.pid, n.start_time, n.boot_id, n.started_at,
       n.ended_at, n.stop_reason, n.stop_by, n.stop_grace_seconds, r.name, p.name AS project, r.agent, r.desired,
       r.restart_policy, r.max_restarts, r.failures, r.then_start
  FROM runs AS n JOIN runners AS r ON r.id = n.runner_id JOIN projects AS p ON p.id = r.project_id
"""


class Intent(NamedTuple):
    """That run `number` of a runner shall start in a shim."""

    runner_id: str
    number: int
    shim: str
    whose: Whose

    @property
    def key(self) -> str:
        """The key of the run."""
        return f"{self.runner_id}.{self.number}"


def insert_all(tx: Tx, intents: Sequence[Intent], *, actor: str, now: datetime) -> None:
    """Commit the intents to start these runs."""
    tx.execute_many(
        "INSERT INTO runs (key, runner_id, number, shim, state, created_at) VALUES (?, ?, ?, ?, 'starting', ?)",
        [(intent.key, intent.runner_id, intent.number, intent.shim, iso(now)) for intent in intents],
    )
    tx.execute_many(
        "UPDATE runners SET run = ? WHERE id = ?", [(intent.number, intent.runner_id) for intent in intents]
    )
    facts = [
        events.Fact(
            "runner.launched" if intent.number == 1 else "runner.relaunched",
            intent.runner_id,
            {**intent.whose, "run": intent.number},
            actor,
        )
        for intent in intents
    ]
    events.append_all(tx, facts, now=now)


def insert(tx: Tx, runner_id: str, number: int, shim: str, whose: Whose, *, actor: str, now: datetime) -> str:
    """Commit the intent to start one run; returns its key."""
    intent = Intent(runner_id, number, shim, whose)
    insert_all(tx, [intent], actor=actor, now=now)
    return intent.key


def find(rows: Rows, key: str) -> RunRow | None:
    """The run `key`, if the database knows it."""
    row = rows.one_or_none(_RUN + "WHERE n.key = ?", (key,))
    return None if row is None else load(RunRow, row)


def find_all(rows: Rows, keys: Collection[str]) -> dict[str, RunRow]:
    """Those of the runs that the database knows, by key."""
    found = rows.all(_RUN + "WHERE n.key IN (SELECT value FROM json_each(?))", (column(list(keys)),))
    return {row["key"]: load(RunRow, row) for row in found}


def get_all(rows: Rows, keys: Collection[str]) -> list[RunRow]:
    """These runs; raises NotFound."""
    found = find_all(rows, keys)
    for key in keys:
        if key not in found:
            raise NotFound(f"there is no run {key}")
    return list(found.values())


def get(rows: Rows, key: str) -> RunRow:
    """The run `key`; raises NotFound."""
    run = find(rows, key)
    if run is None:
        raise NotFound(f"there is no run {key}")
    return run


def exists(rows: Rows, key: str) -> bool:
    """Whether the database knows the run `key`."""
    return rows.one_or_none("SELECT 1 FROM runs WHERE key = ?", (key,)) is not None


def unknown(rows: Rows, keys: Collection[str]) -> set[str]:
    """Those of the keys that the database does not know."""
    found = rows.all(
        "SELECT value FROM json_each(?) WHERE NOT EXISTS (SELECT 1 FROM runs WHERE key = value)",
        (column(list(keys)),),
    )
    return {row["value"] for row in found}


def hasten(tx: Tx, run: RunRow, reason: EndReason, grace: float | None, *, actor: str, now: datetime) -> None:
    """The run is being stopped already; `actor` wants it killed, or gone within a shorter grace.

    A polite stop neither lengthens a grace nor takes the place of a reason that says more than it does.
    """
    told = tx.one(
        "UPDATE runs SET stop_by = CASE WHEN :reason = 'killed' OR stop_reason = 'stopped' THEN :by ELSE stop_by END,"
        " stop_reason = CASE WHEN :reason = 'killed' THEN :reason ELSE stop_reason END,"
        " stop_grace_seconds = CASE WHEN :grace IS NULL THEN stop_grace_seconds ELSE MIN(:grace, COALESCE("
        "stop_grace_seconds, (SELECT r.stop_grace_seconds FROM runners AS r WHERE r.id = runs.runner_id))) END"
        " WHERE key = :key RETURNING stop_reason, stop_by, stop_grace_seconds",
        {"reason": reason.value, "by": actor, "grace": grace, "key": run.key},
    )
    events.append(
        tx,
        "runner.stop_asked",
        run.runner_id,
        {**run.whose(), "run": run.number, **told},
        actor=actor,
        now=now,
    )


class Change(NamedTuple):
    """What happened to a run: the `cause`, who did it, and the facts (columns of `runs`) that came with it."""

    run: RunRow
    cause: Cause
    actor: str
    facts: dict[str, Any]


def advance(tx: Tx, run: RunRow, cause: Cause, *, actor: str, now: datetime, **facts: Any) -> RunRow:
    """Apply one Change; returns the run as it is then. Raises what `advance_all` raises."""
    return advance_all(tx, [Change(run, cause, actor, facts)], now=now)[0]


def advance_all(tx: Tx, changes: Sequence[Change], *, now: datetime) -> list[RunRow]:
    """Apply every change and announce it; returns the runs as they are then, in the same order.

    A final state needs the fact `end_reason`; `ended_at` is `now` unless given.

    Raises:
        Conflict: the lifecycle has no such change, or a run is no longer in the state that was read.
    """
    statements: dict[str, list[Row]] = {}
    facts, moved = list[events.Fact](), list[RunRow]()
    for run, cause, actor, came in changes:
        new = next_state(run.state, cause)
        kept = {"ended_at": now, **came} if new in FINAL else came
        values = {name: iso(value) if isinstance(value, datetime) else column(value) for name, value in kept.items()}
        assignments = "".join(f", {name} = :{name}" for name in values)
        sql = f"UPDATE runs SET state = :new{assignments} WHERE key = :key AND state = :old"
        guarded = {**values, "new": new.value, "old": run.state.value, "key": run.key}
        statements.setdefault(sql, []).append(guarded)
        told = {name: value for name, value in values.items() if value is not None and name not in _NOT_TOLD}
        facts.append(
            events.Fact(_announced(cause, new), run.runner_id, {**run.whose(), "run": run.number, **told}, actor)
        )
        ours = {name: value for name, value in kept.items() if name in RunRow.__struct_fields__}
        moved.append(msgspec.structs.replace(run, state=new, **ours))
    for sql, rows in statements.items():
        if tx.execute_many(sql, rows) != len(rows):
            raise Conflict(f"run {', '.join(row['key'] for row in rows)} is no longer {rows[0]['old']}")
    events.append_all(tx, facts, now=now)
    return moved


def _announced(cause: Cause, new: State) -> str:
    match cause:
        case Cause.SPAWNED:
            return "runner.started"
        case Cause.UNPAUSED:
            return "runner.unpaused"
        case _:
            return _ANNOUNCED[new]


def list_runs(rows: Rows, runner_id: str, logs: Path) -> list[Run]:
    """The runs of a runner, oldest first; `logs` is the directory of all logs."""
    found = rows.all("SELECT * FROM runs WHERE runner_id = ? ORDER BY number", (runner_id,))
    return [load(Run, {**row, "log": str(logs / row["shim"] / row["key"])}) for row in found]


def list_unended(rows: Rows) -> list[RunRow]:
    """Every run that has not ended as far as the database knows."""
    return [load(RunRow, row) for row in rows.all(_RUN + "WHERE n.ended_at IS NULL")]


def list_ended_logs(rows: Rows, logs: Path) -> list[str]:
    """The files of the output of ended runs, the oldest end first; `logs` is the directory of all logs."""
    found = rows.all("SELECT key, shim FROM runs WHERE ended_at IS NOT NULL ORDER BY ended_at")
    return [str(logs / row["shim"] / row["key"]) for row in found]


def list_logs_of_project(rows: Rows, project: str, logs: Path) -> list[str]:
    """The files of the output of all runs of a project's runners."""
    found = rows.all(
        "SELECT n.key, n.shim FROM runs AS n JOIN runners AS r ON r.id = n.runner_id"
        " JOIN projects AS p ON p.id = r.project_id WHERE p.name = ?",
        (project,),
    )
    return [str(logs / row["shim"] / row["key"]) for row in found]
