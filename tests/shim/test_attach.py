"""Watching and typing: roles, takeover, sizes, atomic sends, slow and dead clients."""

import asyncio
import os
import resource
import socket
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from stratavore.shim.client import OBSERVER, WRITER, Connection, Json, Refused, reach
from stratavore.shim.wire import CONTROL, INPUT, Decoder, control, frame
from stratavore.shims import Part
from tests.shim.harness import House, at_once, is_alive, until

Attach = Callable[..., tuple[Connection, Json]]


@pytest.fixture
def attach(house: House) -> Iterator[Attach]:
    """Attach to a run: the connection, and what the shim said."""
    opened = []

    def act(key: str, role: str = WRITER, rows: int = 24, cols: int = 80, **fields: bool) -> tuple[Connection, Json]:
        connection = house.connect(key)
        opened.append(connection)
        return connection, connection.attach(key, role=role, rows=rows, cols=cols, **fields)

    yield act
    for connection in opened:
        connection.close()


async def test_a_writer_types_and_sees_and_is_told_the_end(house: House, attach: Attach) -> None:
    await house.run("a.1", "read x; echo got $x; exit 5")
    writer, said = attach("a.1")
    assert (said["ended"], said["rows"], said["cols"]) == (None, 24, 80)
    writer.input(b"hello\r")
    await house.ended("a.1")
    events = await received(writer, lambda event: event["event"] == "exited")
    assert events[-1]["record"]["exit_code"] == 5
    assert {event["event"] for event in events} <= {"grown", "exited"}
    assert b"got hello" in house.output("a.1")


async def test_there_is_one_writer_until_somebody_takes_over(house: House, attach: Attach) -> None:
    await house.run("a.1", "while read x; do echo got $x; stty size; done")
    first, _ = attach("a.1", rows=20, cols=70)
    with pytest.raises(Refused, match=str(os.getpid())) as refused:
        attach("a.1")
    assert (refused.value.code, refused.value.detail["pid"]) == ("busy", os.getpid())
    second, _ = attach("a.1", rows=30, cols=90, takeover=True)
    [taken] = await received(first, lambda event: event["event"] == "taken")
    assert (taken["key"], taken["pid"]) == ("a.1", os.getpid())
    first.input(b"lost\r")
    first.resize("a.1", 11, 11)
    second.input(b"kept\r")
    await house.says("a.1", "30 90")
    assert b"lost" not in house.output("a.1")
    second.close()
    third, _ = attach("a.1", rows=40, cols=100)
    third.input(b"again\r")
    await house.says("a.1", "40 100")


async def test_an_observer_neither_types_nor_resizes(house: House, attach: Attach) -> None:
    await house.run("a.1", "stty size; read x; echo got $x; stty size", rows=25, cols=85)
    await house.says("a.1", "25 85")
    observer, _ = attach("a.1", OBSERVER, rows=50, cols=150)
    attach("a.1", OBSERVER)
    writer, _ = attach("a.1", rows=26, cols=86)
    observer.input(b"no\r")
    writer.input(b"yes\r")
    await house.ended("a.1")
    assert house.output("a.1").split() == b"25 85 yes got yes 26 86".split()


async def test_an_equal_size_makes_the_program_paint_again(house: House, attach: Attach) -> None:
    await house.run("a.1", "trap 'stty size' WINCH; echo up; sleep 1000 & while :; do wait; done", rows=24, cols=80)
    await house.says("a.1", "up")
    attach("a.1", rows=24, cols=80)
    await house.says("a.1", "24 80")


async def test_a_resize_of_the_daemon_waits_for_the_writer_to_leave(house: House, attach: Attach) -> None:
    await house.run("a.1", "trap 'stty size' WINCH; echo up; while :; do sleep 0.05; done")
    await house.says("a.1", "up")
    await house.shims.resize("a.1", 31, 91)
    await house.says("a.1", "31 91")
    attach("a.1")
    with pytest.raises(Refused) as refused:
        await house.shims.resize("a.1", 32, 92)
    assert refused.value.code == "busy"


async def test_growth_is_told_once_until_it_was_read(house: House, attach: Attach) -> None:
    """And then its newest size: a client that sleeps costs nothing and misses nothing."""
    await house.run("a.1", "for i in 1 2 3 4 5 6 7 8; do echo $i; sleep 0.02; done; read x; echo more; read x")
    observer, _ = attach("a.1", OBSERVER)
    await house.says("a.1", "8")
    await asyncio.sleep(0.1)
    first = observer.receive()
    assert [event["event"] for event in first] == ["grown"]
    size = (await received(observer, lambda event: event["size"] == len(house.output("a.1"))))[-1]["size"]
    await house.shims.send("a.1", [Part(b"\r")])
    await house.says("a.1", "more")
    await received(observer, lambda event: event["size"] > size)


