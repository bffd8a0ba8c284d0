"""The verb `launch`: what runs afterwards, and that a refusal leaves nothing half-made."""

import asyncio
import os
import signal
import stat
from pathlib import Path
from typing import Any

import pytest

from stratavore.errors import Conflict, Invalid, NotFound, QuotaExceeded, RunnerFailed, StratavoreError
from stratavore.model import EndReason, Runner, RunnerState
from tests.house import House, is_alive, living, names_of, quick, together, until


async def nothing_is_left(house: House, project: str) -> None:
    """No row, no slot, no directory, no log and no place in a shim of a launch that was refused."""
    assert house.slots(project) == 0
    assert await house.ask("list_runners", project=project, all=True) == []
    known = {row["id"] for row in house.context.rows.all("SELECT id FROM runners")}
    assert {path.name for path in house.paths.environments.iterdir()} <= known


@together
async def test_a_launch_is_a_process_in_the_directory_of_its_project(shared: House, tmp_path: Path) -> None:
    await shared.project("where", tmp_path)
    runner = await shared.running("where", "pwd; exec sleep 1000")
    assert is_alive(runner.pid)
    assert (runner.name, runner.project, runner.agent, runner.cwd) == (
        "where-1",
        "where",
        "shell",
        str(tmp_path),
    )
    assert (runner.run, runner.restarts, runner.exit_code, runner.ended_at) == (1, 0, None, None)
    assert runner.started_at is not None
    await shared.says(runner, str(tmp_path))
    assert shared.told(runner.id) == ["runner.launched", "runner.started"]
    assert shared.events_of(runner.id)[0].actor == f"cli uid={os.getuid()} pid={os.getpid()}"


@together
@pytest.mark.parametrize(
    ("script", "state", "code", "number", "reason"),
    [
        ("exit 0", "terminated", 0, None, "exited"),
        ("exit 3", "failed", 3, None, "exited"),
        ("exit 255", "failed", 255, None, "exited"),
        ("kill -SEGV $$", "failed", None, signal.SIGSEGV, "signaled"),
        ("kill -KILL $$", "failed", None, signal.SIGKILL, "signaled"),
        ("kill -TERM $$", "failed", None, signal.SIGTERM, "signaled"),
    ],
)
@pytest.mark.parametrize("tty", [True, False])
async def test_its_end_is_told_as_it_was(
    shared: House, script: str, state: str, code: int | None, number: int | None, reason: str, tty: bool
) -> None:
    runner = await shared.launch("p", f"echo the last words; {script}", tty=tty)
    runner = await shared.over(runner.id)
    assert (runner.state, runner.exit_code, runner.exit_signal, runner.end_reason) == (
        state, code, number, reason,
    )  # fmt: skip
    assert (runner.pid, runner.last_line) == (None, "the last words")
    assert runner.output_bytes == len(shared.output(runner))
    assert runner.argv == ["sh", "-c", f"echo the last words; {script}"]


@together
async def test_the_shortest_lives_are_told_whole(shared: House) -> None:
    """Their ends race with what is written down of their beginnings."""
    launched = await shared.launch_all("p", "exit 7", count=20)
    for runner in launched.runners:
        ended = await shared.over(runner.id)
        assert (ended.state, ended.exit_code, ended.argv) == ("failed", 7, ["sh", "-c", "exit 7"])
        assert shared.told(runner.id) == ["runner.launched", "runner.started", "runner.failed"]


@together
async def test_by_itself_it_has_a_name_of_its_own(shared: House) -> None:
    await shared.project("named")
    assert names_of((await shared.launch_all("named", count=2)).runners) == ["named-1", "named-2"]
    assert (await shared.launch("named")).name == "named-3"
    assert (await shared.launch("named", name="mine")).name == "mine"
    with pytest.raises(Conflict, match="a runner called mine lives"):
        await shared.launch("named", name="mine")
    assert shared.slots("named") == 4


@together
async def test_several_share_a_stem(shared: House) -> None:
    launched = await shared.launch_all("p", name="stem", count=3)
    assert names_of(launched.runners) == ["stem-1", "stem-2", "stem-3"]
    before = shared.slots("p")
    with pytest.raises(Conflict, match="a runner called stem-1 lives"):
        await shared.launch_all("p", name="stem", count=2)
    assert shared.slots("p") == before


