"""Bad company at the control socket: who sends nothing, half of something, or reads nothing, and too many of them."""

import asyncio
import os
import resource
import socket
import stat
from collections.abc import AsyncIterator, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

import pytest

from stratavore.control import ask
from tests.house import House, living, until

HEAD = b"POST /api/v1/runners HTTP/1.1\r\nHost: x\r\nContent-Length: 1000\r\n\r\n"
LIST = b"GET /api/v1/events HTTP/1.1\r\nHost: x\r\n\r\n"


@pytest.fixture
async def hasty(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[House]:
    """Its limits of time are short, its room is for four."""
    monkeypatch.setattr("stratavore.api.server._REQUEST_SECONDS", 0.3)
    monkeypatch.setattr("stratavore.api.server._LINGER_SECONDS", 0.1)
    monkeypatch.setattr("stratavore.api.server._REPLY_SECONDS", 0.3)
    monkeypatch.setattr("stratavore.api.server._MOST_CONNECTIONS", 4)
    async with living(tmp_path / "state") as house:
        yield house


@contextmanager
def connected(house: House) -> Iterator[socket.socket]:
    with socket.socket(socket.AF_UNIX) as sock:
        sock.connect(str(house.paths.socket))
        sock.setblocking(False)
        yield sock


async def rest_of(sock: socket.socket) -> bytes:
    """What comes until the daemon closes."""
    found = b""
    while piece := await asyncio.wait_for(asyncio.get_running_loop().sock_recv(sock, 1 << 16), 10):
        found += piece
    return found


@pytest.mark.parametrize("sent", [b"", b"GET /api", HEAD[:40]], ids=["nothing", "half a line", "half a head"])
async def test_who_sends_no_whole_head_is_dropped(hasty: House, sent: bytes) -> None:
    with connected(hasty) as sock:
        sock.sendall(sent)
        assert await rest_of(sock) == b""


async def test_who_sends_a_byte_now_and_then_is_dropped_all_the_same(hasty: House) -> None:
    with connected(hasty) as sock:
        began = asyncio.get_running_loop().time()
        with pytest.raises(OSError, match=r"Broken pipe|reset"):  # noqa: PT012
            while asyncio.get_running_loop().time() < began + 10:
                sock.send(b"G")
                await asyncio.sleep(0.05)


async def test_who_sends_half_a_body_is_told_and_dropped(hasty: House) -> None:
    with connected(hasty) as sock:
        sock.sendall(HEAD + b"{")
        answer = await rest_of(sock)
        assert b" 400 " in answer.partition(b"\r\n")[0]
        assert b"did not come whole within 0.3 s" in answer


async def test_who_takes_no_reply_is_dropped(hasty: House) -> None:
    await asyncio.gather(*(hasty.project(f"p{number}", description="x" * 1000) for number in range(100)))
    with connected(hasty) as sock:
        sock.sendall(LIST.replace(b"events", b"projects") * 20)
        await until(inside)
        await until(lambda: not inside())


async def test_beyond_the_room_they_wait_and_are_served_when_others_leave(hasty: House) -> None:
    with ExitStack() as stack:
        for _ in range(20):
            stack.enter_context(connected(hasty))
        await until(lambda: inside() > 1)
        asked = asyncio.ensure_future(asyncio.to_thread(ask, hasty.paths, "status"))
        most = 0
        while not asked.done():
            most = max(most, inside())
            await asyncio.sleep(0.005)
        assert (await asked)["runners"] == 0
        assert most <= 4


async def test_without_descriptors_they_wait_and_nothing_is_lost(
    hasty: House, caplog: pytest.LogCaptureFixture
) -> None:
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    with connected(hasty) as sock:
        await until(inside)
        with connected(hasty) as later:
            os.close(lowest_free := os.dup(0))
            resource.setrlimit(resource.RLIMIT_NOFILE, (lowest_free, hard))
            try:
                later.sendall(LIST.replace(b"x", b"x\r\nConnection: close"))
                await until(lambda: "connections have to wait" in caplog.messages)
            finally:
                resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
            assert b" 200 " in (await rest_of(later)).partition(b"\r\n")[0]
        assert await rest_of(sock) == b""
    assert caplog.messages.count("connections have to wait") < 5


def inside() -> int:
    """How many connections the daemon of this process has let in."""
    return sum(map(_is_let_in, map(int, os.listdir("/proc/self/fd"))))


def _is_let_in(fd: int) -> bool:
    try:
        if not stat.S_ISSOCK(os.fstat(fd).st_mode):
            return False
        with socket.socket(fileno=os.dup(fd)) as sock:
            is_ours = sock.family == socket.AF_UNIX and str(sock.getsockname()).endswith("/control.sock")
            return is_ours and not sock.getsockopt(socket.SOL_SOCKET, socket.SO_ACCEPTCONN)
    except OSError:  # closed meanwhile
        return False
