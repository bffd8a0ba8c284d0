"""Memory and CPU over the quota of a project: an event when it begins, then what the project wants to happen."""

import os
import signal
from typing import Any

import pytest

from stratavore.model import Desired, EndReason, Event, Runner
from stratavore.sampling import Sampling
from stratavore.store import samples
from tests.house import House, is_alive

TELLING = "project.quota_exceeded"


@pytest.fixture
def sampling(house: House) -> Sampling:
    return Sampling(house.context)


async def crowd(house: House, action: str, **limits: Any) -> tuple[Runner, Runner]:
    """A small and a large runner of a project whose memory is limited to less than either uses."""
    await house.project("p", on_quota=action, **(limits or {"max_memory_bytes": 1}))
    small = await house.running("p", name="small", restart_policy="always")
    large = await house.running(
        "p", "sleep 1000 & sleep 1000 & sleep 1000 & echo up; wait", name="large", restart_policy="always"
    )
    await house.says(large, "up")
    return small, large


def told(house: House) -> list[Event]:
    return [event for event in house.events_of("p") if event.type == TELLING]


async def test_a_warning_is_told_once_until_it_fits_again(house: House, sampling: Sampling) -> None:
    small, large = await crowd(house, "warn")
    for _ in range(3):
        await sampling.look()
    [event] = told(house)
    assert (event.payload["resource"], event.payload["limit"], event.payload["action"]) == (
        "rss_bytes",
        1,
        "warn",
    )
    assert event.payload["used"] > 1
    assert event.payload["runner"] is None
    assert event.actor == "supervisor"
    for runner in (small, large):
        assert (await house.get(runner.id)).state == "running"
    await house.ask("edit_project", "p", max_memory_bytes=1 << 40)
    await sampling.look()
    await house.ask("edit_project", "p", max_memory_bytes=1)
    await sampling.look()
    assert len(told(house)) == 2


async def test_within_the_quota_nothing_happens(house: House, sampling: Sampling) -> None:
    small, large = await crowd(house, "stop", max_memory_bytes=1 << 40, max_cpu_percent=1e6)
    for _ in range(2):
        await sampling.look()
    assert told(house) == []
    assert is_alive(small.pid)
    assert is_alive(large.pid)


async def test_for_memory_the_largest_is_paused_and_then_a_person_decides(house: House, sampling: Sampling) -> None:
    """A paused process keeps its memory: to pause one after the other would stop them all and free nothing."""
    small, large = await crowd(house, "pause")
    await sampling.look()
    await house.reaches(large.id, "paused")
    for _ in range(3):
        await sampling.look()
    assert (await house.get(small.id)).state == "running"
    assert [event.payload["runner"] for event in told(house)] == ["large"]
    evidence = (await house.ask("explain_runner", large.id)).evidence
    assert any("its project uses" in piece.says for piece in evidence)
    [warning] = (await house.ask("status")).warnings
    assert warning.startswith("project p is over its quota")
    assert is_alive(large.pid)
    await house.ask("kill_runners", large.id)
    await house.over(large.id)
    await sampling.look()
    await house.reaches(small.id, "paused")


@pytest.mark.parametrize("action", ["pause", "stop"])
async def test_while_one_gives_way_the_others_are_left_alone(house: House, sampling: Sampling, action: str) -> None:
    """Its holder is silent, so that it does not come to an end."""
    small, _ = await crowd(house, action)
    [shim] = house.pids("shims")
    os.kill(shim, signal.SIGSTOP)
    try:
        for _ in range(3):
            await sampling.look()
        assert [event.payload["runner"] for event in told(house)] == ["large"]
        assert (await house.get(small.id)).desired is Desired.RUNNING
    finally:
        os.kill(shim, signal.SIGCONT)


async def test_what_was_not_seen_lately_counts_for_nothing(house: House, sampling: Sampling) -> None:
    _, large = await crowd(house, "stop", max_memory_bytes=1 << 40)
    await sampling.look()
    used = (await house.ask("status")).rss_bytes
    await house.wish("UPDATE samples SET seen_at = ? WHERE runner_id = ?", "2001-01-01T00:00:00.000Z", large.id)
    since = house.context.seen_since()
    [row] = samples.by_project(house.context.rows, since=since)
    assert 0 < row["rss_bytes"] < used
    assert (await house.ask("status")).rss_bytes == row["rss_bytes"]


async def test_the_largest_is_stopped_and_stays_down(house: House, sampling: Sampling) -> None:
    small, large = await crowd(house, "stop")
    await sampling.look()
    ended = await house.over(large.id)
    assert (ended.state, ended.end_reason, ended.desired) == ("terminated", EndReason.QUOTA, Desired.STOPPED)
    assert ended.run == 1
    assert not is_alive(large.pid)
    assert (await house.get(small.id)).state == "running"
    assert house.slots("p") == 1


async def test_when_it_fits_again_no_more_are_stopped(house: House, sampling: Sampling) -> None:
    small, large = await crowd(house, "stop", max_memory_bytes=1 << 40)
    await sampling.look()
    used = (await house.get(small.id)).rss_bytes
    assert used is not None
    await house.ask("edit_project", "p", max_memory_bytes=used + 200_000)
    await sampling.look()
    await house.over(large.id)
    await sampling.look()
    assert (await house.get(small.id)).state == "running"
    assert len(told(house)) == 1


async def test_the_cpu_has_a_quota_too(house: House, sampling: Sampling) -> None:
    await house.project("p", on_quota="pause", max_cpu_percent=1.0)
    quiet = await house.running("p", name="quiet")
    busy = await house.running("p", "echo up; while :; do :; done", name="busy")
    await house.says(busy, "up")
    await sampling.look()
    assert told(house) == [], "the first look knows no rate"
    before = len(house.events_of(busy.id))
    for _ in range(200):
        await sampling.look()
        if told(house):
            break
    await house.reaches(busy.id, "paused")
    assert told(house)[0].payload["resource"] == "cpu_percent"
    assert told(house)[0].payload["runner"] == "busy"
    assert (await house.get(quiet.id)).state == "running"
    news = [event.type for event in house.events_of(busy.id)[before:]]
    assert news == ["runner.held_to_quota", "runner.paused"]


async def test_another_projects_use_is_its_own(house: House, sampling: Sampling) -> None:
    _, large = await crowd(house, "stop", max_memory_bytes=1 << 40)
    await house.project("q", on_quota="stop", max_memory_bytes=1)
    other = await house.running("q")
    await sampling.look()
    assert (await house.over(other.id)).end_reason is EndReason.QUOTA
    assert (await house.get(large.id)).state == "running"


async def test_a_person_may_go_on_after_raising_the_quota(house: House, sampling: Sampling) -> None:
    small, large = await crowd(house, "pause")
    await sampling.look()
    await house.reaches(large.id, "paused")
    await house.ask("edit_project", "p", max_memory_bytes=None)
    await house.ask("unpause_runners", large.id)
    await house.reaches(large.id, "running")
    await sampling.look()
    assert (await house.get(large.id)).state == "running"
    assert (await house.get(small.id)).state == "running"
