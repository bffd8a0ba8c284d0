"""Faults 22 to 33 as far as they concern the whole house; what the store alone has to stand is tested in tests/store.

There: 21 (power loss), 26 (slow flushes), 28 (a long reader), 32 (killed migrations), and the many seeds of 29.
"""

import hashlib
import os
import resource
import signal
import sqlite3
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import pytest

from stratavore import process
from stratavore.errors import Degraded, StorageFailed, StratavoreError
from stratavore.shim.client import read_sidecar
from tests.chaos.house import FINAL_STATES, MARK, House, until
from tests.programs import needs, path


@pytest.fixture
def on_small_disk(tmp_path: Path) -> Iterator[House]:
    """A house whose state directory is a file system of its own, of 48 MiB."""
    home = tmp_path / "home"
    home.mkdir(mode=0o700)
    mount = ["mount", "-t", "tmpfs", "-o", "size=48m,mode=0700", "chaos", str(home)]
    tried = subprocess.run(mount, capture_output=True, text=True, check=False)
    if tried.returncode != 0:
        pytest.skip(f"cannot mount a tmpfs here: {tried.stderr.strip()}")
    try:
        with House(tmp_path) as house:
            house.start()
            house.project()
            yield house
    finally:
        subprocess.run(["umount", "--lazy", str(home)], check=True)


@contextmanager
def full_disk(directory: Path) -> Iterator[None]:
    """Not a byte is free, until the end."""
    ballast = directory / "ballast"
    with open(ballast, "wb", buffering=0) as file, suppress(OSError):
        while True:
            file.write(bytes(1 << 16))
    try:
        yield
    finally:
        ballast.unlink()


def talker(house: House, name: str) -> str:
    """A runner that answers each line, and ends with 9 when asked to."""
    script = "trap 'exit 9' TERM; echo ready; while :; do read line && echo got $line; done"
    runner = house.launch("sh", "-c", script, name=name)
    house.becomes(runner.id, "running")
    until(lambda: b"ready" in house.output(runner.id), why="the trap")
    return runner.id


def check_degraded(house: House, staying: str, leaving: str, *, says: str) -> None:
    """Launches are refused with exit 75, who runs goes on, a stop reaches its runner all the same."""
    pid = house.daemon_pid()
    with pytest.raises(Degraded):
        house.launch("sleep", "1")
    refused = house.cli("launch", "p", "--", "sleep", "1", exits=75)
    assert says in refused.stderr
    assert len(refused.stderr.strip().splitlines()) == 1
    house.client.stop_runners(leaving)
    until(lambda: not house.processes(leaving), why="the stop to reach the runner")
    assert house.processes(staying)
    assert not house.client.daemon_status().healthy
    assert house.daemon_pid() == pid, "the daemon was restarted"


def check_recovered(house: House, pid: int, staying: str, leaving: str) -> None:
    """Without a restart it goes on, and has booked what happened meanwhile."""
    until(lambda: house.client.daemon_status().healthy, why="the database to take writes again")
    assert house.daemon_pid() == pid
    ended = house.becomes(leaving, *FINAL_STATES)
    assert (ended.state, ended.exit_code, ended.end_reason) == ("terminated", 9, "stopped")
    house.becomes(house.launch("true").id, "terminated")
    assert house.runner(staying).state == "running"
    house.agrees()
    assert house.free_slots() == 49


def test_fault_22_on_a_full_disk_what_runs_goes_on_and_can_be_stopped(on_small_disk: House) -> None:
    house = on_small_disk
    staying, leaving = talker(house, "staying"), talker(house, "leaving")
    pid = house.daemon_pid()
    with full_disk(house.home):
        check_degraded(house, staying, leaving, says="full")
        assert "full" in house.client.daemon_status().database
    check_recovered(house, pid, staying, leaving)


def test_fault_22_an_exit_on_a_full_disk_is_booked_later(on_small_disk: House) -> None:
    house = on_small_disk
    ending = talker(house, "ending")
    [process] = house.processes(ending)
    with full_disk(house.home):
        with pytest.raises(Degraded):
            house.launch("sleep", "1")
        os.kill(process.pid, signal.SIGTERM)
        until(lambda: not house.processes(ending), why="its end")
    assert house.becomes(ending, "failed").exit_code == 9


def test_fault_22_a_stop_on_a_full_disk_says_why_its_end_is_not_recorded(on_small_disk: House) -> None:
    house = on_small_disk
    leaving = talker(house, "leaving")
    with full_disk(house.home):
        with pytest.raises(Degraded):
            house.launch("sleep", "1")
        refused = house.cli("stop", "leaving", exits=Degraded.exit_code)
        assert "full" in refused.stderr
        assert "may have happened, and is recorded once there is room" in refused.stderr
        until(lambda: not house.processes(leaving), why="its end")
    house.becomes(leaving, "terminated")


