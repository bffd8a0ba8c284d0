"""The verbs that keep house: reconcile, disk, prune, and the end of the daemon."""

import asyncio
import os
from pathlib import Path

import pytest

from stratavore.errors import NotFound
from stratavore.store import events
from tests.house import House, is_alive, living, quick


async def test_where_all_agrees_nothing_is_done(house: House) -> None:
    await house.project("p")
    await house.running("p")
    report = await house.ask("reconcile")
    assert (report.examined, report.changed, report.lost, report.adopted) == (1, 0, [], [])


async def test_the_disk_is_told_by_kind_and_by_runner(house: House) -> None:
    await house.project("p")
    runner = await house.launch("p", "head -c 200000 /dev/zero | tr '\\0' x")
    await house.over(runner.id)
    found = await house.ask("disk_use")
    assert found.database_bytes > 0
    assert found.other_bytes > 0
    assert found.by_runner[runner.id] >= 200_000
    assert found.output_bytes >= found.by_runner[runner.id]


async def test_pruning_removes_rows_logs_and_directories(house: House) -> None:
    await house.project("p")
    ended, alive = await house.launch("p", "echo output"), await house.running("p")
    await house.over(ended.id)
    held = (await house.ask("disk_use")).by_runner[ended.id]
    tried = await house.ask("prune", older_than_seconds=0, dry_run=True)
    assert (tried.runners, tried.bytes) == (1, held)
    assert (await house.get(ended.id)).id == ended.id
    done = await house.ask("prune", older_than_seconds=0)
    assert done.runners == 1
    assert done.bytes >= held
    with pytest.raises(NotFound):
        await house.get(ended.id)
    assert not house.paths.environment(ended.id).exists()
    assert list(house.paths.logs.glob(f"*/{ended.id}.*")) == []
    assert is_alive(alive.pid)
    assert house.paths.environment(alive.id).exists()
    assert list(house.paths.logs.glob(f"*/{alive.id}.1"))
    again = await house.ask("prune", older_than_seconds=0)
    assert (again.runners, again.bytes) == (0, 0)


async def test_what_ended_lately_is_kept(house: House) -> None:
    await house.project("p")
    runner = await house.launch("p", "exit 0")
    await house.over(runner.id)
    for fields in ({}, {"older_than_seconds": 60}):
        assert (await house.ask("prune", **fields)).runners == 0
    assert (await house.get(runner.id)).id == runner.id


async def test_old_events_go_and_the_chain_holds(tmp_path: Path) -> None:
    async with living(tmp_path / "state", quick(retention={"events": 0.0})) as house:
        await house.project("p")
        before = len(await house.ask("list_events"))
        await asyncio.sleep(0.002)  # "older than now" begins in the next millisecond
        done = await house.ask("prune")
        assert done.events == before
        await house.project("q")
        [event] = await house.ask("list_events")
        assert event.seq > before
        assert events.first_broken(house.context.rows) is None
        await house.restart()
        assert events.first_broken(house.context.rows) is None


class TestTheEndOfTheDaemon:
    """It leaves the runners alone unless it is told otherwise, and a mark unless it comes back."""

    async def test_it_stays_stopped(self, house: House) -> None:
        await house.project("p")
        runner = await house.running("p")
        await house.ask("stop_daemon")
        await asyncio.wait_for(house.daemon.wait(house.paths.stop_mark), 5)
        assert house.paths.stop_mark.exists()
        await house.stop()
        assert is_alive(runner.pid)
        house.paths.stop_mark.unlink()
        await house.start()
        assert (await house.get(runner.id)).pid == runner.pid

    async def test_for_a_restart_it_leaves_no_mark(self, house: House) -> None:
        await house.ask("stop_daemon", restart=True)
        await asyncio.wait_for(house.daemon.wait(house.paths.stop_mark), 5)
        assert not house.paths.stop_mark.exists()

    async def test_with_its_runners(self, house: House) -> None:
        await house.project("p")
        runners = [await house.running("p", restart_policy="always") for _ in range(3)]
        await house.ask("stop_daemon", runners=True)
        await house.stop()
        await house.start()
        for runner in runners:
            assert (await house.over(runner.id)).state == "terminated"
            assert not is_alive(runner.pid)


async def test_many_daemons_one_after_the_other_change_nothing(house: House) -> None:
    await house.project("p")
    runner = await house.running("p")
    for _ in range(5):
        await house.restart()
    found = await house.get(runner.id)
    assert (found.pid, found.run, found.state) == (runner.pid, 1, "running")
    assert house.told(runner.id) == ["runner.launched", "runner.started"]
    assert os.path.exists(house.paths.socket)
