"""One writer process at a time, and the refusal says which one it is."""

import fcntl
import os
import threading
from pathlib import Path

import pytest

from stratavore.errors import AlreadyRunning
from stratavore.store.lock import hold_lock, last_holder
from tests.store.conftest import Python

HOLDS = """
import sys
from pathlib import Path
from stratavore.store.lock import hold_lock
with hold_lock(Path(sys.argv[1])):
    print("held", flush=True)
    sys.stdin.read()
"""


def test_a_second_process_is_refused_and_told_the_pid(tmp_path: Path, python: Python) -> None:
    child = python(HOLDS, tmp_path / "state.lock")
    assert child.stdout is not None
    assert child.stdout.readline() == "held\n"
    with pytest.raises(AlreadyRunning, match=f"in use by pid {child.pid}$"):
        hold_lock(tmp_path / "state.lock")
    child.kill()
    child.wait()
    hold_lock(tmp_path / "state.lock").release()


def test_the_holder_is_written_down(tmp_path: Path) -> None:
    with hold_lock(tmp_path / "state.lock"):
        holder = last_holder(tmp_path / "state.lock")
        assert holder is not None
        assert holder.pid == os.getpid()
        assert holder.boot_id == Path("/proc/sys/kernel/random/boot_id").read_text().strip()
        assert holder.start_time == int(Path("/proc/self/stat").read_text().rpartition(")")[2].split()[19])
    assert (tmp_path / "state.lock").stat().st_mode & 0o777 == 0o600


def test_a_look_at_the_lock_is_not_a_refusal(tmp_path: Path) -> None:
    """A zygote takes a shared lock for a moment, to see whether a daemon lives."""
    looking = os.open(tmp_path / "state.lock", os.O_RDWR | os.O_CREAT, 0o600)
    fcntl.flock(looking, fcntl.LOCK_SH)
    timer = threading.Timer(0.05, os.close, (looking,))
    timer.start()
    hold_lock(tmp_path / "state.lock").release()
    timer.join()


@pytest.mark.parametrize("content", ["", "nonsense", "a b c", "boot 12"])
def test_an_unreadable_holder_is_nobody(tmp_path: Path, content: str) -> None:
    (tmp_path / "state.lock").write_text(content)
    assert last_holder(tmp_path / "state.lock") is None


def test_a_planted_link_is_not_followed(tmp_path: Path) -> None:
    (tmp_path / "canary").write_text("sings")
    (tmp_path / "state.lock").symlink_to(tmp_path / "canary")
    with pytest.raises(OSError, match="symbolic links"):
        hold_lock(tmp_path / "state.lock")
    assert (tmp_path / "canary").read_text() == "sings"
