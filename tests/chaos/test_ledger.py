"""The ledger under SIGKILL: what is written is counted once, whenever the daemon dies."""

import json
import time
from pathlib import Path

import pytest

from stratavore.store.database import open_readonly
from tests.chaos.house import House, dice, until
from tests.chaos.scribes import Scribe
from tests.ledger.keeping import COLUMNS
from tests.ledger.transcripts import Counts, counted


def run_ledger_chaos(house: House, *, lines: int, kills: int, seconds: float) -> Scribe:
    """Kill the daemon again and again while somebody writes; return once everything was read."""
    chance = dice()
    scribe = Scribe(Path(house.environment["HOME"], ".claude"), chance, lines=lines, seconds=seconds)
    scribe.begin()
    for _ in range(kills):
        doom = time.monotonic() + chance.uniform(0.05, 1.9 * seconds / kills)
        until(lambda doom=doom: time.monotonic() >= doom, why="the next kill")  # type: ignore[misc]
        house.kill_daemon()
        house.start(entry=house.entry)
    until(lambda: not scribe.is_writing, seconds=60 + seconds, why="the end of the writing")
    house.kill_daemon()
    house.start(entry=house.entry)  # it looks everywhere at its start
    until(lambda: _are_read(house, scribe.files), seconds=60, why="everything to be read")
    return scribe


def check_ledger(house: House, scribe: Scribe) -> None:
    """The ledger against a slow count of the files, call by call, and conversation by conversation."""
    with open_readonly(house.paths.database) as rows:
        found = {row[0]: row[1:] for row in rows.tuples(f"SELECT key, {COLUMNS} FROM usage")}
        by_session = dict(
            rows.tuples("SELECT s.id, COUNT(*) FROM usage AS u JOIN sessions AS s ON s.number = u.session GROUP BY 1")
        )
    expected = counted(scribe.files)
    assert totals(found) == totals(expected), "the totals of the ledger, and of the files"
    assert found == expected
    assert by_session == owned(scribe.files)


def totals(calls: dict[str, Counts]) -> tuple[int, ...]:
    return len(calls), *(sum(counts) for counts in zip(*calls.values(), strict=True))


def owned(files: list[Path]) -> dict[str, int]:
    """How many calls belong to each file's conversation: to the first that has them, for the next is forked from it."""
    known: set[str] = set()
    found = {}
    for path in files:
        ids = {json.loads(line)["message"]["id"] for line in path.read_bytes().splitlines()}
        if new := ids - known:
            found[path.stem] = len(new)
        known |= ids
    return found


def _are_read(house: House, files: list[Path]) -> bool:
    with open_readonly(house.paths.database) as rows:
        offsets = dict(rows.tuples("SELECT path, offset FROM tails"))
    return all(offsets.get(str(path)) == path.stat().st_size for path in files)


@pytest.mark.timeout(180)
def test_what_is_written_while_the_daemon_is_killed_is_counted_once(house: House) -> None:
    house.start()
    check_ledger(house, run_ledger_chaos(house, lines=10_000, kills=5, seconds=6))


@pytest.mark.long
@pytest.mark.timeout(1200)
def test_a_hundred_thousand_lines_and_fifty_kills(house: House) -> None:
    house.start()
    check_ledger(house, run_ledger_chaos(house, lines=100_000, kills=50, seconds=90))
