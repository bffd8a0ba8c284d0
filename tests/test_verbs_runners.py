"""The verbs on living runners: stop, kill, pause, rename, rm, wait. Restarts are in test_verbs_restarting.py."""

import asyncio
import signal
from typing import Any

import pytest

from stratavore import process
from stratavore.errors import Conflict, NotFound
from stratavore.model import Desired, EndReason, RunnerState
from tests.house import ME, House, is_alive, names_of, together, until

LOOP = "echo up; while :; do sleep 0.05; done"
DEAF = "trap '' TERM HUP INT; echo deaf; while :; do sleep 0.05; done"


class TestStop:
    """Politely, then not; and what it was asked to end is `terminated`, whatever its code."""

    @together
    @pytest.mark.parametrize("tty", [True, False])
    async def test_it_is_asked_first(self, shared: House, tty: bool) -> None:
        runner = await shared.running("p", "trap 'echo bye; exit 5' TERM; " + LOOP, tty=tty)
        await shared.says(runner, "up")
        await shared.ask("stop_runners", runner.id)
        ended = await shared.over(runner.id)
        assert (ended.state, ended.exit_code, ended.end_reason) == ("terminated", 5, EndReason.STOPPED)
        assert ended.end_detail == f"exit code 5; asked by {ME}"
        assert (ended.desired, ended.last_line) == (Desired.STOPPED, "bye")
        assert shared.told(runner.id)[-2:] == ["runner.stop_asked", "runner.stopped"]

    @together
    async def test_what_does_not_listen_is_killed_with_all_its_children(self, shared: House) -> None:
        runner = await shared.running("p", f'setsid sh -c "{DEAF}" & {DEAF}', stop_grace_seconds=0.2)
        await until(lambda: shared.output(runner).count(b"deaf") == 2)
        await shared.ask("stop_runners", runner.id)
        ended = await shared.over(runner.id)
        assert (ended.state, ended.exit_signal) == ("terminated", signal.SIGKILL)
        assert not is_alive(runner.pid)
        assert await marked(runner.id) == 0

    @together
    async def test_the_grace_of_this_stop_goes_before_the_runners_own(self, shared: House) -> None:
        runner = await shared.running("p", DEAF, stop_grace_seconds=300)
        await shared.says(runner, "deaf")
        await shared.ask("stop_runners", runner.id, grace_seconds=0.1)
        assert (await shared.over(runner.id)).exit_signal == signal.SIGKILL

    @together
    async def test_a_kill_is_now(self, shared: House) -> None:
        runner = await shared.running("p", DEAF, stop_grace_seconds=300)
        await shared.says(runner, "deaf")
        await shared.ask("kill_runners", runner.id)
        ended = await shared.over(runner.id)
        assert (ended.state, ended.exit_signal, ended.end_reason) == (
            "terminated", signal.SIGKILL, EndReason.KILLED,
        )  # fmt: skip

    @together
    async def test_a_kill_overtakes_a_stop(self, shared: House) -> None:
        runner = await shared.running("p", DEAF, stop_grace_seconds=300)
        await shared.says(runner, "deaf")
        [stopping] = await shared.ask("stop_runners", runner.id)
        assert stopping.state is RunnerState.STOPPING
        await shared.ask("kill_runners", runner.id)
        assert (await shared.over(runner.id)).end_reason is EndReason.KILLED

    @together
    async def test_what_ended_cannot_be_stopped(self, shared: House) -> None:
        runner = await shared.launch("p", "exit 0")
        await shared.over(runner.id)
        living = await shared.running("p")
        for verb in ("stop_runners", "kill_runners", "pause_runners", "unpause_runners"):
            with pytest.raises(Conflict, match=f"{runner.name} ended already"):
                await shared.ask(verb, f"{living.id},{runner.id}")
        assert (await shared.get(living.id)).desired is Desired.RUNNING

    @together
    async def test_all_of_a_project_and_only_those(self, shared: House) -> None:
        await shared.project("mine")
        mine = (await shared.launch_all("mine", count=3)).runners
        other = await shared.running("p")
        asked = await shared.ask("stop_runners", "*", project="mine")
        assert {runner.id for runner in asked} == {runner.id for runner in mine}
        for runner in mine:
            assert (await shared.over(runner.id)).state == "terminated"
        assert (await shared.get(other.id)).state == "running"
        assert await shared.ask("stop_runners", "*", project="mine") == []

    async def test_a_process_that_could_not_be_written_down_is_not_forgotten(
        self, house: House, caplog: pytest.LogCaptureFixture
    ) -> None:
        """The disk refused to note that it runs; the stop that comes next must not take it for never started."""
        await house.project("p")
        await house.wish(
            "CREATE TRIGGER refuse BEFORE UPDATE ON runs WHEN new.state = 'running'"
            " BEGIN SELECT RAISE(ABORT, 'no'); END"
        )
        runner = await house.launch("p", "echo up; exec sleep 1000")
        await house.says(runner, "up")
        await until(lambda: "an action failed" in caplog.text)
        caplog.clear()
        await house.wish("DROP TRIGGER refuse")
        await house.ask("stop_runners", runner.id)
        ended = await house.over(runner.id)
        assert (ended.state, ended.exit_signal) == ("terminated", signal.SIGTERM)
        assert await marked(runner.id) == 0


