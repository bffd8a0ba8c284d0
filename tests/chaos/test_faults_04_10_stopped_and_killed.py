"""Faults 4 to 10: stopped daemons, dead and stopped holders, reboots, reused pids, zombies."""

import ctypes
import os
import shutil
import signal
import sqlite3
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from stratavore.shim.client import is_locked
from tests.chaos.house import DAEMON, House, is_alive, until

COUNT = "n=0; while :; do n=$((n + 1)); echo line $n; sleep 0.1; done"
# Deaf to whatever is not KILL. It tells if another copy of it lives while it does.
DEAF = """
trap '' HUP TERM
if [ -e pid ] && grep -q '^State:.[^Z]' /proc/$(cat pid)/status; then echo two of me >> witness; fi
echo $$ > pid
while :; do sleep 0.05; done
"""


def pass_seconds(seconds: float) -> None:
    """Let time pass, where the fault itself is a length of time."""
    end = time.monotonic() + seconds
    until(lambda: time.monotonic() >= end, seconds=seconds + 5)


def counting(house: House, count: int) -> dict[str, int]:
    """That many runners which print lines for ever; their pids."""
    ids = [runner.id for runner in house.launch_many("sh", "-c", COUNT, count=count)]
    return {id: house.becomes(id, "running").pid or 0 for id in ids}


def stop_daemon_for(house: House, seconds: float) -> None:
    living = counting(house, 12)
    ending = house.launch("sh", "-c", "sleep 1; echo bye; exit 5")
    house.becomes(ending.id, "running")
    until(lambda: all(house.output(id) for id in living), why="output")
    logs = {id: Path(house.runs(id)[0].log) for id in living}
    pid = house.daemon_pid()
    os.kill(pid, signal.SIGSTOP)
    try:
        sizes = {id: log.stat().st_size for id, log in logs.items()}
        pass_seconds(seconds)
        assert all(log.stat().st_size > sizes[id] for id, log in logs.items()), "a runner was blocked"
        assert house.daemon_pid() == pid
    finally:
        os.kill(pid, signal.SIGCONT)
    house.agrees()
    assert {id: house.runner(id).pid for id in living} == living
    assert house.becomes(ending.id, "failed").exit_code == 5
    told = {event.type for event in house.client.list_events()}
    assert not told & {"runner.lost", "runner.relaunched"}


def test_fault_04_a_daemon_that_stood_still_blocks_nobody_and_loses_nobody(inhabited: House) -> None:
    stop_daemon_for(inhabited, 8)


@pytest.mark.long
def test_fault_04_a_daemon_that_stood_still_for_a_minute(inhabited: House) -> None:
    stop_daemon_for(inhabited, 60)


def test_fault_05_a_killed_shim_loses_its_runners_and_no_others(tmp_path: Path) -> None:
    with House(tmp_path, STRATAVORE_SHIM_RUNNERS_PER_SHIM="3") as house:
        house.start()
        house.project()
        never = house.launch("sleep", "600")
        again = house.launch("sleep", "600", restart_policy="on-failure")
        deaf = "trap '' TERM; echo deaf; while :; do sleep 1; done"
        stopped = house.launch("sh", "-c", deaf, restart_policy="always")
        others = counting(house, 3)
        for runner in (never, again, stopped):
            house.becomes(runner.id, "running")
        until(lambda: b"deaf" in house.output(stopped.id), why="the trap")
        house.client.stop_runners(stopped.id, grace_seconds=60)
        shim = house.shim_of(never.id)
        assert {house.shim_of(runner.id) for runner in (again, stopped)} == {shim}
        os.kill(house.shim_pids()[shim], signal.SIGKILL)

        lost = house.becomes(never.id, "lost")
        assert (lost.exit_code, lost.exit_signal, lost.end_reason) == (None, None, "shim_died")
        until(lambda: house.runner(again.id).run == 2 and house.runner(again.id).state == "running", why="a restart")
        assert [run.state for run in house.runs(again.id)] == ["lost", "running"]
        assert house.becomes(stopped.id, "lost").run == 1, "what a person stopped was started again"
        assert {id: house.runner(id).pid for id in others} == others
        house.agrees()
        assert house.free_slots() == 50 - 4


def test_fault_05_what_outlives_its_shim_is_ended_before_a_second_copy(inhabited: House) -> None:
    outlive_a_shim(inhabited)


def outlive_a_shim(house: House) -> None:
    runner = house.launch("sh", "-c", DEAF, tty=False, restart_policy="always")
    first = house.becomes(runner.id, "running").pid or 0
    until(lambda: (house.folder / "pid").exists(), why="the program to have begun")
    os.kill(house.shim_pids()[house.shim_of(runner.id)], signal.SIGKILL)
    until(lambda: house.runner(runner.id).run == 2 and house.runner(runner.id).state == "running", why="a restart")
    until(lambda: int((house.folder / "pid").read_text() or first) != first, why="the second copy to have begun")
    assert not is_alive(first), "two copies live"
    assert not (house.folder / "witness").exists(), "two copies lived"
    house.agrees()


