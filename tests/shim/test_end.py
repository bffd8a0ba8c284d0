"""How runs end: by themselves, stopped, killed; what is left of their trees; what is told, and when."""

import asyncio
import os
import signal
import time
from pathlib import Path

import pytest

from stratavore.shim.client import Refused, replay
from stratavore.shims import Keys, Signal
from tests.shim.harness import House, bearers, end, is_alive, request, until


async def test_a_runner_that_ignores_term_is_killed_after_the_grace_with_all_it_started(house: House) -> None:
    script = "trap '' TERM HUP; setsid sh -c \"trap '' TERM HUP; echo up; while :; do sleep 1; done\" & wait; wait"
    await house.run("a.1", script)
    await house.says("a.1", "up")
    began = time.monotonic()
    await house.shims.stop("a.1", [Signal("TERM", 0.2)], 0.7, by="tester")
    record = await house.ended("a.1")
    assert 0.6 < time.monotonic() - began < 4
    assert (record.exit_signal, record.stop_by) == (9, "tester")
    await until(lambda: not bearers("a"))


async def test_the_steps_of_a_stop_are_taken_in_order(house: House) -> None:
    script = "trap 'echo int' INT; trap 'echo term; exit 4' TERM; echo up; while :; do read x && echo got $x; done"
    await house.run("a.1", script)
    await house.says("a.1", "up")
    steps: list[Keys | Signal] = [
        Keys(b"bye\r", 0.3),
        Signal("INT", 0.3, group=True),
        Signal("TERM", 5, group=True),
    ]
    await house.shims.stop("a.1", steps, 10, by="tester")
    assert (await house.ended("a.1")).exit_code == 4
    output = house.output("a.1")
    assert output.index(b"got bye") < output.index(b"int") < output.index(b"term")


async def test_a_second_stop_only_shortens_the_grace(house: House) -> None:
    await house.run("a.1", "trap '' TERM; echo up; while :; do sleep 1; done")
    await house.says("a.1", "up")
    await house.shims.stop("a.1", [Signal("TERM", 60)], 60, by="first")
    began = time.monotonic()
    await house.shims.stop("a.1", [Signal("TERM", 60)], 0.2, by="second")
    record = await house.ended("a.1")
    assert time.monotonic() - began < 5
    assert (record.exit_signal, record.stop_by) == (9, "second")


async def test_who_asked_last_is_told_unless_it_only_asked_again(house: House) -> None:
    await house.run("a.1", "trap '' TERM; echo up; while :; do sleep 1; done")
    await house.says("a.1", "up")
    for by in ("first", "second", "first"):
        await house.shims.stop("a.1", [Signal("TERM", 60)], 60, by=by)
    await house.shims.kill("a.1", by="second")
    assert (await house.ended("a.1")).stop_by == "second"


async def test_a_stop_is_carried_out_though_everybody_who_asked_is_gone(house: House) -> None:
    await house.run("a.1", "trap '' TERM; echo up; while :; do sleep 1; done")
    await house.says("a.1", "up")
    spawned = await house.spawn(request("a.1"), house.places["a.1"])
    await house.shims.stop("a.1", [Signal("TERM", 0.1)], 0.5, by="tester")
    await house.shims.close()
    await until(lambda: not is_alive(spawned.pid))
    await house.reopen()
    assert (await house.ended("a.1")).stop_by == "tester"


async def test_a_paused_tree_stands_still_and_can_be_stopped(house: House) -> None:
    await house.run("a.1", "setsid sh -c 'while :; do sleep 1; done' & echo up; trap 'exit 6' TERM; wait; wait")
    await house.says("a.1", "up")
    await until(lambda: len(bearers("a")) >= 2)
    await house.shims.pause("a.1")
    await until(lambda: all(_state(pid) == "T" for pid in bearers("a")))
    assert [held.state for held in (await house.holdings()).values()] == ["paused"]  # type: ignore[union-attr]
    await house.shims.unpause("a.1")
    await until(lambda: all(_state(pid) != "T" for pid in bearers("a")))
    await house.shims.pause("a.1")
    await house.shims.stop("a.1", [Signal("TERM", 5)], 10, by="tester")
    assert (await house.ended("a.1")).exit_code == 6
    await until(lambda: not bearers("a"))