class TestQuota:
    """All or none, or what fits."""

    @together
    async def test_all_or_none(self, shared: House) -> None:
        await shared.project("all", max_runners=3)
        with pytest.raises(QuotaExceeded, match="all may have 3 runners and has 0; 4 more do not fit"):
            await shared.launch_all("all", count=4)
        await nothing_is_left(shared, "all")
        assert len((await shared.launch_all("all", count=3)).runners) == 3

    @together
    async def test_as_many_as_fit(self, shared: House) -> None:
        await shared.project("some", max_runners=3)
        await shared.launch("some")
        launched = await shared.launch_all("some", count=10, partial=True)
        assert (len(launched.runners), launched.refused) == (2, 8)
        with pytest.raises(QuotaExceeded):
            await shared.launch_all("some", count=1, partial=True)
        assert shared.slots("some") == 3
        for runner in launched.runners:
            await shared.reaches(runner.id, "running")

    @together
    async def test_at_once_exactly_the_quota(self, shared: House) -> None:
        await shared.project("race", max_runners=10)
        answers = await asyncio.gather(*(shared.launch("race") for _ in range(50)), return_exceptions=True)
        assert sum(isinstance(answer, Runner) for answer in answers) == 10
        assert sum(isinstance(answer, QuotaExceeded) for answer in answers) == 40
        assert len(await shared.ask("list_runners", project="race")) == shared.slots("race") == 10

    @together
    async def test_an_end_gives_its_slot_back(self, shared: House) -> None:
        await shared.project("one", max_runners=1)
        for script in ("exit 0", "exit 3", "kill -9 $$"):
            runner = await shared.launch("one", script)
            await shared.over(runner.id)
            assert shared.slots("one") == 0

    async def test_what_was_refused_takes_no_place_in_a_shim(self, tmp_path: Path) -> None:
        """Else every refusal would leave the shims fuller, until each launch needs a new one."""
        async with living(tmp_path / "state", quick(shim={"runners_per_shim": 4})) as house:
            await house.project("p")
            await house.running("p")
            await house.ask("edit_project", "p", max_runners=2)
            await house.project("away")
            await house.ask("edit_project", "away", archived=True)
            for _ in range(10):
                with pytest.raises(Conflict):
                    await house.launch("away")
                launched = await house.launch_all("p", "exit 0", count=3, partial=True)
                assert launched.refused == 2
                await house.over(launched.runners[0].id)
            assert len(house.pids("shims")) == 1


class TestRefusals:
    """One clear line with its remedy, the quota given back, nothing half-made."""

    @together
    @pytest.mark.parametrize(
        ("fields", "error", "complaint"),
        [
            ({"argv": ["no-such-program"]}, RunnerFailed, "the program 'no-such-program' of agent shell"),
            ({"argv": ["./missing"]}, RunnerFailed, "missing"),
            ({"argv": ["/etc/passwd"]}, RunnerFailed, "/etc/passwd"),
            ({"argv": [""]}, RunnerFailed, "''"),
            ({"agent": "ghost"}, NotFound, "no agent is called 'ghost'"),
            ({"prompt": "hello"}, Invalid, "takes no prompt"),
            ({"argv": [], "tty": False}, Invalid, "nothing to do"),
            ({"env": {"A=B": "x"}}, Invalid, "cannot be the name of a variable"),
            ({"env": {"A": "x\0y"}}, Invalid, "NUL"),
        ],
    )
    async def test_before_anything_was_stored(
        self, shared: House, fields: dict[str, Any], error: type[StratavoreError], complaint: str
    ) -> None:
        if "refused" not in [project.name for project in await shared.ask("list_projects")]:
            await shared.project("refused")
        with pytest.raises(error, match=complaint) as caught:
            await shared.launch("refused", **fields)
        assert "\n" not in caught.value.message
        assert caught.value.remedy
        await nothing_is_left(shared, "refused")

    @together
    async def test_a_project_that_is_not_there(self, shared: House) -> None:
        with pytest.raises(NotFound, match="no project is called ghost"):
            await shared.launch("ghost")

    @together
    async def test_a_directory_that_has_gone(self, shared: House, tmp_path: Path) -> None:
        (tmp_path / "gone").mkdir()
        await shared.project("gone", tmp_path / "gone")
        (tmp_path / "gone").rmdir()
        with pytest.raises(Invalid, match="is not a directory"):
            await shared.launch("gone")
        await nothing_is_left(shared, "gone")

    @together
    @pytest.mark.parametrize(
        ("fields", "detail"),
        [
            ({"argv": ["true", "a\0b"]}, "Invalid argument"),
            ({"argv": ["true", "x" * (1 << 18)]}, "rgument"),
            ({"argv": ["DIR/no-interpreter"]}, "No such file"),
        ],
    )
    async def test_a_program_that_the_kernel_refuses_has_failed_to_start(
        self, shared: House, fields: dict[str, Any], detail: str, tmp_path: Path
    ) -> None:
        (tmp_path / "no-interpreter").write_text("#!/no/such/interpreter\n")
        (tmp_path / "no-interpreter").chmod(0o755)
        name = tmp_path.name[-40:]
        await shared.project(name, tmp_path)
        argv = [word.replace("DIR", str(tmp_path)) for word in fields["argv"]]
        launched = await shared.ask("launch", project=name, argv=argv)
        runner = await shared.over(launched.runners[0].id)
        assert (runner.state, runner.end_reason, runner.pid) == ("failed", EndReason.NOT_STARTED, None)
        assert detail in (runner.end_detail or "")
        assert shared.slots(name) == 0

    async def test_no_holder_can_be_made(self, tmp_path: Path) -> None:
        async with living(tmp_path / "state") as house:
            await house.project("p")
            house.paths.shims.rename(house.paths.state / "elsewhere")
            house.paths.shims.write_text("in the way")
            with pytest.raises(RunnerFailed, match="nothing can be made to hold it") as caught:
                await house.launch("p")
            assert "ulimit" in caught.value.remedy
            await nothing_is_left(house, "p")
            house.paths.shims.unlink()
            (house.paths.state / "elsewhere").rename(house.paths.shims)
            await house.running("p")

    async def test_no_file_can_be_written(self, tmp_path: Path) -> None:
        """A full disk shows itself here first."""
        async with living(tmp_path / "state") as house:
            await house.project("p")
            house.paths.environments.rmdir()
            house.paths.environments.write_text("in the way")
            with pytest.raises(StratavoreError) as caught:
                await house.launch_all("p", count=2)
            assert caught.value.remedy
            house.paths.environments.unlink()
            house.paths.environments.mkdir()
            await nothing_is_left(house, "p")
            await house.running("p")