def test_fault_22_a_daemon_that_was_killed_comes_back_on_a_full_disk_and_does_what_it_can(on_small_disk: House) -> None:
    house = on_small_disk
    staying, leaving = talker(house, "staying"), talker(house, "leaving")
    with full_disk(house.home):
        pid = house.returns(than=house.kill_daemon())
        assert "staying" in house.cli("ps").stdout
        check_degraded(house, staying, leaving, says="full")
    check_recovered(house, pid, staying, leaving)


def test_fault_22_a_daemon_that_cannot_start_on_a_full_disk_says_so_at_once(on_small_disk: House) -> None:
    """After an orderly end there is no WAL, and no room to make one."""
    house = on_small_disk
    staying = talker(house, "staying")
    house.cli("daemon", "stop")
    with full_disk(house.home):
        began = time.monotonic()
        refused = house.cli("daemon", "start", exits=Degraded.exit_code)
        assert time.monotonic() - began < 10
        [line] = refused.stderr.strip().splitlines()
        assert "full" in line
        assert "make room" in line
        assert house.processes(staying)
    house.cli("daemon", "start")
    assert house.runner(staying).state == "running"
    house.agrees()


def test_fault_23_a_full_disk_for_output_blocks_nobody(on_small_disk: House) -> None:
    house = on_small_disk
    flood = "head -c 4000000 /dev/zero | tr '\\0' y; : > flooded"
    wait_for = "while [ ! -e {} ]; do sleep 0.05; done;"
    script = f"{wait_for.format('begin')} {flood}; {wait_for.format('end')} echo after; exit 4"
    runner = house.launch("sh", "-c", script)
    house.becomes(runner.id, "running")
    with full_disk(house.home):
        (house.folder / "begin").touch()
        until((house.folder / "flooded").exists, why="the flood to be taken, if only to be dropped")
    (house.folder / "end").touch()
    assert house.becomes(runner.id, "failed").exit_code == 4
    output = house.output(runner.id)
    assert len(output) < 4_000_000
    assert output.endswith(b"after\r\n")
    assert read_sidecar(Path(house.runs(runner.id)[0].log)).gaps


def test_fault_24_a_limit_on_file_sizes_is_no_signal_death(inhabited: House) -> None:
    house = inhabited
    staying, leaving = talker(house, "staying"), talker(house, "leaving")
    pid = house.daemon_pid()
    before = resource.prlimit(pid, resource.RLIMIT_FSIZE)
    wal = house.paths.database.with_name("state.db-wal")
    resource.prlimit(pid, resource.RLIMIT_FSIZE, (wal.stat().st_size, before[1]))
    check_degraded(house, staying, leaving, says="ulimit")
    resource.prlimit(pid, resource.RLIMIT_FSIZE, before)
    check_recovered(house, pid, staying, leaving)


@contextmanager
def failing(pid: int, calls: str, error: str, when: str = "1+") -> Iterator[None]:
    """These system calls of the process, all its threads, fail from the one on that `when` names."""
    how = ["-e", f"trace={calls}", "-e", f"inject={calls}:error={error}:when={when}"]
    with subprocess.Popen([path("strace"), "-f", "-qq", "-o", "/dev/null", "-p", str(pid), *how]) as strace:
        until(lambda: is_traced(pid), why="strace to hold the process")
        try:
            yield
        finally:
            strace.terminate()
            strace.wait()


def is_traced(pid: int) -> bool:
    return all("TracerPid:\t0\n" not in (task / "status").read_text() for task in Path(f"/proc/{pid}/task").iterdir())


@needs("strace")
@pytest.mark.parametrize("nth", [1, 3])
def test_fault_25_a_failed_flush_ends_the_daemon_and_the_zygote_starts_it_anew(inhabited: House, nth: int) -> None:
    house = inhabited
    living = talker(house, "living")
    pid = house.daemon_pid()
    with failing(pid, "fdatasync,fsync", "EIO", f"{nth}+"):
        with suppress(StratavoreError):  # whether it is stored nobody can say
            house.launch("sleep", "600", name="unsure")
        assert house.returns(than=pid) != pid
    assert "the disk" in house.log_text()
    for runner in house.runners():
        house.becomes(runner.id, "running")
    assert house.processes(living)
    house.agrees()
    house.becomes(house.launch("true").id, "terminated")


@pytest.mark.parametrize("boot", ["this", "another"])
def test_fault_25_a_disk_that_fails_again_and_again_is_left_alone_until_the_next_boot(house: House, boot: str) -> None:
    house.home.mkdir(mode=0o700)
    now = time.clock_gettime(time.CLOCK_BOOTTIME)
    id = process.boot_id() if boot == "this" else "that-of-before"
    house.paths.disk_failures.write_text(f"{id} {now}\n" * 3)
    if boot == "another":
        house.start()
        return
    refused = house.cli("daemon", "start", exits=StorageFailed.exit_code)
    assert "the disk failed 3 times" in refused.stderr


