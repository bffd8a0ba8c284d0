"""A shim that lives and does not answer, as a stopped one: what is asked meanwhile ends, and what it holds goes on."""

import asyncio
import contextlib
import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import pytest

from stratavore.errors import Degraded, TimedOut
from stratavore.model import Runner
from stratavore.shims import SpawnRequest
from stratavore.shims.link import Link
from stratavore.store import runs
from tests.house import House, is_alive, living, quick, until

LAUNCHER = Path(__file__).parent.parent / "stratavore.py"


@pytest.fixture
async def spread(tmp_path: Path) -> AsyncIterator[House]:
    """Each runner has a shim of its own."""
    async with living(tmp_path / "state", quick(shim={"runners_per_shim": 1})) as house:
        await house.project("p")
        yield house


@pytest.fixture
def _impatient(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Link, "answer_seconds", 0.3)


def shim_of(house: House, runner: Runner) -> str:
    return runs.get(house.context.rows, f"{runner.id}.{runner.run}").shim


@contextlib.contextmanager
def stopped(pid: int) -> Iterator[None]:
    """It does nothing until the end."""
    os.kill(pid, signal.SIGSTOP)
    try:
        yield
    finally:
        os.kill(pid, signal.SIGCONT)


def pid_of(house: House, shim: str) -> int:
    return int((house.paths.shim(shim) / "pid").read_text())


@pytest.mark.usefixtures("_impatient")
async def test_a_start_in_a_silent_shim_is_asked_for_again(house: House, caplog: pytest.LogCaptureFixture) -> None:
    await house.project("p")
    first = await house.running("p")
    shim = shim_of(house, first)
    with stopped(pid_of(house, shim)):
        runner = await house.launch("p")
        assert shim_of(house, runner) == shim
        await until(lambda: "will retry" in caplog.messages)
        assert (await house.get(runner.id)).state == "starting"
    found = await house.reaches(runner.id, "running")
    assert is_alive(found.pid)
    assert house.told(runner.id).count("runner.started") == 1


@pytest.mark.usefixtures("_impatient")
async def test_the_daemon_can_be_stopped_with_its_runners_although_a_shim_is_silent(
    spread: House, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("stratavore.upkeep._SETTLE_SECONDS", 0.5)
    held, free = await spread.running("p"), await spread.running("p")
    with stopped(pid_of(spread, shim_of(spread, held))):
        await asyncio.wait_for(spread.ask("stop_daemon", runners=True), 10)
        await until(lambda: not is_alive(free.pid))
        assert is_alive(held.pid)
    await spread.ended(held.id)


@pytest.mark.usefixtures("_impatient")
async def test_past_a_broken_database_a_silent_shim_holds_up_nobody(spread: House) -> None:
    held, free = await spread.running("p"), await spread.running("p")
    database, elsewhere = spread.paths.database, spread.paths.state / "elsewhere.db"
    database.rename(elsewhere)
    with stopped(pid_of(spread, shim_of(spread, held))):
        with pytest.raises(Degraded):
            await asyncio.wait_for(spread.ask("kill_runners", "*"), 10)
        await until(lambda: not is_alive(free.pid))
    elsewhere.rename(database)


async def test_a_rescue_reaches_the_others_and_names_the_silent(spread: House) -> None:
    held, free = await spread.running("p"), await spread.running("p")
    silent = shim_of(spread, held)
    with stopped(pid_of(spread, silent)):
        began = time.monotonic()
        done = await asyncio.to_thread(rescue, spread, "kill", "--all", "--json")
        assert time.monotonic() - began < 20
        assert done.returncode == TimedOut.exit_code
        assert [runner["id"] for runner in json.loads(done.stdout)] == [free.id]
        assert silent in done.stderr
        assert len(done.stderr.strip().splitlines()) == 1
        await spread.ended(free.id)
        assert is_alive(held.pid)
    done = await asyncio.to_thread(rescue, spread, "list", "--json")
    assert (done.returncode, [runner["id"] for runner in json.loads(done.stdout)]) == (0, [held.id])


async def test_a_rescue_shows_and_ends_what_has_a_label_that_nobody_can_read(house: House) -> None:
    [shim] = await house.context.shims.reserve(1)
    argv, env = ["sh", "-c", "exec sleep 1000"], {"PATH": os.environ["PATH"]}
    spawned = await house.context.shims.spawn(shim, SpawnRequest("strange.1", "nonsense", argv, env, "/"))
    done = await asyncio.to_thread(rescue, house, "list")
    assert "strange.1" in done.stdout
    assert str(spawned.pid) in done.stdout
    done = await asyncio.to_thread(rescue, house, "kill", "strange.1")
    assert done.returncode == 0, done.stderr
    await until(lambda: not is_alive(spawned.pid))


def rescue(house: House, *argv: str) -> "subprocess.CompletedProcess[str]":
    environment = {**os.environ, "STRATAVORE_HOME": str(house.paths.state)}
    command = [sys.executable, str(LAUNCHER), "rescue", *argv]
    return subprocess.run(command, capture_output=True, text=True, env=environment, timeout=60, check=False)
