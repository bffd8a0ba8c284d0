"""Runners: what people launched, and what they want of it.

Rule 1: `alive` is 1 exactly as long as a runner holds a slot of its project's quota; `settle` and `revive` change both.
Rule 2: no state is written here; a runner's state is its last run's (see the view `public_runners`).
"""

from collections import Counter
from collections.abc import Collection, Sequence
from datetime import datetime
from typing import Any

from stratavore.clock import iso
from stratavore.errors import Ambiguous, Conflict, NotFound
from stratavore.model import Desired, Runner
from stratavore.spelling import nearest
from stratavore.store import events, projects
from stratavore.store.database import Row, Rows, Tx
from stratavore.store.directories import lies_in
from stratavore.store.rows import column, load
from stratavore.store.supervision import Supervised
from stratavore.wording import local_time


def list_runners(
    rows: Rows,
    *,
    ids: Collection[str] | None = None,
    project: str | None = None,
    state: str | None = None,
    all: bool = False,
    waiting: bool = False,
    limit: int = 10_000,
    offset: int = 0,
) -> list[Runner]:
    """Runners, oldest first: the living ones; with `all`, `ids` or `state` the ended ones too.

    With `waiting` only those that wait for a person, who waits longest first.

    Raises:
        NotFound: no such project.
    """
    conditions, values = ["1"], {"limit": limit, "offset": offset}
    if ids is not None:
        conditions.append("id IN (SELECT value FROM json_each(:ids))")
        values["ids"] = column(list(ids))
    elif state is None and not all:
        conditions.append("alive = 1")
    if project is not None:
        projects.get_row(rows, project)
        conditions.append("project = :project")
        values["project"] = project  # type: ignore[assignment]
    if state is not None:
        conditions.append("state = :state")
        values["state"] = column(state)
    if waiting:
        conditions.append("activity IN ('waiting_permission', 'waiting_input')")
    order = "activity_since, id" if waiting else "created_at, id"
    found = rows.all(
        f"SELECT * FROM public_runners WHERE {' AND '.join(conditions)} ORDER BY {order} LIMIT :limit OFFSET :offset",
        values,
    )
    return [load(Runner, row) for row in found]


def list_in(rows: Rows, directory: str, *, below: bool = False) -> list[Runner]:
    """The living runners whose directory that is; or with `below` one inside it."""
    found = rows.all(
        f"SELECT * FROM public_runners WHERE alive = 1 AND {lies_in('cwd', ':cwd') if below else 'cwd = :cwd'}"
        " ORDER BY created_at, id",
        {"cwd": directory},
    )
    return [load(Runner, row) for row in found]


def get_runner(rows: Rows, reference: str) -> Runner:
    """The runner that `reference` means; raises NotFound or Ambiguous."""
    return list_runners(rows, ids=[resolve(rows, reference)])[0]


def resolve(rows: Rows, reference: str, *, strict: bool = False) -> str:
    """The id of the runner that `reference` means: a name, an id, or a unique prefix of either.

    Exact before prefix, living before ended, the newest of several ended ones of the same name; `strict` refuses to
    choose among these.

    Raises:
        NotFound, Ambiguous: none fits; several do, and the message lists them.
    """
    if not reference:
        raise NotFound("a runner's name is empty")
    exact = rows.all(
        "SELECT r.id, r.name, r.alive, r.created_at, p.name AS project FROM runners AS r"
        " JOIN projects AS p ON p.id = r.project_id WHERE r.id = :r OR r.name = :r"
        " ORDER BY r.id = :r DESC, r.alive DESC, r.created_at DESC LIMIT 9",
        {"r": reference},
    )
    if strict and len(exact) > 1 and not exact[0]["alive"] and exact[0]["id"] != reference:
        listed = ", ".join(
            f"{row['id']} (of {row['project']}, launched {local_time(row['created_at'])})" for row in exact[:8]
        )
        raise Ambiguous(
            f"several ended runners are called {reference}: {listed}{', …' if len(exact) > 8 else ''}",
            remedy="give the id",
        )
    if exact:
        return str(exact[0]["id"])
    for living in (1, 0):
        found = rows.all(
            "SELECT id, name FROM runners WHERE alive = :living"
            " AND (substr(id, 1, :n) = :r OR substr(name, 1, :n) = :r) ORDER BY name LIMIT 9",
            {"living": living, "n": len(reference), "r": reference},
        )
        if len(found) == 1:
            return str(found[0]["id"])
        if found:
            listed = ", ".join(f"{row['name']} ({row['id']})" for row in found[:8])
            raise Ambiguous(f"{reference} fits several runners: {listed}{', …' if len(found) > 8 else ''}")
    listed = "`stratavore runners --all` lists them"
    near = nearest(reference, [row["name"] for row in rows.all("SELECT DISTINCT name FROM runners")])
    raise NotFound(
        f"no runner is called {reference} or begins so",
        remedy=f"did you mean {near}? {listed}" if near else listed,
    )


