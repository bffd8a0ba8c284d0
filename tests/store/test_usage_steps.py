"""What a write asks of the ledger costs what it asks for, not what stands there already."""

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import apsw
import pytest

from stratavore.agents.records import Call
from stratavore.store import attribution, sessions, usage
from stratavore.store.database import Tx
from stratavore.store.usage import Source
from tests.books import NOW, Books

_BEFORE = 3000
"""Calls that stand in the ledger already: one of them costs a few steps, all of them several thousand."""


class Steps:
    """What SQLite's virtual machine did for the statements that name the ledger."""

    def __init__(self) -> None:
        self.most = 0

    def watch(self, connection: apsw.Connection) -> None:
        connection.trace_v2(apsw.SQLITE_TRACE_PROFILE, self._ended)

    def _ended(self, statement: dict[str, Any]) -> None:
        if "usage" in statement["sql"]:
            self.most = max(self.most, statement["stmt_status"]["SQLITE_STMTSTATUS_VM_STEP"])


@pytest.fixture
def steps() -> Iterator[Steps]:
    counted = Steps()
    apsw.connection_hooks.append(counted.watch)
    yield counted
    apsw.connection_hooks.remove(counted.watch)


@pytest.fixture
def books(steps: Steps, tmp_path: Path) -> Iterator[Books]:
    with Books.open(tmp_path / "state.db") as books:
        books.do(lambda tx: record(tx, *(call(number) for number in range(_BEFORE))))
        books.do(lambda tx: record(tx, call(_BEFORE, session_id="other")))
        steps.most = 0
        yield books


def call(number: int, session_id: str = "s1") -> Call:
    return Call(
        key=f"msg_{number}", session_id=session_id, at=NOW, model="m", input_tokens=1, request_id=f"req_{number}"
    )


def number_of(tx: Tx, session_id: str) -> int:
    return sessions.ensure(tx, "claude", "/home", session_id, now=NOW)


def record(tx: Tx, *calls: Call, source: Source = Source.TRANSCRIPT) -> None:
    numbers = {each.session_id: number_of(tx, each.session_id) for each in calls}
    usage.record(tx, "claude", "/a.jsonl", calls, numbers=numbers, price=lambda *_: None, source=source)


@pytest.mark.parametrize(
    "work",
    [
        pytest.param(lambda tx: record(tx, call(-1)), id="a new call"),
        pytest.param(lambda tx: record(tx, call(7)), id="a call again"),
        pytest.param(lambda tx: record(tx, call(-1), source=Source.OTLP), id="a call that a receiver is told of"),
        pytest.param(lambda tx: record(tx, call(7), source=Source.OTLP), id="one that a file told of"),
        pytest.param(lambda tx: attribution.attribute(tx, [number_of(tx, "other")], now=NOW), id="whose calls"),
        pytest.param(lambda tx: attribution.belong_to(tx, 1, "/other"), id="a new project"),
    ],
)
def test_a_write_costs_no_more_in_a_ledger_that_is_long(
    books: Books, steps: Steps, work: Callable[[Tx], object]
) -> None:
    books.sql("UPDATE sessions SET cwd = '/other' WHERE id = 'other'")
    books.do(work)
    assert 0 < steps.most < _BEFORE / 3
