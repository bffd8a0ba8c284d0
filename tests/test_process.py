"""Who is who, who belongs to whom, what they use: over real processes."""

import contextlib
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path

import pytest

from stratavore import process
from stratavore.clock import SystemClock
from stratavore.process import Identity, Sampler

Child = Callable[..., "subprocess.Popen[str]"]
SECONDS = 20.0


@pytest.fixture
def child() -> Iterator[Child]:
    """Starts `sh -c SCRIPT` in a session of its own; kills that session at the end."""
    started: list[subprocess.Popen[str]] = []

    def start(script: str, *argv: str, env: dict[str, str] | None = None) -> "subprocess.Popen[str]":
        command = list(argv) or ["sh", "-c", script]
        found = subprocess.Popen(
            command, stdout=subprocess.PIPE, text=True, start_new_session=True,
            env=None if env is None else {**os.environ, **env},
        )  # fmt: skip
        started.append(found)
        return found

    yield start
    for found in started:
        below = [pid for pid, _ in process.tree(found.pid)]
        for pid in {found.pid, *below, *_of_session(found.pid)}:
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
        assert found.stdout is not None
        found.stdout.close()
        found.wait()


def said(found: "subprocess.Popen[str]") -> str:
    """The next line that it printed."""
    assert found.stdout is not None
    return found.stdout.readline().strip()


def who(found: "subprocess.Popen[str]") -> Identity:
    """It, while it lives."""
    identity = process.identify(found.pid)
    assert identity is not None
    return identity


def until(is_so: Callable[[], object]) -> None:
    deadline = time.monotonic() + SECONDS
    while not is_so():
        assert time.monotonic() < deadline, "it did not become so"
        time.sleep(0.01)


class TestIdentity:
    """A process is its boot, its pid and its start; a zombie is dead."""

    def test_a_living_process_has_one_and_keeps_it(self, child: Child) -> None:
        found = child("exec sleep 1000")
        who = process.identify(found.pid)
        assert who is not None
        assert who.boot_id == process.boot_id()
        assert process.is_alive(who)
        assert process.identify(found.pid) == who

    def test_a_zombie_is_dead(self, child: Child) -> None:
        found = child("exec sleep 1000")
        who = process.identify(found.pid)
        assert who is not None
        found.kill()
        until(lambda: (seen := process.stat(found.pid)) is not None and seen.state == "Z")
        assert process.identify(found.pid) is None
        assert not process.is_alive(who)
        found.wait()
        assert process.stat(found.pid) is None
        assert not process.is_alive(who)

    def test_who_has_the_pid_of_another_is_not_that_other(self, child: Child) -> None:
        who = process.identify(child("exec sleep 1000").pid)
        assert who is not None
        assert not process.is_alive(who._replace(boot_id="earlier-boot"))
        assert not process.is_alive(who._replace(start_time=who.start_time - 1))

    def test_a_signal_reaches_only_that_very_process(self, child: Child) -> None:
        found = child("exec sleep 1000")
        who = process.identify(found.pid)
        assert who is not None
        process.send_signal([who._replace(start_time=who.start_time - 1)], signal.SIGKILL)
        process.send_signal([Identity(process.boot_id(), 1 << 30, 5)], signal.SIGKILL)
        assert process.is_alive(who)
        process.send_signal([who], signal.SIGKILL)
        assert found.wait(SECONDS) == -9

    def test_any_name_of_a_program_is_read(self, child: Child, tmp_path: Path) -> None:
        """The second field of /proc/PID/stat holds what the program is called, unquoted."""
        for name in ("a b) Z 1 1 (", ") R", "((", "na\nme"):
            program = tmp_path / name
            program.symlink_to("/bin/sleep")
            found = child("", str(program), "1000")
            until(partial(_is_called, found.pid, name[:15]))
            seen = process.stat(found.pid)
            assert seen is not None
            assert (seen.ppid, seen.session) == (os.getpid(), found.pid)

    def test_how_long_it_lives_is_told_by_the_boot_clock(self, child: Child) -> None:
        who = process.identify(child("exec sleep 1000").pid)
        assert who is not None
        now = SystemClock().boottime()
        assert -0.1 < process.seconds_since_start(who.start_time, now) < SECONDS
        assert process.seconds_since_start(who.start_time, now + 100) > 99


class TestKinship:
    """Parents, trees, and the marker that survives both."""

    def test_the_line_of_parents_ends_with_the_first_process(self) -> None:
        chain = process.ancestors(os.getpid())
        assert chain[:2] == [os.getpid(), os.getppid()]
        last = process.stat(chain[-1])
        assert last is not None
        assert last.ppid == 0

    @pytest.mark.parametrize("pid", [0, -1, 1 << 30])
    def test_nobody_has_no_parents(self, pid: int) -> None:
        assert process.ancestors(pid) == []

    def test_a_tree_is_told_root_first(self, child: Child) -> None:
        found = child("sleep 1000 & echo $!; wait")
        below = int(said(found))
        until(partial(_is_called, below, "sleep"))
        assert [pid for pid, _ in process.tree(found.pid)] == [found.pid, below]
        assert process.describe_tree(found.pid) == [f"{below} sleep"]
        assert process.tree(1 << 30) == []
        assert process.describe_tree(1 << 30) == []

    def test_the_marker_finds_whoever_bears_it_wherever_it_went(self, child: Child) -> None:
        found = child("setsid sh -c 'sleep 1000 & echo $!'; sleep 1000", env={"STRATAVORE_RUNNER": "aaa"})
        other = child("exec sleep 1000", env={"STRATAVORE_RUNNER": "aaab"})
        orphan = int(said(found))
        marked = process.marked(["aaa", "nobody"])
        assert set(marked) == {"aaa"}
        assert {found.pid, orphan} <= {who.pid for who in marked["aaa"]}
        assert other.pid not in {who.pid for who in marked["aaa"]}
        assert process.mark_of(other.pid) == "aaab"
        assert process.mark_of(os.getpid()) is None
        assert process.mark_of(1 << 30) is None
        os.kill(orphan, signal.SIGKILL)

    def test_a_name_that_ends_like_the_marker_is_none(self, child: Child) -> None:
        found = child("exec sleep 1000", env={"MY_STRATAVORE_RUNNER": "aaa"})
        until(lambda: _comm(found.pid) == "sleep")
        assert process.mark_of(found.pid) is None


