"""The one row about this installation."""

import secrets
from datetime import datetime

from stratavore.clock import iso
from stratavore.store.database import Rows, Tx


def begin(tx: Tx, boot_id: str, *, now: datetime) -> None:
    """Note that a daemon starts under `boot_id`; the first one begins the installation."""
    tx.execute(
        "INSERT INTO installation (one, id, boot_id, began_at) VALUES (1, ?1, ?2, ?3)"
        " ON CONFLICT (one) DO UPDATE SET boot_id = ?2",
        (secrets.token_hex(16), boot_id, iso(now)),
    )


def began_at(rows: Rows) -> datetime:
    """When this database was begun: what is older on the disk belongs to another."""
    return datetime.fromisoformat(str(rows.scalar("SELECT began_at FROM installation")))


def last_boot_id(rows: Rows) -> str | None:
    """The boot under which a daemon last wrote here."""
    row = rows.one_or_none("SELECT boot_id FROM installation")
    return None if row is None else row["boot_id"]


def set_timezone(tx: Tx, name: str) -> None:
    """From now on days begin by the clock of this zone; empty: this machine's."""
    tx.execute("UPDATE installation SET timezone = ?", (name,))


def timezone(rows: Rows) -> str:
    """The zone by whose clock days begin; empty: this machine's."""
    return str(rows.scalar("SELECT timezone FROM installation") or "")
