"""Faults 11 to 20: runners and their starts. 15, the fork bomb, is left out: it needs a cgroup or a uid of its own.

12, the flood of 200 MB, is tests/shim/test_output.py's: no daemon has a part in it.
"""

import os
import resource
import subprocess
import time
from itertools import pairwise
from pathlib import Path

import pytest

from stratavore.errors import RunnerFailed, StratavoreError
from tests.chaos.house import FINAL_STATES, House, is_alive, until
from tests.programs import needs, path


def run_short_ones(house: House, count: int) -> None:
    script = 'echo "I am $STRATAVORE_RUNNER"; exit 3'
    ids = [runner.id for runner in house.launch_many("sh", "-c", script, count=count)]
    until(lambda: all(one.state in FINAL_STATES for one in house.runners()), seconds=60, why="all to have ended")
    found = {runner.id: runner for runner in house.runners()}
    assert [found[id].exit_code for id in ids] == [3] * count
    assert all(house.output(id) == f"I am {id}\r\n".encode() for id in ids)
    assert [found[id].output_bytes for id in ids] == [len(b"I am 0123456789\r\n")] * count
    house.agrees()


def test_fault_11_what_ends_at_once_keeps_its_code_and_its_output(house: House) -> None:
    house.start()
    house.project(max_runners=100)
    run_short_ones(house, 100)


@pytest.mark.long
def test_fault_11_a_thousand_that_end_at_once(house: House) -> None:
    house.start()
    house.project(max_runners=1000)
    run_short_ones(house, 1000)


def test_fault_13_what_ignores_term_is_killed_with_all_it_started(inhabited: House) -> None:
    house = inhabited
    child = "trap '' TERM HUP; while :; do sleep 0.1; done"
    script = f'trap "" TERM; setsid sh -c "{child}" & sh -c "{child}" & echo up; while :; do sleep 0.1; done'
    runner = house.launch("sh", "-c", script)
    house.becomes(runner.id, "running")
    until(lambda: b"up" in house.output(runner.id), why="the traps")
    house.client.stop_runners(runner.id, grace_seconds=0.5)
    ended = house.becomes(runner.id, "terminated", seconds=5)
    assert (ended.exit_code, ended.exit_signal, ended.end_reason) == (None, 9, "stopped")
    assert house.processes() == []


def test_fault_14_a_grandchild_that_keeps_the_terminal_delays_the_end_by_two_seconds(inhabited: House) -> None:
    house = inhabited
    runner = house.launch("sh", "-c", "trap '' HUP; setsid sleep 600 & echo bye; exit 6")
    began = time.monotonic()
    assert house.becomes(runner.id, "failed", seconds=6).exit_code == 6
    assert time.monotonic() - began < 4
    assert len(house.processes(runner.id)) == 1, "a natural end leaves grandchildren alone"


EXEC_FAILURES = {
    "missing": "is not there",
    "not executable": "is no program that may be executed",
    "no format": "format",
    "busy": "busy",
    "too big": "too long",
}


@pytest.mark.parametrize("kind", EXEC_FAILURES)
def test_fault_16_what_cannot_be_executed_is_told_and_costs_no_slot(inhabited: House, kind: str) -> None:
    house = inhabited
    program = house.folder / "program"
    argv = [str(program)]
    busy = None
    if kind != "missing":
        program.write_bytes(b"\x00nonsense" if kind == "no format" else Path("/bin/true").read_bytes())
        program.chmod(0o600 if kind == "not executable" else 0o700)
    if kind == "busy":
        busy = program.open("r+b")
    if kind == "too big":
        argv.append("x" * 200_000)
    try:
        why = house.becomes(house.launch(*argv).id, "failed").end_detail or ""
    except RunnerFailed as refusal:
        why = refusal.message
    if busy is not None:
        busy.close()
    assert EXEC_FAILURES[kind] in why
    assert house.free_slots() == 50
    assert house.processes() == []


def one_shim(house: House) -> int:
    """The pid of the one shim, which has held a runner already."""
    house.becomes(house.launch("true").id, "terminated")
    [pid] = house.shim_pids().values()
    return pid


def next_descriptor(pid: int) -> int:
    """The number that the next file which it opens would have."""
    taken = {int(entry.name) for entry in Path(f"/proc/{pid}/fd").iterdir()}
    return next(number for number in range(len(taken) + 1) if number not in taken)


def check_cannot_spawn(house: House, *, says: str) -> None:
    failed = house.becomes(house.launch("sleep", "600").id, "failed")
    assert failed.end_reason == "not_started"
    assert says in (failed.end_detail or "")
    assert house.free_slots() == 50
    house.agrees()


def test_fault_17_without_a_free_terminal_a_start_fails_and_costs_no_slot(inhabited: House) -> None:
    """`kernel.pty.max` belongs to the whole machine; the shim's own limit on files ends its terminals just as well."""
    house = inhabited
    pid = one_shim(house)
    before = resource.prlimit(pid, resource.RLIMIT_NOFILE)
    resource.prlimit(pid, resource.RLIMIT_NOFILE, (next_descriptor(pid), before[1]))
    check_cannot_spawn(house, says="oo many open files")
    resource.prlimit(pid, resource.RLIMIT_NOFILE, before)
    house.becomes(house.launch("sleep", "600").id, "running")


