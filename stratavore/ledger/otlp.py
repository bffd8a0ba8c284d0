"""The receiver of what agents export by OTLP over HTTP: the calls that stand in no transcript.

Rule 1: it listens on 127.0.0.1 only, believes no other Host, and takes nothing without a runner's bearer.
Rule 2: an export is answered once it is booked. What cannot be booked now is refused, and the agent sends it again.
Rule 3: what a runner sends counts as its own, in a conversation of its own or in none.
"""

import asyncio
import errno
import logging
import socket
from collections.abc import Callable, Collection, Sequence
from datetime import datetime

import msgspec
from aiohttp import web

from stratavore.agents import Telemetry
from stratavore.agents.records import Call
from stratavore.clock import iso
from stratavore.context import Context
from stratavore.errors import StratavoreError
from stratavore.ledger.bearers import Bearers
from stratavore.ledger.homes import Home, of_agent
from stratavore.ledger.otlp_calls import calls_in
from stratavore.runner_files import read_environment
from stratavore.store import budgets, sessions, supervision, usage
from stratavore.store.database import Tx
from stratavore.store.usage import Charge, Source

log = logging.getLogger(__name__)

ADDRESS = "127.0.0.1"
AGENT = "claude"
_LARGEST_BODY = 4 << 20
_REQUEST_SECONDS = 10.0


class Receiver:
    """Listens from `start` to `close`. `on_charged` is told when something was spent."""

    def __init__(self, context: Context, on_charged: Callable[[], None]) -> None:
        self._context = context
        self._on_charged = on_charged
        self._bearers = Bearers(context.paths.otlp)
        app = web.Application(client_max_size=_LARGEST_BODY)
        app.router.add_post("/v1/logs", self._take_logs)
        self._runner = web.AppRunner(
            app, access_log=None, handle_signals=False, shutdown_timeout=1.0, keepalive_timeout=60.0
        )
        self._is_listening = False

    async def start(self) -> None:
        """Listen where it did the last time. Where that is taken, runners of before are not heard any more.

        A receiver that cannot listen is logged: nothing else depends on it.
        """
        try:
            sock = _bound(self._bearers.port)
            await self._runner.setup()
            await web.SockSite(self._runner, sock, backlog=128).start()
            if sock.getsockname()[1] != self._bearers.port:
                self._bearers.keep(sock.getsockname()[1])
            self._is_listening = True
        except OSError as problem:
            log.error("nothing can be received over OTLP", extra={"why": str(problem)})

    async def close(self) -> None:
        await self._runner.cleanup()

    def telemetry(self, runner_id: str) -> Telemetry | None:
        """What the agent of a runner needs to send its calls; None if nobody listens."""
        if not self._is_listening:
            return None
        return Telemetry(
            endpoint=f"http://{ADDRESS}:{self._bearers.port}",
            headers={"Authorization": f"Bearer {self._bearers.of_runner(runner_id)}"},
        )

    async def _take_logs(self, http: web.Request) -> web.Response:
        if http.headers.getall("Host", []) != [f"{ADDRESS}:{self._bearers.port}"]:
            return web.Response(status=421)
        runner_id = self._bearers.runner_of(http.headers.get("Authorization", ""))
        if runner_id is None:
            return web.Response(status=401)
        try:
            async with asyncio.timeout(_REQUEST_SECONDS):
                calls = calls_in(await http.read())
            await self._book(runner_id, calls)
        except (TimeoutError, ValueError):
            return web.Response(status=400)
        except StratavoreError as refusal:
            log.warning("what was received over OTLP is put off", extra={"why": refusal.message})
            return web.Response(status=503, headers={"Retry-After": "5"})
        return web.json_response({})

    async def _book(self, runner_id: str, calls: Sequence[Call]) -> None:
        if not calls:
            return
        now, home = self._context.clock.now(), self._home(runner_id)
        own = [msgspec.structs.replace(call, key=f"otlp:{runner_id}:{call.request_id}") for call in calls]

        def book(tx: Tx) -> list[Charge]:
            numbers = _conversations(tx, runner_id, home, {call.session_id for call in calls}, now)
            charges = usage.record(
                tx, AGENT, "", own, numbers=numbers, price=self._context.price, source=Source.OTLP, runner_id=runner_id
            )
            budgets.charge(tx, charges, now=now)
            return charges

        if await self._context.database.write(book):
            self._on_charged()

    def _home(self, runner_id: str) -> Home | None:
        """The account directory of the runner, which may be forgotten already."""
        try:
            agent = supervision.get_supervised(self._context.rows, runner_id).agent
            environment = read_environment(self._context.paths, runner_id)
        except StratavoreError:
            return None
        return of_agent(agent, environment, self._context.config.agents)


def _conversations(tx: Tx, runner_id: str, home: Home | None, ids: Collection[str], now: datetime) -> dict[str, int]:
    """The numbers of these conversations, but for those in which another runner is (rule 3)."""
    numbers = {}
    for session_id in ids:
        number = sessions.find(tx, AGENT, session_id)
        if number is None and home is not None and sessions.is_id(session_id):
            number = sessions.ensure(tx, AGENT, str(home.path), session_id, now=now)
        if number is not None and sessions.runner_at(tx, number, iso(now)) in (None, runner_id):
            numbers[session_id] = number
    return numbers


def _bound(port: int) -> socket.socket:
    """A socket on that port, or on another if it is taken."""
    sock = socket.socket(socket.AF_INET, socket.SOCK_STREAM | socket.SOCK_CLOEXEC)
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    try:
        sock.bind((ADDRESS, port))
    except OSError as problem:
        if problem.errno != errno.EADDRINUSE or port == 0:
            sock.close()
            raise
        log.warning("another program has the port of the receiver; a new one is taken", extra={"port": port})
        sock.bind((ADDRESS, 0))
    return sock