def test_fault_05_nobody_notices_that_the_zygote_was_killed(inhabited: House) -> None:
    house = inhabited
    living = counting(house, 3)
    [(old, pid)] = house.zygote_pids().items()
    os.kill(pid, signal.SIGKILL)
    until(lambda: set(house.zygote_pids()) - {old}, why="a new zygote")
    house.agrees()
    assert {id: house.runner(id).pid for id in living} == living
    assert [event.type for event in house.client.list_events() if event.type == "runner.lost"] == []

    # Killed together with the daemon, nobody is left to start it: the next command does, and makes a new zygote …
    os.kill(next(iter(house.zygote_pids().values())), signal.SIGKILL)
    killed = house.kill_daemon()
    house.cli("daemon", "start")
    until(house.zygote_pids, why="a new zygote")
    assert {id: house.runner(id).pid for id in living} == living
    # … which does its duty.
    assert house.returns(than=house.kill_daemon()) != killed
    house.agrees()


def test_fault_06_a_shim_that_stands_still_is_flagged_and_recovers(tmp_path: Path) -> None:
    with House(tmp_path, STRATAVORE_SHIM_RUNNERS_PER_SHIM="2") as house:
        house.start()
        house.project()
        frozen, fresh = counting(house, 2), counting(house, 2)
        victim, doomed = frozen
        pid = house.shim_pids()[house.shim_of(victim)]
        os.kill(pid, signal.SIGSTOP)
        try:
            until(lambda: house.runner(victim).health == "unresponsive", seconds=15, why="the flag")
            began = time.monotonic()
            assert any("unresponsive" in warning for warning in house.client.status().warnings)
            house.client.stop_runners(doomed, grace_seconds=1)
            house.client.reconcile()
            assert house.launch("true").state == "starting"  # in another shim
            assert time.monotonic() - began < 7, "the daemon waits for a shim that stands still"
            assert house.runner(victim).state == "running"
            assert house.runner(next(iter(fresh))).health == "ok"
        finally:
            os.kill(pid, signal.SIGCONT)
        house.becomes(doomed, "terminated")
        until(lambda: house.runner(victim).health == "ok", why="the flag to go")
        assert house.runner(victim).pid == frozen[victim]
        house.agrees()


def test_fault_07_what_a_shim_wrote_down_counts_though_it_was_killed_with_the_daemon(inhabited: House) -> None:
    house = inhabited
    ended = house.launch("sh", "-c", "echo ready; read line; echo bye; exit 7")
    living = house.launch("sleep", "600")
    for runner in (ended, living):
        house.becomes(runner.id, "running")
    shim, daemon = house.shim_pids()[house.shim_of(ended.id)], house.daemon_pid()
    journal = house.paths.shim(house.shim_of(ended.id)) / "journal"
    house.client.send_input(ended.id, text="go")
    os.kill(daemon, signal.SIGSTOP)
    until(lambda: b"bye" in Path(log).read_bytes() if (log := logs(house, ended.id)) else False, why="its last word")
    until(lambda: ended.id.encode() in journal.read_bytes(), why="its exit in the journal")
    for pid in (shim, daemon):
        os.kill(pid, signal.SIGKILL)
    until(lambda: not house.daemon_pid() and not is_locked(journal.parent / "lock"), why="both to be gone")
    assert house.paths.socket.exists()
    house.cli("daemon", "start")
    assert house.becomes(ended.id, "failed").exit_code == 7
    assert house.becomes(living.id, "lost").exit_code is None
    until(lambda: not journal.exists(), why="the journal to be forgotten")
    house.agrees()
    assert house.free_slots() == 50


def logs(house: House, runner_id: str) -> str | None:
    """The log of a runner's first run, found without the daemon."""
    return next((str(file) for file in house.paths.logs.glob(f"*/{runner_id}.1")), None)


def test_fault_08_after_a_reboot_all_are_lost_and_no_pid_is_signalled(inhabited: House, tmp_path: Path) -> None:
    house = inhabited
    runner = house.launch("sh", "-c", "trap '' HUP TERM; echo up; while :; do sleep 0.1; done", tty=False)
    pid = house.becomes(runner.id, "running").pid or 0
    until(lambda: house.output(runner.id), why="the trap")
    power_off(house)
    assert is_alive(pid)  # it stands for a stranger that has this pid after the reboot
    (tmp_path / "boot_id").write_text("00000000-1111-2222-3333-444444444444\n")
    house.start(STRATAVORE_BOOT_ID_FILE=str(tmp_path / "boot_id"))
    lost = house.becomes(runner.id, "lost")
    assert (lost.exit_code, lost.end_reason) == (None, "reboot")
    assert is_alive(pid)
    assert house.free_slots() == 50


