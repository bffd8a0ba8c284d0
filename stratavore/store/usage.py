"""The ledger: one row per call of an agent's API, counted once.

Rule 1: what is told of a call again only adds what it tells more: each class of tokens keeps its maximum.
Rule 2: a call that stands in several files is of the conversation that the others were forked from, else of the file
that sorts first: whatever was read first.
Rule 3: what a receiver was told of a call holds until a file tells of it, and then no longer: it does not know the
classes of cache writes apart.
Rule 4: the sums of the runners change in the same transaction.
Rule 5: a call of a model without a price has no cost, and never a cost of zero.
Rule 6: a write reads of the ledger what it asks for. Where the key does not say it, the index is named: SQLite, which
has no statistics, would take one that most of the ledger matches.
"""

from collections.abc import Callable, Iterable, Mapping, Sequence
from datetime import datetime
from enum import StrEnum
from typing import NamedTuple, TypeGuard

from stratavore.agents.records import Call
from stratavore.clock import iso
from stratavore.money import nano
from stratavore.store import sessions
from stratavore.store.database import Tx
from stratavore.store.rows import column

_DEEPEST_FORK = 32
_ROUNDING = 10**6 // 2


class Source(StrEnum):
    """Who told of a call."""

    TRANSCRIPT = "transcript"
    OTLP = "otlp"
    DATABASE = "database"


class Price(NamedTuple):
    """What a model costs: billionths of a US dollar for a million tokens of each class."""

    input: int
    output: int
    cache_write_5m: int
    cache_write_1h: int
    cache_read: int


Prices = Callable[[str, str, int], Price | None]
"""The price of a model at a moment (as `clock.iso` writes it), for a prompt of so many tokens; None: not known."""


class Charge(NamedTuple):
    """What a call added to the ledger just now: differences, all classes of tokens together.

    They are negative where what is told now replaces what was too much, or where a price was wrong.
    """

    runner_id: str | None
    project_id: int | None
    agent: str
    model: str
    at: datetime
    tokens: int
    nano_usd: int
    is_priced: bool


class Entry(NamedTuple):
    """One row, in the order of its columns."""

    agent: str
    key: str
    session: int | None
    runner_id: str | None
    project_id: int | None
    at: str
    model: str
    input_tokens: int
    output_tokens: int
    cache_write_5m_tokens: int
    cache_write_1h_tokens: int
    cache_read_tokens: int
    cost_nano_usd: int | None
    agent_cost_nano_usd: int | None
    request_id: str | None
    source: str
    path: str
    is_subagent: int

    @property
    def counts(self) -> tuple[int, int, int, int, int]:
        """Its classes of tokens."""
        return self[7:12]

    @property
    def tokens(self) -> int:
        return sum(self[7:12])

    @property
    def prompt_tokens(self) -> int:
        """All that was sent."""
        return self.tokens - self.output_tokens


_COLUMNS = ", ".join(Entry._fields)
_STORE = (
    f"INSERT INTO usage ({_COLUMNS}) VALUES ({', '.join('?' * len(Entry._fields))}) ON CONFLICT (agent, key) DO UPDATE"
    f" SET {', '.join(f'{name} = excluded.{name}' for name in Entry._fields[2:])}"
)


def record(
    tx: Tx,
    agent: str,
    path: str,
    calls: Sequence[Call],
    *,
    numbers: Mapping[str, int],
    price: Prices,
    source: Source = Source.TRANSCRIPT,
    runner_id: str | None = None,
) -> list[Charge]:
    """Book the calls that the file `path` tells of; returns what they added.

    `numbers` are those of the conversations by their ids. `runner_id` is the runner where whoever told knows it (a
    receiver does); else it is the one that was in the conversation at that moment.
    """
    book = _Book(tx, agent, path, source, price)
    return book.record(calls, numbers, runner_id)


def merged(old: Entry, new: Entry, *, new_owns: bool) -> Entry:
    """What two tellings of one call say together; `new_owns` if the second comes from the file that owns it."""
    owner, other = (new, old) if new_owns else (old, new)
    who = owner if owner.runner_id is not None or other.runner_id is None else other
    return owner._replace(
        runner_id=who.runner_id,
        project_id=who.project_id,
        at=min(old.at, new.at),
        input_tokens=max(old.input_tokens, new.input_tokens),
        output_tokens=max(old.output_tokens, new.output_tokens),
        cache_write_5m_tokens=max(old.cache_write_5m_tokens, new.cache_write_5m_tokens),
        cache_write_1h_tokens=max(old.cache_write_1h_tokens, new.cache_write_1h_tokens),
        cache_read_tokens=max(old.cache_read_tokens, new.cache_read_tokens),
        agent_cost_nano_usd=_larger(old.agent_cost_nano_usd, new.agent_cost_nano_usd),
        request_id=owner.request_id or other.request_id,
    )