class TestEnvironment:
    """What a runner sees, and where that is kept."""

    @together
    async def test_it_passes_the_filter_and_what_was_named_passes_anyhow(self, shared: House) -> None:
        caller = {"PATH": os.environ["PATH"], "LANG": "C.UTF-8", "SECRET_OF_MINE": "s", "CLAUDECODE": "1"}
        script = "echo [$LANG] [$SECRET_OF_MINE] [$CLAUDECODE] [$NAMED] [$HOME]; echo end"
        runner = await shared.launch("p", script, environment=caller, env={"NAMED": "n"})
        await shared.says(runner, "end")
        assert b"[C.UTF-8] [] [] [n] [/" in shared.output(runner)

    @together
    async def test_it_is_a_file_of_its_own_and_nowhere_else(self, shared: House) -> None:
        runner = await shared.running("p", env={"MY_TOKEN": "very-secret-value"})
        file = shared.paths.environment(runner.id)
        assert stat.S_IMODE(file.stat().st_mode) == 0o600
        assert "very-secret-value" in file.read_text()
        others = [path for path in shared.paths.state.rglob("*") if path.is_file() and path != file]
        assert [path for path in others if b"very-secret-value" in path.read_bytes()] == []

    @together
    @pytest.mark.parametrize(("umask", "mode"), [(0o077, 0o600), (0o002, 0o664), (None, 0o644)])
    async def test_the_umask_is_the_callers(self, shared: House, umask: int | None, mode: int) -> None:
        runner = await shared.launch("p", f"touch made-{mode}", umask=umask)
        ended = await shared.over(runner.id)
        assert stat.S_IMODE((Path(ended.cwd) / f"made-{mode}").stat().st_mode) == mode

    @together
    async def test_a_terminal_has_the_size_that_was_asked_for(self, shared: House) -> None:
        runner = await shared.launch("p", "stty size", rows=50, columns=132)
        await shared.says(runner, "50 132")
        headless = await shared.launch("p", "test -t 0 || echo none; read line || echo nothing", tty=False)
        await shared.says(headless, "none\nnothing")


@together
async def test_a_dry_run_tells_all_and_does_nothing(shared: House) -> None:
    await shared.project("dry", max_runners=3)
    plan = await shared.plan("dry", argv=["true", "x"], env={"MY_TOKEN": "secret", "PLAIN": "p"})
    assert (plan.argv, plan.slots_left) == (["true", "x"], 3)
    assert (plan.environment["MY_TOKEN"], plan.environment["PLAIN"]) == ("***", "p")
    await nothing_is_left(shared, "dry")
    with pytest.raises(RunnerFailed):
        await shared.plan("dry", argv=["no-such-program"])


@together
async def test_its_time_is_limited(shared: House) -> None:
    runner = await shared.running("p", max_seconds=0.3, restart_policy="always")
    ended = await shared.over(runner.id)
    assert (ended.state, ended.end_reason) == (RunnerState.TERMINATED, EndReason.MAX_TIME)
    assert ended.restarts == 0
    assert not is_alive(runner.pid)


@together
async def test_a_launch_may_be_large(shared: House) -> None:
    launched = await shared.launch_all("p", count=100)
    ids = ",".join(runner.id for runner in launched.runners)
    found = await shared.ask("list_runners", runner=ids, until="running", wait_seconds=20.0)
    assert {runner.state for runner in found} == {RunnerState.RUNNING}
    assert len({runner.pid for runner in found}) == 100
    await shared.ask("kill_runners", ids)
    await until(lambda: not any(shared.is_living(runner.id) for runner in launched.runners))
