"""The lines that hooks leave are read once, in order, whatever else stands there."""

import fcntl
import os
from pathlib import Path

import pytest

from stratavore import spool
from stratavore.hook import SPOOL

LINE = b'1922875689000 Stop allow {"a":1}\n'


@pytest.fixture
def file(tmp_path: Path) -> Path:
    return tmp_path / SPOOL


def test_lines_are_read_from_where_one_stopped(tmp_path: Path, file: Path) -> None:
    assert spool.read(tmp_path, 0) == ([], 0, False)
    file.write_bytes(LINE + b"1922875689001 UserPromptSubmit block \n" + LINE[:10])
    first = spool.read(tmp_path, 0)
    assert [(heard.event, heard.is_blocked, heard.said) for heard in first.heard] == [
        ("Stop", False, b'{"a":1}'),
        ("UserPromptSubmit", True, b""),
    ]
    assert first.heard[0].at.isoformat() == "2030-12-07T12:08:09+00:00"
    assert spool.read(tmp_path, first.offset) == ([], first.offset, False)
    with file.open("ab") as more:
        more.write(LINE[10:])
    second = spool.read(tmp_path, first.offset)
    assert [heard.event for heard in second.heard] == ["Stop"]
    assert second.offset == file.stat().st_size


@pytest.mark.parametrize(
    "line",
    [
        b"",
        b"x",
        b"x Stop allow {}",
        b"9" * 40 + b" Stop allow {}",
        "1 Ärger allow {}".encode(),
        b"\xff\0" * 50,
        b"1 2 3",
    ],
)
def test_what_has_not_our_shape_is_passed_over(tmp_path: Path, file: Path, line: bytes) -> None:
    file.write_bytes(line + b"\n" + LINE)
    assert [heard.event for heard in spool.read(tmp_path, 0).heard] == ["Stop"]


def test_a_line_without_an_end_does_not_hold_up_what_follows(tmp_path: Path, file: Path) -> None:
    file.write_bytes(b"x" * (spool.READ_AT_ONCE * 2) + b"\n" + LINE)
    offset, seen, is_more = 0, [], True
    while is_more:
        heard, offset, is_more = spool.read(tmp_path, offset)
        seen += heard
    assert [heard.event for heard in seen] == ["Stop"]


def test_what_is_no_file_is_not_read(tmp_path: Path, file: Path) -> None:
    os.mkfifo(file)
    assert spool.read(tmp_path, 0).heard == []
    file.unlink()
    (tmp_path / "other").write_bytes(LINE)
    file.symlink_to(tmp_path / "other")
    assert spool.read(tmp_path, 0).heard == []


def test_it_is_emptied_when_all_was_read_and_nobody_writes(tmp_path: Path, file: Path) -> None:
    file.write_bytes(LINE * 3)
    assert not spool.empty(tmp_path, len(LINE))
    with file.open("ab") as hook:
        fcntl.flock(hook, fcntl.LOCK_SH)
        assert not spool.empty(tmp_path, 3 * len(LINE))
    assert spool.empty(tmp_path, 3 * len(LINE))
    assert file.stat().st_size == 0
    file.write_bytes(LINE)
    assert len(spool.read(tmp_path, 3 * len(LINE)).heard) == 1
