"""The control socket, from the asking side: plain dicts in, plain dicts out.

Rule 1: importing this loads only cheap parts of the standard library: every one-shot command pays for it.
Rule 2: a request is one connection: sent, answered, closed. There is nothing to pool and nothing to leak.
Rule 3: what the daemon refuses is raised here as the class of errors.py that it was there.
"""

from __future__ import annotations

import json
import os
import socket
import time
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, NamedTuple
from urllib.parse import quote, urlencode

from stratavore import __version__, errors
from stratavore.errors import Conflict, DaemonUnreachable, StratavoreError
from stratavore.routes import PLACES, PREFIX, VERSION_HEADER

if TYPE_CHECKING:
    from stratavore.paths import Paths

TIMEOUT_SECONDS = 30.0


class Reply(NamedTuple):
    """One answer of the daemon."""

    status: int
    version: str | None
    body: bytes


def ask(paths: Paths, name: str, /, *, timeout: float = TIMEOUT_SECONDS, **fields: Any) -> Any:
    """Ask the route `name`; `fields` are its path parameters and the fields of its request Struct, as JSON knows them.

    Returns the answer as plain dicts and lists.
    """
    method, place = PLACES[name].method, PLACES[name].path
    for part in place.split("/"):
        if part.startswith("{"):
            place = place.replace(part, quote(str(fields.pop(part[1:-1])), safe=",*"))
    return call(paths, method, PREFIX + place, fields, timeout=timeout)


def call(
    paths: Paths,
    method: str,
    path: str,
    fields: Mapping[str, Any] | None = None,
    *,
    timeout: float = TIMEOUT_SECONDS,
) -> Any:
    """Send one request and return the decoded answer; GET and DELETE carry `fields` in the query string.

    Raises:
        DaemonUnreachable: nobody answers, or whoever did went away or stayed silent for `timeout` seconds.
        Conflict: the daemon is newer than this program.
        StratavoreError: whatever class the daemon refused with.
    """
    reply = exchange(paths, method, path, fields or {}, timeout)
    refuse_newer(reply.version)
    try:
        answer = json.loads(reply.body) if reply.body else None
    except ValueError:
        answer = None if reply.status < 400 else {}
    if reply.status < 400:
        return answer
    if isinstance(answer, dict) and "code" in answer:
        raise errors.from_dict(answer)
    raise StratavoreError(f"the daemon answered {method} {path} with HTTP {reply.status}")


def daemon_version(paths: Paths) -> str | None:
    """The version of the daemon that answers now, None when nobody does."""
    try:
        reply = exchange(paths, "GET", PREFIX + PLACES["daemon_status"].path, {}, TIMEOUT_SECONDS)
    except DaemonUnreachable:
        return None
    return reply.version or "0"


def as_numbers(version: str) -> tuple[int, ...]:
    """`1.2.3.dev4` as `(1, 2, 3)`: what two versions are compared by."""
    numbers = []
    for part in version.split("."):
        if not part.isdecimal():
            break
        numbers.append(int(part))
    return tuple(numbers)


def refuse_newer(daemon: str | None) -> None:
    """Raise Conflict if the daemon is newer than this program: only the newer of two knows what changed."""
    if daemon is not None and as_numbers(daemon) > as_numbers(__version__):
        raise Conflict(f"this is Stratavore {__version__}, but the daemon is {daemon}", remedy="upgrade this program")


def exchange(paths: Paths, method: str, path: str, fields: Mapping[str, Any], timeout: float) -> Reply:
    """One request, one reply, over a connection of its own."""
    body = b""
    if method in ("GET", "DELETE"):
        query = urlencode({key: _in_query(value) for key, value in fields.items() if value is not None}, safe=",")
        path += f"?{query}" if query else ""
    else:
        body = json.dumps(fields).encode()
    head = (
        f"{method} {path} HTTP/1.1\r\nHost: stratavore\r\nConnection: close\r\n{VERSION_HEADER}: {__version__}\r\n"
        f"Content-Type: application/json\r\nContent-Length: {len(body)}\r\n\r\n"
    )
    with _connect(paths, timeout) as connection:
        try:
            connection.sendall(head.encode() + body)
            raw = _read_to_end(connection)
        except TimeoutError:
            raise DaemonUnreachable(
                f"the daemon did not answer within {timeout:.0f} s", remedy="`stratavore daemon restart`"
            ) from None
        except OSError as error:
            raise _went_away() from error
    return _parse(raw)


def _connect(paths: Paths, timeout: float) -> socket.socket:
    """A connection to the control socket, whatever the length of its path."""
    deadline = time.monotonic() + timeout
    connection = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    try:
        directory = os.open(paths.state, os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)
        try:
            connection.settimeout(timeout)
            while True:
                try:
                    connection.connect(f"/proc/self/fd/{directory}/{paths.socket.name}")
                    return connection
                except BlockingIOError:  # its queue of connections is full: a Unix socket says so instead of waiting
                    if time.monotonic() > deadline:
                        raise
                    time.sleep(0.01)
        finally:
            os.close(directory)
    except PermissionError:
        connection.close()
        raise DaemonUnreachable(
            f"{paths.state} belongs to somebody else", remedy="set STRATAVORE_HOME, or run as its owner"
        ) from None
    except OSError:
        connection.close()
        raise DaemonUnreachable("the daemon is not running") from None


def _read_to_end(connection: socket.socket) -> bytes:
    pieces = []
    while piece := connection.recv(262_144):
        pieces.append(piece)
    return b"".join(pieces)


def _parse(raw: bytes) -> Reply:
    head, found, body = raw.partition(b"\r\n\r\n")
    if not found:
        raise _went_away()
    first, *lines = head.decode("latin-1").split("\r\n")
    headers = {}
    for line in lines:
        key, _, value = line.partition(":")
        headers[key.strip().lower()] = value.strip()
    if len(body) < int(headers.get("content-length", len(body))):
        raise _went_away()
    return Reply(int(first.split(" ", 2)[1]), headers.get(VERSION_HEADER.lower()), body)


def _went_away() -> DaemonUnreachable:
    return DaemonUnreachable(
        "the daemon went away in the middle of its answer",
        remedy="look with `stratavore runners` whether it was done, and ask again",
    )


def _in_query(value: Any) -> str:
    return ("false", "true")[value] if isinstance(value, bool) else str(value)
