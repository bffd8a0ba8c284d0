"""How far each file of an agent was read.

Rule 1: a step is stored in the transaction that books what it brought, and only from where the one before ended.
Rule 2: the offset says how far everything was booked; it is never ahead of the ledger.
"""

from collections.abc import Collection
from typing import NamedTuple

from stratavore.store.database import Rows, Tx
from stratavore.store.rows import column


class Tail(NamedTuple):
    """One file, in the order of its columns; where it is a database, `cursor` stands in the place of the offset."""

    path: str
    agent: str
    home: str
    session_id: str | None = None
    is_subagent: int = 0
    device: int = 0
    inode: int = 0
    head_sha256: str = ""
    generation: int = 0
    offset: int = 0
    size_seen: int = 0
    is_skipping: int = 0
    bad_lines: int = 0
    skipped_bytes: int = 0
    memory: str = ""
    cursor: str = ""

    @property
    def step(self) -> tuple[int, int, str]:
        """Where it stands."""
        return self.generation, self.offset, self.cursor


_COLUMNS = ", ".join(Tail._fields)
_STORE = (
    f"INSERT INTO tails ({_COLUMNS}) VALUES ({', '.join('?' * len(Tail._fields))}) ON CONFLICT (path) DO UPDATE SET"
    f" {', '.join(f'{name} = excluded.{name}' for name in Tail._fields[1:])}"
)


def find_all(rows: Rows, paths: Collection[str]) -> dict[str, Tail]:
    """Those of these files that were ever read, by path."""
    found = rows.tuples(
        f"SELECT {_COLUMNS} FROM tails WHERE path IN (SELECT value FROM json_each(?))", (column(list(paths)),)
    )
    return {row[0]: Tail(*row) for row in found}


def list_paths(rows: Rows) -> set[str]:
    """Every file that was ever read."""
    return {path for (path,) in rows.tuples("SELECT path FROM tails")}


def list_homes(rows: Rows) -> list[tuple[str, str]]:
    """The agents and account directories of which something was read."""
    return [(agent, home) for agent, home in rows.tuples("SELECT DISTINCT agent, home FROM tails")]


def step(tx: Tx, was: Tail, now: Tail) -> bool:
    """Store how far it was read; False, and nothing is stored, if it was not read so far as `was`."""
    known = tx.tuples("SELECT generation, offset, cursor FROM tails WHERE path = ?", (now.path,))
    if (known[0] if known else (0, 0, "")) != was.step:
        return False
    tx.execute(_STORE, now)
    return True