class TestPause:
    """A whole tree stands still, and goes on."""

    @together
    async def test_it_stands_still_and_goes_on(self, shared: House) -> None:
        runner = await shared.running("p", "sh -c 'while :; do echo tick; sleep 0.01; done' & wait")
        await shared.says(runner, "tick")
        await shared.ask("pause_runners", runner.id)
        paused = await shared.reaches(runner.id, "paused")
        assert (paused.pid, paused.desired) == (runner.pid, Desired.PAUSED)
        assert is_alive(runner.pid)
        await still(shared, runner)
        await shared.ask("unpause_runners", runner.id)
        await shared.reaches(runner.id, "running")
        seen = len(shared.output(runner))
        await until(lambda: len(shared.output(runner)) > seen)
        assert shared.told(runner.id) == [
            "runner.launched", "runner.started", "runner.pause_asked", "runner.paused", "runner.unpause_asked",
            "runner.unpaused",
        ]  # fmt: skip

    @together
    @pytest.mark.parametrize("verb", ["stop_runners", "kill_runners"])
    async def test_what_stands_still_can_be_ended(self, shared: House, verb: str) -> None:
        runner = await shared.running("p", "trap 'exit 4' TERM; " + LOOP)
        await shared.says(runner, "up")
        await shared.ask("pause_runners", runner.id)
        await shared.reaches(runner.id, "paused")
        await shared.ask(verb, runner.id)
        ended = await shared.over(runner.id)
        assert ended.state == "terminated"
        assert (ended.exit_code, ended.exit_signal) == ((4, None) if verb == "stop_runners" else (None, 9))

    @together
    async def test_what_is_being_stopped_is_not_paused(self, shared: House) -> None:
        runner = await shared.running("p", DEAF)
        await shared.says(runner, "deaf")
        await shared.ask("stop_runners", runner.id)
        for verb in ("pause_runners", "unpause_runners"):
            await shared.ask(verb, runner.id)
            assert (await shared.get(runner.id)).desired is Desired.STOPPED
        await shared.ask("kill_runners", runner.id)
        await shared.over(runner.id)

    @together
    async def test_a_wish_from_before_the_start_holds(self, shared: House) -> None:
        runner = await shared.launch("p")
        await shared.ask("pause_runners", runner.id)
        await shared.reaches(runner.id, "paused")


class TestNeverResurrected:
    """What a person stopped stays down, whatever else is wanted or happens."""

    @pytest.mark.parametrize("verb", ["stop_runners", "kill_runners"])
    @pytest.mark.parametrize("when", ["starting", "running", "paused", "backoff"])
    @pytest.mark.parametrize("restarts", [False, True], ids=["same-daemon", "another-daemon"])
    async def test_in_any_order(self, house: House, verb: str, when: str, restarts: bool) -> None:
        await house.project("p")
        script = "exit 1" if when == "backoff" else "exec sleep 1000"
        runner = await house.launch("p", script, restart_policy="always", max_restarts=1000)
        if when == "paused":
            await house.ask("pause_runners", runner.id)
        if when != "starting":
            await house.reaches(runner.id, when)
        await house.ask(verb, runner.id)
        if restarts:
            await house.restart()
        ended = await house.over(runner.id)
        runs = ended.run
        await house.stays(lambda: not house.is_living(runner.id))
        after = await house.get(runner.id)
        assert (after.run, after.state in ("terminated", "failed"), after.desired) == (
            runs,
            True,
            Desired.STOPPED,
        )
        assert house.slots("p") == 0
        assert await marked(runner.id) == 0

    async def test_not_by_its_time_limit_nor_by_a_late_end(self, house: House) -> None:
        await house.project("p")
        runner = await house.running("p", DEAF, restart_policy="always", max_seconds=0.3, stop_grace_seconds=0.2)
        await house.says(runner, "deaf")
        await house.ask("stop_runners", runner.id)
        await house.restart()
        assert (await house.over(runner.id)).run == 1
        await house.stays(lambda: not house.is_living(runner.id))


