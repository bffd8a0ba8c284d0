"""Samples: what was last measured of each living runner. Measured, not decided: no event tells of it."""

from collections.abc import Iterable
from datetime import datetime
from typing import NamedTuple

import msgspec

from stratavore.clock import iso
from stratavore.model import Health, ShimId
from stratavore.store.database import Row, Rows, Tx
from stratavore.store.rows import column


class Sample(msgspec.Struct, frozen=True):
    """One look at a runner's process tree. `cpu_percent` is of one core, None until there are two looks."""

    runner_id: str
    seen_at: datetime
    cpu_percent: float | None
    rss_bytes: int | None
    threads: int | None
    children: int | None
    output_bytes: int | None
    health: Health


class Living(NamedTuple):
    """A runner with a process, as far as the sampler needs it."""

    id: str
    key: str
    shim: ShimId
    agent: str
    session_id: str | None
    started_at: str
    boot_id: str
    pid: int
    start_time: int
    session_detail: str | None
    has_lease: bool
    tty: bool


def list_living(rows: Rows) -> list[Living]:
    """The runners that have a process as far as we know."""
    found = rows.tuples(
        "SELECT r.id, n.key, n.shim, r.agent, r.session_id, n.started_at, n.boot_id, n.pid, n.start_time,"
        " r.session_detail, EXISTS (SELECT 1 FROM session_runs AS h WHERE h.run_key = n.key AND h.until_at IS NULL),"
        " r.tty"
        " FROM runners AS r JOIN runs AS n ON n.runner_id = r.id AND n.number = r.run"
        " WHERE r.alive = 1 AND n.ended_at IS NULL AND n.pid IS NOT NULL"
    )
    return [Living(*row) for row in found]


def store(tx: Tx, samples: Iterable[Sample]) -> None:
    """Put these in the place of the older ones; runners that are gone are passed over."""
    tx.execute_many(
        "INSERT INTO samples (runner_id, seen_at, cpu_percent, rss_bytes, threads, children, output_bytes, health)"
        " SELECT ?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8 WHERE EXISTS (SELECT 1 FROM runners WHERE id = ?1)"
        " ON CONFLICT (runner_id) DO UPDATE SET seen_at = excluded.seen_at, cpu_percent = excluded.cpu_percent,"
        " rss_bytes = excluded.rss_bytes, threads = excluded.threads, children = excluded.children,"
        " output_bytes = excluded.output_bytes, health = excluded.health",
        [(s.runner_id, iso(s.seen_at), *(column(v) for v in msgspec.structs.astuple(s)[2:])) for s in samples],
    )


def last_seen(rows: Rows, runner_id: str) -> datetime | None:
    """When the runner was last seen alive; None if it never was."""
    seen_at = rows.scalar("SELECT seen_at FROM samples WHERE runner_id = ?", (runner_id,))
    return None if seen_at is None else datetime.fromisoformat(seen_at)


def limit_of(rows: Rows, runner_id: str, *, now: datetime) -> datetime | None:
    """When the provider of its model goes on, if that refused: as it was told, or because a window of its account is
    used up (the last of them, where several are)."""
    at = rows.scalar(
        "SELECT COALESCE((SELECT limit_resets_at FROM samples WHERE runner_id = :id), (SELECT MAX(w.resets_at)"
        "  FROM (SELECT session FROM session_runs WHERE runner_id = :id ORDER BY from_at DESC LIMIT 1) AS e"
        "  JOIN sessions AS s ON s.number = e.session"
        "  JOIN account_windows AS w ON w.agent = s.agent AND w.home = s.home"
        " WHERE w.used_percent >= 100 AND w.resets_at > :now))",
        {"id": runner_id, "now": iso(now)},
    )
    return None if at is None else datetime.fromisoformat(at)


_FRESH = (
    "JOIN runs AS n ON n.runner_id = r.id AND n.number = r.run AND n.ended_at IS NULL"
    " JOIN samples AS s ON s.runner_id = r.id AND s.seen_at >= :since AND s.seen_at >= n.started_at"
)
"""What was measured of the present run of a runner `r`, unless it is so old that it tells nothing of now."""


def totals(rows: Rows, *, since: datetime) -> Row:
    """`cpu_percent` and `rss_bytes` of all that runs together; None when nothing was measured since then."""
    return rows.one(
        "SELECT SUM(s.cpu_percent) AS cpu_percent, SUM(s.rss_bytes) AS rss_bytes"
        f" FROM runners AS r {_FRESH} WHERE r.alive = 1",
        {"since": column(since)},
    )


def by_project(rows: Rows, *, since: datetime) -> list[Row]:
    """What each project's runs use together, as seen since then, beside its quotas: name, on_quota, rss_bytes, …"""
    return rows.all(
        "SELECT p.name, p.on_quota, p.max_memory_bytes, p.max_cpu_percent, SUM(s.cpu_percent) AS cpu_percent,"
        " SUM(s.rss_bytes) AS rss_bytes"
        f" FROM projects AS p JOIN runners AS r ON r.project_id = p.id AND r.alive = 1 {_FRESH}"
        " WHERE p.max_memory_bytes IS NOT NULL OR p.max_cpu_percent IS NOT NULL GROUP BY p.id",
        {"since": column(since)},
    )


def list_silent(rows: Rows, *, since: datetime) -> list[str]:
    """The ids of runners that have a process as far as we know, and were last seen before `since`."""
    found = rows.all(
        "SELECT s.runner_id FROM samples AS s JOIN runners AS r ON r.id = s.runner_id AND r.alive = 1"
        " JOIN runs AS n ON n.runner_id = r.id AND n.number = r.run AND n.ended_at IS NULL AND n.pid IS NOT NULL"
        " WHERE s.seen_at < :since AND n.started_at < :since",
        {"since": column(since)},
    )
    return [row["runner_id"] for row in found]
