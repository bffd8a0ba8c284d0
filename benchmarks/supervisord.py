"""Supervisor as a peer: supervisord with one group of programs, output through pipes into a log each.

Its runners have no terminal, and it keeps nothing on the disk but the logs. It starts its programs by its own loop when
it starts itself, which is faster than `supervisorctl start`; the time is taken from its log, so its own start is free.
"""

import http.client
import re
import shutil
import signal
import socket
import subprocess
import tempfile
import time
import xmlrpc.client
from collections.abc import Sequence
from datetime import datetime
from pathlib import Path
from typing import Any

from benchmarks import processes
from benchmarks.bench import SLEEPER, environment, program
from benchmarks.measure import run, wait_until

_SPAWNED = re.compile(r"^(\S+ \S+) INFO spawned: ", re.MULTILINE)
_CONFIGURATION = """
[supervisord]
logfile={sockets}/log
pidfile={sockets}/pid
nodaemon=true
minfds={files}
[unix_http_server]
file={sockets}/sock
[rpcinterface:supervisor]
supervisor.rpcinterface_factory=supervisor.rpcinterface:make_main_rpcinterface
[supervisorctl]
serverurl=unix://{sockets}/sock
[program:load]
command={command}
numprocs={count}
process_name=%(process_num)d
autorestart={restart}
startsecs=0
startretries=1000000
redirect_stderr=true
stdout_logfile={logs}/%(process_num)d.log
stdout_logfile_maxbytes=0
"""


class Supervisord:
    """A supervisord that runs from the first `launch` on."""

    name = "supervisor"

    def __init__(self, place: Path, *, restarts: bool = False) -> None:
        self._logs = place / "supervisor"
        self._sockets = Path(tempfile.mkdtemp(prefix="stb-"))
        self._restarts = restarts
        self._count = 0
        self._server: subprocess.Popen[bytes] | None = None

    def start(self) -> None:
        self._logs.mkdir()

    def launch(self, count: int, argv: Sequence[str] = SLEEPER) -> float:
        """It reads its programs at its start: for more of them it is started again."""
        self._end()
        self._count += count
        text = _CONFIGURATION.format(
            sockets=self._sockets,
            logs=self._logs,
            command=" ".join(argv).replace("%", "%%"),
            count=self._count,
            restart="true" if self._restarts else "false",
            files=max(1024, 4 * self._count + 256),  # it closes so many files at each spawn
        )
        (self._sockets / "conf").write_text(text)
        self.log.unlink(missing_ok=True)
        self.start_server()
        wait_until(lambda: self._spawned() >= self._count, "supervisor started all", look_seconds=0.05)
        times = [
            datetime.strptime(when, "%Y-%m-%d %H:%M:%S,%f").timestamp()  # noqa: DTZ007 - a difference
            for when in _SPAWNED.findall(self.log.read_text())
        ]
        wait_until(lambda: (self._sockets / "sock").exists(), "supervisor answers")
        return max(times) - min(times) if count > 1 else 0.0

    def start_server(self) -> None:
        """Start it with what it was told before."""
        self._server = subprocess.Popen(
            [program("supervisord") or "supervisord", "-c", f"{self._sockets}/conf"],
            env=self.environment(),
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        )

    def kill_server(self) -> None:
        """SIGKILL, and reaped."""
        assert self._server is not None
        self._server.kill()
        self._server.wait()

    def runners(self) -> list[int]:
        return [told["pid"] for told in self.call("getAllProcessInfo") if told["pid"]]

    def processes(self) -> list[int]:
        assert self._server is not None
        return [self._server.pid]

    def status_command(self) -> Sequence[str]:
        return [program("supervisorctl") or "supervisorctl", "-c", f"{self._sockets}/conf", "status"]

    def environment(self) -> dict[str, str]:
        return environment()

    def stop_all(self) -> float:
        began = time.perf_counter()
        run([*self.status_command()[:-1], "stop", "all"], env=self.environment())
        return time.perf_counter() - began

    def call(self, name: str, *arguments: Any) -> Any:
        """One call of its API, over a connection of its own."""
        proxy = xmlrpc.client.ServerProxy("http://local", transport=_Transport(self._sockets / "sock"))
        with proxy:
            return getattr(proxy.supervisor, name)(*arguments)

    @property
    def log(self) -> Path:
        """What it writes about the processes: it is the first to tell of a death, without being asked."""
        return self._sockets / "log"

    def close(self) -> None:
        self._end()
        shutil.rmtree(self._sockets, ignore_errors=True)

    def _spawned(self) -> int:
        return self.log.read_text().count(" spawned: ") if self.log.exists() else 0

    def _end(self) -> None:
        if self._server is not None:
            processes.end([self._server.pid])
            self._server.wait()
            self._server = None


class _Transport(xmlrpc.client.Transport):
    """XML-RPC over a Unix socket."""

    def __init__(self, path: Path) -> None:
        super().__init__()
        self._path = path

    def make_connection(self, host: Any) -> http.client.HTTPConnection:
        connection = http.client.HTTPConnection("localhost")
        connection.sock = socket.socket(socket.AF_UNIX)
        connection.sock.connect(str(self._path))
        return connection


def end_of_line(number: signal.Signals) -> str:
    """How its log tells of a death by a signal."""
    return f"(terminated by {number.name}"
