"""Fault 2: the daemon is SIGKILLed at every failpoint of launch and stop.

The places are those that the sources name and that a traced launch, stop and end pass; nothing can be forgotten.
"""

import ast
from contextlib import suppress
from pathlib import Path

import pytest

import stratavore
from stratavore.errors import DaemonUnreachable
from tests.chaos.house import DAEMON, FINAL_STATES, House, until

LAUNCH = {
    # Where the daemon dies: whether the wish was committed by then.
    "launch.before_commit": False,
    "store.commit": False,
    "store.after_commit": True,
    "launch.after_commit": True,
    "launch.before_spawn": True,
    "launch.after_spawn": True,
    "launch.after_running": True,
}
STOP = {
    "store.commit": False,
    "store.after_commit": True,
    "stop.before_signal": True,
    "stop.after_signal": True,
    "end.before_commit": True,
    "end.after_commit": True,
}
ELSEWHERE = {"backup.copied", "budget.before_step", "budget.after_step"}
"""Of a backup and of budgets, which neither launch nor stop. So do not migrations, whose places have numbers:
tests/store."""


def names_in_the_sources() -> set[str]:
    found = set()
    for file in Path(stratavore.__file__).parent.rglob("*.py"):
        for node in ast.walk(ast.parse(file.read_text())):
            if isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and node.func.id == "fp":
                argument = node.args[0]
                if isinstance(argument, ast.Constant):
                    found.add(str(argument.value))
    return found


def test_fault_02_every_failpoint_of_launch_and_stop_is_known_and_passed(house: House, tmp_path: Path) -> None:
    trace = tmp_path / "trace"
    house.start(STRATAVORE_FAILPOINTS=f"trace:{trace}")
    house.project()
    runner = house.launch("sleep", "60")
    house.becomes(runner.id, "running")
    house.client.stop_runners(runner.id)
    house.becomes(runner.id, "terminated")
    passed = {name for name in trace.read_text().split() if not name.startswith("migrate.")}
    assert passed == {*LAUNCH, *STOP}
    assert names_in_the_sources() == {*LAUNCH, *STOP, *ELSEWHERE}


def commits_at_rest(house: House, trace: Path) -> int:
    """How often the present state's daemon commits before anybody asks it for anything."""
    child = house.start(STRATAVORE_FAILPOINTS=f"trace:{trace}")
    until(lambda: trace.read_text().count("store.after_commit") >= 2, why="the daemon to say that it started")
    count = trace.read_text().count("store.after_commit")
    house.kill_daemon()
    child.wait()
    return count


@pytest.mark.parametrize("place", LAUNCH)
def test_fault_02_killed_in_a_launch(house: House, tmp_path: Path, place: str) -> None:
    kill_in_a_launch(house, tmp_path, place)


def kill_in_a_launch(house: House, tmp_path: Path, place: str, entry: tuple[str, ...] = DAEMON) -> None:
    house.start()
    house.project(max_runners=3)
    house.kill_daemon()
    nth = commits_at_rest(house, tmp_path / "trace") + 1 if place.startswith("store.") else 1
    child = house.start(entry=entry, STRATAVORE_FAILPOINTS=f"{place}=kill@{nth}")
    with suppress(DaemonUnreachable):
        house.launch("sleep", "60", name="wanted")
    assert child.wait(20) == -9, f"{place} was not passed"

    house.cli("daemon", "start")
    known = house.runners()
    assert len(known) == LAUNCH[place], "what was accepted, and what runs"
    for runner in known:
        house.becomes(runner.id, "running")
    house.agrees()
    assert len(house.processes()) == len(known)
    assert house.free_slots() == 3 - len(known)
    house.agrees()


@pytest.mark.parametrize("place", STOP)
def test_fault_02_killed_in_a_stop(house: House, tmp_path: Path, place: str) -> None:
    kill_in_a_stop(house, tmp_path, place)


def kill_in_a_stop(house: House, tmp_path: Path, place: str, entry: tuple[str, ...] = DAEMON) -> None:
    house.start()
    house.project(max_runners=3)
    runner = house.launch("sh", "-c", "trap 'exit 9' TERM; echo ready; while :; do read line; done")
    house.becomes(runner.id, "running")
    until(lambda: b"ready" in house.output(runner.id), why="the trap to be set")
    killed = house.kill_daemon()
    if place.startswith("store."):  # what it writes at rest while a runner lives is not always the same
        (tmp_path / "trace").touch()
        armed = f"trace:{tmp_path / 'trace'};{place}=kill@{commits_at_rest(house, tmp_path / 'trace') + 1}"
    else:
        armed = f"{place}=kill"
    child = house.begin(entry=entry, STRATAVORE_FAILPOINTS=armed)
    until(lambda: house.answers() or child.poll() is not None, why="a daemon, or its death")
    accepted = False
    with suppress(DaemonUnreachable):
        house.client.stop_runners(runner.id)
        accepted = True
        while place.startswith("store."):  # it may have written less at rest this time: go on until it dies
            house.client.edit_project("p", description=f"pid {house.daemon_pid()}")
    assert child.wait(20) == -9, f"{place} was not passed"

    if not house.processes():  # ended meanwhile: nobody but a person starts the daemon
        house.cli("daemon", "start")
    house.returns(than=killed)
    house.agrees()
    is_wanted = house.runner(runner.id).desired == "stopped"
    # The store's places are passed by heartbeats too: there the row alone says whether the wish was committed.
    assert is_wanted or not (accepted or (STOP[place] and not place.startswith("store.")))
    if is_wanted:
        ended = house.becomes(runner.id, *FINAL_STATES)
        assert (ended.exit_code, ended.end_reason) == (9, "stopped"), "its end, as it was"
    else:
        house.client.stop_runners(runner.id)
        house.becomes(runner.id, "terminated")
    house.agrees()
    assert house.processes() == []
    assert house.free_slots() == 3


def test_fault_02_killed_at_the_second_commit_of_a_launch_the_process_is_found(house: House, tmp_path: Path) -> None:
    """The process lives, and nobody has written down its pid."""
    house.start()
    house.project()
    house.kill_daemon()
    nth = commits_at_rest(house, tmp_path / "trace") + 2
    child = house.start(STRATAVORE_FAILPOINTS=f"store.commit=kill@{nth}")
    runner = house.launch("sleep", "60")
    assert child.wait(20) == -9
    [before] = until(lambda: house.processes(), why="the process")
    house.cli("daemon", "start")
    assert house.becomes(runner.id, "running").pid == before.pid
    house.agrees()