async def test_a_send_is_atomic_and_takes_no_seat(house: House, attach: Attach) -> None:
    await house.run("a.1", "stty raw -echo; echo up; head -c 13; echo; exit 2")
    await house.says("a.1", "up")
    writer, _ = attach("a.1")
    sending = asyncio.ensure_future(house.shims.send("a.1", [Part(b"one ", 0.3), Part(b"two ", 0.1)]))
    await asyncio.sleep(0.1)
    writer.input(b"three")  # waits behind the pause
    began = time.monotonic()
    await sending
    assert time.monotonic() - began > 0.1
    assert (await house.ended("a.1")).exit_code == 2
    assert b"one two three" in house.output("a.1")


async def test_a_send_to_what_cannot_take_it_is_refused(house: House) -> None:
    await house.run("pipe.1", "sleep 1000", tty=False)
    await house.run("deaf.1", "stty raw -echo; echo up; sleep 1000")
    await house.says("deaf.1", "up")
    with pytest.raises(Refused, match="no terminal"):
        await house.shims.send("pipe.1", [Part(b"x")])
    stuck = asyncio.ensure_future(house.shims.send("deaf.1", [Part(b"x" * 600_000)]))
    await asyncio.sleep(0)
    with pytest.raises(Refused) as refused:
        await house.shims.send("deaf.1", [Part(b"x" * 600_000)])
    assert refused.value.code == "input_full"
    await house.shims.kill("deaf.1", by="tester")  # the shim is not held up by it
    with pytest.raises(Refused) as refused:
        await asyncio.wait_for(stuck, 5)
    assert refused.value.code == "ended"


