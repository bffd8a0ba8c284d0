"""How plans are carried out: what fails is put off and holds up nothing else, and nothing that was reserved is kept.

What is planned is in test_planning.py, what becomes of wishes in test_verbs_*.py.
"""

import asyncio
import os
import signal
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any, cast

import pytest

from stratavore.agents import AGENTS, Agent, Start, Traces
from stratavore.agents.shell import Shell
from stratavore.clock import iso
from stratavore.lifecycle import Cause
from stratavore.model import Desired, EndReason, Runner, ShimId
from stratavore.sampling import Sampling
from stratavore.shim.client import MARKER
from stratavore.shims import Part, SpawnRequest
from stratavore.shims.link import Link
from stratavore.spawning import Spawning
from stratavore.store import projects, runners, runs, supervision
from stratavore.store.database import Tx
from stratavore.supervisor import Supervisor
from tests.house import House, is_alive, living, quick, until

REFUSE = "CREATE TRIGGER refuse BEFORE UPDATE ON runs WHEN new.state = 'lost' BEGIN SELECT RAISE(ABORT, 'no'); END"


@pytest.fixture
async def narrow(tmp_path: Path) -> AsyncIterator[House]:
    """A shim holds one runner, so that a place that is not given back makes another shim necessary."""
    async with living(tmp_path / "state", quick(shim={"runners_per_shim": 1})) as house:
        await house.project("p")
        yield house


class Faulty(Shell):
    """An agent whose files are other than its adapter was made for."""

    name = "faulty"

    def find_session(self, start: Start, traces: Traces) -> str | None:
        raise RecursionError

    def succeeded(self, exit_code: int, *, tty: bool, output_tail: str) -> bool:
        raise RecursionError


def supervisor_of(house: House) -> Supervisor:
    assert house.daemon.supervisor is not None
    return house.daemon.supervisor


def shim_of(house: House, runner: Runner) -> ShimId:
    return runs.get(house.context.rows, f"{runner.id}.{runner.run}").shim


def pid_of(house: House, shim: ShimId) -> int:
    return int((house.paths.shim(shim) / "pid").read_text())


async def intend(house: House, runner_id: str, shim: ShimId, *causes: Cause) -> str:
    """The intent of a runner's first run, which nobody was told of, and what happened to it before it began."""
    now = house.context.clock.now()
    whose = {"name": runner_id, "project": "p", "agent": "shell"}
    columns: dict[str, Any] = {
        "id": runner_id, "name": runner_id, "agent": "shell", "desired": Desired.RUNNING, "restart_policy": "never",
        "max_restarts": 0, "tty": True, "terminal_rows": 24, "terminal_columns": 80, "extra_argv": ["true"],
        "cwd": "/", "stop_grace_seconds": 1.0, "alive": 1, "run": 1, "created_at": iso(now),
    }  # fmt: skip

    def insert(tx: Tx) -> str:
        project_id = int(projects.get_row(tx, "p")["id"])
        projects.take_slots(tx, project_id, 1, partial=False)
        runners.insert(tx, columns | {"project_id": project_id})
        key = runs.insert(tx, runner_id, 1, shim, whose, actor="test", now=now)
        for cause in causes:
            runs.advance(tx, runs.get(tx, key), cause, actor="test", now=now)
        return key

    return await house.context.database.write(insert)


async def smuggle(house: House, runner_id: str, script: str, *, shim: ShimId | None = None) -> ShimId:
    """A run that the database does not know, with a label that nobody can read."""
    if shim is None:
        [shim] = await house.context.shims.reserve(1)
    env = {MARKER: runner_id, "PATH": os.environ["PATH"]}
    argv = ["sh", "-c", script]
    await house.context.shims.spawn(shim, SpawnRequest(f"{runner_id}.1", "nonsense", argv, env, "/"))
    return shim