async def test_a_kill_is_at_once_and_takes_the_tree(house: House) -> None:
    await house.run("a.1", "setsid sh -c 'trap \"\" TERM; while :; do sleep 1; done' & echo up; wait")
    await house.says("a.1", "up")
    await house.shims.kill("a.1", by="tester")
    record = await house.ended("a.1", seconds=3)
    assert (record.exit_signal, record.stop_by) == (9, "tester")
    await until(lambda: not bearers("a"))


async def test_a_natural_end_leaves_grandchildren_alone_until_they_are_to_end(house: House) -> None:
    tame, stubborn = "setsid sleep 1000", "setsid sh -c 'trap \"\" TERM HUP; sleep 1000; sleep 1000'"
    await house.run("a.1", f"{tame} >/dev/null 2>&1 & {stubborn} >/dev/null 2>&1 & sleep 0.2")
    record = await house.ended("a.1")
    assert (record.exit_code, record.stop_by) == (0, None)
    left = (await house.ask("survivors", "a.1"))["pids"]
    assert len(left) == 3
    assert (await house.ask("end_survivors", "a.1", grace=0.3))["pids"] == []
    assert bearers("a") == []


async def test_what_was_left_behind_is_buried_when_it_ends(house: House) -> None:
    """A zombie would count as a child for which all processes are looked through at every restart."""
    await house.run("a.1", "setsid sh -c 'echo $$; trap \"exit 0\" TERM; while :; do sleep 0.05; done' & sleep 0.2")
    await house.ended("a.1")
    left = int(house.output("a.1").split()[0])
    os.kill(left, signal.SIGTERM)
    await until(lambda: not Path(f"/proc/{left}").exists())


async def test_what_an_older_run_left_is_ended_without_touching_the_newer(house: House) -> None:
    """A stop sweeps what the old run left behind; the runner's next run bears the same marker."""
    await house.run("a.1", "setsid sh -c 'trap \"\" TERM HUP; sleep 1000' & echo up; trap 'exit 0' TERM; wait")
    await house.says("a.1", "up")
    await house.shims.stop("a.1", [Signal("TERM", 5)], 1, by="tester")
    await house.ended("a.1")
    newer = await house.spawn(request("a.2", "read x"), house.places["a.1"])
    await until(lambda: set(bearers("a")) == {newer.pid})
    await asyncio.sleep(1.2)  # beyond the grace of the old stop
    assert is_alive(newer.pid)


async def test_a_grandchild_that_holds_the_terminal_delays_the_record_by_two_seconds_at_most(
    house: House,
) -> None:
    await house.run("a.1", "trap '' HUP; (trap '' HUP; sleep 1000) & echo parting; exit 0")
    record = await house.ended("a.1", seconds=4)
    assert record.exit_code == 0
    assert house.output("a.1") == b"parting\r\n"


async def test_an_exit_is_durable_before_it_is_told(house: House) -> None:
    """The shim is killed as soon as it has told; its journal knows."""
    await house.run("a.1", "exit 9")
    await house.run("b.1", "read x")
    record = await house.ended("a.1")
    end(house.shim_pid("a.1"))
    await until(lambda: house.gone)
    [shim] = house.gone
    assert house.shims.is_gone(shim)
    assert await house.shims.replay(shim) == [record]
    await house.shims.forget(shim)
    assert not house.paths.shim(shim).exists()


async def test_an_acked_exit_is_not_replayed(house: House) -> None:
    for number in range(5):
        await house.run(f"a{number}.1", "true")
        await house.ended(f"a{number}.1")
    journal = house.paths.shim(house.places["a0.1"]) / "journal"
    await house.shims.ack("a1.1")
    await house.shims.ack("a3.1")
    await until(lambda: [record.key for record in replay(journal)] == ["a0.1", "a2.1", "a4.1"])
    assert set(await house.holdings()) == {"a0.1", "a2.1", "a4.1"}


