"""The one row about this installation."""

import secrets
from datetime import datetime

from stratavore.clock import iso
from stratavore.store.database import Rows, Tx


def begin(tx: Tx, boot_id: str, *, timezone: str = "", now: datetime) -> None:
    """Note that a daemon starts under `boot_id`; the first one begins the installation.

    From now on days begin by the clock of `timezone`; empty: this machine's.
    """
    tx.execute(
        "INSERT INTO installation (one, id, boot_id, began_at, timezone) VALUES (1, ?1, ?2, ?3, ?4)"
        " ON CONFLICT (one) DO UPDATE SET boot_id = ?2, timezone = ?4",
        (secrets.token_hex(16), boot_id, iso(now), timezone),
    )


def began_at(rows: Rows) -> datetime:
    """When this database was begun: what is older on the disk belongs to another."""
    return datetime.fromisoformat(str(rows.scalar("SELECT began_at FROM installation")))


def last_boot_id(rows: Rows) -> str | None:
    """The boot under which a daemon last wrote here."""
    row = rows.one_or_none("SELECT boot_id FROM installation")
    return None if row is None else row["boot_id"]


def timezone(rows: Rows) -> str:
    """The zone by whose clock days begin; empty: this machine's."""
    return str(rows.scalar("SELECT timezone FROM installation") or "")