def cost(counts: Iterable[int], price: Price) -> int:
    """Billionths of a US dollar, rounded."""
    return (sum(n * each for n, each in zip(counts, price, strict=True)) + _ROUNDING) // 10**6


class _Book:
    """The ledger, while one slice of one file is booked."""

    def __init__(self, tx: Tx, agent: str, path: str, source: Source, price: Prices) -> None:
        self._tx = tx
        self._agent = agent
        self._path = path
        self._source = source
        self._price = price
        self._depths: dict[int | None, int] = {}
        self._entered: dict[int | None, bool] = {}
        self._projects: dict[str | int | None, int | None] = {}

    def record(self, calls: Sequence[Call], numbers: Mapping[str, int], runner_id: str | None) -> list[Charge]:
        told = self._told(calls)
        news, received = self._entries(told, numbers, runner_id), self._of_receiver(told)
        was, superseded = self._stored(news), {entry.request_id: entry for entry in received}
        now, charges = dict[str, Entry](), list[Charge]()
        for key, new in news.items():
            old, before = was.get(key), superseded.get(new.request_id)
            now[key] = entry = self._priced(self._merge(old, new, before), old)
            if (charge := _charge(before or old, entry, datetime.fromisoformat(entry.at))) is not None:
                charges.append(charge)
        self._store([entry for key, entry in now.items() if entry != was.get(key)], received)
        book_runners(self._tx, [*was.values(), *received], now.values())
        return charges

    def _told(self, calls: Sequence[Call]) -> Sequence[Call]:
        """Those that count: a receiver has nothing to say of what a file told (rule 3)."""
        if self._source is not Source.OTLP:
            return calls
        known = {entry.request_id for entry in self._by_request(calls, "source != 'otlp'")}
        return [call for call in calls if call.request_id not in known]

    def _of_receiver(self, calls: Sequence[Call]) -> list[Entry]:
        """What a receiver was told of these calls."""
        return [] if self._source is Source.OTLP else self._by_request(calls, "source = 'otlp'")

    def _by_request(self, calls: Sequence[Call], condition: str) -> list[Entry]:
        asked = {call.request_id for call in calls if call.request_id is not None}
        if not asked:
            return []
        found = self._tx.tuples(
            f"SELECT {_COLUMNS} FROM usage INDEXED BY usage_request"
            f" WHERE agent = ? AND request_id IN (SELECT value FROM json_each(?)) AND {condition}",
            (self._agent, column(list(asked))),
        )
        return [Entry(*row) for row in found]

    def _stored(self, keys: Iterable[str]) -> dict[str, Entry]:
        found = self._tx.tuples(
            f"SELECT {_COLUMNS} FROM usage WHERE agent = ? AND key IN (SELECT value FROM json_each(?))",
            (self._agent, column(list(keys))),
        )
        entries = [Entry(*row) for row in found]
        return {entry.key: entry for entry in entries}

    def _entries(self, calls: Sequence[Call], numbers: Mapping[str, int], runner_id: str | None) -> dict[str, Entry]:
        """What these calls say, each key once: an agent tells of a call with each block of the answer."""
        entries: dict[str, Entry] = {}
        for call in calls:
            new = self._entry(call, numbers.get(call.session_id), runner_id)
            old = entries.get(call.key)
            entries[call.key] = new if old is None else merged(old, new, new_owns=False)
        return entries

    def _entry(self, call: Call, session: int | None, runner_id: str | None) -> Entry:
        at = iso(call.at)
        runner = runner_id or (sessions.runner_at(self._tx, session, at) if self._was_entered(session) else None)
        return Entry(
            self._agent,
            call.key,
            session,
            runner,
            self._project(session, runner),
            at,
            call.model,
            call.input_tokens,
            call.output_tokens,
            call.cache_write_5m_tokens,
            call.cache_write_1h_tokens,
            call.cache_read_tokens,
            None,
            None if call.cost_usd is None else nano(call.cost_usd),
            call.request_id,
            self._source.value,
            self._path,
            int(call.is_subagent),
        )

    def _merge(self, old: Entry | None, new: Entry, superseded: Entry | None) -> Entry:
        if superseded is not None:
            who = new if new.runner_id is not None else superseded
            new = new._replace(
                runner_id=who.runner_id,
                project_id=who.project_id,
                agent_cost_nano_usd=_larger(new.agent_cost_nano_usd, superseded.agent_cost_nano_usd),
            )
        return new if old is None else merged(old, new, new_owns=self._owns(new, old))

    def _owns(self, new: Entry, old: Entry) -> bool:
        if new.path == old.path:
            return False
        return (self._depth(new.session), new.path) < (self._depth(old.session), old.path)

    def _depth(self, session: int | None) -> int:
        """How many conversations that one was forked from, one from the other."""
        if session not in self._depths:
            self._depths[session] = self._tx.scalar(
                "WITH RECURSIVE parents (agent, id, depth) AS ("
                " SELECT agent, parent_id, 1 FROM sessions WHERE number = :session AND parent_id IS NOT NULL"
                " UNION ALL SELECT s.agent, s.parent_id, depth + 1 FROM parents AS p"
                " JOIN sessions AS s ON s.agent = p.agent AND s.id = p.id AND s.parent_id IS NOT NULL"
                " WHERE depth < :deepest) SELECT COUNT(*) FROM parents",
                {"session": session, "deepest": _DEEPEST_FORK},
            )
        return self._depths[session]

    def _was_entered(self, session: int | None) -> TypeGuard[int]:
        """Whether a runner of ours ever was in it: in most that are imported none was."""
        if session not in self._entered:
            found = self._tx.scalar("SELECT 1 FROM session_runs WHERE session = ? LIMIT 1", (session,))
            self._entered[session] = found is not None
        return self._entered[session]

    def _project(self, session: int | None, runner_id: str | None) -> int | None:
        """The runner's; else, or where the runner is forgotten, the one of the conversation's directory."""
        who = runner_id or session
        if who not in self._projects:
            self._projects[who] = self._tx.scalar(
                "SELECT COALESCE((SELECT project_id FROM runners WHERE id = ?),"
                " (SELECT project_id FROM sessions WHERE number = ?))",
                (runner_id, session),
            )
        return self._projects[who]

    def _priced(self, entry: Entry, old: Entry | None) -> Entry:
        """With its cost; that of a call whose counts are as they were stays, whatever prices do meanwhile."""
        if old is not None and old.cost_nano_usd is not None and (old.counts, old.model) == (entry.counts, entry.model):
            return entry._replace(cost_nano_usd=old.cost_nano_usd)
        price = self._price(entry.model, entry.at, entry.prompt_tokens)
        return entry._replace(cost_nano_usd=None if price is None else cost(entry.counts, price))

    def _store(self, changed: Sequence[Entry], gone: Sequence[Entry]) -> None:
        self._tx.execute_many("DELETE FROM usage WHERE agent = ? AND key = ?", [entry[:2] for entry in gone])
        self._tx.execute_many(_STORE, changed)


