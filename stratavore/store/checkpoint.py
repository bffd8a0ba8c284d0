"""Moving the WAL into the database file.

Rule 1: only the writer does it, after it has answered: PASSIVE each 1000 pages, which waits for nobody.
Rule 2: TRUNCATE gives the WAL's room back: when nothing is asked for a while, and when it grew over 64 MiB.
Rule 3: a reader that holds a snapshot holds the WAL back; that is counted, not waited for (200 ms at most).
"""

import time
from pathlib import Path

import apsw

from stratavore.store.connect import PAGE_BYTES
from stratavore.store.place import side_file

PASSIVE_PAGES = 1000
TRUNCATE_BYTES = 64 * 1024 * 1024
TRUNCATE_PAUSE_SECONDS = 5.0
_TRUNCATE_BUSY_MS = 200
_FRAME_BYTES = PAGE_BYTES + 24


class Checkpoints:
    """What the WAL holds, and when it is emptied. Used by the writer's thread only; the figures by anyone."""

    def __init__(self, path: Path, connection: apsw.Connection) -> None:
        self.done = 0
        self.busy = 0
        self._wal = side_file(path, "-wal")
        self._connection = connection
        self._pages = self.wal_bytes // _FRAME_BYTES
        self._pages_at_last = 0
        self._truncate_after = 0.0
        connection.set_wal_hook(self._grew)

    @property
    def wal_bytes(self) -> int:
        """The size of the WAL file."""
        try:
            return self._wal.stat().st_size
        except FileNotFoundError:
            return 0

    def after_batch(self) -> None:
        """Checkpoint if enough came together. Raises apsw.Error when the disk refuses."""
        if self._pages < self._pages_at_last:
            self._pages_at_last = 0  # The WAL began anew.
        if self._pages - self._pages_at_last < PASSIVE_PAGES:
            return
        if self._pages * _FRAME_BYTES > TRUNCATE_BYTES and time.monotonic() >= self._truncate_after:
            self.truncate()
        else:
            self._checkpoint(apsw.SQLITE_CHECKPOINT_PASSIVE)

    def truncate(self) -> None:
        """Empty the WAL, unless a reader needs it. Raises apsw.Error when the disk refuses."""
        if not self._pages:
            return
        self._truncate_after = time.monotonic() + TRUNCATE_PAUSE_SECONDS
        self._connection.set_busy_timeout(_TRUNCATE_BUSY_MS)
        self._checkpoint(apsw.SQLITE_CHECKPOINT_TRUNCATE)

    def _checkpoint(self, mode: int) -> None:
        self._pages_at_last = self._pages
        try:
            in_wal, moved = self._connection.wal_checkpoint(mode=mode)
        except apsw.BusyError:
            self.busy += 1
            return
        self.done += 1
        self.busy += moved < in_wal
        if mode == apsw.SQLITE_CHECKPOINT_TRUNCATE:
            self._pages = self._pages_at_last = 0

    def _grew(self, _connection: apsw.Connection, _name: str, pages: int) -> int:
        self._pages = pages
        return apsw.SQLITE_OK
