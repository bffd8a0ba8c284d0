"""A real shim, forked by a zygote of its own."""

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

from stratavore.shim import client
from stratavore.terminal.runlog import Run

DEADLINE_SECONDS = 15.0


class Shim:
    """One shim of a state directory of its own, forked by a zygote of its own."""

    def __init__(self, state: Path) -> None:
        self.state = state
        self.directory = state / "shims" / "s1"
        self._count = 0
        start = "from stratavore.shim.zygote import main; main()"
        subprocess.run([sys.executable, "-c", start, "zygote", state, "z1", "{}"], check=True, timeout=DEADLINE_SECONDS)
        self._zygote = client.connect(state / "zygotes" / "z1")
        self.pids = [self._zygote.hello["pid"], self._zygote.request("fork", shim="s1")["pid"]]
        self.control = client.connect(self.directory)

    def spawn(self, *argv: str, tty: bool = True, rows: int = 24, cols: int = 80) -> Run:
        self._count += 1
        key = f"runner{self._count}.1"
        environment = {
            "PATH": os.environ["PATH"],
            "TERM": "xterm-256color",
            "LANG": "C.UTF-8",
            client.MARKER: key,
        }
        self.control.request(
            "spawn", key=key, label="{}", argv=argv, env=environment, cwd=str(self.state), tty=tty, umask=0o022,
            rows=rows, cols=cols, log_cap_bytes=64 << 20,
        )  # fmt: skip
        return Run(key, self.state / "logs" / "s1" / key, self.directory, rows, cols if tty else None)

    def shell(self, script: str) -> Run:
        return self.spawn("/bin/sh", "-c", script)

    def close(self) -> None:
        with suppress(OSError):
            for entry in self.control.request("list")["entries"]:
                if "pid" in entry:
                    self.control.request("kill", key=entry["key"], by="test")
        self.control.close()
        self._zygote.close()
        for pid in reversed(self.pids):
            with suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)


def wait_until(condition: Callable[[], bool], what: str = "the condition") -> None:
    """Wait for it, with a deadline."""
    deadline = time.monotonic() + DEADLINE_SECONDS
    while not condition():
        assert time.monotonic() < deadline, f"{what} did not come about"
        time.sleep(0.01)