def resolve_all(rows: Rows, references: str, project: str | None, *, strict: bool = False) -> list[str]:
    """The ids that a list of references means: `*` for all living (of `project`), else names, ids, prefixes."""
    if references == "*":
        if project is not None:
            projects.get_row(rows, project)
        found = rows.all(
            "SELECT r.id FROM runners AS r JOIN projects AS p ON p.id = r.project_id"
            " WHERE r.alive = 1 AND (:project IS NULL OR p.name = :project) ORDER BY r.created_at",
            {"project": project},
        )
        return [row["id"] for row in found]
    named = references.split(",")
    known = rows.all("SELECT id FROM runners WHERE id IN (SELECT value FROM json_each(?))", (column(named),))
    ids = {row["id"] for row in known}
    return list(dict.fromkeys(name if name in ids else resolve(rows, name, strict=strict) for name in named))


def list_ids(rows: Rows) -> frozenset[str]:
    """The id of every runner that the database knows."""
    return frozenset(row["id"] for row in rows.all("SELECT id FROM runners"))


def exists(rows: Rows, runner_id: str) -> bool:
    """Whether the database knows that id."""
    return rows.one_or_none("SELECT 1 FROM runners WHERE id = ?", (runner_id,)) is not None


def is_living_name(rows: Rows, name: str) -> bool:
    """Whether a living runner is called `name`."""
    return bool(living_names(rows, [name]))


def living_names(rows: Rows, names: Collection[str]) -> set[str]:
    """Those of the names that living runners have."""
    found = rows.all(
        "SELECT name FROM runners WHERE alive = 1 AND name IN (SELECT value FROM json_each(?))",
        (column(list(names)),),
    )
    return {row["name"] for row in found}


def insert(tx: Tx, runner: dict[str, Any]) -> None:
    """Store a new runner, whose slot was taken before. Raises what `insert_all` raises."""
    insert_all(tx, [runner])


def insert_all(tx: Tx, new: Sequence[dict[str, Any]]) -> None:
    """Store new runners, each a dict of the same columns, whose slots were taken before.

    Raises:
        Conflict: a living runner has one of the names.
    """
    if taken := living_names(tx, [runner["name"] for runner in new]):
        name = min(taken)
        raise Conflict(f"a runner called {name} lives", remedy=f"`stratavore attach {name}`, or another --name")
    names = new[0].keys()
    tx.execute_many(
        f"INSERT INTO runners ({', '.join(names)}) VALUES ({', '.join(':' + name for name in names)})",
        [{name: column(value) for name, value in runner.items()} for runner in new],
    )


def free_names(tx: Tx, project_id: int, count: int) -> list[str]:
    """`count` names `<project>-<number>` that no living runner has, counting up from the last launch."""
    row = tx.one("SELECT name, launches FROM projects WHERE id = ?", (project_id,))
    stem, number, names = row["name"][:56], row["launches"] - count, list[str]()
    while missing := count - len(names):
        wanted = [f"{stem}-{number + each}" for each in range(1, missing + 1)]
        taken = living_names(tx, wanted)
        names += [name for name in wanted if name not in taken]
        number += missing
    return names


def want(tx: Tx, runner_id: str, desired: Desired, *, then_start: bool = False) -> None:
    """Note what a person wants; a pending retry is called off, unless it is wanted to run."""
    want_all(tx, [runner_id], desired, then_start=then_start)


