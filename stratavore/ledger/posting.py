"""What was read, booked: one transaction.

Rule 1: how far a file was read, its calls, what they add to runners and budgets, what is noted of its conversations,
and the events of all that are committed together or not at all.
Rule 2: a piece that does not begin where the file's row ends is passed over: somebody booked it before.
"""

from collections.abc import Sequence
from datetime import datetime
from typing import NamedTuple

from stratavore.agents.records import Note
from stratavore.ledger.reading import Piece
from stratavore.store import allowances, budgets, events, sessions, tails, usage, windows
from stratavore.store.database import Tx
from stratavore.store.usage import Charge, Prices, Source

ACTOR = "ledger"


class Posted(NamedTuple):
    """What became of the pieces: which were booked, the conversations they tell of, and what they added."""

    pieces: Sequence[Piece]
    passed_over: Sequence[Piece]
    sessions: frozenset[int]
    charges: Sequence[Charge]


def post(tx: Tx, pieces: Sequence[Piece], price: Prices, *, now: datetime) -> Posted:
    """Book all of these."""
    booked: list[Piece] = []
    passed_over: list[Piece] = []
    numbers: set[int] = set()
    charges: list[Charge] = []
    for piece in pieces:
        if not tails.step(tx, piece.was, piece.now):
            passed_over.append(piece)
            continue
        booked.append(piece)
        known = _note(tx, piece, now)
        numbers |= set(known.values())
        charges += _record(tx, piece, known, price)
        windows.note_all(tx, piece.now.agent, piece.now.home, piece.windows)
        if piece.now.skipped_bytes and not piece.was.skipped_bytes:
            _tell_of_bound(tx, piece, now)
    budgets.charge(tx, charges, now=now)
    if any(piece.windows for piece in booked):
        allowances.note(tx, now=now)
    return Posted(booked, passed_over, frozenset(numbers), charges)


def _note(tx: Tx, piece: Piece, now: datetime) -> dict[str, int]:
    """Book what is said of conversations; returns the numbers of all that the piece names."""
    agent, home, path = piece.now.agent, piece.now.home, piece.now.path
    if piece.is_anew:
        sessions.read_again(tx, path)
    notes = [note for note in piece.notes if isinstance(note, Note)]
    known = sessions.note_all(tx, agent, home, None if piece.now.is_subagent else path, notes, now=now)
    for call in piece.calls:
        if call.session_id not in known and sessions.is_id(call.session_id):
            known[call.session_id] = sessions.ensure(tx, agent, home, call.session_id, now=now)
    return known


def _record(tx: Tx, piece: Piece, numbers: dict[str, int], price: Prices) -> list[Charge]:
    if not piece.calls:
        return []
    source = Source.DATABASE if piece.file.record is None else Source.TRANSCRIPT
    return usage.record(tx, piece.now.agent, piece.now.path, piece.calls, numbers=numbers, price=price, source=source)


def _tell_of_bound(tx: Tx, piece: Piece, now: datetime) -> None:
    told = {
        "path": piece.now.path,
        "skipped_bytes": piece.now.skipped_bytes,
        "why": "a line that is too long was passed over: the token total is a lower bound",
    }
    events.append(tx, "session.undercounted", piece.now.session_id or piece.now.path, told, actor=ACTOR, now=now)
