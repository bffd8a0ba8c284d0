"""Where new shims come from: a zygote that cannot start, died or is silent, and what comes of it."""

import os
import signal
from pathlib import Path

import pytest

from stratavore.shims import ZygoteFailed
from stratavore.shims.link import Link
from tests.shim.harness import House, end, is_alive, until

FAILING = ("sh", "-c", "echo no room >&2; exit 3")


@pytest.fixture(autouse=True)
def _impatient(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("stratavore.shims.nursery._FIRST_PAUSE_SECONDS", 0.05)


@pytest.mark.parametrize(("launcher", "reason"), [(FAILING, "no room"), (("/no/such/program",), "No such file")])
async def test_without_a_zygote_the_daemon_lives_and_says_why_nothing_is_launched(
    tmp_path: Path, launcher: tuple[str, ...], reason: str
) -> None:
    async with House(tmp_path / "state", launcher=lambda zygote: launcher) as house:
        assert reason in (house.shims.problem or "")
        with pytest.raises(ZygoteFailed, match=reason):
            await house.shims.reserve(1)


async def test_a_zygote_is_tried_for_until_there_is_one(tmp_path: Path) -> None:
    works = tmp_path / "works"
    async with House(tmp_path / "state", launcher=lambda zygote: () if works.exists() else FAILING) as house:
        assert house.shims.problem is not None
        works.touch()
        await until(lambda: house.shims.problem is None)
        await house.run("a.1", "true")


async def test_one_that_died_is_replaced_although_the_first_try_fails(tmp_path: Path) -> None:
    broken = tmp_path / "broken"
    async with House(tmp_path / "state", launcher=lambda zygote: FAILING if broken.exists() else ()) as house:
        current = house.paths.current_zygote.read_text()
        broken.touch()
        [zygote] = house.pids("zygotes")
        end(zygote)
        await until(lambda: house.shims.problem is not None)
        broken.unlink()
        await until(lambda: house.paths.current_zygote.read_text() != current)


async def test_each_zygote_is_launched_under_its_own_id(tmp_path: Path) -> None:
    launched: list[str] = []

    def launcher(zygote: str) -> tuple[str, ...]:
        launched.append(zygote)
        return ()

    async with House(tmp_path / "state", launcher=launcher) as house:
        [zygote] = house.pids("zygotes")
        end(zygote)
        await until(lambda: house.paths.current_zygote.read_text().strip() == launched[-1] != launched[0])


async def test_a_silent_one_is_replaced_by_who_needs_it(house: House, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("stratavore.shims.nursery._ANSWER_SECONDS", 0.3)
    [silent] = house.pids("zygotes")
    current = house.paths.current_zygote.read_text()
    os.kill(silent, signal.SIGSTOP)
    monkeypatch.setattr(Link, "answer_seconds", 2.0)
    await house.run("a.1", "read x")
    assert house.paths.current_zygote.read_text() != current
    assert is_alive(silent)
    os.kill(silent, signal.SIGCONT)
    await house.run("b.1", "true")
    assert (await house.ended("b.1")).exit_code == 0


async def test_who_is_named_already_is_not_named_again(house: House) -> None:
    """On a full disk nothing could be written, and the zygote is as good as before."""
    before = house.paths.current_zygote.stat()
    await house.reopen()
    assert house.paths.current_zygote.stat().st_ino == before.st_ino
