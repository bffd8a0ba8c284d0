"""Hard limits, over a directory tree in the place of the kernel's: what is written where, not what it effects."""

import os
import pwd
from pathlib import Path

import pytest

from stratavore.cgroups import Limits, scope_command

SCOPE = "user.slice/user-1000.slice/user@1000.service/app.slice/stratavore-77.scope"


@pytest.fixture
def root(tmp_path: Path) -> Path:
    base = tmp_path / SCOPE
    base.mkdir(parents=True)
    (base / "cgroup.controllers").write_text("cpu memory pids\n")
    (base / "cgroup.procs").write_text("41\n")
    (base / "cgroup.subtree_control").write_text("")
    return tmp_path


def test_holders_move_into_a_leaf_of_their_own(root: Path) -> None:
    assert Limits.below(root, f"/{SCOPE}") is not None
    assert (root / SCOPE / "holders" / "cgroup.procs").read_text() == "41"
    assert (root / SCOPE / "cgroup.subtree_control").read_text() == "+memory +cpu"


def test_a_holder_that_moved_already_is_found_by_its_scope(root: Path) -> None:
    assert Limits.below(root, f"/{SCOPE}/holders") is not None


def test_a_process_is_put_under_its_project_s_limits(root: Path) -> None:
    limits = Limits.below(root, f"/{SCOPE}")
    assert limits is not None
    assert limits.hold(3, 99, memory_bytes=1 << 30, cpu_percent=150)
    place = root / SCOPE / "project-3"
    assert (place / "memory.max").read_text() == str(1 << 30)
    assert (place / "cpu.max").read_text() == "150000 100000"
    assert (place / "cgroup.procs").read_text() == "99"


def test_a_cgroup_that_is_not_ours_is_left_alone(root: Path) -> None:
    assert Limits.below(root, "/user.slice/session-1.scope") is None


def test_without_the_memory_controller_there_are_no_hard_limits(root: Path) -> None:
    (root / SCOPE / "cgroup.controllers").write_text("pids\n")
    assert Limits.below(root, f"/{SCOPE}") is None


@pytest.fixture
def managed(tmp_path: Path) -> dict[str, str]:
    """The environment of somebody who has a user manager, as far as can be seen from files."""
    (tmp_path / "systemd").mkdir()
    (tmp_path / "systemd" / "private").touch()
    (tmp_path / "systemd-run").touch(mode=0o755)
    return {"XDG_RUNTIME_DIR": str(tmp_path), "PATH": str(tmp_path)}


def test_each_zygote_has_a_scope_of_its_own(managed: dict[str, str], tmp_path: Path) -> None:
    (tmp_path / "linger" / pwd.getpwuid(os.getuid()).pw_name).mkdir(parents=True)
    first, second = (
        scope_command(managed, zygote, linger=tmp_path / "linger") for zygote in ("1.0+x-aa", "1.0+x-bb")
    )
    assert "--unit=stratavore-1.0_x-aa" in first
    assert "--unit=stratavore-1.0_x-bb" in second


def test_no_scope_is_made_without_linger(managed: dict[str, str], tmp_path: Path) -> None:
    assert scope_command(managed, "z", linger=tmp_path / "linger") == ()


def test_no_scope_is_made_without_a_user_manager(tmp_path: Path) -> None:
    assert scope_command({}, "z", linger=tmp_path) == ()
    assert scope_command({"XDG_RUNTIME_DIR": str(tmp_path), "PATH": "/usr/bin"}, "z", linger=tmp_path) == ()
