"""What the ledger adds up to.

Rule 1: a time zone decides only into which day or hour a call falls, and is given: nothing is stored by it.
Rule 2: a block is one of Claude's five-hour windows: it begins with the UTC hour of its first call, and the next begins
with the first call that is more than five hours after that hour, or after the call before it.
"""

from bisect import bisect_right
from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from datetime import UTC, datetime, timedelta, tzinfo
from typing import Any

import msgspec

from stratavore.clock import iso
from stratavore.model import Usage, UsageBy, UsageRow, UsageTotal
from stratavore.money import usd_of
from stratavore.store import projects
from stratavore.store.database import Rows

BLOCK = timedelta(hours=5)
_OF_BLOCKS = "claude"

_SUMS = (
    "COUNT(*), SUM(u.input_tokens), SUM(u.output_tokens), SUM(u.cache_write_5m_tokens), SUM(u.cache_write_1h_tokens),"
    " SUM(u.cache_read_tokens), COALESCE(SUM(u.cost_nano_usd), 0), COUNT(*) - COUNT(u.cost_nano_usd)"
)
_JOINED = (
    "usage AS u LEFT JOIN projects AS p ON p.id = u.project_id LEFT JOIN sessions AS s ON s.number = u.session"
    " LEFT JOIN runners AS r ON r.id = u.runner_id"
)
# Every time zone differs from UTC by whole quarters of an hour.
_QUARTER = "substr(u.at, 1, 14) || substr('00153045', CAST(substr(u.at, 15, 2) AS INTEGER) / 15 * 2 + 1, 2)"
_NAME_OF = {
    UsageBy.DAY: _QUARTER,
    UsageBy.HOUR: _QUARTER,
    UsageBy.PROJECT: "COALESCE(p.name, '')",
    UsageBy.SESSION: "COALESCE(s.id, '')",
    UsageBy.RUNNER: "COALESCE(r.name || ' ' || r.id, u.runner_id, '')",
    UsageBy.MODEL: "u.model",
    UsageBy.AGENT: "u.agent",
    UsageBy.BLOCK: "u.at",
}
_Sums = list[int]


def report(
    rows: Rows, by: UsageBy, *, zone: tzinfo, since: datetime | None = None, project: str | None = None
) -> Usage:
    """What was used, added up: times oldest first, everything else dearest first.

    What belongs to no project, session or runner has an empty key.

    Raises:
        NotFound: no such project.
    """
    found = _added_up(rows, by, since, project)
    match by:
        case UsageBy.DAY | UsageBy.HOUR:
            sums = _regrouped(found, _clock(by, zone))
        case UsageBy.BLOCK:
            sums = _regrouped(found, _blocks(rows))
        case UsageBy.RUNNER:
            sums = _without_ids(found)
        case _:
            sums = dict(found)
    keys = sorted(sums, key=_order(by, sums))
    total = [sum(column) for column in zip(*sums.values(), strict=True)] or [0] * 8
    return Usage(rows=[UsageRow(key=key, **_shown(sums[key])) for key in keys], total=UsageTotal(**_shown(total)))


def _order(by: UsageBy, sums: Mapping[str, _Sums]) -> Callable[[str], Any]:
    match by:
        case UsageBy.HOUR:
            return datetime.fromisoformat  # by the text, the hour that comes twice would come the wrong way round
        case UsageBy.DAY | UsageBy.BLOCK:
            return str
        case _:
            return lambda key: (-sums[key][6], -sum(sums[key][1:6]), key)


def blocks(moments: Iterable[datetime]) -> list[tuple[datetime, datetime]]:
    """The blocks in which these calls lie, the oldest first: the first call of each, and where the block begins."""
    found: list[tuple[datetime, datetime]] = []
    last = start = datetime.min.replace(tzinfo=UTC)
    for at in moments:
        if not found or at - start > BLOCK or at - last > BLOCK:
            start = at.replace(minute=0, second=0, microsecond=0)
            found.append((at, start))
        last = at
    return found


def _added_up(rows: Rows, by: UsageBy, since: datetime | None, project: str | None) -> list[tuple[str, _Sums]]:
    conditions, values = ["1"], dict[str, Any]()
    if since is not None:
        conditions.append("u.at >= :since")
        values["since"] = iso(since)
    if project is not None:
        conditions.append("u.project_id = :project")
        values["project"] = projects.get_row(rows, project)["id"]
    if by is UsageBy.BLOCK:
        conditions.append("u.agent = :agent")
        values["agent"] = _OF_BLOCKS
    found = rows.tuples(
        f"SELECT {_NAME_OF[by]}, {_SUMS} FROM {_JOINED} WHERE {' AND '.join(conditions)} GROUP BY 1", values
    )
    return [(row[0], list(row[1:])) for row in found]


def _regrouped(found: Sequence[tuple[str, _Sums]], key_of: Callable[[str], str]) -> dict[str, _Sums]:
    regrouped: dict[str, _Sums] = {}
    for name, sums in found:
        key = key_of(name)
        known = regrouped.get(key)
        regrouped[key] = sums if known is None else [a + b for a, b in zip(known, sums, strict=True)]
    return regrouped


def _clock(by: UsageBy, zone: tzinfo) -> Callable[[str], str]:
    """The day or hour of that zone in which a quarter of an hour lies. An hour that comes twice is two."""

    def key_of(quarter: str) -> str:
        local = datetime.fromisoformat(f"{quarter}+00:00").astimezone(zone)
        if by is UsageBy.DAY:
            return f"{local:%Y-%m-%d}"
        return local.replace(minute=0).isoformat(timespec="minutes")

    return key_of


def _blocks(rows: Rows) -> Callable[[str], str]:
    """The block in which a moment lies, of all calls there are, whatever is asked for."""
    moments = rows.tuples("SELECT DISTINCT at FROM usage WHERE agent = ? ORDER BY at", (_OF_BLOCKS,))
    found = blocks(datetime.fromisoformat(at) for (at,) in moments)
    firsts, keys = [iso(first) for first, _ in found], [iso(start) for _, start in found]
    return lambda moment: keys[bisect_right(firsts, moment) - 1]


def _without_ids(found: Sequence[tuple[str, _Sums]]) -> dict[str, _Sums]:
    """By the names of the runners; those that share one keep their ids beside it."""
    names = [key.partition(" ")[0] for key, _ in found]
    counted = Counter(names)
    return {key if counted[name] > 1 else name: sums for name, (key, sums) in zip(names, found, strict=True)}


def _shown(sums: _Sums) -> dict[str, Any]:
    names = [field.name for field in msgspec.structs.fields(UsageTotal)]
    values = dict(zip(names, sums, strict=True))
    is_unpriced = values["unpriced_calls"] == values["calls"] > 0
    return {**values, "cost_usd": None if is_unpriced else usd_of(values["cost_usd"])}