def test_fault_18_a_daemon_without_descriptors_sheds_load_and_recovers(inhabited: House) -> None:
    house = inhabited
    runner = house.launch("sleep", "600")
    house.becomes(runner.id, "running")
    pid = house.daemon_pid()
    before = resource.prlimit(pid, resource.RLIMIT_NOFILE)
    resource.prlimit(pid, resource.RLIMIT_NOFILE, (next_descriptor(pid), before[1]))
    began, used = time.monotonic(), cpu_seconds(pid)
    house.client.timeout = 0.5
    for _ in range(6):
        with pytest.raises(StratavoreError):
            house.client.status()
    assert house.daemon_pid() == pid
    assert cpu_seconds(pid) - used < 0.5 * (time.monotonic() - began), "a busy loop"
    resource.prlimit(pid, resource.RLIMIT_NOFILE, before)
    house.client.timeout = 10
    assert house.runner(runner.id).state == "running"
    house.becomes(house.launch("true").id, "terminated")
    house.agrees()


def cpu_seconds(pid: int) -> float:
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


@needs("strace")
def test_fault_19_a_shim_that_cannot_fork_fails_the_start_and_costs_no_slot(inhabited: House) -> None:
    """Root has no RLIMIT_NPROC; the kernel's answer is the same."""
    house = inhabited
    pid = one_shim(house)
    calls = "clone,clone3,vfork"
    how = ["-e", f"trace={calls}", "-e", f"inject={calls}:error=EAGAIN"]
    with subprocess.Popen([path("strace"), "-qq", "-o", "/dev/null", "-p", str(pid), *how]) as strace:
        until(lambda: "TracerPid:\t0\n" not in Path(f"/proc/{pid}/status").read_text(), why="strace to hold the shim")
        check_cannot_spawn(house, says="no more processes")
        strace.terminate()
    house.becomes(house.launch("sleep", "600").id, "running")


def test_fault_20_a_crash_loop_waits_longer_each_time_and_ends_though_the_daemon_is_killed(inhabited: House) -> None:
    house = inhabited
    runner = house.launch("sh", "-c", "exit 8", restart_policy="on-failure", max_restarts=4)
    until(lambda: house.runner(runner.id).run == 3, why="the third run")
    house.kill_daemon()
    house.cli("daemon", "start")
    until(lambda: house.runner(runner.id).state == "failed", why="the breaker")
    runs = house.runs(runner.id)
    assert [run.exit_code for run in runs] == [8] * 5
    pauses = []
    for one, following in pairwise(runs):
        assert one.ended_at is not None
        assert following.started_at is not None
        pauses.append((following.started_at - one.ended_at).total_seconds())
    assert all(pause >= 0.9 * 0.2 * 2**n for n, pause in enumerate(pauses)), pauses
    assert pauses[-1] < 0.2 * 8 * 1.1 + 2
    told = [event.type for event in house.client.list_events() if event.aggregate_id == runner.id]
    assert told.count("runner.gave_up") == 1
    assert house.free_slots() == 50


def start_with_settable_clocks(house: House, tmp_path: Path) -> Path:
    """A daemon whose clocks are off by what is written into the file that this returns."""
    offsets = tmp_path / "offsets"
    offsets.write_text("0 0")
    program = str(Path(__file__).with_name("wall_clock.py"))
    house.start(entry=(program, str(offsets)), STRATAVORE_RUNNERS_BACKOFF_FIRST="60s")
    return offsets


@pytest.mark.parametrize("seconds", [-86400, 366 * 86400, 3600])
def test_fault_34_a_wall_clock_that_jumps_starts_and_ends_nobody(house: House, tmp_path: Path, seconds: int) -> None:
    offsets = start_with_settable_clocks(house, tmp_path)
    house.project()
    limited = house.launch("sleep", "600", max_seconds=300)
    pid = house.becomes(limited.id, "running").pid
    waiting = house.launch("false", restart_policy="on-failure")
    house.becomes(waiting.id, "backoff")
    offsets.write_text(f"{seconds} 0")
    seen = house.runner(limited.id).seen_at
    until(lambda: house.runner(limited.id).seen_at not in (seen, None), why="another heartbeat")
    house.client.reconcile()
    assert house.runner(limited.id).pid == pid
    assert house.becomes(waiting.id, "backoff").run == 1
    house.agrees()
    house.client.stop_runners(limited.id)
    house.becomes(limited.id, "terminated")


def test_fault_35_after_a_suspend_nobody_is_lost_and_what_is_due_happens(house: House, tmp_path: Path) -> None:
    offsets = start_with_settable_clocks(house, tmp_path)
    house.project()
    living = [house.launch("sleep", "600") for _ in range(5)]
    pids = [house.becomes(runner.id, "running").pid for runner in living]
    limited = house.launch("sleep", "600", max_seconds=600)
    house.becomes(limited.id, "running")
    waiting = house.launch("false", restart_policy="on-failure", max_restarts=1)
    house.becomes(waiting.id, "backoff")
    offsets.write_text("3600 3600")
    house.client.reconcile()
    until(lambda: house.runner(waiting.id).run == 2, why="the retry that was due")
    assert house.becomes(limited.id, *FINAL_STATES).end_reason == "max_time"
    assert [house.runner(runner.id).pid for runner in living] == pids
    assert not [event for event in house.client.list_events() if event.type == "runner.lost"]
    house.agrees()
    assert all(is_alive(pid or 0) for pid in pids)
