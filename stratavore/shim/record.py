"""The exit record of a run, and its form in a shim's journal.

Rule 1: an entry is length, CRC-32, an acked byte, and JSON `{"n": sequence, "record": {…}}`.
Rule 2: the sequence counts up by one. What follows the newest entry (zeros, a torn entry, the remainder of before the
journal began again at its start) breaks it, and there a replay ends.
"""

import struct
import zlib
from typing import Any, NamedTuple

from stratavore.shim.wire import encode

HEADER = struct.Struct(">IIB")
ACKED_AT = 8
"""Where in an entry the acked byte stands."""


class ExitRecord(NamedTuple):
    """How one run ended, as the shim that waited for it wrote it down. Exactly one of code and signal is None."""

    key: str
    label: str
    pid: int
    start_time: int
    """Clock ticks since boot, field 22 of /proc/PID/stat."""
    boot_id: str
    exit_code: int | None
    exit_signal: int | None
    utime_seconds: float
    stime_seconds: float
    max_rss_bytes: int
    output_bytes: int
    dropped_bytes: int
    """Output that the disk refused; not part of `output_bytes`."""
    started_at: int
    ended_at: int
    """UTC, milliseconds."""
    stop_by: str | None
    """Who asked for the stop or kill, if anybody did."""

    @classmethod
    def from_wire(cls, raw: dict[str, Any]) -> "ExitRecord":
        return cls(*(raw[name] for name in cls._fields))


def entry(sequence: int, record: ExitRecord) -> bytes:
    """One entry of a journal."""
    payload = encode({"n": sequence, "record": record._asdict()})
    return HEADER.pack(len(payload), zlib.crc32(payload), 0) + payload
