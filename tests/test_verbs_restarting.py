"""Runs that follow runs: asked for by a person, or due after a failure."""

import os
import signal
from collections.abc import Awaitable, Callable
from pathlib import Path

import pytest

from stratavore.errors import Conflict, QuotaExceeded
from stratavore.model import Desired, EndReason, RunnerState
from tests.house import House, is_alive, living, quick, together, until

STUBBORN = "trap '' TERM; echo up; while :; do sleep 0.05; done"
SLOW = {"runners": {"backoff_first": 200.0, "backoff_max": 300.0}}
"""A pause that no test waits for."""


class TestAskedFor:
    """`restart`: the same runner, the same name and slot, another process."""

    @together
    @pytest.mark.parametrize("state", ["starting", "running", "paused"])
    async def test_while_it_lives(self, shared: House, state: str) -> None:
        runner = await shared.launch("p")
        if state == "paused":
            await shared.ask("pause_runners", runner.id)
        if state != "starting":
            await shared.reaches(runner.id, state)
        before, slots = await shared.get(runner.id), shared.slots("p")
        await shared.ask("restart_runners", runner.id)
        after = await shared.reaches(runner.id, "running", run=2)
        assert (after.id, after.name, after.restarts, after.desired) == (
            before.id, before.name, 1, Desired.RUNNING,
        )  # fmt: skip
        assert after.pid != before.pid
        assert not is_alive(before.pid)
        assert shared.slots("p") == slots
        first, _ = await shared.ask("list_runs", runner.id)
        assert (first.state, first.end_reason) == ("terminated", EndReason.STOPPED)

    @together
    async def test_after_its_end_it_takes_a_slot_again(self, shared: House) -> None:
        await shared.project("tight", max_runners=1)
        runner = await shared.launch("tight", "exit 3", name="again")
        await shared.over(runner.id)
        other = await shared.running("tight")
        with pytest.raises(QuotaExceeded):
            await shared.ask("restart_runners", runner.id)
        await shared.ask("kill_runners", other.id)
        await shared.over(other.id)
        await shared.ask("restart_runners", runner.id)
        await until(lambda: shared.told(runner.id).count("runner.failed") == 2)
        assert (await shared.over(runner.id)).run == 2
        assert shared.slots("tight") == 0

    @together
    async def test_not_when_its_name_has_gone_to_another(self, shared: House) -> None:
        runner = await shared.launch("p", "exit 0", name="taken")
        await shared.over(runner.id)
        await shared.running("p", name="taken")
        with pytest.raises(Conflict, match="another runner is called taken"):
            await shared.ask("restart_runners", runner.id)
        assert not shared.is_living(runner.id)

    @together
    async def test_what_a_person_stopped_a_person_may_start(self, shared: House) -> None:
        runner = await shared.running("p")
        await shared.ask("stop_runners", runner.id)
        await shared.over(runner.id)
        await shared.ask("restart_runners", runner.id)
        assert (await shared.reaches(runner.id, "running", run=2)).desired is Desired.RUNNING

    @together
    async def test_a_stop_calls_a_restart_off(self, shared: House) -> None:
        runner = await shared.running("p", STUBBORN, stop_grace_seconds=0.5)
        await shared.says(runner, "up")
        await shared.ask("restart_runners", runner.id)
        await shared.ask("stop_runners", runner.id)
        assert (await shared.over(runner.id)).run == 1

    @together
    @pytest.mark.parametrize("verb", ["pause_runners", "unpause_runners"])
    async def test_a_pause_does_not(self, shared: House, verb: str) -> None:
        runner = await shared.running("p", STUBBORN, stop_grace_seconds=0.5)
        await shared.says(runner, "up")
        await shared.ask("restart_runners", runner.id)
        await shared.ask(verb, runner.id)
        await shared.reaches(runner.id, "paused" if verb == "pause_runners" else "running", run=2)

    @together
    async def test_what_the_last_run_left_behind_is_ended_first(self, shared: House) -> None:
        runner = await shared.launch("p", "setsid sleep 1000 >/dev/null 2>&1 & echo pid $!; exit 0", tty=False)
        await shared.over(runner.id)
        left = int(shared.output(runner).split()[-1])
        assert is_alive(left)
        await shared.ask("restart_runners", runner.id)
        await until(lambda: shared.told(runner.id).count("runner.relaunched"))
        assert not is_alive(left)
        await shared.over(runner.id)

    @together
    async def test_a_lost_environment_is_named(self, shared: House) -> None:
        runner = await shared.running("p")
        shared.paths.environment(runner.id).unlink()
        await shared.ask("restart_runners", runner.id)
        await until(lambda: "runner.failed" in shared.told(runner.id))
        ended = await shared.over(runner.id)
        assert (ended.state, ended.end_reason) == (RunnerState.FAILED, EndReason.NOT_STARTED)
        assert str(shared.paths.environment(runner.id)) in (ended.end_detail or "")
        assert ended.pid is None

    async def test_the_environment_and_the_words_stay_the_same(self, house: House) -> None:
        await house.project("p")
        script = "echo [$NAMED] $(umask); exec sleep 1000"
        runner = await house.running("p", script, env={"NAMED": "n"}, umask=0o077)
        await house.says(runner, "[n] 0077")
        await house.restart()
        await house.ask("restart_runners", runner.id)
        again = await house.reaches(runner.id, "running", run=2)
        await house.says(again, "[n] 0077")
        assert again.argv == runner.argv

    async def test_the_conversation_goes_on(self, house: House, tmp_path: Path) -> None:
        """A stand-in of Claude: what matters is the words that it is started with."""
        program = tmp_path / "bin" / "claude"
        program.parent.mkdir()
        program.write_text("#!/bin/sh\nexec sleep 1000\n")
        program.chmod(0o755)
        await house.project("p", agent="claude")
        environment = {"PATH": f"{program.parent}:{os.environ['PATH']}", "HOME": str(tmp_path)}
        answer = await house.ask("launch", project="p", environment=environment, prompt="hello")
        runner = await house.reaches(answer.runners[0].id, "running")
        assert runner.session_id is not None
        assert runner.argv[1:3] == ["--session-id", runner.session_id]
        assert runner.argv[-2:] == ["--", "hello"]
        (tmp_path / ".claude/projects/x").mkdir(parents=True)
        (tmp_path / f".claude/projects/x/{runner.session_id}.jsonl").touch()
        await house.ask("restart_runners", runner.id)
        again = await house.reaches(runner.id, "running", run=2)
        assert (again.session_id, again.name) == (runner.session_id, runner.name)
        assert again.argv[1:3] == ["--resume", runner.session_id]
        assert "hello" not in again.argv


