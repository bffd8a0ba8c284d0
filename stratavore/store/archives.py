"""Copies of transcripts, as the database knows them."""

from collections.abc import Collection
from datetime import datetime
from typing import NamedTuple

from stratavore.clock import iso
from stratavore.store import events
from stratavore.store.database import Rows, Tx
from stratavore.store.rows import column


class Due(NamedTuple):
    """A conversation of ours that ended since it was last copied."""

    number: int
    ended_at: str


def list_due(rows: Rows, *, limit: int) -> list[Due]:
    """Those that ended and were not examined since; the oldest end first."""
    found = rows.tuples(
        "SELECT number, ended_at FROM sessions WHERE is_foreign = 0 AND ended_at IS NOT NULL"
        " AND (examined_at IS NULL OR examined_at < ended_at) ORDER BY ended_at LIMIT ?",
        (limit,),
    )
    return [Due(*row) for row in found]


def note_examined(tx: Tx, number: int, ended_at: str) -> None:
    """All of it that there was at that end is copied."""
    tx.execute(
        "UPDATE sessions SET examined_at = MAX(COALESCE(examined_at, ''), ?) WHERE number = ?", (ended_at, number)
    )


def note_copy(tx: Tx, number: int, path: str, sha256: str, transcript_bytes: int, *, actor: str, now: datetime) -> None:
    """There is a copy of it, in the place of an older one."""
    row = tx.one(
        "UPDATE sessions SET archive_path = ?, archive_sha256 = ?, transcript_bytes = ?, archived_at = ?"
        " WHERE number = ? RETURNING agent, id",
        (path, sha256, transcript_bytes, iso(now), number),
    )
    told = {"agent": row["agent"], "bytes": transcript_bytes, "sha256": sha256}
    events.append(tx, "session.archived", row["id"], told, actor=actor, now=now)


def list_old(rows: Rows, *, before: datetime) -> dict[int, str]:
    """The copies of conversations in which nobody was since then: their places, by number."""
    found = rows.tuples(
        "SELECT number, archive_path FROM sessions AS s WHERE archive_path IS NOT NULL"
        " AND MAX(archived_at, COALESCE(ended_at, ''), COALESCE(last_message_at, '')) < ?"
        " AND NOT EXISTS (SELECT 1 FROM session_runs AS h WHERE h.session = s.number AND h.until_at IS NULL)",
        (iso(before),),
    )
    return dict(found)


def list_paths(rows: Rows) -> set[str]:
    """Where all copies are that are known."""
    return {str(path) for (path,) in rows.tuples("SELECT archive_path FROM sessions WHERE archive_path IS NOT NULL")}


def forget(tx: Tx, numbers: Collection[int]) -> None:
    """Their copies are removed."""
    tx.execute(
        "UPDATE sessions SET archive_path = NULL, archive_sha256 = NULL, archived_at = NULL"
        " WHERE number IN (SELECT value FROM json_each(?))",
        (column(list(numbers)),),
    )