def want_all(tx: Tx, runner_ids: Collection[str], desired: Desired, *, then_start: bool = False) -> None:
    """Note what a person wants of all of these."""
    tx.execute(
        "UPDATE runners SET desired = :desired, then_start = :then_start"
        " WHERE id IN (SELECT value FROM json_each(:ids))",
        {"desired": desired.value, "then_start": int(then_start), "ids": column(list(runner_ids))},
    )


def want_unasked(tx: Tx, runner_id: str, desired: Desired, *, instead_of: Collection[Desired]) -> bool:
    """Wish it for a person, as a limit does, while they want one of `instead_of` and no restart; returns whether."""
    return bool(
        tx.execute(
            "UPDATE runners SET desired = :desired WHERE id = :id AND then_start = 0"
            " AND desired IN (SELECT value FROM json_each(:instead_of))",
            {"desired": desired.value, "id": runner_id, "instead_of": column(list(instead_of))},
        )
    )


def settle(tx: Tx, runner_id: str) -> None:
    """Nothing will start it again by itself: give its slot back."""
    settle_all(tx, [runner_id])


def settle_all(tx: Tx, runner_ids: Collection[str]) -> None:
    """Nothing will start any of these again by itself: give their slots back."""
    settled = tx.all(
        "UPDATE runners SET alive = 0, then_start = 0, retry_at = NULL, retry_at_boottime = NULL, retry_boot_id = NULL"
        " WHERE id IN (SELECT value FROM json_each(?)) AND alive = 1 RETURNING project_id",
        (column(list(runner_ids)),),
    )
    for project_id, count in Counter(row["project_id"] for row in settled).items():
        projects.free_slots(tx, project_id, count)


def call_off_retry(tx: Tx, runner: Supervised, *, actor: str, now: datetime) -> None:
    """It is between two runs and shall not run again."""
    if runner.alive:
        settle(tx, runner.id)
        events.append(tx, "runner.retry_called_off", runner.id, runner.whose(), actor=actor, now=now)


def revive(tx: Tx, runner: Supervised) -> None:
    """Take a slot again for an ended runner; raises QuotaExceeded, or Conflict when its name has gone to another."""
    projects.take_slots(tx, runner.project_id, 1, partial=False)
    if is_living_name(tx, runner.name):
        raise Conflict(f"another runner is called {runner.name} now", remedy="`stratavore rename` one of them")
    tx.execute(
        "UPDATE runners SET alive = 1, desired = 'running', failures = 0 WHERE id = ?",
        (runner.id,),
    )


def lives_after_all(tx: Tx, runner_id: str) -> None:
    """A later run of it than was known lives: it holds a slot, over quota or not; what was to come first is past."""
    row = tx.one("SELECT name, project_id, alive FROM runners WHERE id = ?", (runner_id,))
    name = row["name"]
    if not row["alive"]:
        projects.book_slot(tx, row["project_id"])
        name = name_to_adopt(tx, name, runner_id)
    tx.execute(
        "UPDATE runners SET desired = CASE WHEN alive = 1 AND desired = 'paused' THEN desired ELSE 'running' END,"
        " name = ?, then_start = 0, retry_at = NULL, retry_at_boottime = NULL, retry_boot_id = NULL, alive = 1"
        " WHERE id = ?",
        (name, runner_id),
    )


def name_to_adopt(tx: Tx, name: str, runner_id: str) -> str:
    """`name`, with the id behind it if a living runner has that name."""
    return f"{name[:53]}-{runner_id}" if is_living_name(tx, name) else name


def schedule_retry(
    tx: Tx,
    runner_id: str,
    whose: dict[str, str],
    *,
    at: datetime,
    at_boottime: float,
    boot_id: str,
    failures: int,
    now: datetime,
) -> None:
    """Enter the backoff: the supervisor starts the runner again when the boot clock says `at_boottime`."""
    tx.execute(
        "UPDATE runners SET retry_at = ?, retry_at_boottime = ?, retry_boot_id = ?, failures = ? WHERE id = ?",
        (iso(at), at_boottime, boot_id, failures, runner_id),
    )
    events.append(
        tx,
        "runner.backing_off",
        runner_id,
        {**whose, "retry_at": iso(at), "failures": failures},
        actor="supervisor",
        now=now,
    )


def put_off(tx: Tx, runner_id: str, *, at: datetime, at_boottime: float) -> None:
    """A start that is due is tried again at that moment."""
    tx.execute(
        "UPDATE runners SET retry_at = ?, retry_at_boottime = ? WHERE id = ? AND retry_at IS NOT NULL",
        (iso(at), at_boottime, runner_id),
    )