class TestByPolicy:
    """After a failure, with pauses, up to the breaker; over restarts of the daemon."""

    @together
    async def test_it_gives_up_once(self, shared: House) -> None:
        runner = await shared.launch("p", "exit 1", restart_policy="on-failure", max_restarts=2)
        ended = await shared.over(runner.id)
        assert (ended.state, ended.run, ended.restarts) == ("failed", 3, 2)
        told = shared.told(runner.id)
        assert told.count("runner.failed") == 3
        assert told.count("runner.backing_off") == 2
        assert told[-1] == "runner.gave_up"
        await shared.stays(lambda: shared.told(runner.id).count("runner.gave_up") == 1)

    @together
    async def test_success_is_the_end_of_it(self, shared: House, tmp_path: Path) -> None:
        mark = tmp_path / "second"
        script = f"test -e {mark} && exit 0; touch {mark}; exit 1"
        runner = await shared.launch("p", script, restart_policy="on-failure")
        ended = await shared.over(runner.id)
        assert (ended.state, ended.run, ended.exit_code) == ("terminated", 2, 0)

    @together
    async def test_always_is_after_a_success_too(self, shared: House) -> None:
        runner = await shared.launch("p", "exit 0", restart_policy="always", max_restarts=1)
        assert (await shared.over(runner.id)).run == 2

    @together
    async def test_what_cannot_start_waits_too(self, shared: House, tmp_path: Path) -> None:
        (tmp_path / "bad").write_text("#!/no/such/interpreter\n")
        (tmp_path / "bad").chmod(0o755)
        answer = await shared.ask(
            "launch", project="p", argv=[str(tmp_path / "bad")], restart_policy="on-failure", max_restarts=2
        )
        ended = await shared.over(answer.runners[0].id)
        assert (ended.run, ended.end_reason) == (3, EndReason.NOT_STARTED)

    async def test_healthy_runs_never_open_the_breaker(self, tmp_path: Path) -> None:
        async with living(tmp_path / "state", quick(runners={"healthy_after": 0.0})) as house:
            await house.project("p")
            runner = await house.launch("p", "exit 1", restart_policy="on-failure", max_restarts=1)
            await until(lambda: house.told(runner.id).count("runner.failed") >= 4)
            assert "runner.gave_up" not in house.told(runner.id)

    async def test_the_pause_outlives_the_daemon(self, tmp_path: Path) -> None:
        async with living(tmp_path / "state", quick(**SLOW)) as house:
            await house.project("p")
            runner = await house.launch("p", "exit 1", restart_policy="on-failure")
            waiting = await house.reaches(runner.id, "backoff")
            assert (waiting.pid, waiting.exit_code) == (None, 1)
            await house.restart()
            await house.stays(lambda: house.told(runner.id).count("runner.failed") == 1)
            again = await house.get(runner.id)
            assert (again.state, again.retry_at) == ("backoff", waiting.retry_at)
            assert house.slots("p") == 1
            # What the boot clock says decides, and it says now:
            await house.wish("UPDATE runners SET retry_at_boottime = 1.0")
            await house.restart()
            await until(lambda: house.told(runner.id).count("runner.failed") == 2)

    async def test_after_a_reboot_it_is_due_at_once(self, tmp_path: Path) -> None:
        async with living(tmp_path / "state", quick(**SLOW)) as house:
            await house.project("p")
            runner = await house.launch("p", "exit 1", restart_policy="on-failure")
            await house.reaches(runner.id, "backoff")
            await house.wish("UPDATE runners SET retry_boot_id = 'earlier-boot'")
            await house.restart()
            await until(lambda: house.told(runner.id).count("runner.failed") == 2)

    async def test_a_person_need_not_wait(self, tmp_path: Path) -> None:
        async with living(tmp_path / "state", quick(**SLOW)) as house:
            await house.project("p")
            runner = await house.launch("p", "exit 1", restart_policy="on-failure")
            await house.reaches(runner.id, "backoff")
            await house.ask("restart_runners", runner.id)
            await until(lambda: house.told(runner.id).count("runner.failed") == 2)
            assert (await house.get(runner.id)).restarts == 1

    async def test_a_stop_in_the_pause_ends_it_and_is_told(self, tmp_path: Path) -> None:
        async with living(tmp_path / "state", quick(**SLOW)) as house:
            await house.project("p")
            runner = await house.launch("p", "exit 1", restart_policy="on-failure")
            await house.reaches(runner.id, "backoff")
            [ended] = await house.ask("stop_runners", runner.id)
            assert (ended.state, ended.desired) == ("failed", Desired.STOPPED)
            assert house.told(runner.id)[-1] == "runner.retry_called_off"
            assert house.slots("p") == 0

    async def test_after_a_holders_death_it_is_started_again(self, house: House) -> None:
        await house.project("p")
        kept = await house.running("p", restart_policy="on-failure")
        left = await house.running("p")
        for pid in house.pids("shims"):
            os.kill(pid, signal.SIGKILL)
        again = await house.reaches(kept.id, "running", run=2)
        assert again.restarts == 1
        lost = await house.over(left.id)
        assert (lost.state, lost.end_reason, lost.exit_code) == ("lost", EndReason.SHIM_DIED, None)
        assert not is_alive(kept.pid)


