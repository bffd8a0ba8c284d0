"""Faults 44, 47 and 48: bad clients, bare surroundings, and an end in the middle of a burst."""

import os
import shutil
import signal
import socket
import subprocess
import sys
import threading
import time
from contextlib import ExitStack
from pathlib import Path

from stratavore.errors import DaemonUnreachable
from tests.chaos.house import FINAL_STATES, MARK, House, is_alive, until


def connected(house: House) -> socket.socket:
    sock = socket.socket(socket.AF_UNIX)
    sock.connect(str(house.paths.socket))
    return sock


def test_fault_44_slow_and_vanishing_clients_hurt_nobody(inhabited: House) -> None:
    house = inhabited
    pid = house.daemon_pid()
    files = len(list(Path(f"/proc/{pid}/fd").iterdir()))
    head = b"POST /api/v1/runners HTTP/1.1\r\nHost: x\r\nContent-Length: 1000\r\n\r\n{"
    with ExitStack() as stack:
        slow = [stack.enter_context(connected(house)) for _ in range(100)]
        for number, sock in enumerate(slow):  # half a head, half a body, nothing at all
            sock.sendall((head[:40], head, b"")[number % 3])
        for _ in range(50):  # gone in the middle of the answer
            with connected(house) as sock:
                sock.sendall(b"GET /api/v1/events?wait_seconds=0 HTTP/1.1\r\nHost: x\r\n\r\n")
        for _ in range(5):  # another byte
            for sock in slow[::3]:
                sock.sendall(b"x")
            began = time.monotonic()
            house.client.status()
            assert time.monotonic() - began < 1
        house.becomes(house.launch("true").id, "terminated")
    until(lambda: len(list(Path(f"/proc/{pid}/fd").iterdir())) <= files + 5, why="their descriptors to be closed")
    assert house.daemon_pid() == pid


def test_fault_44_a_request_that_is_too_long_is_refused(inhabited: House) -> None:
    house = inhabited
    with connected(house) as sock:
        sock.settimeout(10)
        sock.sendall(b"POST /api/v1/runners HTTP/1.1\r\nHost: x\r\nContent-Length: 9999999\r\n\r\n" + bytes(5 << 18))
        assert b" 400 " in sock.recv(1 << 16).partition(b"\r\n")[0]
    assert house.client.list_runners() == []


def test_fault_47_in_bare_surroundings_a_runner_starts_and_is_read(house: House) -> None:
    """No HOME, no locale, no terminal, a working directory that is gone."""
    house.start()
    house.project()
    gone = house.folder.parent / "gone"
    gone.mkdir()
    bare = {"PATH": os.environ["PATH"], "STRATAVORE_HOME": str(house.home), "LANG": "C"}

    def stratavore(*argv: str) -> "subprocess.CompletedProcess[bytes]":
        cli = [sys.executable, "-m", "stratavore", *argv]
        script = f'cd "{gone}" && rmdir "{gone}" && exec "$@"'
        gone.mkdir(exist_ok=True)
        whole = ["sh", "-c", script, "sh", *cli]
        return subprocess.run(whole, env=bare, capture_output=True, stdin=subprocess.DEVNULL, timeout=60, check=False)

    program = ["sh", "-c", 'echo "häuschen $HOME"; exit 0']
    launched = stratavore("launch", "p", "--env", f"{MARK}={house.home}", "--", *program)
    assert launched.returncode == 0, launched.stderr
    [runner] = house.runners()
    ended = house.becomes(runner.id, "terminated")
    assert ended.exit_code == 0
    read = stratavore("logs", runner.id)
    assert read.returncode == 0, read.stderr
    assert b"uschen /" in read.stdout
    assert stratavore("ps", "--all").returncode == 0
    house.kill_daemon()
    assert stratavore("daemon", "start").returncode == 0


def test_fault_47_logs_that_were_removed_are_made_again(inhabited: House) -> None:
    house = inhabited
    living = house.launch("sh", "-c", "trap 'exit 9' TERM; while :; do echo tick; sleep 0.1; done")
    house.becomes(living.id, "running")
    shutil.rmtree(house.paths.logs)
    house.cli("logs", living.id, exits=None)
    house.client.stop_runners(living.id)
    assert house.becomes(living.id, "terminated").exit_code == 9
    after = house.launch("echo", "again")
    assert house.becomes(after.id, "terminated").exit_code == 0
    assert house.output(after.id) == b"again\r\n"


def test_fault_48_a_term_in_a_burst_of_launches_leaves_nothing_half_made(house: House) -> None:
    house.start()
    house.project(max_runners=200)
    accepted: list[str] = []

    def burst() -> None:
        while True:
            try:
                accepted.append(house.launch("sleep", "600").id)
            except DaemonUnreachable:
                return

    threads = [threading.Thread(target=burst) for _ in range(8)]
    for thread in threads:
        thread.start()
    until(lambda: len(accepted) > 20, why="the burst")
    pid = house.daemon_pid()
    began = time.monotonic()
    os.kill(pid, signal.SIGTERM)
    until(lambda: not is_alive(pid), seconds=10, why="the daemon to end")
    print(f"ended {time.monotonic() - began:.2f} s after SIGTERM")
    for thread in threads:
        thread.join()
    assert house.paths.stop_mark.exists()

    house.cli("daemon", "start")
    known = {runner.id for runner in house.runners()}
    assert set(accepted) <= known
    for id in known:
        house.becomes(id, "running", *FINAL_STATES)
    house.agrees()
    assert {runner.state for runner in house.runners()} == {"running"}
    assert len(house.processes()) == len(known) == 200 - house.free_slots()
