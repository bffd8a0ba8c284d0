"""Reading one file by slices, whatever becomes of it: every line of what it holds in the end, and never half of one."""

import os
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from stratavore.agents.records import LONGEST_LINE
from stratavore.foreign import Refused
from stratavore.ledger import tail
from stratavore.ledger.tail import Slice, Tails
from stratavore.store.tails import Tail


@dataclass
class Follower:
    """One who follows a file, and keeps what a database would keep."""

    path: Path
    tails: Tails = field(default_factory=Tails)
    seen: list[bytes] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.state = Tail(str(self.path), "claude", str(self.path.parent))

    def read(self, *, limit: int = tail.TURN_BYTES, finish: bool = False) -> Slice:
        found = self.tails.read(self.path.parent, self.state, limit=limit, finish=finish)
        self.state = Tail(*found.tail)
        self.seen += [line for _, line in found.lines]
        return found

    def read_all(self, *, limit: int = tail.TURN_BYTES) -> Slice:
        while (found := self.read(limit=limit)).is_more:
            pass
        return found

    def start_again(self) -> None:
        """As another process would go on."""
        self.tails.close()
        self.tails = Tails()


@pytest.fixture
def follower(tmp_path: Path) -> Iterator[Follower]:
    made = Follower(tmp_path / "file.jsonl")
    yield made
    made.tails.close()


def append(follower: Follower, text: bytes) -> None:
    with follower.path.open("ab") as file:
        file.write(text)


def test_only_whole_lines_are_handed_out_each_with_its_offset(follower: Follower) -> None:
    append(follower, b"one\ntwo\nthr")
    assert list(follower.read().lines) == [(0, b"one"), (4, b"two")]
    assert follower.state.offset == 8
    assert list(follower.read().lines) == []
    append(follower, b"ee\n")
    assert list(follower.read().lines) == [(8, b"three")]


def test_nothing_is_read_twice_by_the_next_process(follower: Follower) -> None:
    append(follower, b"one\ntwo\n")
    follower.read()
    follower.start_again()
    append(follower, b"three\n")
    found = follower.read()
    assert not found.is_anew
    assert follower.seen == [b"one", b"two", b"three"]


def test_a_missing_file_is_gone(follower: Follower) -> None:
    assert follower.read().is_gone


def test_a_turn_is_bounded(follower: Follower) -> None:
    append(follower, b"x" * 99 + b"\n" + b"y" * 99 + b"\n" + b"z" * 99 + b"\n")
    found = follower.read(limit=150)
    assert [line[:1] for _, line in found.lines] == [b"x"]
    assert found.is_more
    follower.read_all(limit=150)
    assert [line[:1] for line in follower.seen] == [b"x", b"y", b"z"]


def test_a_line_that_is_longer_than_a_turn_is_read_whole(follower: Follower) -> None:
    append(follower, b"x" * 5000 + b"\nshort\n")
    follower.read_all(limit=10)
    assert follower.seen == [b"x" * 5000, b"short"]


@pytest.mark.parametrize("rest", [b"", b"new beginning\n", b"one\nother\nmore\nand more\n"])
def test_a_truncated_file_is_read_from_its_beginning(follower: Follower, rest: bytes) -> None:
    append(follower, b"one\ntwo\nthree\n")
    follower.read_all()
    os.truncate(follower.path, 0)
    append(follower, rest)
    found = follower.read_all()
    assert found.is_anew
    assert follower.state.generation == 1
    assert follower.seen[3:] == rest.splitlines()


def test_a_partial_line_that_was_taken_back_is_never_seen(follower: Follower) -> None:
    append(follower, b"one\nhal")
    follower.read_all()
    os.truncate(follower.path, 4)
    append(follower, b"whole\n")
    follower.read_all()
    assert follower.seen == [b"one", b"whole"]


