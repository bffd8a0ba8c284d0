"""Files that others write: who puts something else in their place gets nothing read."""

import os
import socket
from pathlib import Path

import pytest

from stratavore.foreign import Refused, head_of, open_below


def read(root: Path, path: Path) -> bytes:
    with open(open_below(root, path), "rb") as file:
        return file.read()


def test_a_file_below_the_root_is_read(tmp_path: Path) -> None:
    file = tmp_path / "a" / "b" / "file"
    file.parent.mkdir(parents=True)
    file.write_bytes(b"said")
    assert read(tmp_path, file) == b"said"
    assert head_of(tmp_path, file, 2) == b"sa"


def test_the_root_itself_may_be_a_link(tmp_path: Path) -> None:
    (tmp_path / "real").mkdir()
    (tmp_path / "real" / "file").write_bytes(b"said")
    root = tmp_path / "home"
    root.symlink_to("real")
    assert read(root, root / "file") == b"said"


def test_a_link_is_refused_wherever_it_stands(tmp_path: Path) -> None:
    outside = tmp_path / "outside"
    outside.mkdir()
    (outside / "file").write_bytes(b"secret")
    root = tmp_path / "root"
    root.mkdir()
    (root / "folder").symlink_to(outside)
    (root / "file").symlink_to(outside / "file")
    for path in (root / "folder" / "file", root / "file", root / ".." / "outside" / "file", outside / "file"):
        with pytest.raises(Refused):
            open_below(root, path)
        assert head_of(root, path, 10) == b""


def test_what_is_no_regular_file_is_refused_without_waiting(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "fifo")
    (tmp_path / "folder").mkdir()
    with socket.socket(socket.AF_UNIX) as server:
        server.bind(str(tmp_path / "socket"))
        for name in ("fifo", "folder", "socket"):
            with pytest.raises(Refused):
                open_below(tmp_path, tmp_path / name)


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can give files away")
def test_another_users_file_is_refused(tmp_path: Path) -> None:
    (tmp_path / "file").write_bytes(b"theirs")
    os.chown(tmp_path / "file", 65534, 65534)
    with pytest.raises(Refused, match="another user"):
        open_below(tmp_path, tmp_path / "file")


def test_nothing_is_left_open(tmp_path: Path) -> None:
    (tmp_path / "a").mkdir()
    (tmp_path / "a" / "link").symlink_to("x")
    before = len(os.listdir("/proc/self/fd"))
    for name in ("a/link", "a/missing", "missing/file"):
        assert head_of(tmp_path, tmp_path / name, 1) == b""
    assert len(os.listdir("/proc/self/fd")) == before
