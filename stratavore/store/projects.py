"""Projects: rows, slots of their quota, and the public view of them."""

from datetime import datetime
from typing import Any

from stratavore.clock import iso
from stratavore.errors import Conflict, NotFound, QuotaExceeded
from stratavore.model import Project
from stratavore.spelling import nearest
from stratavore.store import attribution, events
from stratavore.store.database import Row, Rows, Tx
from stratavore.store.rows import column, load

_EDITABLE = frozenset(
    "name path agent description tags max_runners max_memory_bytes max_cpu_percent on_quota archived_at".split()
)


def list_projects(rows: Rows, status: str | None = None) -> list[Project]:
    """All projects, or those of one status, by name; the archived ones only when they are asked for."""
    found = rows.all(
        "SELECT * FROM public_projects WHERE CASE WHEN :status IS NULL THEN status <> 'archived'"
        " ELSE status = :status END ORDER BY name",
        {"status": column(status)},
    )
    return [load(Project, row) for row in found]


def get_project(rows: Rows, name: str) -> Project:
    """The project called `name`.

    Raises:
        NotFound: there is none.
    """
    return load(Project, get_row(rows, name))


def get_row(rows: Rows, name: str) -> Row:
    """The public row of the project called `name`, its number included; raises NotFound."""
    row = rows.one_or_none("SELECT * FROM public_projects WHERE name = ?", (name,))
    if row is None:
        near = nearest(name, [project["name"] for project in rows.all("SELECT name FROM projects")])
        raise NotFound(
            f"no project is called {name}",
            remedy=f"did you mean {near}? `stratavore projects` lists them"
            if near
            else "`stratavore projects` lists them, `stratavore new` makes one",
        )
    return row


def find_by_path(rows: Rows, path: str) -> Project | None:
    """The project of the directory `path` that is not archived, if there is one."""
    row = rows.one_or_none(
        "SELECT * FROM public_projects WHERE path = ? AND archived_at IS NULL ORDER BY name", (path,)
    )
    return None if row is None else load(Project, row)


def insert(tx: Tx, project: dict[str, Any], *, actor: str, now: datetime) -> Project:
    """Make a project out of its columns.

    Raises:
        Conflict: the name is taken.
    """
    name = project["name"]
    if tx.one_or_none("SELECT 1 FROM projects WHERE name = ?", (name,)):
        raise Conflict(f"a project called {name} exists", remedy="choose another name, or `stratavore projects set`")
    columns = {key: column(value) for key, value in project.items()} | {"created_at": iso(now)}
    tx.execute(
        f"INSERT INTO projects ({', '.join(columns)}) VALUES ({', '.join(':' + key for key in columns)})",
        columns,
    )
    attribution.belong_to(tx, get_row(tx, name)["id"], project["path"])
    events.append(tx, "project.created", name, {"path": project["path"]}, actor=actor, now=now)
    return get_project(tx, name)


def edit(tx: Tx, name: str, changes: dict[str, Any], *, actor: str, now: datetime) -> Project:
    """Apply `changes` (columns by name) to the project called `name`.

    Raises:
        NotFound, Conflict: no such project; the new name is taken; runners live in what is to be archived.
    """
    row = get_row(tx, name)
    new_name = changes.get("name", name)
    if new_name != name and tx.one_or_none("SELECT 1 FROM projects WHERE name = ?", (new_name,)):
        raise Conflict(f"a project called {new_name} exists", remedy="choose another name")
    if changes.get("archived_at") and row["runners"]:
        raise Conflict(
            f"{name} has {row['runners']} living runners",
            remedy=f"`stratavore stop --project {name} --all` first",
        )
    values = {key: column(value) for key, value in changes.items() if key in _EDITABLE}
    if values:
        assignments = ", ".join(f"{key} = :{key}" for key in values)
        tx.execute(f"UPDATE projects SET {assignments} WHERE id = :id", {**values, "id": row["id"]})
        events.append(tx, "project.edited", new_name, {"was": name, "changed": sorted(values)}, actor=actor, now=now)
    return get_project(tx, new_name)


def delete(tx: Tx, name: str, *, actor: str, now: datetime) -> list[str]:
    """Forget a project and its ended runners; its directory is not touched. Returns the ids of those runners.

    Raises:
        Conflict: it has living runners.
    """
    row = get_row(tx, name)
    if row["runners"]:
        raise Conflict(
            f"{name} has {row['runners']} living runners",
            remedy=f"`stratavore stop --project {name} --all` first",
        )
    runners = [r["id"] for r in tx.all("SELECT id FROM runners WHERE project_id = ?", (row["id"],))]
    tx.execute("DELETE FROM runners WHERE project_id = ?", (row["id"],))
    # What was used stays, as nobody's: a project that is made later may get the same number.
    tx.execute("UPDATE usage SET project_id = NULL WHERE project_id = ?", (row["id"],))
    tx.execute("DELETE FROM projects WHERE id = ?", (row["id"],))
    events.append(tx, "project.deleted", name, {"path": row["path"], "runners": len(runners)}, actor=actor, now=now)
    return runners


def take_slots(tx: Tx, project_id: int, count: int, *, partial: bool) -> int:
    """Take `count` slots of the project's quota, or with `partial` as many as are free; returns how many.

    Raises:
        QuotaExceeded: not all (with `partial`: none) are free.
        Conflict: the project is archived.
    """
    row = tx.one("SELECT name, live_runners, max_runners, archived_at FROM projects WHERE id = ?", (project_id,))
    if row["archived_at"] is not None:
        raise Conflict(f"{row['name']} is archived", remedy=f"`stratavore projects unarchive {row['name']}`")
    free = max(0, row["max_runners"] - row["live_runners"])
    taken = min(count, free) if partial else count
    granted = tx.execute(
        "UPDATE projects SET live_runners = live_runners + :n, launches = launches + :n"
        " WHERE id = :id AND live_runners + :n <= max_runners AND :n > 0",
        {"n": taken, "id": project_id},
    )
    if not granted:
        raise quota_exceeded(row["name"], row["max_runners"], row["live_runners"], count)
    return taken


def quota_exceeded(name: str, limit: int, living: int, count: int) -> QuotaExceeded:
    """The refusal of `count` more runners."""
    return QuotaExceeded(
        f"{name} may have {limit} runners and has {living}; {count} more do not fit",
        remedy=f"stop one, or `stratavore projects set {name} --max-runners N`"
        + (", or take what fits with --partial" if count > 1 and living < limit else ""),
    )


def book_slot(tx: Tx, project_id: int) -> None:
    """Count one more living runner, over quota or not: it lives already."""
    tx.execute("UPDATE projects SET live_runners = live_runners + 1 WHERE id = ?", (project_id,))


def free_slots(tx: Tx, project_id: int, count: int) -> None:
    """Give slots back."""
    tx.execute("UPDATE projects SET live_runners = live_runners - ? WHERE id = ?", (count, project_id))
