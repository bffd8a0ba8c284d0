"""Hard limits, over a directory tree in the place of the kernel's: what is written where, not what it effects."""

import os
import pwd
from pathlib import Path

import pytest

from stratavore.cgroups import Limits, LimitsByShim, scope_command

SCOPE = "user.slice/user-1000.slice/user@1000.service/app.slice/stratavore-77.scope"


@pytest.fixture
def root(tmp_path: Path) -> Path:
    base = tmp_path / SCOPE
    base.mkdir(parents=True)
    (base / "cgroup.controllers").write_text("cpu memory pids\n")
    (base / "cgroup.procs").write_text("41\n")
    (base / "cgroup.subtree_control").write_text("")
    return tmp_path


@pytest.fixture
def proc(tmp_path: Path) -> Path:
    """Where the kernel says in which cgroup the process 41 is."""
    place = tmp_path / "proc" / "41"
    place.mkdir(parents=True)
    (place / "cgroup").write_text(f"1:name=systemd:/x\n0::/{SCOPE}\n")
    return place.parent


@pytest.fixture
def limits(root: Path, proc: Path) -> Limits:
    found = Limits.around(41, root=root, proc=proc)
    assert found is not None
    return found


def hold(limits: Limits, *, cpu_percent: float | None = 150) -> bool:
    return limits.hold(3, 99, memory_bytes=1 << 30, cpu_percent=cpu_percent)


def test_a_look_changes_nothing(root: Path, limits: Limits) -> None:
    assert limits.holds_cpu
    assert {path.name for path in (root / SCOPE).iterdir()} == {
        "cgroup.controllers", "cgroup.procs", "cgroup.subtree_control",
    }  # fmt: skip
    assert (root / SCOPE / "cgroup.subtree_control").read_text() == ""


def test_holders_move_into_a_leaf_of_their_own(root: Path, limits: Limits) -> None:
    assert hold(limits)
    assert (root / SCOPE / "holders" / "cgroup.procs").read_text() == "41"
    assert (root / SCOPE / "cgroup.subtree_control").read_text() == "+memory +cpu"


def test_a_holder_that_moved_already_is_found_by_its_scope(root: Path, proc: Path) -> None:
    (proc / "41" / "cgroup").write_text(f"0::/{SCOPE}/holders\n")
    found = Limits.around(41, root=root, proc=proc)
    assert found is not None
    assert hold(found)
    assert (root / SCOPE / "project-3").is_dir()


def test_a_process_is_put_under_its_project_s_limits(root: Path, limits: Limits) -> None:
    assert hold(limits)
    place = root / SCOPE / "project-3"
    assert (place / "memory.max").read_text() == str(1 << 30)
    assert (place / "cpu.max").read_text() == "150000 100000"
    assert (place / "cgroup.procs").read_text() == "99"


def test_without_the_cpu_controller_memory_is_limited_all_the_same(root: Path, proc: Path) -> None:
    (root / SCOPE / "cgroup.controllers").write_text("memory pids\n")
    found = Limits.around(41, root=root, proc=proc)
    assert found is not None
    assert not found.holds_cpu
    assert hold(found, cpu_percent=None)
    assert not hold(found, cpu_percent=150)
    place = root / SCOPE / "project-3"
    assert (place / "memory.max").read_text() == str(1 << 30)
    assert (place / "cgroup.procs").read_text() == "99"
    assert not (place / "cpu.max").exists()


def test_a_cgroup_that_is_not_ours_is_left_alone(root: Path, proc: Path) -> None:
    (proc / "41" / "cgroup").write_text("0::/user.slice/session-1.scope\n")
    assert Limits.around(41, root=root, proc=proc) is None


def test_without_the_memory_controller_there_are_no_hard_limits(root: Path, proc: Path) -> None:
    (root / SCOPE / "cgroup.controllers").write_text("pids\n")
    assert Limits.around(41, root=root, proc=proc) is None


def test_what_was_found_stays_with_its_shim_and_what_was_not_is_looked_for_again(root: Path, proc: Path) -> None:
    by_shim = LimitsByShim(root=root, proc=proc)
    assert by_shim.around("young", 77) is None
    (proc / "77").symlink_to(proc / "41")
    found = by_shim.around("young", 77)
    assert found is not None
    assert by_shim.around("young", 77) is found
    assert by_shim.around("other", 77) is not found, "the pid of a dead shim may be another's"


@pytest.fixture
def managed(tmp_path: Path) -> dict[str, str]:
    """The environment of somebody who has a user manager, as far as can be seen from files."""
    (tmp_path / "systemd").mkdir()
    (tmp_path / "systemd" / "private").touch()
    (tmp_path / "systemd-run").touch(mode=0o755)
    return {"XDG_RUNTIME_DIR": str(tmp_path), "PATH": str(tmp_path)}


def test_each_zygote_has_a_scope_of_its_own(managed: dict[str, str], tmp_path: Path) -> None:
    (tmp_path / "linger" / pwd.getpwuid(os.getuid()).pw_name).mkdir(parents=True)
    first, second = (scope_command(managed, zygote, linger=tmp_path / "linger") for zygote in ("1.0+x-aa", "1.0+x-bb"))
    assert "--unit=stratavore-1.0_x-aa" in first
    assert "--unit=stratavore-1.0_x-bb" in second


def test_no_scope_is_made_without_linger(managed: dict[str, str], tmp_path: Path) -> None:
    assert scope_command(managed, "z", linger=tmp_path / "linger") == ()


def test_no_scope_is_made_without_a_user_manager(tmp_path: Path) -> None:
    assert scope_command({}, "z", linger=tmp_path) == ()
    assert scope_command({"XDG_RUNTIME_DIR": str(tmp_path), "PATH": "/usr/bin"}, "z", linger=tmp_path) == ()
