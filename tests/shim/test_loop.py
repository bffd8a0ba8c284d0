"""One bug ends one callback: whatever else was due is done, and what all depend on is heard again."""

import os
import signal
from collections.abc import Iterator
from pathlib import Path

import pytest

from stratavore.shim.client import replay
from stratavore.shim.journal import Disk, Journal
from stratavore.shim.loop import Loop
from stratavore.shim.record import ExitRecord


@pytest.fixture
def loop() -> Iterator[Loop]:
    before = signal.set_wakeup_fd(-1)
    yield Loop(lambda received: None)
    signal.set_wakeup_fd(before)


def fail() -> None:
    raise RuntimeError("a bug")


def record(key: str) -> ExitRecord:
    return ExitRecord(key, "{}", 1, 1, "boot", 0, None, 0.0, 0.0, 0, 0, 0, 0, 0, None)


def test_a_bug_after_one_piece_of_work_leaves_the_others_theirs(loop: Loop) -> None:
    done: list[str] = []
    disk = Disk(loop)
    for name in ("first", "second"):
        disk.do(lambda: None, fail)
        disk.do(lambda: None, lambda name=name: done.append(name))  # type: ignore[misc]
        disk.catch_up()
        loop.turn()
    assert done == ["first", "second"]


def test_a_bug_over_one_exit_leaves_those_that_became_durable_with_it(loop: Loop, tmp_path: Path) -> None:
    told: list[str] = []
    disk = Disk(loop)
    journal = Journal(str(tmp_path / "journal"), loop, disk)
    for key in ("a.1", "b.1", "c.1"):
        journal.promise(1024)
        journal.write(record(key), 1024, fail if key == "b.1" else lambda key=key: told.append(key))  # type: ignore[misc]
    while told != ["a.1", "c.1"]:  # those that wait for the first are written together
        disk.catch_up()
        loop.turn()
    assert [each.key for each in replay(tmp_path / "journal")] == ["a.1", "b.1", "c.1"]


def test_what_all_depend_on_is_heard_again_after_a_bug_and_nothing_else(loop: Loop) -> None:
    heard: list[int] = []

    def hear(fd: int) -> None:
        heard.append(fd)
        os.read(fd, 1)
        fail()

    pipes = [os.pipe(), os.pipe()]
    for (reading, _), is_vital in zip(pipes, (True, False), strict=True):
        loop.watch(reading, lambda _, fd=reading: hear(fd), is_vital=is_vital)  # type: ignore[misc]
    for _ in range(2):
        for _, writing in pipes:
            os.write(writing, b"x")
        loop.turn()
    (vital, _), (other, _) = pipes
    assert sorted(heard) == sorted([vital, vital, other])
    for fd in (fd for pipe in pipes for fd in pipe):
        os.close(fd)
