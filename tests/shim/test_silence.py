"""Holders that live and do not answer: nobody waits for them for ever, and nothing is lost of what they hold."""

import asyncio
import os
import resource
import signal
from contextlib import ExitStack, suppress

import pytest

from stratavore.model import ShimId
from stratavore.shim.client import reach
from stratavore.shims import ShimGone, Shims, Signal
from stratavore.shims.link import Link
from tests.shim.harness import House, is_alive, request, until


async def test_a_silent_shim_is_flagged_and_recovers(house: House, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("stratavore.shims.fleet._PING_SECONDS", 0.2)
    monkeypatch.setattr("stratavore.shims.meeting._SILENT_SECONDS", 0.5)
    await house.reopen()
    await house.run("a.1", "read x")
    shim, pid = house.places["a.1"], house.shim_pid("a.1")
    os.kill(pid, signal.SIGSTOP)
    await until(lambda: house.health == [(shim, "unresponsive")])
    assert await asyncio.wait_for(house.holdings(), 1) == {}
    assert not house.shims.is_gone(shim)
    assert (await house.shims.reserve(1)) != [shim]
    os.kill(pid, signal.SIGCONT)
    await until(lambda: house.health[-1] == (shim, "ok"))
    assert set(await house.holdings()) == {"a.1"}


async def test_a_shim_that_takes_no_connection_holds_up_no_start(house: House) -> None:
    """As when it is silent, and so many have knocked that its door takes no more."""
    await house.run("a.1", "read x")
    shim, pid = house.places["a.1"], house.shim_pid("a.1")
    os.kill(pid, signal.SIGSTOP)
    with ExitStack() as crowd:
        with suppress(BlockingIOError):
            while True:
                crowd.enter_context(reach(house.paths.shim(shim), timeout_seconds=0))
        await asyncio.wait_for(house.reopen(), 10)
        assert house.shims.health() == {shim: "unresponsive"}
        os.kill(pid, signal.SIGCONT)
    await until(lambda: house.shims.health() == {shim: "ok"})
    assert set(await house.holdings()) == {"a.1"}


async def test_a_shim_that_is_lost_while_there_are_no_descriptors_is_met_later(house: House) -> None:
    await house.run("a.1", "read x")
    shim = house.places["a.1"]
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (3, hard))
    try:
        disconnect(house.shims, shim)
        await until(lambda: house.health == [(shim, "unresponsive")])
        for _ in range(10):
            await asyncio.sleep(0)
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
    await until(lambda: house.health[-1] == (shim, "ok"))
    assert set(await house.holdings()) == {"a.1"}


async def test_a_shim_whose_connection_is_lost_and_that_is_silent_is_flagged_at_once(house: House) -> None:
    await house.run("a.1", "read x")
    shim, pid = house.places["a.1"], house.shim_pid("a.1")
    os.kill(pid, signal.SIGSTOP)
    disconnect(house.shims, shim)
    await until(lambda: house.shims.health() == {shim: "unresponsive"}, seconds=2)
    os.kill(pid, signal.SIGCONT)
    await until(lambda: house.shims.health() == {shim: "ok"})


def disconnect(shims: Shims, shim: ShimId) -> None:
    """As if the connection broke."""
    transport = shims._met.shims[shim].linked()._transport
    assert transport is not None
    transport.abort()


async def test_a_shim_that_was_not_met_counts_among_the_holders(house: House) -> None:
    other = await house.open()
    [shim] = await other.reserve(1)
    assert house.shims.health() == {}
    assert house.shims.pids() == {int((house.paths.shim(shim) / "pid").read_text())}


async def test_a_request_to_a_silent_shim_ends_and_may_be_made_again(
    house: House, monkeypatch: pytest.MonkeyPatch
) -> None:
    [shim] = await house.shims.reserve(1)
    spawned = await house.spawn(request("a.1", "read x"), shim)
    pid = house.shim_pid("a.1")
    monkeypatch.setattr(Link, "answer_seconds", 0.2)
    os.kill(pid, signal.SIGSTOP)
    asked = [
        house.spawn(request("b.1", "read x"), shim),
        house.shims.stop("a.1", [Signal("TERM", 0.0)], 5.0, by="tester"),
        house.shims.pause("a.1"),
        house.shims.send("a.1", []),
    ]
    answers = await asyncio.wait_for(asyncio.gather(*asked, return_exceptions=True), 10)
    assert [type(answer) for answer in answers] == [ShimGone] * 4
    assert not house.shims.is_gone(shim)
    assert is_alive(spawned.pid)
    monkeypatch.undo()
    os.kill(pid, signal.SIGCONT)
    again = await house.spawn(request("b.1", "read x"), shim)
    assert set(await house.holdings()) >= {"b.1"}
    assert (await house.spawn(request("b.1", "read x"), shim)).pid == again.pid
    assert (await house.ended("a.1")).stop_by == "tester"
