"""The floor of an API: one blocking loop that reads a request and sends the same bytes, whatever was asked.

Run as a program: the directory in which it listens as `control.sock`, and in which the bytes lie as `body`.
"""

import os
import socket
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from benchmarks import processes
from benchmarks.bench import ROOT, environment
from benchmarks.measure import wait_until
from stratavore import control
from stratavore.paths import Paths
from stratavore.routes import PREFIX, VERSION_HEADER


@contextmanager
def serving(place: Path, body: bytes) -> Iterator[Paths]:
    """The paths under which our own client finds the loop."""
    (place / "body").write_bytes(body)
    server = subprocess.Popen([sys.executable, "-m", "benchmarks.canned", str(place)], cwd=ROOT, env=environment())
    paths = Paths(place, place / "config.toml")
    try:
        wait_until(lambda: control.daemon_version(paths) is not None, "the canned server answers")
        yield paths
    finally:
        processes.end([server.pid])
        server.wait()


def answer_to(paths: Paths, place: str, **fields: object) -> bytes:
    """What the daemon answers to GET `place`."""
    return control.exchange(paths, "GET", PREFIX + place, fields, 30).body


def _serve(place: Path) -> None:
    body = (place / "body").read_bytes()
    head = (
        f"HTTP/1.1 200 OK\r\n{VERSION_HEADER}: 0\r\nContent-Type: application/json\r\n"
        f"Content-Length: {len(body)}\r\n\r\n"
    )
    reply = head.encode() + body
    os.chdir(place)  # a short name, however long the path is
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind("control.sock")
        listener.listen(512)
        while True:
            connection, _ = listener.accept()
            with connection:
                asked = b""
                while b"\r\n\r\n" not in asked and (piece := connection.recv(65_536)):
                    asked += piece
                connection.sendall(reply)


if __name__ == "__main__":
    _serve(Path(sys.argv[1]))
