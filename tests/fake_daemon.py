"""A daemon of ten lines on a real control socket: answers what it was told to, and remembers what it was asked."""

import json
import os
import socket
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any, NamedTuple

from stratavore import __version__


class Asked(NamedTuple):
    """One request as it arrived."""

    method: str
    target: str
    headers: dict[str, str]
    body: Any


Answerer = Callable[[Asked], Any]


class Raw(NamedTuple):
    """An answer sent byte by byte as it is."""

    data: bytes


class Refusal(NamedTuple):
    """An answer with an error status."""

    status: int
    body: dict[str, str]


@contextmanager
def fake_daemon(state: Path, answer: Answerer, *, version: str = __version__) -> Iterator[list[Asked]]:
    """Listen on the control socket of `state` until the block ends; yields the list of requests, which grows."""
    state.mkdir(mode=0o700, parents=True, exist_ok=True)
    listener = socket.socket(socket.AF_UNIX)
    directory = os.open(state, os.O_PATH)
    listener.bind(f"/proc/self/fd/{directory}/control.sock")
    os.close(directory)
    listener.listen(64)
    asked: list[Asked] = []

    def serve() -> None:
        while True:
            try:
                connection, _ = listener.accept()
            except OSError:
                return
            with connection, suppress(OSError):  # whoever asked may have left
                request = _read(connection)
                asked.append(request)
                connection.sendall(_reply(answer(request), version))

    thread = threading.Thread(target=serve)
    thread.start()
    try:
        yield asked
    finally:
        listener.shutdown(socket.SHUT_RDWR)
        thread.join(10)
        listener.close()
        (state / "control.sock").unlink()


def _read(connection: socket.socket) -> Asked:
    data = b""
    while b"\r\n\r\n" not in data:
        data += connection.recv(65536)
    head, _, body = data.partition(b"\r\n\r\n")
    first, *lines = head.decode().split("\r\n")
    headers = {key.lower(): value for key, value in (line.split(": ", 1) for line in lines)}
    while len(body) < int(headers["content-length"]):
        body += connection.recv(65536)
    method, target, _ = first.split(" ")
    return Asked(method, target, headers, json.loads(body) if body else None)


def _reply(answer: Any, version: str) -> bytes:
    if isinstance(answer, Raw):
        return answer.data
    status, value = (answer.status, answer.body) if isinstance(answer, Refusal) else (200, answer)
    body = json.dumps(value).encode()
    head = f"HTTP/1.1 {status} X\r\nStratavore-Version: {version}\r\nContent-Length: {len(body)}\r\n\r\n"
    return head.encode() + body
