"""The one row about this installation."""

import secrets

from stratavore.store.database import Rows, Tx


def begin(tx: Tx, boot_id: str) -> str | None:
    """Note that a daemon starts under `boot_id`; returns the boot id of the daemon before it, None for the first."""
    before = tx.one_or_none("SELECT boot_id FROM installation")
    if before is None:
        tx.execute(
            "INSERT INTO installation (one, id, boot_id) VALUES (1, ?, ?)", (secrets.token_hex(16), boot_id)
        )
        return None
    tx.execute("UPDATE installation SET boot_id = ?", (boot_id,))
    return str(before["boot_id"])


def last_boot_id(rows: Rows) -> str | None:
    """The boot under which a daemon last wrote here."""
    row = rows.one_or_none("SELECT boot_id FROM installation")
    return None if row is None else row["boot_id"]
