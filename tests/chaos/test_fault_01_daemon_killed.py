"""Fault 1 (and 3, which is the same to everybody else): the daemon is SIGKILLed at random moments."""

import time

import pytest

from tests.chaos.crowd import Crowd, read_logs
from tests.chaos.house import House, dice, until


def run_chaos(house: House, *, size: int, kills: int, lines: int, pace_seconds: float) -> Crowd:
    """Kill the daemon again and again while a crowd is launched, stopped, and ends by itself."""
    chance = dice()
    house.project(max_runners=size)
    crowd = Crowd(house, chance, size=size, lines=lines, pace_seconds=pace_seconds)
    crowd.begin()
    slowest = 0.0
    for number in range(kills):
        doom = time.monotonic() + chance.uniform(0.05, 1.5)
        until(lambda doom=doom: time.monotonic() >= doom, why="the next kill")  # type: ignore[misc]
        killed = house.kill_daemon()
        if number % 2:  # the zygote starts it, as long as runners live
            until(lambda: house.answers() or not house.processes(), why="the zygote to start the daemon")
        house.cli("daemon", "start")  # a person does
        assert house.daemon_pid() != killed
        back = time.monotonic()
        house.agrees()
        slowest = max(slowest, time.monotonic() - back)
        crowd.look()
    crowd.join()
    crowd.ended(seconds=120 + size)
    print(f"{kills} kills, {size} runners; the states equalled reality within {slowest:.2f} s of each return")
    return crowd


def check_chaos(house: House, crowd: Crowd) -> None:
    assert crowd.judge() == []
    house.agrees()
    assert house.processes() == []
    assert house.free_slots() == len(crowd.fates)
    for fate in [one for one in crowd.fates if not one.is_stopped][:5]:
        assert read_logs(house, fate).replace(b"\r\n", b"\n") == fate.text(fate.lines).replace(b"\r\n", b"\n")


@pytest.mark.timeout(180)
def test_fault_01_killed_at_random_nothing_is_lost(house: House) -> None:
    house.start()
    check_chaos(house, run_chaos(house, size=60, kills=8, lines=40, pace_seconds=0.5))


@pytest.mark.long
@pytest.mark.timeout(1800)
def test_fault_01_three_hundred_runners_and_fifty_kills(house: House) -> None:
    house.start()
    check_chaos(house, run_chaos(house, size=300, kills=50, lines=120, pace_seconds=0.6))
