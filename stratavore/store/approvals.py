"""Permission requests: what agents asked for, and how that was decided.

Rule 1: one request, one decision: it is written only where none stands, and told in the same transaction.
Rule 2: an event tells the tool and a line of what it would do, never all of its input.
"""

from collections.abc import Sequence
from datetime import datetime
from typing import Any

import msgspec

from stratavore.clock import iso
from stratavore.errors import Ambiguous, Conflict, NotFound
from stratavore.model import Approval, Decision
from stratavore.store import events, runners
from stratavore.store.database import Rows, Tx
from stratavore.store.rows import column, load


class Wish(msgspec.Struct, frozen=True):
    """One request of an agent, as it is stored. `says` is a line for people."""

    id: str
    runner_id: str
    run_key: str
    session_id: str | None
    tool: str
    input: dict[str, Any]
    input_sha256: str
    asked_at: datetime
    expires_at: datetime


class Open(msgspec.Struct, frozen=True):
    """A request that nobody has decided."""

    id: str
    runner_id: str
    input_sha256: str
    asked_at: datetime
    expires_at: datetime
    is_over: bool
    """Its run has ended."""


_SHOWN = (
    "SELECT a.*, r.name AS runner, p.name AS project FROM approvals AS a JOIN runners AS r ON r.id = a.runner_id"
    " JOIN projects AS p ON p.id = r.project_id"
)


def insert(tx: Tx, wish: Wish, says: str, *, actor: str) -> Approval:
    """Store a request, unless it is stored: whoever asks again under the same id asks the same.

    Raises:
        Conflict: the id is another runner's.
    """
    known = tx.one_or_none("SELECT runner_id FROM approvals WHERE id = ?", (wish.id,))
    if known is None:
        columns = {name: column(value) for name, value in msgspec.structs.asdict(wish).items()}
        names = ", ".join(columns)
        tx.execute(f"INSERT INTO approvals ({names}) VALUES ({', '.join(':' + name for name in columns)})", columns)
        found = get(tx, wish.id)
        told = {**_whose(found, wish.runner_id), "says": says, "expires_at": iso(wish.expires_at)}
        events.append(tx, "approval.requested", wish.id, told, actor=actor, now=wish.asked_at)
        return found
    if known["runner_id"] != wish.runner_id:
        raise Conflict(f"the request {wish.id} is another runner's")
    return get(tx, wish.id)


def decide(
    tx: Tx,
    request_id: str,
    decision: Decision,
    *,
    actor: str,
    now: datetime,
    for_session: bool = False,
    reason: str | None = None,
) -> Approval:
    """Write the decision and tell it; raises Conflict where one stands already."""
    row = tx.one_or_none(
        "UPDATE approvals SET decision = :decision, for_session = :for_session, reason = :reason, decided_at = :now,"
        " decided_by = :actor WHERE id = :id AND decision IS NULL RETURNING runner_id",
        {
            "decision": decision.value,
            "for_session": int(for_session),
            "reason": reason,
            "now": iso(now),
            "actor": actor,
            "id": request_id,
        },
    )
    found = get(tx, request_id)
    if row is None:
        raise _too_late(found)
    told = {"decision": decision.value, "for_session": for_session, "reason": reason}
    events.append(tx, "approval.decided", request_id, {**_whose(found, row["runner_id"]), **told}, actor=actor, now=now)
    return found


def get(rows: Rows, request_id: str) -> Approval:
    """One request; raises NotFound."""
    row = rows.one_or_none(f"{_SHOWN} WHERE a.id = ?", (request_id,))
    if row is None:
        raise NotFound(f"there is no request {request_id}", remedy="`stratavore approvals` lists what is asked")
    return load(Approval, row)


def runner_of(rows: Rows, request_id: str) -> str:
    """The id of the runner that asked."""
    return str(rows.scalar("SELECT runner_id FROM approvals WHERE id = ?", (request_id,)))


def list_approvals(rows: Rows, *, all: bool = False, limit: int = 1000) -> list[Approval]:
    """The open requests, who waits longest first; with `all` the newest decided ones behind them."""
    found = rows.all(f"{_SHOWN} WHERE a.decision IS NULL ORDER BY a.asked_at, a.id LIMIT ?", (limit,))
    if all:
        found += rows.all(f"{_SHOWN} WHERE a.decision IS NOT NULL ORDER BY a.decided_at DESC, a.id LIMIT ?", (limit,))
    return [load(Approval, row) for row in found[:limit]]


def list_open(rows: Rows) -> list[Open]:
    """The open requests, with what tells whether they still matter."""
    found = rows.all(
        "SELECT a.id, a.runner_id, a.input_sha256, a.asked_at, a.expires_at,"
        " NOT EXISTS (SELECT 1 FROM runs WHERE key = a.run_key AND ended_at IS NULL) AS is_over"
        " FROM approvals AS a WHERE a.decision IS NULL"
    )
    return [load(Open, row) for row in found]


def resolve(rows: Rows, reference: str) -> str:
    """The id of the request that `reference` means: its own id, or a runner that has asked for one thing.

    Raises:
        NotFound: there is no such runner.
        Conflict: it asks for nothing now.
        Ambiguous: it asks for several things.
    """
    if rows.scalar("SELECT 1 FROM approvals WHERE id = ?", (reference,)):
        return reference
    runner_id = runners.resolve(rows, reference)
    asked = _of(rows, runner_id, "a.decision IS NULL ORDER BY a.asked_at")
    if len(asked) > 1:
        listed = ", ".join(f"{each.id} ({each.tool})" for each in asked[:8])
        raise Ambiguous(f"{reference} asks for several things: {listed}", remedy="give the id of one of them")
    if not asked:
        before = _of(rows, runner_id, "a.decision IS NOT NULL ORDER BY a.decided_at DESC LIMIT 1")
        raise (
            _too_late(before[0])
            if before
            else Conflict(f"{reference} asks for no permission", remedy="`stratavore approvals` lists who does")
        )
    return asked[0].id


def _of(rows: Rows, runner_id: str, which: str) -> Sequence[Approval]:
    return [load(Approval, row) for row in rows.all(f"{_SHOWN} WHERE a.runner_id = ? AND {which}", (runner_id,))]


def _too_late(found: Approval) -> Conflict:
    when = f"{found.decided_at:%H:%M:%S} UTC" if found.decided_at else "an unknown time"
    how = {
        Decision.ALLOW: "was allowed",
        Decision.DENY: "was denied",
        Decision.EXPIRED: "expired",
        Decision.ELSEWHERE: "was answered elsewhere",
        None: "is open",
    }[found.decision]
    return Conflict(
        f"the request of {found.runner} for {found.tool} {how} at {when}, by {found.decided_by}",
        remedy="`stratavore approvals` lists what is asked now",
    )


def _whose(found: Approval, runner_id: str) -> dict[str, Any]:
    return {"runner_id": runner_id, "name": found.runner, "project": found.project, "tool": found.tool}