async def test_a_journal_goes_on_for_ever_in_the_same_room(house: House) -> None:
    """It begins again at its start, and what stands behind the newest entry is not taken for one."""
    label = "x" * 60_000
    for number in range(12):
        await house.run(f"a{number}.1", "true", label=label)
        await house.ended(f"a{number}.1")
        if number < 11:
            await house.shims.ack(f"a{number}.1")
    journal = house.paths.shim(house.places["a0.1"]) / "journal"
    assert [record.key for record in replay(journal)] == ["a11.1"]
    assert journal.stat().st_size <= 1 << 19


async def test_a_torn_journal_tells_what_is_whole(house: House, tmp_path: Path) -> None:
    for number in range(3):
        await house.run(f"a{number}.1", f"exit {number}")
        await house.ended(f"a{number}.1")
    data = (house.paths.shim(house.places["a0.1"]) / "journal").read_bytes()
    whole = len(data.rstrip(b"\0"))
    torn = tmp_path / "torn"
    for cut, expected in ((whole, 3), (whole - 1, 2), (whole // 2, 1), (5, 0), (0, 0)):
        torn.write_bytes(data[:cut] + bytes(100))
        assert [record.exit_code for record in replay(torn)] == list(range(expected))
    assert replay(tmp_path / "none") == []


async def test_a_dead_shim_takes_its_own_runs_and_no_others(house: House) -> None:
    mine = await house.run("a.1", "read x")
    await house.shims.reserve(7)
    others = await house.run("b.1", "read x; exit 8")
    assert house.places["a.1"] != house.places["b.1"]
    end(house.shim_pid("a.1"))
    await until(lambda: house.gone == [house.places["a.1"]])
    await until(lambda: not is_alive(mine.pid))
    assert await house.shims.replay(house.gone[0]) == []
    assert is_alive(others.pid)
    assert set(await house.holdings()) == {"b.1"}
    with pytest.raises(Refused, match="no shim holds"):
        await house.shims.kill("a.1", by="tester")


async def test_shim_and_daemon_killed_together_are_found_by_the_next_daemon(house: House) -> None:
    await house.run("a.1", "exit 2")
    record = await house.ended("a.1")
    await house.shims.close()
    end(house.shim_pid("a.1"))
    await until(lambda: house.shims.is_gone(house.places["a.1"]))
    house.gone.clear()
    await house.reopen()
    assert house.gone == [house.places["a.1"]]
    assert await house.shims.replay(house.gone[0]) == [record]


async def test_exits_are_told_again_until_they_are_acked(house: House) -> None:
    await house.run("a.1", "true")
    await house.ended("a.1")
    await house.reopen()
    await until(lambda: len(house.told) == 2)
    await house.shims.ack("a.1")
    await until(lambda: not replay(house.paths.shim(house.places["a.1"]) / "journal"))
    await house.reopen()
    assert len(house.told) == 2


async def test_the_record_tells_what_the_run_used(house: House) -> None:
    await house.run("a.1", "i=0; while [ $i -lt 20000 ]; do i=$((i+1)); done")
    record = await house.ended("a.1")
    assert record.utime_seconds > 0
    assert record.max_rss_bytes > 500_000
    assert record.ended_at >= record.started_at > 1_700_000_000_000
    assert record.boot_id == Path("/proc/sys/kernel/random/boot_id").read_text().strip()


async def test_a_signal_from_elsewhere_is_told_as_it_was(house: House) -> None:
    spawned = await house.run("a.1", "read x")
    os.kill(spawned.pid, signal.SIGUSR1)
    record = await house.ended("a.1")
    assert (record.exit_code, record.exit_signal, record.stop_by) == (None, signal.SIGUSR1, None)


def _state(pid: int) -> str:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]
    except OSError:
        return ""