class TestPlaces:
    """A place in a shim is taken for a run, and free again when that will not be."""

    async def test_when_a_start_is_refused(self, narrow: House) -> None:
        runner = await narrow.running("p")
        narrow.paths.environment(runner.id).unlink()
        await narrow.ask("restart_runners", runner.id)
        await until(lambda: "runner.failed" in narrow.told(runner.id))
        await self.is_free(narrow, shim_of(narrow, await narrow.get(runner.id)))

    async def test_when_a_run_is_not_wanted_any_more(self, narrow: House) -> None:
        runner = await narrow.running("p")
        row = supervision.get_supervised(narrow.context.rows, runner.id)
        await narrow.ask("stop_runners", runner.id)
        await narrow.over(runner.id)
        await Spawning(narrow.context).begin_again(row)
        await self.is_free(narrow, shim_of(narrow, runner))

    async def test_when_the_intent_cannot_be_stored(self, narrow: House) -> None:
        runner = await narrow.running("p")
        row = supervision.get_supervised(narrow.context.rows, runner.id)
        await narrow.ask("stop_runners", runner.id)
        await narrow.over(runner.id)
        await narrow.ask("remove_runners", runner.id)
        with pytest.raises(Exception, match="there is no runner"):
            await Spawning(narrow.context).begin_again(row)
        await self.is_free(narrow, row.shim)

    async def test_when_it_was_stopped_before_it_started(self, narrow: House) -> None:
        [shim] = await narrow.context.shims.reserve(1)
        await intend(narrow, "early", shim, Cause.STOP_ASKED)
        supervisor_of(narrow).wake(["early"])
        assert (await narrow.over("early")).state == "terminated"
        await self.is_free(narrow, shim)

    async def test_when_it_was_stopped_while_it_waited_for_its_turn(
        self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr("stratavore.spawning._AT_ONCE", 1)
        async with living(tmp_path / "state", quick(shim={"runners_per_shim": 2})) as house:
            await house.project("p")
            [shim] = await house.context.shims.reserve(1)
            house.context.shims.release(shim)
            os.kill(pid_of(house, shim), signal.SIGSTOP)
            try:
                first, waiting = await house.launch("p"), await house.launch("p")
                await until(lambda: supervisor_of(house)._busy.keys() == {first.id, waiting.id})
                await house.ask("stop_runners", waiting.id)
            finally:
                os.kill(pid_of(house, shim), signal.SIGCONT)
            await house.reaches(first.id, "running")
            assert (await house.over(waiting.id)).state == "terminated"
            assert "runner.started" not in house.told(waiting.id)
            await self.is_free(house, shim)

    async def is_free(self, house: House, shim: ShimId) -> None:
        assert shim_of(house, await house.running("p")) == shim


class TestPastTheDatabase:
    """What a shim was told while no row could say so is what somebody wants."""

    async def test_a_pause_is_booked_later(self, house: House) -> None:
        await house.project("p")
        runner = await house.running("p")
        for told, state in ((house.context.shims.pause, "paused"), (house.context.shims.unpause, "running")):
            await told(f"{runner.id}.1")
            await house.ask("reconcile")
            found = await house.reaches(runner.id, state)
            assert (found.desired, found.pid) == (state, runner.pid)

    async def test_a_pause_of_a_runner_that_nobody_knows_is_taken_over(self, house: House) -> None:
        await house.project("p")
        runner = await house.running("p", "exec sleep 999")
        await house.ask("pause_runners", runner.id)
        await house.reaches(runner.id, "paused")
        await house.stop()
        for file in house.paths.state.glob("state.db*"):
            file.unlink()
        await house.start()
        found = await house.get(runner.id)
        assert (found.state, found.desired, found.pid) == ("paused", Desired.PAUSED, runner.pid)
        assert found.argv == ["sh", "-c", "exec sleep 999"]
        assert found.started_at is not None
        assert runner.started_at is not None
        assert found.started_at == runner.started_at

    async def test_an_end_is_booked_as_soon_as_the_database_is_back(self, house: House) -> None:
        await house.project("p")
        runner = await house.running("p")
        away = house.paths.state / "elsewhere.db"
        house.paths.database.rename(away)
        try:
            await house.ask("kill_runners", runner.id)
            await until(lambda: not is_alive(runner.pid))
            await until(lambda: supervisor_of(house)._ending.unbooked)
            await supervisor_of(house).settle()
        finally:
            away.rename(house.paths.database)
        await until(lambda: house.context.database.recheck().condition == "ok")
        assert (await house.over(runner.id)).state == "terminated"

    async def test_a_stop_calls_off_the_restart_that_was_asked_before(self, house: House) -> None:
        await house.project("p")
        runner = await house.running("p", "trap '' TERM; echo up; while :; do sleep 0.05; done")
        await house.says(runner, "up")
        await house.ask("restart_runners", runner.id)
        away = house.paths.state / "elsewhere.db"
        house.paths.database.rename(away)
        try:
            await house.ask("kill_runners", runner.id)
            await until(lambda: not is_alive(runner.pid))
        finally:
            away.rename(house.paths.database)
        await until(lambda: house.context.database.recheck().condition == "ok")
        await house.restart()
        ended = await house.over(runner.id)
        assert (ended.run, ended.desired, ended.state) == (1, Desired.STOPPED, "terminated")


class TestWhatCannotBeRead:
    """One runner that cannot be booked or looked at holds up no other, nor the start."""

    async def test_a_label_of_a_living_one(self, house: House, caplog: pytest.LogCaptureFixture) -> None:
        await house.project("p")
        runner = await house.running("p")
        await smuggle(house, "strange", "sleep 1000")
        await house.restart()
        assert "a runner that the database does not know cannot be adopted" in caplog.messages
        await house.ask("stop_runners", runner.id)
        assert (await house.over(runner.id)).state == "terminated"

    async def test_a_label_of_one_that_ended_in_a_shim_that_died(
        self, house: House, caplog: pytest.LogCaptureFixture
    ) -> None:
        await house.project("p")
        lost, ended = await house.running("p"), await house.running("p", "read line; exit 3")
        shim = shim_of(house, lost)
        await smuggle(house, "strange", "exit 0", shim=shim)
        await until(lambda: "an exit could not be booked" in caplog.messages)
        os.kill(pid_of(house, shim), signal.SIGKILL)
        assert (await house.over(lost.id)).state == "lost"
        assert (await house.over(ended.id)).state == "lost"
        assert house.paths.shim(shim).exists(), "what could not be booked is still there"

    async def test_a_label_of_a_known_one_that_ended(self, house: House, caplog: pytest.LogCaptureFixture) -> None:
        await house.project("p")
        [shim] = await house.context.shims.reserve(1)
        await smuggle(house, "strange", "read line; exit 0", shim=shim)
        await intend(house, "strange", shim)
        await house.ask("reconcile")
        assert (await house.reaches("strange", "running")).argv == []
        await house.context.shims.kill("strange.1", by="tester")
        assert (await house.over("strange")).state == "terminated"
        assert "what a run left could not be looked at" in caplog.messages

    async def test_what_an_agent_says(
        self, house: House, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
    ) -> None:
        """Its adapter fails: nobody says that it did well, and it has a heartbeat and an end all the same."""
        monkeypatch.setitem(cast("dict[str, Agent]", AGENTS), "faulty", Faulty())
        await house.project("p")
        runner, other = await house.running("p", "read line", agent="faulty"), await house.running("p")
        await Sampling(house.context).look()
        for each in (runner, other):
            assert (await house.get(each.id)).rss_bytes is not None
        assert "the files of an agent could not be looked at" in caplog.messages
        await house.context.shims.send(f"{runner.id}.1", [Part(b"\r")])
        ended = await house.over(runner.id)
        assert (ended.state, ended.exit_code) == ("failed", 0)
        assert "what a run left could not be looked at" in caplog.messages

    async def test_a_row(self, house: House, caplog: pytest.LogCaptureFixture) -> None:
        await house.project("p")
        broken, whole = await house.running("p"), await house.running("p")
        await house.wish("UPDATE runs SET argv = 'nonsense' WHERE runner_id = ?", broken.id)
        supervisor_of(house).wake([broken.id])
        await until(lambda: "a look at a runner failed" in caplog.messages)
        await house.wish("UPDATE runs SET argv = '[]' WHERE runner_id = ?", broken.id)
        await house.ask("stop_runners", f"{whole.id},{broken.id}")
        for runner in (whole, broken):
            assert (await house.over(runner.id)).state == "terminated"


class TestAProfileThatLeft:
    """The configuration does not name it any more."""

    async def test_its_runner_can_be_stopped_and_cannot_be_started(self, tmp_path: Path) -> None:
        mine = {"mine": {"agent": "shell"}}
        async with living(tmp_path / "state", quick(agents=mine)) as house:
            await house.project("p")
            stopped, again = [await house.running("p", agent="mine", restart_policy="always") for _ in range(2)]
            house.config = quick()
            await house.restart()
            await house.ask("stop_runners", stopped.id)
            assert (await house.over(stopped.id)).state == "terminated"
            await house.ask("restart_runners", again.id)
            ended = await house.over(again.id)
            assert ended.end_reason is EndReason.NOT_STARTED
            assert "no agent is called 'mine'" in (ended.end_detail or "")
            assert "runner.gave_up" in house.told(again.id)


class TestDeadShims:
    """Their runs are judged once, whenever that is found out."""

    async def test_a_run_that_was_to_begin_there_afterwards(self, narrow: House) -> None:
        runner = await narrow.running("p")
        shim = shim_of(narrow, runner)
        os.kill(pid_of(narrow, shim), signal.SIGKILL)
        await narrow.over(runner.id)
        await intend(narrow, "late", shim)
        supervisor_of(narrow).wake(["late"])
        assert (await narrow.over("late")).state == "lost"

    async def test_only_what_is_booked_lost_is_called_so(self, house: House) -> None:
        await house.project("p")
        await intend(house, "ghost", ShimId("deadbeef"))
        await house.wish(REFUSE)
        assert (await house.ask("reconcile")).lost == []
        await house.wish("DROP TRIGGER refuse")
        assert (await house.ask("reconcile")).lost == ["ghost"]
        assert (await house.get("ghost")).state == "lost"

    async def test_a_journal_that_cannot_be_read_is_read_again(
        self, narrow: House, caplog: pytest.LogCaptureFixture
    ) -> None:
        runner = await narrow.running("p")
        shim = shim_of(narrow, runner)
        journal = narrow.paths.shim(shim) / "journal"
        journal.rename(journal.with_name("kept"))
        journal.mkdir()
        os.kill(pid_of(narrow, shim), signal.SIGKILL)
        await until(lambda: "what a dead shim left cannot be read yet" in caplog.messages)
        assert (await narrow.get(runner.id)).state == "running"
        journal.rmdir()
        journal.with_name("kept").rename(journal)
        assert (await narrow.over(runner.id)).state == "lost"


class TestWhatFails:
    """It waits before it is tried again."""

    async def test_whatever_came_up_meanwhile_waits_too(
        self, tmp_path: Path, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(Link, "answer_seconds", 0.3)
        async with living(tmp_path / "state", quick(runners={"backoff_first": 100.0})) as house:
            await house.project("p")
            runner = await house.running("p")
            [shim] = house.pids("shims")
            os.kill(shim, signal.SIGSTOP)
            try:
                await house.ask("stop_runners", runner.id)
                await until(lambda: supervisor_of(house)._busy)
                supervisor_of(house).wake([runner.id])
                await until(lambda: "will retry" in caplog.messages)
                await supervisor_of(house).settle()
                assert caplog.messages.count("will retry") == 1
            finally:
                os.kill(shim, signal.SIGCONT)

    async def test_one_that_is_overtime_and_cannot_be_stopped_is_looked_at_once(self, house: House) -> None:
        """Its row says that it was stopped, which its run does not know of."""
        await house.project("p")
        runner = await house.running("p", max_seconds=1000.0)
        await house.wish("UPDATE runners SET desired = 'stopped', max_seconds = 0.001 WHERE id = ?", runner.id)
        supervisor = supervisor_of(house)
        supervisor.wake([runner.id])
        await asyncio.wait_for(supervisor.settle(), 5)
        assert (await house.get(runner.id)).state == "running"

    async def test_there_is_one_alarm_for_a_runner(self, house: House) -> None:
        """However often it is looked at: else each look would leave one, which brings the next look."""
        await house.project("p")
        runner = await house.running("p", max_seconds=1000.0)
        supervisor = supervisor_of(house)
        for _ in range(5):
            supervisor.wake([runner.id])
            await supervisor.settle()
            await house.ask("reconcile")
        assert list(supervisor._alarms) == [runner.id]
        supervisor.wake_after(2000.0, runner.id)
        first = supervisor._alarms[runner.id].when()
        supervisor.wake_after(500.0, runner.id)
        assert supervisor._alarms[runner.id].when() < first
        await house.ask("kill_runners", runner.id)
        await house.over(runner.id)
