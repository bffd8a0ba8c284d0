"""One connection of the daemon to a shim or zygote: requests out, answers and events in.

Rule 1: requests are pipelined; an answer finds its request by its number.
Rule 2: what is asked in one turn of the loop leaves in one piece.
Rule 3: nobody waits for ever: who does not answer within some seconds is as good as gone, for this request.
"""

import asyncio
import errno
import itertools
import logging
from collections.abc import Callable
from pathlib import Path

import msgspec

from stratavore.shim import client
from stratavore.shim.client import CONTROL, MAX_FRAME, Decoder, Json, Refused, frame
from stratavore.shims.requests import ShimGone

_log = logging.getLogger(__name__)
_encode = msgspec.json.Encoder().encode
_decode = msgspec.json.Decoder(Json).decode


class Link(asyncio.Protocol):
    """A connection; `to` makes one."""

    answer_seconds = 10.0
    """How long an answer is waited for, unless it is said."""

    def __init__(self) -> None:
        self.on_event: Callable[[Json], None] = lambda event: None
        self.on_lost: Callable[[], None] = lambda: None
        self._decoder = Decoder(_parsed)
        self._numbers = itertools.count(1)
        self._asked: dict[int, tuple[asyncio.Future[Json], asyncio.TimerHandle]] = {}
        self._entries: dict[int, list[Json]] = {}
        self._unsent: list[bytes] = []
        self._transport: asyncio.Transport | None = None

    @classmethod
    async def to(cls, directory: Path) -> "Link":
        """Connect to whoever listens in the directory. Raises OSError."""
        sock = client.reach(directory, timeout_seconds=0)
        _, link = await asyncio.get_running_loop().create_unix_connection(cls, sock=sock)
        return link

    def ask(self, message: Json, *, seconds: float | None = None) -> "asyncio.Future[Json]":
        """Send a request; the future brings its answer, Refused or ShimGone, the latter also after so many seconds."""
        seconds = self.answer_seconds if seconds is None else seconds
        number, loop = next(self._numbers), asyncio.get_running_loop()
        future: asyncio.Future[Json] = loop.create_future()
        try:
            self.tell({**message, "id": number})
        except (ShimGone, Refused) as problem:
            future.set_exception(problem)
        else:
            self._asked[number] = future, loop.call_later(seconds, self._give_up, number, seconds)
        return future

    def tell(self, message: Json) -> None:
        """Send a request that wants no answer."""
        if self._transport is None:
            raise ShimGone("the connection is closed")
        payload = _encode(message)
        if len(payload) > MAX_FRAME:
            text = f"{len(payload)} bytes of arguments and environment are too many"
            raise Refused({"code": "spawn_failed", "errno": errno.E2BIG, "text": text})
        if not self._unsent:
            asyncio.get_running_loop().call_soon(self._flush)
        self._unsent.append(frame(CONTROL, payload))

    def close(self) -> None:
        """Disconnect, without a word to `on_lost`."""
        self.on_lost = lambda: None
        if self._transport is not None:
            self._transport.close()

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        assert isinstance(transport, asyncio.Transport)
        self._transport = transport

    def connection_lost(self, exc: Exception | None) -> None:
        self._transport = None
        asked, self._asked = self._asked, {}
        for future, alarm in asked.values():
            alarm.cancel()
            if not future.done():
                future.set_exception(ShimGone("the connection was lost"))
        self.on_lost()

    def data_received(self, data: bytes) -> None:
        try:
            for _, message in self._decoder.feed(data):
                self._received(message)
        except client.WireError:
            _log.exception("nonsense from a shim")
            if self._transport is not None:
                self._transport.abort()

    def _received(self, message: Json) -> None:
        number = message.get("id")
        if number is None:
            self.on_event(message)
        elif "entry" in message:
            self._entries.setdefault(number, []).append(message["entry"])
        else:
            entries = self._entries.pop(number, [])
            if number not in self._asked:
                return
            future, alarm = self._asked.pop(number)
            alarm.cancel()
            if future.done():
                return
            if error := message.get("error"):
                future.set_exception(Refused(error))
            else:
                future.set_result({**message, "entries": entries})

    def _give_up(self, number: int, seconds: float) -> None:
        future, _ = self._asked.pop(number)
        if not future.done():
            future.set_exception(ShimGone(f"no answer within {seconds:g} s"))

    def _flush(self) -> None:
        if self._transport is not None:
            self._transport.write(b"".join(self._unsent))
        self._unsent.clear()


def _parsed(payload: bytes) -> Json:
    """As the shim's own, but many times faster: after a storm there are thousands."""
    try:
        return _decode(payload)
    except (msgspec.DecodeError, UnicodeDecodeError) as problem:
        raise client.WireError(f"not a JSON object: {problem}") from None
