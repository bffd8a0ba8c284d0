"""The event log: what happened, in order, chained by hashes.

Rule 1: `append` is called in the transaction of the change that the event tells of.
Rule 2: events are never changed; pruning removes the oldest and leaves a checkpoint from which the chain goes on.
Rule 3: the hash of an event covers everything in it but its `seq`, and the hash before it.
"""

import hashlib
from collections.abc import Iterator, Sequence
from datetime import datetime
from itertools import takewhile
from typing import Any, NamedTuple

import msgspec

from stratavore.clock import iso, new_event_id
from stratavore.model import Event
from stratavore.store.database import Row, Rows, Tx
from stratavore.store.rows import load

SCHEMA_VERSION = 1
GENESIS = "0" * 64
# What an event takes from what was before it: the newest may have been pruned to a checkpoint.
_BEFORE = f"""
SELECT generation, COALESCE((SELECT hash FROM events ORDER BY seq DESC LIMIT 1),
                            (SELECT hash FROM event_checkpoints ORDER BY seq DESC LIMIT 1),
                            '{GENESIS}') AS previous_hash
  FROM installation
"""
_HASHED = (
    "event_id",
    "aggregate_type",
    "aggregate_id",
    "aggregate_seq",
    "type",
    "schema_version",
    "payload",
    "at",
    "actor",
    "generation",
)
_COUNT = (
    "INSERT INTO aggregates (type, id, seq) VALUES (?, ?, 1)"
    " ON CONFLICT (type, id) DO UPDATE SET seq = seq + 1 RETURNING seq"
)
_INSERT = """
INSERT INTO events (event_id, aggregate_type, aggregate_id, aggregate_seq, type, schema_version, payload, at, actor,
                    generation, previous_hash, hash)
VALUES (:event_id, :aggregate_type, :aggregate_id, :aggregate_seq, :type, :schema_version, :payload, :at, :actor,
        :generation, :previous_hash, :hash)
"""


class Fact(NamedTuple):
    """What happened: `type` (`runner.started`, …), to the aggregate of that id; its kind stands before the dot.

    `payload` must be JSON and hold no secret; `actor` says who did it (`cli uid=1000 pid=7`, `supervisor`, …).
    """

    type: str
    aggregate_id: str
    payload: dict[str, Any]
    actor: str

    @property
    def aggregate(self) -> tuple[str, str]:
        """Kind and id of what it happened to."""
        return self.type.partition(".")[0], self.aggregate_id


def append(tx: Tx, type: str, aggregate_id: str, payload: dict[str, Any], *, actor: str, now: datetime) -> None:
    """Record one Fact."""
    append_all(tx, [Fact(type, aggregate_id, payload, actor)], now=now)


def append_all(tx: Tx, facts: Sequence[Fact], *, now: datetime) -> None:
    """Record what happened, in this order."""
    if not facts:
        return
    numbers = tx.scalars(_COUNT, [fact.aggregate for fact in facts])
    before: Row = tx.memo.get(_BEFORE) or tx.one(_BEFORE)
    tx.execute_many(_INSERT, _chained(tx, facts, numbers, before, now))


def _chained(tx: Tx, facts: Sequence[Fact], numbers: Sequence[int], before: Row, now: datetime) -> Iterator[Row]:
    """The rows, each with the hash of the one before it; the last of them is remembered."""
    for fact, number in zip(facts, numbers, strict=True):
        row = {
            "event_id": new_event_id(now),
            "aggregate_type": fact.aggregate[0],
            "aggregate_id": fact.aggregate_id,
            "aggregate_seq": number,
            "type": fact.type,
            "schema_version": SCHEMA_VERSION,
            "payload": msgspec.json.encode(fact.payload).decode(),
            "at": iso(now),
            "actor": fact.actor,
            **before,
        }
        row["hash"] = digest(row)
        yield row
        before = tx.memo[_BEFORE] = {"generation": row["generation"], "previous_hash": row["hash"]}


def digest(row: Row) -> str:
    """The hash that the event `row` must carry."""
    chained = msgspec.json.encode([row["previous_hash"], *(row[name] for name in _HASHED)])
    return hashlib.sha256(chained).hexdigest()


def list_events(rows: Rows, *, since: int = 0, limit: int = 1000, newest: bool = False) -> list[Event]:
    """Up to `limit` events after the seq `since`, oldest first; with `newest` the last ones there are."""
    order = "DESC" if newest else "ASC"
    found = rows.all(f"SELECT * FROM events WHERE seq > ? ORDER BY seq {order} LIMIT ?", (since, limit))
    return [load(Event, row) for row in (reversed(found) if newest else found)]


def list_of_runner(rows: Rows, runner_id: str, *, limit: int) -> list[Event]:
    """The newest `limit` events about one runner, oldest first."""
    found = rows.all(
        "SELECT * FROM events WHERE aggregate_type = 'runner' AND aggregate_id = ? ORDER BY aggregate_seq DESC LIMIT ?",
        (runner_id, limit),
    )
    return [load(Event, row) for row in reversed(found)]


def last_seq(rows: Rows) -> int:
    """The seq of the newest event; 0 when there has been none."""
    return int(rows.scalar("SELECT COALESCE(MAX(seq), 0) FROM events"))


def first_broken(rows: Rows) -> int | None:
    """The seq of the first event whose hash or predecessor does not fit, or None when the chain holds.

    That the newest are missing shows no hash, but SQLite remembers the last seq that it gave.
    """
    newest = rows.scalar("SELECT seq FROM sqlite_sequence WHERE name = 'events'") or 0
    checkpoint = rows.one_or_none("SELECT seq, hash FROM event_checkpoints ORDER BY seq DESC LIMIT 1")
    expected, last = (GENESIS, 0) if checkpoint is None else (checkpoint["hash"], int(checkpoint["seq"]))
    after = 0
    while page := rows.all("SELECT * FROM events WHERE seq > ? ORDER BY seq LIMIT 1000", (after,)):
        for row in page:
            if row["previous_hash"] != expected or digest(row) != row["hash"]:
                return int(row["seq"])
            expected = row["hash"]
        after = last = page[-1]["seq"]
    return last + 1 if last < newest else None


def prune(tx: Tx, *, before: datetime, keep_rows: int, at_most: int, now: datetime) -> int:
    """Remove up to `at_most` of the oldest events that are older than `before` or more than `keep_rows` back.

    Returns how many went. The newest of them stays as a checkpoint.
    """
    surplus, limit = last_seq(tx) - keep_rows, iso(before)
    oldest = tx.all("SELECT seq, hash, at FROM events ORDER BY seq LIMIT ?", (at_most,))
    # Only from the beginning on: one whose clock was wrong takes nothing with it that came before.
    doomed = list(takewhile(lambda row: row["at"] < limit or row["seq"] <= surplus, oldest))
    if not doomed:
        return 0
    last = doomed[-1]
    tx.execute("DELETE FROM event_checkpoints")
    tx.execute(
        "INSERT INTO event_checkpoints (seq, hash, at) VALUES (?, ?, ?)",
        (last["seq"], last["hash"], iso(now)),
    )
    return tx.execute("DELETE FROM events WHERE seq <= ?", (last["seq"],))
