"""The floor: the same work by a bare loop, in a process of its own, with nothing that makes it useful.

It keeps processes on terminals: one `openpty` and one `posix_spawn` each, one epoll loop, if wished a log each. No
names, no database, no exit codes, no reply to anybody; when it dies, everything dies.

Run as a program it takes a JSON object a line and answers with one a line.
"""

import json
import os
import select
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import Any

from benchmarks.bench import CLICK, ROOT, SLEEPER, environment
from benchmarks.processes import raise_limits

_READ_BYTES = 1 << 16
_TURN_BYTES = 1 << 18
_FATAL = (signal.SIGHUP, signal.SIGINT, signal.SIGPIPE, signal.SIGTERM)


class Bare:
    """The bare loop as a system, driven from outside."""

    name = "bare loop"

    def __init__(self, place: Path, *, keeps_logs: bool = True, samples: bool = False) -> None:
        self._logs = place / "bare" if keeps_logs else None
        self._samples = samples
        self._child: subprocess.Popen[str] | None = None

    def start(self) -> None:
        if self._logs:
            self._logs.mkdir(parents=True)
        self._child = subprocess.Popen(
            [sys.executable, "-m", "benchmarks.bare", str(self._logs or ""), "10" if self._samples else ""],
            cwd=ROOT,
            env=self.environment(),
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            bufsize=1,
        )
        self.ask("pids")

    def launch(self, count: int, argv: Sequence[str] = SLEEPER) -> float:
        return float(self.ask("launch", count=count, argv=list(argv))["seconds"])

    def runners(self) -> list[int]:
        return list(self.ask("pids")["pids"])

    def processes(self) -> list[int]:
        assert self._child is not None
        return [self._child.pid]

    def status_command(self) -> Sequence[str]:
        return CLICK

    def environment(self) -> dict[str, str]:
        return environment()

    def stop_all(self) -> float:
        return self.end(signal.SIGTERM)

    def end(self, number: signal.Signals) -> float:
        """Signal all of them and wait for each; the seconds it took."""
        return float(self.ask("end", signal=int(number))["seconds"])

    def finish(self) -> dict[str, float]:
        """Drain until nothing has its terminal open any more: `wall` and `cpu` seconds since the last launch."""
        return dict(self.ask("finish"))

    def recognise(self) -> float:
        """The seconds it takes to open a pidfd of every process and to compare its start time."""
        return float(self.ask("recognise")["seconds"])

    def close(self) -> None:
        if self._child is not None:
            self.ask("end", signal=int(signal.SIGKILL))
            self._child.communicate()
            self._child = None

    def ask(self, what: str, **fields: Any) -> dict[str, Any]:
        assert self._child is not None
        assert self._child.stdin is not None
        assert self._child.stdout is not None
        self._child.stdin.write(json.dumps({"do": what, **fields}) + "\n")
        return dict(json.loads(self._child.stdout.readline()))


def spawn(argv: Sequence[str]) -> tuple[int, int]:
    """One process that leads a session on a terminal of its own: its pid, and the other side of the terminal."""
    master, slave = os.openpty()
    os.set_blocking(master, False)
    name = os.ttyname(slave)
    actions = [
        (os.POSIX_SPAWN_OPEN, 0, name, os.O_RDWR, 0),
        (os.POSIX_SPAWN_DUP2, 0, 1),
        (os.POSIX_SPAWN_DUP2, 0, 2),
    ]
    pid = os.posix_spawn(argv[0], list(argv), os.environ, file_actions=actions, setsid=True, setsigdef=_FATAL)
    os.close(slave)
    return pid, master


def death_seconds() -> float:
    """From SIGKILL to the moment at which the parent's loop knows."""
    pid, master = spawn(SLEEPER)
    poll = select.epoll()
    descriptor = os.pidfd_open(pid)
    poll.register(descriptor, select.EPOLLIN)
    began = time.perf_counter()
    os.kill(pid, signal.SIGKILL)
    poll.poll()
    os.waitpid(pid, 0)
    seconds = time.perf_counter() - began
    poll.close()
    os.close(descriptor)
    os.close(master)
    return seconds