def test_a_file_that_is_rewritten_in_place_is_read_from_its_beginning(follower: Follower) -> None:
    """Same inode, same size: only what stands in it tells."""
    append(follower, b"one\ntwo\n")
    follower.read_all()
    with follower.path.open("r+b") as file:
        file.write(b"six\nten\n")
    assert follower.read_all().is_anew
    assert follower.seen == [b"one", b"two", b"six", b"ten"]


def test_a_rewrite_that_keeps_the_first_line_is_seen_too(follower: Follower) -> None:
    append(follower, b"head\ntwo\n")
    follower.read_all()
    with follower.path.open("r+b") as file:
        file.write(b"head\nten\n")
    follower.read_all()
    assert follower.seen[2:] == [b"head", b"ten"]


def test_a_renamed_file_is_read_to_its_end_before_the_new_one(follower: Follower) -> None:
    append(follower, b"one\n")
    follower.read_all()
    append(follower, b"two\n{}")
    follower.path.rename(follower.path.with_suffix(".1"))
    append(follower, b"new\n")
    follower.read_all()
    assert follower.seen == [b"one", b"two", b"{}", b"new"]


def test_a_deleted_file_is_read_to_its_end(follower: Follower) -> None:
    append(follower, b"one\n")
    follower.read_all()
    append(follower, b"two\n")
    follower.path.unlink()
    assert follower.read_all().is_gone
    assert follower.seen == [b"one", b"two"]
    assert follower.read().is_gone


def test_an_inode_that_is_used_again_is_another_file(follower: Follower) -> None:
    append(follower, b"one\ntwo\n")
    follower.read_all()
    follower.tails.close()
    inode = follower.path.stat().st_ino
    follower.path.unlink()
    append(follower, b"new\ntwo and more\n")
    follower.state = follower.state._replace(inode=follower.path.stat().st_ino)
    follower.read_all()
    assert follower.seen[2:] == [b"new", b"two and more"], inode


def test_a_file_that_replaced_another_is_read_whatever_both_begin_and_end_with(follower: Follower) -> None:
    append(follower, b"same\n" * 100)
    follower.read_all()
    other = follower.path.with_suffix(".new")
    other.write_bytes(b"same\n" * 48 + b"diff\n" + b"same\n" * 51)
    other.replace(follower.path)
    follower.read_all()
    assert b"diff" in follower.seen


def test_a_huge_line_is_skipped_and_said(follower: Follower) -> None:
    append(follower, b"one\n" + b"x" * (LONGEST_LINE + 1000))
    follower.read_all()
    assert follower.state.is_skipping
    follower.start_again()
    append(follower, b"still the same\ntwo\n")
    follower.read_all()
    assert follower.seen == [b"one", b"two"]
    assert follower.state.skipped_bytes == LONGEST_LINE + 1000 + len(b"still the same")
    assert not follower.state.is_skipping


def test_a_line_of_the_longest_length_is_read(follower: Follower) -> None:
    append(follower, b"x" * LONGEST_LINE + b"\n" + b"y" * (LONGEST_LINE + 1) + b"\nz\n")
    follower.read_all()
    assert [(len(line), line[:1]) for line in follower.seen] == [(LONGEST_LINE, b"x"), (1, b"z")]


def test_the_hole_that_a_crash_left_is_left_out(follower: Follower) -> None:
    append(follower, b"one\n" + b"\0" * 3_000_000 + b"two\n\0\0\n\nthree\n")
    follower.read_all()
    assert follower.seen == [b"one", b"two", b"three"]
    assert follower.state.bad_lines == 2


@pytest.mark.parametrize(("left", "seen"), [(b'{"a":1}', [b'{"a":1}']), (b'{"a":', []), (b"12", []), (b"", [])])
def test_the_last_line_of_an_ended_file_is_read_if_it_is_whole(
    follower: Follower, left: bytes, seen: list[bytes]
) -> None:
    append(follower, b"one\n" + left)
    follower.read_all()
    assert follower.seen == [b"one"]
    follower.read(finish=True)
    follower.read(finish=True)
    assert follower.seen == [b"one", *seen]
    append(follower, b'\n{"b":2}\n')
    follower.read_all()
    assert follower.seen[-1] == b'{"b":2}'
    assert len(follower.seen) == (3 if left in (b'{"a":1}', b"12", b'{"a":') else 2)


