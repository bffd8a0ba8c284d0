"""HTTP over the control socket: every row of ROUTES, answered by its verb.

Rule 1: dispatch catches every exception. What a user can meet becomes its own status and body; anything else is a bug:
logged with its traceback, answered as "internal".
Rule 2: nothing is read of a peer that is another user. Who a peer is, is found out once for each connection.
Rule 3: a request is small and finishes: 1 MiB at most, and nobody waits longer than the protocol allows.
Rule 4: who does not send its request whole within ten seconds, or takes no reply for thirty, is dropped; of 512 others
each is served.
"""

import asyncio
import logging
from typing import Any
from weakref import WeakKeyDictionary

import msgspec
from aiohttp import web

from stratavore import __version__
from stratavore.api.door import Door
from stratavore.api.routes import VERBS, Verb
from stratavore.auth import identify, permit
from stratavore.context import Asker, Context
from stratavore.errors import Invalid, NotFound, StratavoreError
from stratavore.protocol import ROUTES, Route, refusal
from stratavore.routes import VERSION_HEADER
from stratavore.sockets import bind

log = logging.getLogger(__name__)

_LARGEST_BODY = 1 << 20
_SOCKET_BACKLOG = 512
_MOST_CONNECTIONS = 512
_REQUEST_SECONDS = 10.0
_REPLY_SECONDS = 30.0
_LINGER_SECONDS = 1.0
"""So long the rest of a refused request is read, so that who still sends it gets the refusal."""
_encoder = msgspec.json.Encoder()

_Handler = Any


class Server:
    """The control socket, open from `start` to `close`."""

    def __init__(self, context: Context) -> None:
        self._context = context
        app = web.Application(client_max_size=_LARGEST_BODY)
        for route in ROUTES:
            app.router.add_route(route.method, route.path, self._answer(route, VERBS[route.name]))
        app.router.add_route("*", "/{rest:.*}", _unknown)
        self._runner = web.AppRunner(
            app,
            access_log=None,
            handle_signals=False,
            shutdown_timeout=1.0,
            keepalive_timeout=_REQUEST_SECONDS,  # of aiohttp, this is the time until the next request's head is whole
            lingering_time=_LINGER_SECONDS,
        )
        self._door: Door | None = None
        self._askers: WeakKeyDictionary[asyncio.Transport, Asker] = WeakKeyDictionary()

    async def start(self) -> None:
        """Listen; an old socket file is replaced, which is safe under the daemon's lock."""
        sock = bind(self._context.paths.socket)
        sock.listen(_SOCKET_BACKLOG)
        await self._runner.setup()
        server = self._runner.server
        assert server is not None
        self._door = Door(sock, server, lambda: len(server.connections), most=_MOST_CONNECTIONS)
        self._door.open()

    async def close(self) -> None:
        """Answer what is under way, and stop listening."""
        if self._door is not None:
            self._door.close()
        await self._runner.cleanup()
        self._context.paths.socket.unlink(missing_ok=True)

    def _answer(self, route: Route, verb: Verb) -> _Handler:
        decoder = msgspec.json.Decoder(route.request)

        async def answer(http: web.Request) -> web.Response:
            try:
                asker = self._asker_of(http)
                permit(asker, route, runners_may_control=self._context.config.runners.runners_may_control)
                request = await _request_of(http, route, decoder)
                result = await verb(self._context, asker, request, **http.match_info)
                return _reply(200, _encoder.encode(result))
            except StratavoreError as error:
                return _reply(error.http_status, _encoder.encode(error.as_dict()))
            except web.HTTPException:
                raise
            except Exception:
                log.exception("a verb failed", extra={"verb": route.name})
                return _refusal(StratavoreError("internal error"))

        return answer

    def _asker_of(self, http: web.Request) -> Asker:
        if (transport := http.transport) is None:
            raise Invalid("the connection was closed")
        if (asker := self._askers.get(transport)) is None:
            sock = transport.get_extra_info("socket")
            asker = self._askers[transport] = identify(sock, "cli", self._context.shims.pids())
        return asker


async def _request_of(http: web.Request, route: Route, decoder: "msgspec.json.Decoder[Any]") -> Any:
    try:
        if not route.has_body:
            return msgspec.convert(dict(http.query), route.request, strict=False)
        async with asyncio.timeout(_REQUEST_SECONDS):
            body = await http.read()
        return decoder.decode(body or b"{}")
    except TimeoutError:
        raise Invalid(f"{route.verb}: the request did not come whole within {_REQUEST_SECONDS:g} s") from None
    except (msgspec.DecodeError, UnicodeDecodeError) as error:  # no JSON, or not of the right shape
        raise refusal(error) from None
    except web.HTTPRequestEntityTooLarge:
        raise Invalid(f"{route.verb}: a request may have 1 MiB", remedy="send less at once") from None


async def _unknown(http: web.Request) -> web.Response:
    return _refusal(NotFound(f"there is no {http.method} {http.path}", remedy="ask another version of the daemon"))


def _refusal(error: StratavoreError) -> web.Response:
    return _reply(error.http_status, _encoder.encode(error.as_dict()))


def _reply(status: int, body: bytes) -> web.Response:
    return _Reply(status=status, body=body, content_type="application/json", headers={VERSION_HEADER: __version__})


class _Reply(web.Response):
    """A reply that is not waited for without end: who does not take it loses its connection."""

    _transport: asyncio.Transport | None = None

    async def prepare(self, request: web.BaseRequest) -> Any:
        self._transport = request.transport
        return await super().prepare(request)

    async def write_eof(self, data: bytes = b"") -> None:
        alarm = asyncio.get_running_loop().call_later(_REPLY_SECONDS, _drop_if_unsent, self._transport)
        await super().write_eof(data)
        if not _has_unsent(self._transport):
            alarm.cancel()


def _drop_if_unsent(transport: asyncio.Transport | None) -> None:
    if transport is not None and _has_unsent(transport):
        transport.abort()


def _has_unsent(transport: asyncio.Transport | None) -> bool:
    return transport is not None and transport.get_write_buffer_size() > 0