async def test_a_daemon_that_ends_leaves_runners_alone(house: House) -> None:
    await house.project("p")
    runners = [await house.running("p", tty=tty) for tty in (True, False)]
    await house.stop()
    assert all(is_alive(runner.pid) for runner in runners)
    await house.start()
    for runner in runners:
        found = await house.get(runner.id)
        assert (found.state, found.pid, found.run) == ("running", runner.pid, 1)


async def test_what_ended_without_a_daemon_is_booked_with_its_code(house: House, tmp_path: Path) -> None:
    await house.project("p")
    script = f"while ! test -e {tmp_path}/go; do sleep 0.02; done; echo done; exit 7"
    runner = await house.running("p", script)
    await house.stop()
    (tmp_path / "go").touch()
    await until(lambda: not is_alive(runner.pid))
    await house.start()
    ended = await house.over(runner.id)
    assert (ended.state, ended.exit_code, ended.last_line) == ("failed", 7, "done")
    assert house.told(runner.id).count("runner.failed") == 1


class TestAdoption:
    """The database is gone, or older than the world."""

    async def test_runners_without_a_database_are_taken_in(self, house: House) -> None:
        await house.project("p", max_runners=2)
        runners = [await house.running("p", name=f"r{n}", restart_policy="on-failure") for n in range(2)]
        await forget_everything(house)
        for runner in runners:
            found = await house.get(runner.id)
            assert (found.state, found.pid, found.name, found.project) == (
                "running", runner.pid, runner.name, "p",
            )  # fmt: skip
            assert (found.cwd, found.restart_policy, found.session_id) == (
                runner.cwd, runner.restart_policy, runner.session_id,
            )  # fmt: skip
            assert house.told(runner.id) == ["runner.launched", "runner.adopted", "runner.started"]
        assert house.slots("p") == 2
        await house.ask("stop_runners", "*")
        for runner in runners:
            assert (await house.over(runner.id)).state == "terminated"
        assert house.slots("p") == 0

    async def test_over_quota_they_live_and_nothing_more_is_launched(self, house: House) -> None:
        await house.project("p", max_runners=1)
        runner = await house.running("p")
        await house.stop()
        await house.start()
        await house.wish("DELETE FROM runners")
        await house.wish("UPDATE projects SET live_runners = 0")
        other = await house.running("p")
        await house.ask("reconcile")
        assert house.slots("p") == 2
        assert {found.pid for found in await house.ask("list_runners")} == {runner.pid, other.pid}
        with pytest.raises(QuotaExceeded):
            await house.launch("p")

    async def test_an_end_that_no_database_saw_is_booked(self, house: House, tmp_path: Path) -> None:
        await house.project("p")
        script = f"while ! test -e {tmp_path}/go; do sleep 0.02; done; exit 7"
        runner = await house.running("p", script)

        async def end() -> None:
            (tmp_path / "go").touch()
            await until(lambda: not is_alive(runner.pid))

        await forget_everything(house, meanwhile=end)
        ended = await house.over(runner.id)
        assert (ended.state, ended.exit_code) == ("failed", 7)
        assert house.slots("p") == 0

    async def test_what_was_lost_is_told_as_lost(self, house: House) -> None:
        """The row says running, the shim knows nothing of it: no code is made up."""
        await house.project("p")
        runner = await house.running("p")
        await house.wish("UPDATE runners SET run = 2")
        await house.wish("UPDATE runs SET key = ?, number = 2", f"{runner.id}.2")
        await house.wish(
            "INSERT INTO runs (key, runner_id, number, shim, state, created_at, ended_at, end_reason)"
            " SELECT ?, runner_id, 1, shim, 'failed', created_at, created_at, 'exited' FROM runs",
            f"{runner.id}.1",
        )
        report = await house.ask("reconcile")
        assert report.lost == [runner.name]
        lost = await house.over(runner.id)
        assert (lost.state, lost.exit_code, lost.exit_signal) == ("lost", None, None)
        assert lost.end_reason is EndReason.VANISHED
        assert not is_alive(runner.pid), "a second copy could be started beside it"


async def forget_everything(house: House, *, meanwhile: Callable[[], Awaitable[None]] | None = None) -> None:
    """The next daemon begins with an empty database."""
    await house.stop()
    for file in house.paths.state.glob("state.db*"):
        file.unlink()
    if meanwhile is not None:
        await meanwhile()
    await house.start()
