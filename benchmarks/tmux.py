"""tmux as a peer: a server of its own, a window for each runner.

It keeps no log, no exit code and no durable row, and everything dies with its server.
"""

import shutil
import signal
import subprocess
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path

from benchmarks import processes
from benchmarks.bench import SLEEPER, environment, program
from benchmarks.measure import run, wait_until

_KEEPER = "86414"
"""The first window, which is no runner: a session needs one."""


class Tmux:
    """A server; `batched` launches all windows with one command file, else each with a call of its own."""

    def __init__(self, *, batched: bool = True) -> None:
        self.name = "tmux batched" if batched else "tmux"
        self._batched = batched
        self._place = Path(tempfile.mkdtemp(prefix="stb-"))  # the path of its socket must be short
        self._server: int | None = None

    def start(self) -> None:
        self.do("new-session", "-d", "-s", "load", "-x", "80", "-y", "24", SLEEPER[0], _KEEPER)
        self._server = int(self.do("display-message", "-p", "#{pid}"))

    def launch(self, count: int, argv: Sequence[str] = SLEEPER) -> float:
        before = len(self.panes())
        began = time.perf_counter()
        if self._batched:
            words = " ".join("'" + word.replace("'", r"'\''") + "'" for word in argv)
            batch = self._place / "batch"
            batch.write_text(f"new-window -d -t load: {words}\n" * count)
            self.do("source-file", str(batch))
        else:
            for _ in range(count):
                self.do("new-window", "-d", "-t", "load:", *argv)
        seconds = time.perf_counter() - began
        wait_until(lambda: len(self.panes()) == before + count, "tmux has all windows")
        return seconds

    def runners(self) -> list[int]:
        return [pid for pid in self.panes() if not _is_keeper(pid)]

    def processes(self) -> list[int]:
        assert self._server is not None
        return [self._server]

    def status_command(self) -> Sequence[str]:
        return [program("tmux") or "tmux", "-S", f"{self._place}/sock", "list-windows", "-t", "load"]

    def environment(self) -> dict[str, str]:
        return environment()

    def stop_all(self) -> float:
        """kill-server: it hangs up on all of them."""
        with processes.Deaths(self.runners()) as deaths:
            began = time.perf_counter()
            self.do("kill-server")
            deaths.wait(60)
            return time.perf_counter() - began

    def watch(self) -> "subprocess.Popen[str]":
        """A client in control mode, which is told of every window that closes."""
        return subprocess.Popen(
            [program("tmux") or "tmux", "-S", f"{self._place}/sock", "-C", "attach", "-t", "load"],
            env=self.environment(),
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )

    def panes(self) -> list[int]:
        """The pids in all windows, the keeper's too."""
        return [int(pid) for pid in self.do("list-panes", "-s", "-t", "load", "-F", "#{pane_pid}").split()]

    def do(self, *words: str) -> str:
        """One call of its command line."""
        command = [program("tmux") or "tmux", "-f", "/dev/null", "-S", f"{self._place}/sock", *words]
        return run(command, env=self.environment())

    def kill_server(self) -> None:
        """SIGKILL."""
        assert self._server is not None
        processes.kill_and_wait([self._server], signal.SIGKILL)

    def close(self) -> None:
        if self._server is not None:
            processes.end([self._server])
        shutil.rmtree(self._place, ignore_errors=True)


def _is_keeper(pid: int) -> bool:
    try:
        return _KEEPER.encode() in Path(f"/proc/{pid}/cmdline").read_bytes()
    except OSError:
        return False
