"""The verbs that keep house: reconcile, disk, prune, and the end of the daemon."""

import asyncio
import os
import signal
from pathlib import Path

import pytest

from stratavore.errors import NotFound
from stratavore.model import Runner
from stratavore.store import events
from stratavore.upkeep import keep_house, sweep
from tests.house import House, is_alive, living, quick, until


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


class TestWhatNobodyKnows:
    """Files of runners that the database does not know: of a launch or a removal that was cut off, and of others."""

    async def test_what_a_removal_left_goes_at_the_next_start(self, house: House) -> None:
        await house.project("p")
        runner, kept = await house.launch("p", "echo output"), await house.running("p", "echo kept; exec cat")
        await house.over(runner.id)
        await house.says(kept, "kept")
        for known in (runner, kept):
            house.paths.runner(known.id).mkdir()
            (house.paths.runner(known.id) / "settings.json").touch()
        await forgotten(house, runner)
        await house.restart()
        assert traces_of(house, runner) == []
        assert len(traces_of(house, kept)) >= 3

    async def test_what_a_holder_still_has_is_taken_in_and_stays(self, house: House) -> None:
        await house.project("p")
        runner = await house.running("p", "echo output; exec cat")
        await house.says(runner, "output")
        before = traces_of(house, runner)
        await forgotten(house, runner)
        await house.restart()
        assert (await house.get(runner.id)).pid == runner.pid
        assert traces_of(house, runner) == before

    async def test_while_a_holder_is_silent_nothing_is_removed(
        self, house: House, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        await house.project("p")
        runner, ended = await house.running("p"), await house.launch("p", "echo output")
        await house.over(ended.id)
        await forgotten(house, runner)
        await forgotten(house, ended)
        before = traces_of(house, runner), traces_of(house, ended)
        monkeypatch.setattr("stratavore.shims.meeting._ANSWER_SECONDS", 0.3)
        [shim] = house.pids("shims")
        os.kill(shim, signal.SIGSTOP)
        try:
            await house.restart()
            assert (traces_of(house, runner), traces_of(house, ended)) == before
        finally:
            os.kill(shim, signal.SIGCONT)
        await until(lambda: set(house.context.shims.health().values()) == {"ok"})
        await house.ask("reconcile")
        await keep_house(house.context)
        assert traces_of(house, ended) == []
        assert (await house.get(runner.id)).pid == runner.pid
        assert traces_of(house, runner) == before[0]

    async def test_what_stands_from_an_older_database_stays(self, house: House) -> None:
        await house.project("p")
        runner = await house.launch("p", "echo output")
        await house.over(runner.id)
        await house.stop()
        before = traces_of(house, runner)
        for file in house.paths.state.glob("state.db*"):
            file.rename(file.with_name(f"old-{file.name}"))
        await house.start()
        assert traces_of(house, runner) == before

    async def test_a_launch_under_way_keeps_its_environment(self, house: House) -> None:
        under_way = house.paths.environment("underway00")
        under_way.write_text("{}")
        assert await sweep(house.context) == 0
        assert under_way.exists()
        await house.restart()
        assert not under_way.exists()

    async def test_the_directory_of_a_dead_shim_goes_with_its_last_output(self, house: House) -> None:
        house.paths.logs.joinpath("dead").mkdir()
        await sweep(house.context)
        assert not house.paths.logs.joinpath("dead").exists()


async def forgotten(house: House, runner: Runner) -> None:
    """The database knows nothing of it, as after a removal that was cut off."""
    await house.wish("DELETE FROM runners WHERE id = ?", runner.id)


def traces_of(house: House, runner: Runner) -> list[Path]:
    places = (house.paths.environments, house.paths.runners, *house.paths.logs.iterdir())
    return sorted(path for place in places for path in place.glob(f"{runner.id}*"))


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