def test_what_is_no_file_of_ours_is_refused(follower: Follower) -> None:
    follower.path.symlink_to("/etc/hostname")
    with pytest.raises(Refused):
        follower.read()
    follower.path.unlink()
    os.mkfifo(follower.path)
    with pytest.raises(Refused):
        follower.read()


def test_many_files_need_few_descriptors(tmp_path: Path) -> None:
    tails = Tails(most=3)
    before = len(os.listdir("/proc/self/fd"))
    followers = [Follower(tmp_path / f"{number}.jsonl", tails) for number in range(10)]
    for turn in range(3):
        for number, one in enumerate(followers):
            append(one, f"{turn} of {number}\n".encode())
            one.read_all()
        assert len(os.listdir("/proc/self/fd")) <= before + 3
    assert [one.seen for one in followers] == [
        [f"{turn} of {number}".encode() for turn in range(3)] for number in range(10)
    ]
    tails.close()
    assert len(os.listdir("/proc/self/fd")) == before


texts = st.lists(st.binary(max_size=12).map(lambda line: line.replace(b"\n", b"-").replace(b"\0", b"-")), max_size=6)
steps = st.lists(
    st.one_of(
        st.tuples(st.just("append"), texts, st.booleans()),
        st.tuples(st.just("truncate"), st.integers(0, 200)),
        st.tuples(st.just("rewrite"), texts, st.booleans()),
        st.tuples(st.just("replace"), texts, st.booleans()),
        st.tuples(st.just("delete")),
        st.tuples(st.just("read"), st.integers(1, 40)),
        st.tuples(st.just("restart")),
    ),
    max_size=30,
)


class World:
    """A file and everything that was ever a line of it."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.count = 0
        self.ever: set[bytes] = set()

    def text(self, lines: list[bytes], *, ends: bool) -> bytes:
        """Lines that are all different, as an agent's are by their ids and times."""
        made = []
        for line in lines:
            self.count += 1
            made.append(b"%d:%s" % (self.count, line))
        return b"\n".join(made) + (b"\n" if ends and made else b"")

    def note(self) -> None:
        """Every line that is whole at this moment may be handed out."""
        if self.path.exists():
            self.ever |= set(self.path.read_bytes().split(b"\n")[:-1])

    def do(self, step: tuple[object, ...]) -> None:
        match step:
            case ("append", list(lines), bool(ends)):
                with self.path.open("ab") as file:
                    file.write(self.text(lines, ends=ends))
            case ("truncate", int(size)) if self.path.exists():
                os.truncate(self.path, min(size, self.path.stat().st_size))
            case ("rewrite", list(lines), bool(ends)):
                self.path.write_bytes(self.text(lines, ends=ends))
            case ("replace", list(lines), bool(ends)):
                other = self.path.with_suffix(".new")
                other.write_bytes(self.text(lines, ends=ends))
                other.replace(self.path)
            case ("delete",):
                self.path.unlink(missing_ok=True)
        self.note()


@settings(max_examples=150, deadline=None)
@given(steps=steps)
def test_whatever_happens_to_a_file_its_lines_are_seen_and_never_half_of_one(
    steps: list[tuple[object, ...]], tmp_path_factory: pytest.TempPathFactory
) -> None:
    path = tmp_path_factory.mktemp("world") / "file.jsonl"
    world, follower = World(path), Follower(path)
    try:
        for step in steps:
            match step:
                case ("read", int(limit)):
                    follower.read(limit=limit)
                case ("restart",):
                    follower.start_again()
                case _:
                    world.do(step)
        follower.read_all(limit=17)
        final = path.read_bytes().split(b"\n")[:-1] if path.exists() else []
        assert {line for line in final if not line.isspace() and line} <= set(follower.seen)
        assert set(follower.seen) <= world.ever
    finally:
        follower.tails.close()
