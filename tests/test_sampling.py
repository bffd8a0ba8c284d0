"""One look at all runners: what it brings to light, and what becomes of it."""

import os
import signal
from pathlib import Path

import pytest

from stratavore import process
from stratavore.model import Health
from stratavore.sampling import Sampling
from tests.house import House, living, quick, together, until

TREE = "sleep 1000 & sleep 1000 & echo up; wait"


@pytest.fixture
def sampling(house: House) -> Sampling:
    return Sampling(house.context)


async def test_a_look_is_the_heartbeat_of_every_runner(house: House, sampling: Sampling) -> None:
    await house.project("p")
    runner = await house.running("p", TREE)
    await house.says(runner, "up")
    assert (await house.get(runner.id)).seen_at is None
    await sampling.look()
    found = await house.get(runner.id)
    assert (found.children, found.threads, found.health) == (2, 3, Health.OK)
    assert found.rss_bytes is not None
    assert found.rss_bytes > 100_000
    assert found.cpu_percent is None
    assert found.output_bytes == len(house.output(runner))
    assert found.seen_at is not None
    await sampling.look()
    assert (await house.get(runner.id)).cpu_percent is not None


async def test_orphans_of_a_runner_count(house: House, sampling: Sampling) -> None:
    await house.project("p")
    runner = await house.running("p", "(sleep 1000 & sleep 1000 & echo up); exec sleep 1000")
    await house.says(runner, "up")
    await sampling.look()
    assert (await house.get(runner.id)).children == 2


async def test_runners_are_told_apart_and_summed_up(house: House, sampling: Sampling) -> None:
    await house.project("p")
    busy = await house.running("p", "echo up; while :; do :; done")
    quiet = await house.running("p")
    await house.says(busy, "up")
    await sampling.look()
    assert busy.pid is not None
    ticks = cpu_ticks(busy.pid)
    await until(lambda: cpu_ticks(busy.pid) > ticks + 20)
    await sampling.look()
    working, resting = await house.get(busy.id), await house.get(quiet.id)
    assert (working.cpu_percent or 0) > 5
    assert resting.cpu_percent == 0.0
    status = await house.ask("status")
    assert status.cpu_percent == working.cpu_percent
    assert status.rss_bytes == (working.rss_bytes or 0) + (resting.rss_bytes or 0)


async def test_a_look_leaves_no_event(house: House, sampling: Sampling) -> None:
    await house.project("p")
    await house.running("p")
    before = await house.ask("list_events")
    await sampling.look()
    assert await house.ask("list_events") == before


async def test_an_empty_house_is_looked_at_without_harm(sampling: Sampling) -> None:
    await sampling.look()


async def test_what_ends_shows_no_use_any_more(house: House, sampling: Sampling) -> None:
    await house.project("p")
    runner = await house.running("p")
    await sampling.look()
    await house.ask("kill_runners", runner.id)
    found = await house.over(runner.id)
    assert (found.rss_bytes, found.cpu_percent, found.children) == (None, None, None)
    status = await house.ask("status")
    assert (status.rss_bytes, status.cpu_percent) == (None, None)


async def test_a_silent_holder_is_told(house: House, sampling: Sampling) -> None:
    await house.project("p")
    runner = await house.running("p")
    [shim] = house.pids("shims")
    os.kill(shim, signal.SIGSTOP)
    try:
        await until(lambda: "unresponsive" in house.context.shims.health().values())
        await sampling.look()
        found = await house.get(runner.id)
        assert (found.health, found.state) == (Health.UNRESPONSIVE, "running")
        assert (await house.ask("daemon_status")).healthy is False
        assert any("unresponsive" in warning for warning in (await house.ask("status")).warnings)
    finally:
        os.kill(shim, signal.SIGCONT)
    await until(lambda: "unresponsive" not in house.context.shims.health().values())
    await sampling.look()
    assert (await house.get(runner.id)).health is Health.OK


async def test_the_daemon_looks_by_itself(tmp_path: Path) -> None:
    often = quick(supervision={"sample_interval": 1.0})
    async with living(tmp_path / "state", often) as house:
        await house.project("p")
        runner = await house.running("p")
        await until(lambda: house.context.rows.one_or_none("SELECT 1 FROM samples") is not None)
        assert (await house.get(runner.id)).rss_bytes is not None


@together
async def test_an_environment_that_has_gone_stops_no_look(shared: House) -> None:
    runner = await shared.running("p")
    shared.paths.environment(runner.id).unlink()
    await Sampling(shared.context).look()
    assert (await shared.get(runner.id)).rss_bytes is not None


def cpu_ticks(pid: int | None) -> int:
    assert pid is not None
    seen = process.stat(pid)
    assert seen is not None
    return seen.cpu_ticks