class TestSampler:
    """One pass over the table for all trees."""

    def test_a_tree_is_summed_up(self, child: Child) -> None:
        found = child("sleep 1000 & sleep 1000 & echo ready; wait")
        assert said(found) == "ready"
        [used] = Sampler().sample({"r": who(found)}).values()
        assert (used.children, used.threads) == (2, 3)
        assert used.rss_bytes > 3 * 100_000
        assert used.cpu_percent is None, "one look tells nothing about a rate"

    def test_an_orphan_of_its_session_belongs_to_it(self, child: Child) -> None:
        found = child("(sleep 1000 & echo $!) ; sleep 1000")
        orphan = int(said(found))
        until(lambda: (seen := process.stat(orphan)) is not None and seen.ppid != found.pid)
        used = Sampler().sample({"r": who(found)})["r"]
        assert orphan in {pid for pid, _ in used.members}

    def test_what_an_orphan_started_belongs_to_it_too(self, child: Child) -> None:
        found = child("(sh -c 'setsid sleep 1000 & echo $!; wait' &) ; sleep 1000")
        grandchild = int(said(found))
        until(lambda: _comm(grandchild) == "sleep")
        used = Sampler().sample({"r": who(found)})["r"]
        os.kill(grandchild, signal.SIGKILL)
        assert grandchild in {pid for pid, _ in used.members}

    def test_trees_are_told_apart(self, child: Child) -> None:
        first, second = child("sleep 1000 & echo ready; wait"), child("exec sleep 1000")
        said(first)
        used = Sampler().sample({"a": who(first), "b": who(second)})
        assert (used["a"].children, used["b"].children) == (1, 0)

    def test_work_is_seen_as_percent_of_one_core(self, child: Child) -> None:
        found = child("", sys.executable, "-c", "print('ready', flush=True)\nwhile True: pass")
        assert said(found) == "ready"
        sampler = Sampler()
        sampler.sample({"r": who(found)})
        start = process.stat(found.pid)
        assert start is not None
        until(lambda: (seen := process.stat(found.pid)) is not None and seen.cpu_ticks > start.cpu_ticks + 20)
        percent = sampler.sample({"r": who(found)})["r"].cpu_percent
        assert percent is not None
        assert 5 < percent < 150

    def test_rest_is_zero(self, child: Child) -> None:
        found = child("exec sleep 1000")
        until(lambda: _comm(found.pid) == "sleep")
        sampler = Sampler()
        sampler.sample({"r": who(found)})
        assert sampler.sample({"r": who(found)})["r"].cpu_percent == 0.0

    def test_what_comes_between_two_looks_counts_from_its_own_beginning(self, child: Child) -> None:
        """A new tree's CPU is all its own: it must not look idle because it is new, nor negative."""
        sampler = Sampler()
        sampler.sample({})
        found = child("exec sleep 1000")
        percent = sampler.sample({"r": who(found)})["r"].cpu_percent
        assert percent is not None
        assert percent >= 0

    def test_what_is_gone_has_no_entry(self, child: Child) -> None:
        found = child("exec sleep 1000")
        roots = {"r": who(found), "ghost": Identity(process.boot_id(), 1 << 30, 5)}
        found.kill()
        found.wait()
        assert Sampler().sample(roots) == {}

    def test_who_has_the_pid_of_another_is_not_measured_for_it(self, child: Child) -> None:
        found = who(child("exec sleep 1000"))
        others = {
            "earlier": found._replace(start_time=found.start_time - 1),
            "of another boot": found._replace(boot_id="x"),
        }
        assert set(Sampler().sample({"r": found, **others})) == {"r"}

    def test_an_orphan_with_a_session_of_its_own_is_known_by_its_marker(self, child: Child) -> None:
        """This process stands for the holder that has taken the parent's place."""
        root = child("exec sleep 1000")
        marked, other = (
            child("sleep 1000 & echo ready; wait", env={"STRATAVORE_RUNNER": mark}) for mark in ("aaa", "bbb")
        )
        said(marked)
        said(other)
        used = Sampler().sample({"aaa": who(root)}, {os.getpid()})["aaa"]
        assert used.children == 2
        assert marked.pid in {pid for pid, _ in used.members}
        assert Sampler().sample({"aaa": who(root)})["aaa"].children == 0

    def test_a_zombie_uses_nothing(self, child: Child) -> None:
        found = child("exec sleep 1000")
        root = who(found)
        found.kill()
        until(lambda: (seen := process.stat(found.pid)) is not None and seen.state == "Z")
        used = Sampler().sample({"r": root})["r"]
        assert (used.rss_bytes, used.threads, used.children) == (0, 0, 0)


def _is_called(pid: int, name: str) -> bool:
    return _comm(pid) == name


def _comm(pid: int) -> str:
    return Path(f"/proc/{pid}/comm").read_text().removesuffix("\n")


def _of_session(session: int) -> list[int]:
    found = []
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit() and (seen := process.stat(int(entry.name))) and seen.session == session:
            found.append(int(entry.name))
    return found