class TestNamesAndRemoval:
    """`rename` and `rm`."""

    @together
    async def test_a_new_name_is_the_name(self, shared: House) -> None:
        runner = await shared.running("p", name="old-name")
        renamed = await shared.ask("rename_runner", "old-name", name="new-name")
        assert (renamed.id, renamed.name, renamed.pid) == (runner.id, "new-name", runner.pid)
        with pytest.raises(NotFound):
            await shared.get("old-name")
        await shared.running("p", name="old-name")
        with pytest.raises(Conflict):
            await shared.ask("rename_runner", "new-name", name="old-name")

    @together
    async def test_what_ended_is_forgotten_with_all_its_files(self, shared: House) -> None:
        runner = await shared.launch("p", "echo output")
        await shared.over(runner.id)
        [removed] = await shared.ask("remove_runners", runner.id)
        assert removed.id == runner.id
        with pytest.raises(NotFound):
            await shared.get(runner.id)
        assert not shared.paths.environment(runner.id).exists()
        assert list(shared.paths.logs.glob(f"*/{runner.id}.*")) == []

    @together
    async def test_of_several_all_or_none(self, shared: House) -> None:
        ended, living = await shared.launch("p", "exit 0"), await shared.running("p")
        await shared.over(ended.id)
        with pytest.raises(Conflict, match=f"{living.name} is alive"):
            await shared.ask("remove_runners", f"{ended.id},{living.id}")
        assert (await shared.get(ended.id)).id == ended.id
        assert shared.paths.environment(ended.id).exists()

    @together
    async def test_who_comes_second_is_told_that_it_has_gone(self, shared: House) -> None:
        runner = await shared.launch("p", "exit 0")
        await shared.over(runner.id)
        answers = await asyncio.gather(
            *(shared.ask("remove_runners", runner.id) for _ in range(5)), return_exceptions=True
        )
        assert sum(isinstance(answer, list) for answer in answers) == 1
        assert all(isinstance(answer, list | NotFound) for answer in answers), answers


class TestLists:
    """What a list shows, and how long it waits."""

    @together
    async def test_the_living_unless_more_is_asked_for(self, shared: House) -> None:
        await shared.project("listed")
        ended, living = await shared.launch("listed", "exit 3"), await shared.running("listed")
        await shared.over(ended.id)
        assert names_of(await self.of(shared)) == [living.name]
        assert names_of(await self.of(shared, all=True)) == [ended.name, living.name]
        assert names_of(await self.of(shared, state="failed")) == [ended.name]
        assert names_of(await self.of(shared, state="running")) == [living.name]
        assert names_of(await self.of(shared, all=True, limit=1, offset=1)) == [living.name]

    async def of(self, house: House, **fields: Any) -> Any:
        return await house.ask("list_runners", project="listed", **fields)

    @together
    async def test_a_wait_ends_when_all_are_there(self, shared: House) -> None:
        first, second = await shared.running("p"), await shared.running("p")
        both = f"{first.id},{second.id}"
        waiting = asyncio.ensure_future(shared.ask("list_runners", runner=both, until="ended", wait_seconds=20))
        await shared.ask("kill_runners", first.id)
        await shared.over(first.id)
        done, _ = await asyncio.wait([waiting], timeout=0.1)
        assert not done
        await shared.ask("kill_runners", second.id)
        found = await asyncio.wait_for(waiting, 10)
        assert [runner.state for runner in found] == ["terminated", "terminated"]

    @together
    @pytest.mark.parametrize("until_", ["settled", "running,failed", "backoff, running", "done,running"])
    async def test_what_is_there_already_is_not_waited_for(self, shared: House, until_: str) -> None:
        runner = await shared.running("p")
        found = await asyncio.wait_for(shared.ask("list_runners", runner=runner.id, until=until_, wait_seconds=25), 5)
        assert found[0].state == "running"

    @together
    async def test_when_the_time_is_up_it_tells_how_things_are(self, shared: House) -> None:
        runner = await shared.running("p")
        [found] = await shared.ask("list_runners", runner=runner.id, until="ended", wait_seconds=0.1)
        assert found.state == "running"

    @together
    async def test_runs_are_listed_with_their_files(self, shared: House) -> None:
        runner = await shared.launch("p", "echo hello; exit 2")
        await shared.over(runner.id)
        [run] = await shared.ask("list_runs", runner.id)
        assert (run.number, run.exit_code, run.output_bytes) == (1, 2, len(b"hello\r\n"))
        with open(run.log, "rb") as file:
            assert file.read() == b"hello\r\n"


async def still(house: House, runner: Any) -> None:
    """Its output has stopped growing: what was on its way has come."""
    async with asyncio.timeout(20):
        size = -1
        while size != (size := len(house.output(runner))):
            await asyncio.sleep(0.2)


async def marked(runner_id: str) -> int:
    """How many processes bear its marker."""
    found = await asyncio.to_thread(process.marked, [runner_id])
    return len(found.get(runner_id, []))