def test_fault_27_a_foreign_write_is_waited_for(inhabited: House) -> None:
    house = inhabited
    foreign = sqlite3.connect(house.paths.database, isolation_level=None)
    foreign.execute("BEGIN IMMEDIATE")
    command = [sys.executable, "-m", "stratavore", "launch", "p", "--no-wait", "--env", f"{MARK}={house.home}"]
    asked = subprocess.Popen([*command, "--", "sleep", "600"], env=house.environment, stdout=subprocess.DEVNULL)
    with pytest.raises(subprocess.TimeoutExpired):
        asked.wait(2)
    assert house.client.list_runners() == []
    foreign.execute("ROLLBACK")
    foreign.close()
    assert asked.wait(20) == 0
    [runner] = house.runners()
    house.becomes(runner.id, "running")
    house.client.kill_runners(runner.id)
    house.becomes(runner.id, "terminated")


@pytest.mark.parametrize("damage", ["header", "pages", "cut"])
def test_fault_29_a_damaged_database_is_quarantined_and_runners_can_be_stopped(inhabited: House, damage: str) -> None:
    house = inhabited
    staying, leaving = talker(house, "staying"), talker(house, "leaving")
    house.cli("daemon", "stop")  # so that everything is in the one file
    database = house.paths.database
    with open(database, "r+b") as file:
        match damage:
            case "header":
                file.write(b"rubbish!" * 4)
            case "pages":
                file.seek(4096)
                file.write(bytes(range(256)) * 16 * ((database.stat().st_size // 4096) - 1))
            case _:
                file.truncate(database.stat().st_size // 8192 * 4096 + 100)
    broken = hashlib.sha256(database.read_bytes()).hexdigest()
    assert house.cli("daemon", "start", exits=None).returncode == 76
    assert hashlib.sha256(database.read_bytes()).hexdigest() == broken
    copies = list(house.paths.quarantine.glob("*/state.db"))
    assert [hashlib.sha256(copy.read_bytes()).hexdigest() for copy in copies] == [broken]

    listed = house.cli("rescue", "list").stdout
    assert "staying" in listed
    assert "leaving" in listed
    house.cli("rescue", "stop", "leaving")
    until(lambda: not house.processes(leaving), why="the stop to reach the runner")
    assert house.processes(staying)
    assert not house.daemon_pid()

    database.rename(house.folder / "broken.db")
    house.cli("daemon", "start")  # a new database takes in what lives, and what has ended
    assert house.becomes("staying", "running").pid == house.processes(staying)[0].pid
    ended = house.becomes("leaving", *FINAL_STATES)
    assert (ended.exit_code, ended.end_reason) == (9, "stopped")
    house.agrees()


@needs("strace")
def test_fault_30_on_a_read_only_disk_what_runs_goes_on_and_can_be_stopped(inhabited: House) -> None:
    """As files are open for writing nobody could remount it; a kernel that met an error does, and writes fail so."""
    house = inhabited
    staying, leaving = talker(house, "staying"), talker(house, "leaving")
    pid = house.daemon_pid()
    with failing(pid, "pwrite64", "EROFS"):
        check_degraded(house, staying, leaving, says="Read-only")
    check_recovered(house, pid, staying, leaving)


def test_fault_31_a_database_that_is_moved_away_is_noticed_and_may_come_back(inhabited: House) -> None:
    house = inhabited
    staying, leaving = talker(house, "staying"), talker(house, "leaving")
    pid = house.daemon_pid()
    until(lambda: house.client.list_runners(), why="a reader that is open")
    files = sorted(house.home.glob("state.db*"))
    for file in files:
        file.rename(house.folder / file.name)
    until(lambda: not house.client.daemon_status().healthy, seconds=10, why="it to be noticed")
    check_degraded(house, staying, leaving, says="moved away or deleted")
    for file in files:
        (house.folder / file.name).rename(file)
    check_recovered(house, pid, staying, leaving)


def test_fault_33_a_newer_schema_is_left_alone(inhabited: House) -> None:
    house = inhabited
    living = talker(house, "living")
    house.cli("daemon", "stop")
    with sqlite3.connect(house.paths.database) as database:
        database.execute("PRAGMA user_version = 4711")
    database.close()
    before = hashlib.sha256(house.paths.database.read_bytes()).hexdigest()
    refused = house.cli("daemon", "start", exits=78)
    assert "4711" in refused.stderr
    assert hashlib.sha256(house.paths.database.read_bytes()).hexdigest() == before
    assert house.processes(living)
