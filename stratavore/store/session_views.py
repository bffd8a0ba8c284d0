"""Conversations as people ask for them: found by a prefix, listed, with what they used and who was in them."""

from collections.abc import Collection
from datetime import datetime

import msgspec

from stratavore.clock import iso
from stratavore.errors import Ambiguous, NotFound
from stratavore.model import ModelUsage
from stratavore.money import NANO
from stratavore.store import projects
from stratavore.store.database import Rows
from stratavore.store.rows import column, load


class SessionRow(msgspec.Struct, frozen=True):
    """A conversation as the database knows it; what the disk and the living processes say is found out elsewhere.

    `holder` is the name of the runner that is in it now, `profile` the agent under which one was in it last. `left_at`
    is when a run of ours left it last, `examined_at` the end up to which it is copied.
    """

    number: int
    agent: str
    id: str
    home: str
    project: str | None
    cwd: str | None
    is_foreign: bool
    started_at: datetime | None
    ended_at: datetime | None
    last_message_at: datetime | None
    messages: int | None
    """None: nobody has read it yet."""
    parent_id: str | None
    title: str | None
    reported_nano_usd: int | None
    transcript_path: str | None
    transcript_bytes: int | None
    archive_path: str | None
    archive_sha256: str | None
    archived_at: datetime | None
    examined_at: datetime | None
    left_at: datetime | None
    holder: str | None
    last_runner: str | None
    """The id of the runner that was in it last; it may be forgotten."""
    profile: str | None

    @property
    def is_copy_due(self) -> bool:
        """An end of a run in it was not copied yet, whoever is in it now."""
        return self.left_at is not None and (self.examined_at is None or self.examined_at < self.left_at)


_SESSION = """
SELECT s.number, s.agent, s.id, s.home, p.name AS project, s.cwd, s.is_foreign, s.started_at, s.ended_at,
       s.last_message_at, s.messages, s.parent_id, COALESCE(s.name, s.title) AS title,
       s.reported_nano_usd, s.transcript_path, s.transcript_bytes,
       s.archive_path, s.archive_sha256, s.archived_at, s.examined_at,
       (SELECT MAX(h.until_at) FROM session_runs AS h WHERE h.session = s.number) AS left_at,
       (SELECT COALESCE(r.name, h.runner_id) FROM session_runs AS h LEFT JOIN runners AS r ON r.id = h.runner_id
         WHERE h.session = s.number AND h.until_at IS NULL) AS holder,
       l.runner_id AS last_runner, r.agent AS profile
  FROM sessions AS s
  LEFT JOIN projects AS p ON p.id = s.project_id
  LEFT JOIN (SELECT session, runner_id, MAX(from_at) FROM session_runs GROUP BY session) AS l ON l.session = s.number
  LEFT JOIN runners AS r ON r.id = l.runner_id
"""
_NEWEST_FIRST = " ORDER BY COALESCE(s.last_message_at, s.started_at, '') DESC, s.number DESC"


def list_rows(
    rows: Rows,
    *,
    project: str | None = None,
    agent: str | None = None,
    since: datetime | None = None,
    foreign: bool | None = None,
    limit: int = 1000,
    offset: int = 0,
) -> list[SessionRow]:
    """Conversations, the newest first. Raises NotFound: no such project."""
    conditions, values = ["1"], {"limit": limit, "offset": offset}
    given = {"p.name": project, "s.agent": agent, "s.is_foreign": column(foreign)}
    if project is not None:
        projects.get_row(rows, project)
    for name, value in given.items():
        if value is not None:
            key = name.replace(".", "_")
            conditions.append(f"{name} = :{key}")
            values[key] = value
    if since is not None:
        conditions.append("COALESCE(s.last_message_at, s.started_at) >= :since")
        values["since"] = iso(since)  # type: ignore[assignment]
    found = rows.all(f"{_SESSION} WHERE {' AND '.join(conditions)}{_NEWEST_FIRST} LIMIT :limit OFFSET :offset", values)
    return [load(SessionRow, row) for row in found]


def get_row(rows: Rows, number: int) -> SessionRow:
    """The conversation with that number."""
    return load(SessionRow, rows.one(f"{_SESSION} WHERE s.number = ?", (number,)))


def resolve(rows: Rows, reference: str) -> SessionRow:
    """The conversation that `reference` means: its id, or a unique prefix of it; of any agent.

    Raises:
        NotFound, Ambiguous: none fits; several do, and the message lists them.
    """
    found = rows.all(
        "SELECT number, agent, id FROM sessions WHERE :r <> '' AND (id = :r OR substr(id, 1, length(:r)) = :r)"
        " ORDER BY id <> :r, id LIMIT 9",
        {"r": reference},
    )
    exact = [row for row in found if row["id"] == reference]
    fitting = exact or found
    if len(fitting) > 1:
        listed = ", ".join(f"{row['id']} ({row['agent']})" for row in fitting[:8])
        raise Ambiguous(f"{reference} fits several sessions: {listed}{', …' if len(fitting) > 8 else ''}")
    if not fitting:
        raise NotFound(
            f"no session's id is or begins with {reference!r}",
            remedy="`stratavore sessions` lists them; `stratavore import` reads at once what was just begun elsewhere",
        )
    return get_row(rows, fitting[0]["number"])


def of_files(rows: Rows, paths: Collection[str]) -> set[int]:
    """The numbers of the conversations of which messages were counted in these files."""
    found = rows.tuples(
        "SELECT DISTINCT session FROM session_files WHERE path IN (SELECT value FROM json_each(?))",
        (column(list(paths)),),
    )
    return {int(number) for (number,) in found}


def runners_of(rows: Rows, numbers: Collection[int]) -> dict[int, list[str]]:
    """The names of the runners that were in each of these, the newest last; a forgotten one by its id."""
    names: dict[int, list[str]] = {}
    for number, name in rows.tuples(
        "SELECT h.session, COALESCE(r.name, h.runner_id) FROM session_runs AS h"
        " LEFT JOIN runners AS r ON r.id = h.runner_id WHERE h.session IN (SELECT value FROM json_each(?))"
        " GROUP BY h.session, h.runner_id ORDER BY MAX(h.from_at)",
        (column(list(numbers)),),
    ):
        names.setdefault(number, []).append(name)
    return names


def usage_of(rows: Rows, numbers: Collection[int]) -> dict[int, list[ModelUsage]]:
    """What each of these used, by model."""
    used: dict[int, list[ModelUsage]] = {}
    for row in rows.all(
        "SELECT session, model, COUNT(*) AS calls, SUM(input_tokens) AS input_tokens,"
        " SUM(output_tokens) AS output_tokens, SUM(cache_write_5m_tokens) AS cache_write_5m_tokens,"
        " SUM(cache_write_1h_tokens) AS cache_write_1h_tokens, SUM(cache_read_tokens) AS cache_read_tokens,"
        f" SUM(cost_nano_usd) / {NANO}.0 AS cost_usd, SUM(cost_nano_usd IS NULL) AS unpriced_calls"
        " FROM usage WHERE session IN (SELECT value FROM json_each(?)) GROUP BY session, model ORDER BY session, model",
        (column(list(numbers)),),
    ):
        used.setdefault(row["session"], []).append(load(ModelUsage, row))
    return used