def begin_again(tx: Tx, runner_id: str, *, by_itself: bool) -> None:
    """Leave the backoff (or the end) for a new run; `by_itself` when no person asked."""
    tx.execute(
        "UPDATE runners SET retry_at = NULL, retry_at_boottime = NULL, retry_boot_id = NULL, then_start = 0,"
        " restarts = restarts + 1, failures = CASE WHEN :by_itself THEN failures ELSE 0 END WHERE id = :id",
        {"by_itself": int(by_itself), "id": runner_id},
    )


def rename(tx: Tx, runner_id: str, name: str, *, actor: str, now: datetime) -> None:
    """Give it another name; raises Conflict when a living runner has it."""
    row = _named(tx, runner_id)
    if row["name"] == name:
        return
    if is_living_name(tx, name):
        raise Conflict(f"a runner called {name} lives", remedy="choose another name")
    tx.execute("UPDATE runners SET name = ? WHERE id = ?", (name, runner_id))
    events.append(tx, "runner.renamed", runner_id, {"was": row["name"], "name": name}, actor=actor, now=now)


def remove(tx: Tx, runner_id: str, *, actor: str, now: datetime) -> None:
    """Forget an ended runner and its runs; raises Conflict while it lives."""
    row = _named(tx, runner_id)
    if row["alive"]:
        raise Conflict(f"{row['name']} is alive", remedy=f"`stratavore stop {row['name']}` first")
    tx.execute("DELETE FROM runners WHERE id = ?", (runner_id,))
    events.append(tx, "runner.removed", runner_id, {"name": row["name"]}, actor=actor, now=now)


def _named(tx: Tx, runner_id: str) -> Row:
    """Its name, and whether it lives; raises NotFound, for somebody may have removed it meanwhile."""
    row = tx.one_or_none("SELECT name, alive FROM runners WHERE id = ?", (runner_id,))
    if row is None:
        raise NotFound(f"there is no runner {runner_id}")
    return row


def list_prunable(rows: Rows, *, before: datetime) -> list[str]:
    """The ids of runners that ended before that moment."""
    found = rows.all(
        "SELECT r.id FROM runners AS r JOIN runs AS n ON n.runner_id = r.id AND n.number = r.run"
        " WHERE r.alive = 0 AND n.ended_at < ?",
        (iso(before),),
    )
    return [row["id"] for row in found]


def count_outside(rows: Rows, ids: Collection[str], states: Collection[str], doing: Collection[str] = ()) -> int:
    """How many of these runners are in none of these states, nor run with an agent that does one of these things."""
    if doing:
        return int(
            rows.scalar(
                "SELECT COUNT(*) FROM public_runners WHERE id IN (SELECT value FROM json_each(:ids))"
                " AND state NOT IN (SELECT value FROM json_each(:states))"
                " AND NOT (state = 'running' AND activity IN (SELECT value FROM json_each(:doing))"
                # It may show its input line already, and has still to begin.
                " AND NOT (activity = 'idle' AND prompt_pending))",
                {"ids": column(list(ids)), "states": column(list(states)), "doing": column(list(doing))},
            )
        )
    return int(
        rows.scalar(
            "SELECT COUNT(*) FROM runners AS r JOIN runs AS n ON n.runner_id = r.id AND n.number = r.run"
            " WHERE r.id IN (SELECT value FROM json_each(:ids))"
            " AND CASE WHEN r.retry_at IS NOT NULL THEN 'backoff' ELSE n.state END"
            " NOT IN (SELECT value FROM json_each(:states))",
            {"ids": column(list(ids)), "states": column(list(states))},
        )
    )


def count_by_state(rows: Rows) -> dict[str, int]:
    """How many living runners are in each state."""
    found = rows.all(
        "SELECT CASE WHEN r.retry_at IS NOT NULL THEN 'backoff' ELSE n.state END AS state, COUNT(*) AS n"
        " FROM runners AS r JOIN runs AS n ON n.runner_id = r.id AND n.number = r.run"
        " WHERE r.alive = 1 GROUP BY 1 ORDER BY 1"
    )
    return {row["state"]: row["n"] for row in found}
