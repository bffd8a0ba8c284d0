"""Power loss at a random moment of a random history, from the creation of the file on.

With `full`, what was answered is there afterwards. With `normal` the newest writes may be missing. With both, the
file is whole, and a thing is there exactly when its fact is.
"""

import asyncio
import random
from contextlib import closing
from pathlib import Path
from typing import NamedTuple

import pytest

from stratavore.errors import Corrupt
from stratavore.store.database import Database, Durability, Tx
from tests.store.faulty_disk import Disk, inserted

LOSSES = 400


class Aftermath(NamedTuple):
    """How many answered writes there were at the power loss, how many were lost, and whether the file was whole."""

    answered: int
    lost: int
    whole: bool


@pytest.mark.timeout(300)
def test_with_full_durability_no_answered_write_is_lost(memory: Path, migrations: Path, rng: random.Random) -> None:
    losses = _losses(memory, migrations, rng, Durability.FULL)
    assert sum(each.answered for each in losses) > LOSSES
    assert [each for each in losses if each.lost or not each.whole] == []


@pytest.mark.timeout(300)
def test_with_normal_durability_whole_writes_are_lost_and_nothing_else(
    memory: Path, migrations: Path, rng: random.Random
) -> None:
    losses = _losses(memory, migrations, rng, Durability.NORMAL, number=150)
    assert all(each.whole for each in losses)
    assert any(each.lost for each in losses), "this disk forgives everything: it proves nothing about `full`"


def test_a_disk_that_lies_about_flushing_is_noticed(memory: Path, migrations: Path, rng: random.Random) -> None:
    """The negative control: the same test must turn red when a sync does nothing."""
    losses = _losses(memory, migrations, rng, Durability.FULL, honours_sync=False, number=40)
    assert any(each.lost or not each.whole for each in losses)


def _losses(
    memory: Path,
    migrations: Path,
    rng: random.Random,
    durability: Durability,
    *,
    honours_sync: bool = True,
    number: int = LOSSES,
) -> list[Aftermath]:
    found = []
    for each in range(number):
        room = memory / str(each)
        room.mkdir(mode=0o700)
        seed = rng.getrandbits(32)
        answered = _history_until_power_loss(room, migrations, random.Random(seed), durability, honours_sync)
        found.append(_aftermath(room / "after" / "state.db", migrations, answered))
    return found


def _history_until_power_loss(
    room: Path, migrations: Path, rng: random.Random, durability: Durability, honours_sync: bool
) -> set[int]:
    """Write things until the power goes; what the disk has then lies in `room/after`. Returns what was answered."""
    answered: set[int] = set()
    at_the_loss: set[int] = set()
    (room / "after").mkdir(mode=0o700)
    remaining = rng.randrange(250)

    def power(disk: Disk) -> None:
        nonlocal remaining, at_the_loss
        remaining -= 1
        if remaining == 0:
            at_the_loss = set(answered)
            disk.write_remains(room / "after", rng)

    with inserted() as disk:
        disk.honours_sync = honours_sync
        disk.before_write = disk.before_sync = lambda _: power(disk)
        database = Database.open(room / "before" / "state.db", durability=durability, migrations=migrations)
        asyncio.run(_write_things(database, rng, answered))
        database.close()
        if remaining > 0:
            at_the_loss = set(answered)
            disk.write_remains(room / "after", rng)
    return at_the_loss


async def _write_things(database: Database, rng: random.Random, answered: set[int]) -> None:
    number = 0
    for _ in range(rng.randrange(4, 12)):
        batch = range(number, number := number + rng.randrange(1, 6))
        await asyncio.gather(*(_write_thing(database, thing, rng, answered) for thing in batch))
        if rng.random() < 0.2:
            await asyncio.to_thread(_checkpoint, database)


async def _write_thing(database: Database, thing: int, rng: random.Random, answered: set[int]) -> None:
    filling = "x" * rng.choice((1, 300, 6000))

    def write(tx: Tx) -> None:
        tx.execute("INSERT INTO things (id, name, size) VALUES (?, ?, 1)", (thing, f"{thing}{filling}"))
        tx.execute("INSERT INTO facts (thing, what) VALUES (?, 'made')", (thing,))

    await database.write(write)
    answered.add(thing)


def _checkpoint(database: Database) -> None:
    # What the writer does by itself after a thousand pages, or when it is idle.
    writer = database._writer
    writer.between_batches(writer.checkpoints.truncate)


def _aftermath(path: Path, migrations: Path, answered: set[int]) -> Aftermath:
    try:
        with closing(Database.open(path, migrations=migrations, check=True)) as database:
            reader = database.reader()
            things = {row["id"] for row in reader.all("SELECT id FROM things")}
            facts = {row["thing"] for row in reader.all("SELECT thing FROM facts")}
            problems = database.check(full=True)
    except Corrupt:
        return Aftermath(len(answered), len(answered), whole=False)
    return Aftermath(len(answered), len(answered - things), whole=things == facts and not problems)
