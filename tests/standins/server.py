"""The HTTP side that all stand-ins share: a threaded server on loopback; an API is one `answer` function."""

import argparse
import json
import threading
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any, cast

from tests.standins.answers import Answer, Bill

JSON = dict[str, Any]


@dataclass(frozen=True)
class Request:
    """One request that was received."""

    path: str
    headers: Mapping[str, str]
    body: JSON


class Standin(ThreadingHTTPServer):
    """A running stand-in: `url`, the requests it has received so far, and what it billed for its answers."""

    daemon_threads = True

    def __init__(self, answer: "Api", port: int, pause_seconds: float) -> None:
        super().__init__(("127.0.0.1", port), Exchange)
        self.answer = answer
        self.pause_seconds = pause_seconds
        self.closing = threading.Event()
        self.requests: list[Request] = []
        self.billed: list[Bill] = []
        self.used_percent: float | None = None
        """How much of the account's five-hour window is used, told to subscribers only."""
        self._count = 0
        self._lock = threading.Lock()

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.server_port}"

    def number(self) -> int:
        """1, 2, 3 …: what ids are made of, so that they are unique and the same in every run."""
        with self._lock:
            self._count += 1
            return self._count


class Exchange(BaseHTTPRequestHandler):
    """One request and its reply, as an API's `answer` sees it."""

    protocol_version = "HTTP/1.1"
    server: Standin

    def do_HEAD(self) -> None:
        self.send_response(200)
        self.send_header("Content-Length", "0")
        self.end_headers()

    def do_GET(self) -> None:
        self.send_json({"data": [], "models": []})

    def do_POST(self) -> None:
        length = int(self.headers.get("Content-Length", 0))
        body = cast(JSON, json.loads(self.rfile.read(length) or b"{}"))
        self.server.requests.append(Request(self.path, dict(self.headers), body))
        try:
            self.server.answer(self, body)
        except ConnectionError:
            self.close_connection = True  # The agent was stopped, or interrupted its turn.

    def log_message(self, format: str, *args: object) -> None:
        """Nothing: the tests read `requests`."""

    def send_json(self, value: object, status: int = 200, headers: Mapping[str, str] | None = None) -> None:
        data = json.dumps(value).encode()
        self.send_response(status)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(data)))
        for name, text in (headers or {}).items():
            self.send_header(name, text)
        self.end_headers()
        self.wfile.write(data)

    def begin_events(self, headers: Mapping[str, str] | None = None) -> None:
        """Begin a stream of server-sent events; `send_event` each, then `end_events`."""
        self.send_response(200)
        self.send_header("Content-Type", "text/event-stream")
        self.send_header("Transfer-Encoding", "chunked")
        for name, text in (headers or {}).items():
            self.send_header(name, text)
        self.end_headers()

    def send_event(self, data: JSON | str, name: str | None = None) -> None:
        text = data if isinstance(data, str) else json.dumps(data)
        head = f"event: {name}\n" if name else ""
        event = f"{head}data: {text}\n\n".encode()
        self.wfile.write(b"%x\r\n%s\r\n" % (len(event), event))
        self.wfile.flush()

    def end_events(self) -> None:
        self.wfile.write(b"0\r\n\r\n")

    @contextmanager
    def billing(self, bill: Bill, told: Bill | None = None) -> Iterator[None]:
        """Bill what is served in the block; `told` in its place, if the agent goes away before the end."""
        try:
            yield
        except ConnectionError:
            if told is not None:
                self.server.billed.append(told._replace(is_whole=False))
            raise
        self.server.billed.append(bill)

    def stream(self, answer: Answer) -> Iterator[str]:
        """The pieces of the answer's text at the answer's pace."""
        for piece in answer.pieces:
            if answer.slow and self.server.closing.wait(self.server.pause_seconds):
                raise ConnectionAbortedError("the stand-in is closing")
            yield piece


Api = Callable[[Exchange, JSON], None]


@contextmanager
def serve(answer: Api, *, port: int = 0, pause_seconds: float = 0.05) -> Iterator[Standin]:
    """Run a stand-in in a thread of this process for as long as the block lasts."""
    with Standin(answer, port, pause_seconds) as server:
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.05}, daemon=True)
        thread.start()
        try:
            yield server
        finally:
            server.closing.set()
            server.shutdown()
            thread.join()


def main(answer: Api) -> None:
    """Run a stand-in from the command line until it is killed; the first line printed is its port."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--port", type=int, default=0, help="0 takes a free one")
    parser.add_argument("--pause", type=float, default=0.05, help="seconds between words of a slow answer")
    arguments = parser.parse_args()
    with Standin(answer, arguments.port, arguments.pause) as server:
        print(server.server_port, flush=True)
        server.serve_forever()