class _Sum:
    """What a runner's sums change by."""

    __slots__ = ("calls", "cost", "last_at", "model", "tokens", "unpriced")

    def __init__(self) -> None:
        self.calls = self.tokens = self.cost = self.unpriced = 0
        self.last_at = self.model = ""

    def add(self, entry: Entry, sign: int) -> None:
        self.calls += sign
        self.tokens += sign * entry.tokens
        self.cost += sign * (entry.cost_nano_usd or 0)
        self.unpriced += sign * (entry.cost_nano_usd is None)
        if sign > 0 and entry.at >= self.last_at:
            self.last_at, self.model = entry.at, entry.model


def book_runners(tx: Tx, were: Iterable[Entry], are: Iterable[Entry]) -> None:
    """Bring the sums of the runners from what these entries were to what they are."""
    sums: dict[str, _Sum] = {}
    for entries, sign in ((were, -1), (are, 1)):
        for entry in entries:
            if entry.runner_id is not None:
                sums.setdefault(entry.runner_id, _Sum()).add(entry, sign)
    tx.execute_many(
        "INSERT INTO runner_usage (runner_id, calls, tokens, cost_nano_usd, unpriced_calls, model, last_at)"
        " VALUES (?, ?, ?, ?, ?, NULLIF(?, ''), NULLIF(?, '')) ON CONFLICT (runner_id) DO UPDATE SET"
        " calls = calls + excluded.calls, tokens = tokens + excluded.tokens,"
        " cost_nano_usd = cost_nano_usd + excluded.cost_nano_usd,"
        " unpriced_calls = unpriced_calls + excluded.unpriced_calls,"
        " model = CASE WHEN excluded.last_at >= COALESCE(last_at, '') THEN excluded.model ELSE model END,"
        " last_at = MAX(COALESCE(last_at, ''), COALESCE(excluded.last_at, ''))",
        [(runner, s.calls, s.tokens, s.cost, s.unpriced, s.model, s.last_at) for runner, s in sums.items()],
    )


def _charge(old: Entry | None, new: Entry, at: datetime) -> Charge | None:
    tokens = new.tokens - (0 if old is None else old.tokens)
    nano_usd = (new.cost_nano_usd or 0) - (0 if old is None else old.cost_nano_usd or 0)
    if tokens == nano_usd == 0 and old is not None:
        return None
    is_priced = new.cost_nano_usd is not None
    return Charge(new.runner_id, new.project_id, new.agent, new.model, at, tokens, nano_usd, is_priced)


def _larger(one: int | None, other: int | None) -> int | None:
    return other if one is None else one if other is None else max(one, other)
