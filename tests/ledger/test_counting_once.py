"""However the lines come, in whatever pieces, and wherever it is cut off: the ledger holds what a plain count finds."""

import os
import shutil
import tempfile
from collections.abc import Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import NamedTuple

from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from stratavore.ledger import posting, reading
from stratavore.ledger.homes import Home
from stratavore.ledger.prices import Prices
from stratavore.ledger.tail import Tails
from stratavore.ledger.watching import Followed, Watch
from stratavore.store import tails as tail_rows
from stratavore.store.database import Database
from stratavore.store.tails import Tail
from tests.ledger.keeping import COLUMNS
from tests.ledger.transcripts import Counts, answer, append, counted, file_of

NOW = datetime(2031, 2, 3, tzinfo=UTC)
PRICES = Prices()
SESSIONS = ("s-c", "s-a", "s-b")
"""The first is what the second was forked from; the third knows of no other, and sorts between them."""
PARENTS = {"s-a": "s-c"}


class Telling(NamedTuple):
    """One line: an answer in a conversation's file, with what it says that was used."""

    number: int
    session: str
    counts: Counts

    @property
    def line(self) -> bytes:
        parent = PARENTS.get(self.session)
        forked = {} if parent is None else {"forkedFrom": {"sessionId": parent}}
        return answer(self.number, session=self.session, counts=self.counts, **forked)  # type: ignore[arg-type]


class Piece(NamedTuple):
    """So many bytes are written to a file; then the files are read, and perhaps it is cut off at some point."""

    session: str
    size: int
    order: Sequence[int]
    cut: str


COUNTS = st.tuples(*[st.integers(0, 50)] * 5).filter(any)
TELLINGS = st.lists(st.builds(Telling, st.integers(1, 6), st.sampled_from(SESSIONS), COUNTS), min_size=1, max_size=25)
PIECES = st.lists(
    st.builds(
        Piece,
        st.sampled_from(SESSIONS),
        st.integers(1, 2500),
        st.permutations(range(3)),
        st.sampled_from(["", "", "before the commit", "behind the commit", "from the beginning"]),
    ),
    max_size=20,
)


class Ledger:
    """A database, and what a daemon would do with it, step by step."""

    def __init__(self, home: Path, state: Path) -> None:
        self.home = Home("claude", home)
        self.database = Database.open(state / "state.db")
        self.begin()

    def begin(self) -> None:
        """As after a start: nothing is known but what the database knows."""
        self._tails = Tails()
        watch = Watch(began_at=0, known=())
        self._files = {file.path.stem: file for file, _ in watch.follow_all(self.home)}

    def read(self, session: str, cut: str) -> None:
        """Read a file to its end; `cut` ends the daemon at that point."""
        is_more = session in self._files
        while is_more:
            file = self._files[session]
            piece = reading.read(self._tails, file, self._tail(file), now=NOW)
            is_more = piece.is_more
            if cut == "before the commit":
                break
            if not piece.is_nothing:
                self.database.write_blocking(lambda tx, piece=piece: posting.post(tx, [piece], PRICES, now=NOW))  # type: ignore[misc]
        if cut:
            self._tails.close()
            self.begin()
        if cut == "from the beginning":
            self.database.write_blocking(lambda tx: tx.execute("DELETE FROM tails"))

    def _tail(self, file: Followed) -> Tail:
        path = str(file.path)
        return tail_rows.find_all(self.database.reader(), [path]).get(path) or Tail(path, "claude", str(self.home.path))

    def close(self) -> None:
        self._tails.close()
        self.database.close()


@settings(max_examples=150, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(TELLINGS, PIECES)
def test_every_call_is_counted_once(tellings: Sequence[Telling], pieces: Sequence[Piece]) -> None:
    shared = "/dev/shm" if os.path.isdir("/dev/shm") else None
    place = Path(tempfile.mkdtemp(dir=shared))
    try:
        check(place, tellings, pieces)
    finally:
        shutil.rmtree(place)


def check(place: Path, tellings: Sequence[Telling], pieces: Sequence[Piece]) -> None:
    home = place / "home"
    files = {session: file_of(home, session) for session in SESSIONS}
    for path in files.values():
        path.touch()
    (place / "state").mkdir(mode=0o700)
    ledger = Ledger(home, place / "state")
    unwritten = {session: b"".join(each.line for each in tellings if each.session == session) for session in SESSIONS}
    for piece in pieces:
        append(files[piece.session], unwritten[piece.session][: piece.size])
        unwritten[piece.session] = unwritten[piece.session][piece.size :]
        for at in piece.order:
            ledger.read(SESSIONS[at], piece.cut)
    for session, rest in unwritten.items():
        append(files[session], rest)
        ledger.read(session, "")
    rows = ledger.database.reader()
    found = {row[0]: row[1:] for row in rows.tuples(f"SELECT key, {COLUMNS} FROM usage")}
    owners = dict(rows.tuples("SELECT u.key, s.id FROM usage AS u JOIN sessions AS s ON s.number = u.session"))
    costs = rows.scalar("SELECT SUM(cost_nano_usd) FROM usage")
    ledger.close()
    assert found == counted(files.values())
    assert owners == owned(tellings)
    price = PRICES("claude-opus-4-8", "2031")
    assert price is not None
    assert costs == sum(n * each for call in found.values() for n, each in zip(call, price, strict=True)) // 10**6


def owned(tellings: Sequence[Telling]) -> dict[str, str]:
    """Whose each call is: of what others were forked from, as far as their lines were there to say so; else of the
    file that sorts first."""
    forks = {each.session for each in tellings if each.session in PARENTS}
    found: dict[str, str] = {}
    for each in tellings:
        key = f"msg_{each.number}"
        rival = found.get(key, each.session)
        found[key] = min(rival, each.session, key=lambda session: (session in forks, session))
    return found