async def test_a_writer_that_types_faster_than_the_program_reads_is_held_back(house: House, attach: Attach) -> None:
    await house.run("a.1", f"stty raw -echo; echo up; sleep 0.5; head -c {3 << 20} | wc -c")
    await house.says("a.1", "up")
    writer, _ = attach("a.1")
    total = 3 << 20
    for _ in range(total // 65536):
        await asyncio.to_thread(writer.input, b"x" * 65536)
    writer.resize("a.1", 33, 99)
    await house.ended("a.1")
    assert f"{total}".encode() in house.output("a.1")


async def test_a_client_that_never_reads_costs_nobody_anything(house: House) -> None:
    await house.run("a.1", "i=0; while [ $i -lt 3000 ]; do echo $i; i=$((i+1)); done; exit 6")
    directory = house.paths.shim(house.places["a.1"])
    slow = reach(directory)
    slow.sendall(control({"op": "hello", "id": 1, "versions": [1]}))
    for number in range(2, 300):
        slow.sendall(control({"op": "attach", "id": number, "key": "a.1", "role": "observer"}))
    assert (await house.ended("a.1")).exit_code == 6
    assert len(await house.holdings()) == 1
    slow.close()


async def test_a_client_that_only_asks_is_dropped(house: House) -> None:
    """Eight megabytes of answers wait for it, and no more."""
    await house.run("a.1", "read x")
    greedy = reach(house.paths.shim(house.places["a.1"]))
    with pytest.raises(ConnectionError):
        greedy.sendall(b"".join(control({"op": "x" * 500_000, "id": number}) for number in range(40)))
    assert set(await house.holdings()) == {"a.1"}
    greedy.close()


async def test_a_client_that_only_asks_for_long_answers_is_served_when_it_reads(house: House) -> None:
    await house.run("a.1", "read x", label="x" * 500_000)
    greedy = reach(house.paths.shim(house.places["a.1"]))
    greedy.sendall(control({"op": "hello", "id": 0, "versions": [1]}))
    greedy.sendall(b"".join(control({"op": "list", "id": number}) for number in range(1, 41)))
    assert set(await house.holdings()) == {"a.1"}
    decoder = Decoder()
    answered: list[int] = []
    while len(answered) < 41:
        data = await asyncio.to_thread(greedy.recv, 1 << 18)
        assert data, "it was dropped"
        answered += [message["id"] for _, message in decoder.feed(data) if "ok" in message]
    assert answered == list(range(41))
    greedy.close()


async def test_ends_that_nobody_acked_may_be_more_than_may_wait_for_a_client(tmp_path: Path) -> None:
    """Ten megabytes of labels, for a client that reads late."""
    keys = [f"r{number}.1" for number in range(20)]
    async with House(tmp_path / "state", runners_per_shim=20) as house:
        await at_once(*(house.run(key, "true", label="x" * 500_000) for key in keys))
        await until(lambda: len(house.exits) == 20)
        assert len(set(house.places.values())) == 1
        late = reach(house.paths.shim(house.places[keys[0]]))
        late.sendall(control({"op": "hello", "versions": [1]}) + control({"op": "subscribe", "id": 1}))
        assert set(await house.holdings()) == set(keys)
        decoder = Decoder()
        told: list[Json] = []
        while not told or "ok" not in told[-1]:
            data = await asyncio.to_thread(late.recv, 1 << 18)
            assert data, "it was dropped"
            told += [message for _, message in decoder.feed(data)]
        assert {event["key"] for event in told[:-1]} == set(keys)
        late.close()


async def test_a_request_that_fails_for_want_of_a_descriptor_is_answered_and_may_be_made_again(house: House) -> None:
    await house.run("a.1", "read x")
    pid = house.shim_pid("a.1")
    connection = Connection(reach(house.paths.shim(house.places["a.1"])))
    with pytest.raises(Refused, match="hello"):
        connection.request("ping")  # now it was taken in
    soft, hard = resource.prlimit(pid, resource.RLIMIT_NOFILE)
    resource.prlimit(pid, resource.RLIMIT_NOFILE, (len(os.listdir(f"/proc/{pid}/fd")), hard))
    with pytest.raises(Refused, match="Too many open files") as refused:
        connection.request("hello", versions=[1])
    assert refused.value.code == "internal"
    resource.prlimit(pid, resource.RLIMIT_NOFILE, (soft, hard))
    assert connection.request("hello", versions=[1])["version"] == 1
    connection.close()


async def test_garbage_closes_the_peer_that_sent_it(house: House) -> None:
    spawned = await house.run("a.1", "read x")
    directory = house.paths.shim(house.places["a.1"])
    hello = control({"op": "hello", "id": 1, "versions": [1]})
    for garbage in (
        b"\xff" * 64,
        b"GET / HTTP/1.1\r\n\r\n",
        frame(CONTROL, b"[]"),
        frame(CONTROL, b"{"),
        frame(CONTROL, b"[" * 100_000),
        b"\x7f\xff\xff\xffJ",
    ):
        peer = reach(directory)
        peer.sendall(hello + garbage)
        assert await closed(peer), garbage[:20]
    assert is_alive(spawned.pid)
    assert set(await house.holdings()) == {"a.1"}


async def test_requests_that_make_no_sense_are_answered(house: House) -> None:
    await house.run("a.1", "read x")
    connection = house.connect("a.1")
    table: list[tuple[str, Json, str]] = [
        ("dance", {}, "invalid"),
        ("spawn", {}, "invalid"),
        ("spawn", {"key": "../../x"}, "invalid"),
        ("stop", {"key": "a.1", "steps": 3}, "invalid"),
        ("attach", {"key": "nobody.1", "role": "observer"}, "not_found"),
        ("kill", {"key": "nobody.1", "by": "x"}, "not_found"),
        ("hello", {"versions": [99]}, "version"),
    ]
    for op, fields, code in table:
        with pytest.raises(Refused) as refused:
            connection.request(op, **fields)
        assert refused.value.code == code, op
    connection.close()


async def test_input_without_a_seat_goes_nowhere(house: House) -> None:
    await house.run("a.1", "read x; echo $x; read x")
    peer = reach(house.paths.shim(house.places["a.1"]))
    peer.sendall(control({"op": "hello", "id": 1, "versions": [1]}) + frame(INPUT, b"sneaky\r"))
    await house.shims.send("a.1", [Part(b"proper\r")])
    await house.says("a.1", "proper\r\nproper")
    assert b"sneaky" not in house.output("a.1")
    peer.close()


async def test_attaching_to_what_has_ended_tells_so(house: House, attach: Attach) -> None:
    await house.run("a.1", "echo bye")
    await house.ended("a.1")
    _, said = attach("a.1")
    assert said["ended"]["exit_code"] == 0
    assert said["size"] == len(house.output("a.1"))


async def test_a_client_that_dies_changes_nothing(house: House, attach: Attach) -> None:
    spawned = await house.run("a.1", "while read x; do echo got $x; done")
    for _ in range(20):
        writer, _ = attach("a.1")
        writer.input(b"half")
        writer.sock.shutdown(socket.SHUT_RDWR)
        writer.close()
    await until(lambda: house.output("a.1").count(b"half") == 20)
    assert is_alive(spawned.pid)
    writer, _ = attach("a.1")
    writer.input(b"\r")
    await house.says("a.1", "got " + "half" * 20)


async def test_an_observer_outlives_the_daemon(house: House, attach: Attach) -> None:
    await house.run("a.1", "read x; echo $x; exit 3")
    writer, _ = attach("a.1")
    await house.shims.close()
    writer.input(b"alone\r")
    events = await received(writer, lambda event: event["event"] == "exited")
    assert events[-1]["record"]["exit_code"] == 3
    await house.reopen()


async def received(connection: Connection, is_last: Callable[[Json], bool]) -> list[Json]:
    """The events up to the one that is waited for."""
    connection.sock.settimeout(10)
    events: list[Json] = []
    while not any(map(is_last, events)):
        events += await asyncio.to_thread(connection.receive)
    return events


async def closed(peer: socket.socket) -> bool:
    """Whether the other side closes the connection."""
    peer.settimeout(5)
    try:
        while await asyncio.to_thread(peer.recv, 65536):
            pass
    except ConnectionResetError:
        pass
    except TimeoutError:
        return False
    finally:
        peer.close()
    return True
