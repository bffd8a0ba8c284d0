"""The frames on a shim's (or zygote's) socket.

A frame is four bytes big-endian length of the payload, one byte kind, the payload.
Rule 1: a CONTROL payload is one JSON object; an INPUT payload is raw bytes for the terminal that the peer writes to.
Rule 2: a request is `{"op": …, "id": N, …}`. It is answered by any number of `{"id": N, "entry": {…}}` and then one
`{"id": N, "ok": true, …}` or `{"id": N, "error": {"code": …, "text": …, …}}`. Without an id nothing is answered.
Rule 3: what nobody asked for is `{"event": "grown" | "taken" | "exited", "key": …, …}`.
Rule 4: the first request of a peer is `hello` with the versions that it speaks; the highest common one counts.
"""

import json
import struct
from collections.abc import Callable, Iterator, Sequence
from typing import Any

Json = dict[str, Any]

PROTOCOL = 1
SPOKEN = tuple(version for version in (PROTOCOL, PROTOCOL - 1, PROTOCOL - 2) if version >= 1)
MAX_FRAME = 1 << 20
CONTROL = ord("J")
INPUT = ord("I")
_HEADER = struct.Struct(">IB")
_encode = json.JSONEncoder(separators=(",", ":"), ensure_ascii=False).encode


class WireError(Exception):
    """The peer sent something that is no frame; its connection is of no use any more."""


def frame(kind: int, payload: bytes) -> bytes:
    """One frame.

    Raises:
        WireError: the payload is longer than MAX_FRAME.
    """
    if len(payload) > MAX_FRAME:
        raise WireError(f"a frame of {len(payload)} bytes is over the limit of {MAX_FRAME}")
    return _HEADER.pack(len(payload), kind) + payload


def encode(value: object) -> bytes:
    """JSON as short as the daemon writes it: what has arrived in a frame can be told again in one. Half of a surrogate
    pair, which UTF-8 has not, becomes an escape, as JSON writes it."""
    return _encode(value).encode(errors="backslashreplace")


def control(message: Json) -> bytes:
    """The CONTROL frame of one message. Raises WireError, as `frame` does."""
    return frame(CONTROL, encode(message))


def common_version(theirs: Sequence[int]) -> int | None:
    """The highest protocol version that both sides speak."""
    return max(set(SPOKEN) & set(theirs), default=None)


def parsed(payload: bytes) -> Json:
    """The message of a CONTROL frame. Raises WireError."""
    try:
        message = json.loads(payload.decode())
    except (ValueError, RecursionError) as problem:
        raise WireError(f"not JSON: {problem}") from None
    if not isinstance(message, dict):
        raise WireError("a control frame holds one JSON object")
    return message


class Decoder:
    """Bytes in, frames out, whatever the borders of the reads were."""

    def __init__(self, parse: Callable[[bytes], Json] = parsed) -> None:
        self._buffer = bytearray()
        self._parse = parse

    def feed(self, data: bytes) -> Iterator[tuple[int, Any]]:
        """The frames that `data` completes: (CONTROL, object) or (INPUT, bytes). Who stops between two frames finds
        the rest at the next call, which may be given no data."""
        buffer = self._buffer
        buffer += data
        while len(buffer) >= _HEADER.size:
            length, kind = _HEADER.unpack_from(buffer)
            if length > MAX_FRAME or kind not in (CONTROL, INPUT):
                raise WireError("not a frame of this protocol")
            end = _HEADER.size + length
            if len(buffer) < end:
                return
            payload = bytes(memoryview(buffer)[_HEADER.size : end])
            del buffer[:end]
            yield kind, payload if kind == INPUT else self._parse(payload)