def power_off(house: House) -> None:
    """Daemon, zygotes and shims die at once."""
    for pid in (house.daemon_pid(), *house.zygote_pids().values(), *house.shim_pids().values()):
        os.kill(pid, signal.SIGKILL)
    until(lambda: not (house.daemon_pid() or house.zygote_pids() or house.shim_pids()), why="all to be gone")


@pytest.fixture
def bystander() -> Iterator["subprocess.Popen[bytes]"]:
    """A process that has nothing to do with us."""
    process = subprocess.Popen(["sleep", "600"], start_new_session=True)
    yield process
    process.kill()
    process.wait()


def give_pid_to(house: House, runner_id: str, pid: int) -> None:
    """Make it so that the pid which the database remembers belongs to somebody else now."""
    with sqlite3.connect(house.paths.database) as database:
        database.execute("UPDATE runs SET pid = ? WHERE runner_id = ?", (pid, runner_id))
    database.close()


def reuse_a_pid(house: House, bystander: "subprocess.Popen[bytes]", entry: tuple[str, ...] = DAEMON) -> None:
    """A shim died while no daemon looked, and the pid of its runner went to somebody else."""
    runner = house.launch("sleep", "600", restart_policy="on-failure", max_restarts=1)
    house.becomes(runner.id, "running")
    power_off(house)
    until(lambda: not house.processes(), why="the hang-up to end the runner")
    give_pid_to(house, runner.id, bystander.pid)
    house.start(entry=entry)
    until(lambda: [run.state for run in house.runs(runner.id)] == ["lost", "running"], why="a restart")
    assert house.runs(runner.id)[0].exit_code is None
    assert bystander.poll() is None, "a stranger was signalled"


def test_fault_09_a_reused_pid_is_never_signalled(inhabited: House, bystander: "subprocess.Popen[bytes]") -> None:
    reuse_a_pid(inhabited, bystander)
    inhabited.agrees()


def test_fault_10_a_zombie_that_nobody_reaps_is_not_alive(inhabited: House) -> None:
    """We are made the parent of all orphans, and reap none."""
    house = inhabited
    prctl = ctypes.CDLL(None, use_errno=True).prctl
    set_subreaper = 36
    prctl(set_subreaper, 1, 0, 0, 0)
    pid = 0
    try:
        deaf = "trap '' HUP; while :; do sleep 0.1; done"
        runner = house.launch("sh", "-c", deaf, tty=False, restart_policy="always")
        pid = house.becomes(runner.id, "running").pid or 0
        zygote = next(iter(house.zygote_pids().values()))
        os.kill(zygote, signal.SIGKILL)
        os.kill(house.shim_pids()[house.shim_of(runner.id)], signal.SIGKILL)
        began = time.monotonic()
        until(lambda: house.runner(runner.id).run == 2 and house.runner(runner.id).state == "running", why="a restart")
        print(f"restarted after {time.monotonic() - began:.2f} s")
        stat = Path(f"/proc/{pid}/stat")
        if stat.exists():  # init of this machine may have been quicker
            assert stat.read_text().rpartition(")")[2].split()[0] == "Z"
        assert [run.state for run in house.runs(runner.id)] == ["lost", "running"]
        house.agrees()
    finally:
        prctl(set_subreaper, 0, 0, 0, 0)
        house.clear()
        reap_orphans()


def reap_orphans() -> None:
    """Wait for all children that have ended, ours and those we took in."""
    try:
        while os.waitpid(-1, os.WNOHANG)[0]:
            pass
    except ChildProcessError:
        return


def test_fault_43_a_stale_socket_is_replaced(inhabited: House) -> None:
    house = inhabited
    house.kill_daemon()
    assert house.paths.socket.is_socket()
    house.start()
    assert house.client.list_runners() == []


@pytest.mark.parametrize("kind", ["file", "directory", "link"])
def test_fault_43_what_is_no_socket_is_refused_and_left_alone(inhabited: House, kind: str) -> None:
    house = inhabited
    house.kill_daemon()
    house.paths.socket.unlink()
    canary = house.folder / "canary"
    canary.write_text("alive")
    match kind:
        case "file":
            shutil.copy(canary, house.paths.socket)
        case "directory":
            house.paths.socket.mkdir()
        case _:
            house.paths.socket.symlink_to(canary)
    assert house.begin().wait(20) == 78
    assert "is in the way" in house.log_text()
    assert canary.read_text() == "alive"
    assert house.paths.socket.is_symlink() == (kind == "link")
    refused = house.cli("daemon", "start", exits=78)
    assert "in the way" in refused.stderr