class _Loop:
    """The child's side."""

    def __init__(self, logs: str, sample_seconds: str) -> None:
        self._logs = logs
        self._sample_seconds = float(sample_seconds or 0)
        self._poll = select.epoll()
        self._poll.register(0, select.EPOLLIN)
        self._outputs: dict[int, int | None] = {}
        self._starts: dict[int, bytes] = {}
        self._launched = (0.0, 0.0)
        self._made = 0

    def run(self) -> None:
        asked: dict[str, Callable[[dict[str, Any]], dict[str, Any]]] = {
            "launch": self._launch,
            "pids": lambda _: {"pids": list(self._starts)},
            "end": self._end,
            "finish": self._finish,
            "recognise": self._recognise,
        }
        sampled = time.monotonic()
        commands = open(0, "rb", buffering=0)  # noqa: SIM115 - it lives as long as we do
        while True:
            ready = self._poll.poll(self._sample_seconds or None)
            if self._sample_seconds and time.monotonic() - sampled >= self._sample_seconds:
                sampled = time.monotonic()
                _pass_over(self._starts)
            if any(descriptor == 0 for descriptor, _ in ready):
                line = commands.readline()
                if not line:
                    return
                request = json.loads(line)
                print(json.dumps(asked[request["do"]](request)), flush=True)
            self._drain(descriptor for descriptor, _ in ready)

    def _launch(self, request: dict[str, Any]) -> dict[str, Any]:
        began, argv = time.perf_counter(), request["argv"]
        self._launched = (time.perf_counter(), time.process_time())
        for _ in range(request["count"]):
            pid, master = spawn(argv)
            self._made += 1
            log = None
            if self._logs:
                log = os.open(f"{self._logs}/{self._made}", os.O_WRONLY | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC)
            self._outputs[master] = log
            self._starts[pid] = b""
            self._poll.register(master, select.EPOLLIN)
        seconds = time.perf_counter() - began
        self._starts = dict(_pass_over(self._starts))
        return {"seconds": seconds}

    def _end(self, request: dict[str, Any]) -> dict[str, Any]:
        began = time.perf_counter()
        for pid in self._starts:
            os.kill(pid, request["signal"])
        for pid in self._starts:
            os.waitpid(pid, 0)
        seconds = time.perf_counter() - began
        self._starts.clear()
        for master in list(self._outputs):
            self._forget(master)
        return {"seconds": seconds}

    def _finish(self, _: dict[str, Any]) -> dict[str, Any]:
        while self._outputs:
            self._drain(descriptor for descriptor, _ in self._poll.poll())
        for pid in self._starts:
            os.waitpid(pid, 0)
        self._starts.clear()
        wall, cpu = self._launched
        return {"wall": time.perf_counter() - wall, "cpu": time.process_time() - cpu}

    def _recognise(self, _: dict[str, Any]) -> dict[str, Any]:
        began = time.perf_counter()
        known = dict(self._starts)
        opened = [os.pidfd_open(pid) for pid in known]
        assert dict(_pass_over(known)) == known
        seconds = time.perf_counter() - began
        for descriptor in opened:
            os.close(descriptor)
        return {"seconds": seconds}

    def _drain(self, ready: Iterable[int]) -> None:
        for master in ready:
            if master not in self._outputs:  # the commands, or forgotten since
                continue
            log, room = self._outputs[master], _TURN_BYTES
            try:
                while room > 0:
                    data = os.read(master, _READ_BYTES)
                    room -= len(data)
                    if log is not None:
                        os.write(log, data)
            except BlockingIOError:
                pass
            except OSError:  # EIO: nobody has the terminal open any more
                self._forget(master)

    def _forget(self, master: int) -> None:
        self._poll.unregister(master)
        os.close(master)
        if (log := self._outputs.pop(master)) is not None:
            os.close(log)


def _pass_over(pids: dict[int, bytes]) -> list[tuple[int, bytes]]:
    """The start time of each, read as a sampling pass reads it."""
    found = []
    for pid in pids:
        descriptor = os.open(f"/proc/{pid}/stat", os.O_RDONLY)
        stat = os.read(descriptor, 1024)
        os.close(descriptor)
        found.append((pid, stat[stat.rindex(b")") + 2 :].split()[19]))
    return found


if __name__ == "__main__":
    raise_limits()
    _Loop(*sys.argv[1:3]).run()
