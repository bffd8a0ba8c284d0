"""Quotas under concurrency, and fault 42: two daemons, and many first commands, at once."""

import subprocess
import sys
import threading

import pytest

from stratavore.errors import QuotaExceeded
from tests.chaos.house import MARK, House, until


def check_quota(house: House, *, askers: int, limit: int) -> None:
    """That many threads launch at the same moment."""
    house.project(max_runners=limit)
    start, granted, refused = threading.Barrier(askers), list[str](), list[str]()

    def ask() -> None:
        start.wait()
        try:
            granted.append(house.launch("sleep", "600").id)
        except QuotaExceeded as refusal:
            refused.append(refusal.message)

    threads = [threading.Thread(target=ask) for _ in range(askers)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert (len(granted), len(refused)) == (limit, askers - limit), "granted and refused"
    for id in granted:
        house.becomes(id, "running")
    house.agrees()
    assert len(house.processes()) == limit
    assert house.free_slots() == 0
    assert len(list(house.paths.environments.iterdir())) == limit  # no environment is left of what was refused


def test_a_quota_grants_exactly_its_limit(house: House) -> None:
    house.start()
    check_quota(house, askers=50, limit=10)


def test_a_refused_launch_keeps_no_place_in_a_shim(house: House) -> None:
    """Else refusals alone would make new shims, again and again."""
    house.start(STRATAVORE_SHIM_RUNNERS_PER_SHIM="10")
    check_quota(house, askers=30, limit=10)
    house.client.stop_runners("*")
    until(lambda: house.free_slots() == 10, why="all to end")
    shims = len(house.shim_pids())
    for _ in range(3):
        for runner in house.launch_many("true", count=30, partial=True):
            house.becomes(runner.id, "terminated")
    assert len(house.shim_pids()) == max(shims, 3)


def test_fault_42_fifty_first_commands_start_one_daemon_and_get_exactly_the_quota(house: House) -> None:
    house.start()
    house.project(max_runners=10)
    house.kill_daemon()
    house.paths.stop_mark.touch()
    command = [sys.executable, "-m", "stratavore", "launch", "p", "--env", f"{MARK}={house.home}", "--", "sleep", "600"]
    asking = [
        subprocess.Popen(command, env=house.environment, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE)
        for _ in range(50)
    ]
    said = [process.communicate(timeout=90)[1] for process in asking]
    codes = [process.returncode for process in asking]
    assert (codes.count(0), codes.count(5)) == (10, 40), said
    assert house.log_text().count("the daemon is ready") == 2, "one before, and one for all of them"
    house.agrees()
    assert len(house.processes()) == 10


def race(house: House, rounds: int) -> None:
    for number in range(rounds):
        rivals = [house.begin() for _ in range(2)]
        loser = until(lambda rivals=rivals: [one for one in rivals if one.poll() is not None], why="one to give up")  # type: ignore[misc]
        assert [one.returncode for one in loser] == [75], number
        [winner] = [one for one in rivals if one not in loser]
        until(lambda winner=winner: house.daemon_pid() == winner.pid and house.answers(), why="the other to answer")  # type: ignore[misc]
        house.kill_daemon()
        winner.wait()


def test_fault_42_of_two_daemons_one_gives_up(house: House) -> None:
    race(house, 6)


@pytest.mark.long
@pytest.mark.timeout(300)
def test_fault_42_of_two_daemons_one_gives_up_fifty_times(house: House) -> None:
    race(house, 50)
