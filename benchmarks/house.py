"""Stratavore as it is measured: a daemon of its own, in a state directory of its own.

Rule 1: a runner runs when its row says so: what is timed ends in the database, which is read beside the daemon.
Rule 2: the daemon has the default configuration, apart from what a measurement names.
"""

import os
import signal
import subprocess
import sys
import time
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

from benchmarks import processes
from benchmarks.bench import ROOT, SLEEPER, environment
from benchmarks.measure import Failed, run, wait_until
from stratavore import control
from stratavore.client import Client
from stratavore.paths import Paths
from stratavore.shim.client import living
from stratavore.store.database import Reader, open_readonly

PROJECT = "load"
_FINAL = "state IN ('terminated', 'failed', 'lost')"


class House:
    """A daemon, its zygote, its shims."""

    name = "stratavore"

    def __init__(self, place: Path, *, settings: str = "", by_client: bool = False) -> None:
        self.home = place / "home"
        self.project = place / "project"
        self.paths = Paths(self.home, self.home / "config.toml")
        self.client = Client(self.paths, timeout=120)
        self._settings = settings
        self._by_client = by_client
        self._daemon: subprocess.Popen[bytes] | None = None
        self._rows: Reader | None = None

    def start(self) -> None:
        for directory in (self.home, self.project):
            directory.mkdir(mode=0o700)
        self.paths.user_config.write_text(self._settings)
        self.paths.user_config.chmod(0o600)
        self.start_daemon()
        self.client.new_project(PROJECT, str(self.project), agent="shell", max_runners=5000)
        self._rows = open_readonly(self.paths.database)

    def start_daemon(self) -> float:
        """The seconds until it answers."""
        began = time.perf_counter()
        with open(self.home.with_name("daemon.log"), "ab") as log:
            self._daemon = subprocess.Popen(
                [sys.executable, "-m", "stratavore", "daemon", "run"],
                cwd=ROOT,
                env=self.environment(),
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                start_new_session=True,
            )
        wait_until(lambda: control.daemon_version(self.paths) is not None, "the daemon answers")
        return time.perf_counter() - began

    def kill_daemon(self) -> None:
        """SIGKILL, and reaped."""
        assert self._daemon is not None
        self._daemon.kill()
        self._daemon.wait()

    def launch(self, count: int, argv: Sequence[str] = SLEEPER) -> float:
        before = self.count("state = 'running'")
        began = time.perf_counter()
        if self._by_client:
            self.client.launch(PROJECT, count=count, argv=list(argv), environment=self.environment())
            self._wait_for("state = 'running'", before + count)
            return time.perf_counter() - began
        command = self.cli("launch", PROJECT, "--count", str(count), "--", *argv)
        self._wait_for("state = 'running'", before + count, command)
        seconds = time.perf_counter() - began
        _end_of(command)
        return seconds

    def runners(self) -> list[int]:
        return [row["pid"] for row in self.rows.all("SELECT pid FROM runs WHERE state = 'running'")]

    def processes(self) -> list[int]:
        return [self.daemon_pid(), *self.holders()]

    def daemon_pid(self) -> int:
        """Whoever holds the lock: if the one that we started is slow, the zygote starts another."""
        return int(self.paths.lock.read_text().split()[1])

    def holders(self) -> list[int]:
        """Zygote and shims."""
        return [*living(self.paths.zygotes).values(), *living(self.paths.shims).values()]

    def status_command(self) -> Sequence[str]:
        return [sys.executable, "-m", "stratavore", "status"]

    def environment(self) -> dict[str, str]:
        return environment(STRATAVORE_HOME=str(self.home))

    def stop_all(self) -> float:
        everyone = self.count("1")
        began = time.perf_counter()
        command = self.cli("stop", "--all")
        self._wait_for(_FINAL, everyone, command)
        seconds = time.perf_counter() - began
        _end_of(command)
        return seconds

    def storm(self) -> float:
        """SIGKILL every runner; the seconds from the first kill until every exit is in the database."""
        everyone, doomed = self.count("1"), self.runners()
        began = time.perf_counter()
        for pid in doomed:
            os.kill(pid, signal.SIGKILL)
        self._wait_for(_FINAL, everyone)
        return time.perf_counter() - began

    def cli(self, *words: str) -> "subprocess.Popen[bytes]":
        """A command that was started."""
        return subprocess.Popen(
            [sys.executable, "-m", "stratavore", *words],
            cwd=ROOT,
            env=self.environment(),
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.PIPE,
        )

    @property
    def rows(self) -> Reader:
        """The database, read beside the daemon."""
        assert self._rows is not None
        return self._rows

    def count(self, where: str) -> int:
        """How many runs are so."""
        return int(self.rows.scalar(f"SELECT count(*) FROM runs WHERE {where}"))

    def close(self) -> None:
        """End everything at once: nothing of it is wanted any more."""
        if self._rows is not None:
            self._rows.close()
        if self._daemon is not None:
            with suppress(OSError, IndexError):  # it never came up
                processes.end(self.processes())
            self.kill_daemon()

    def _wait_for(self, where: str, count: int, command: "subprocess.Popen[bytes] | None" = None) -> None:
        def is_so() -> bool:
            if command is not None and command.poll():
                _end_of(command)
            return self.count(where) >= count

        wait_until(is_so, f"{count} runs are {where}")


def launch_one(house: House, **fields: Any) -> str:
    """Launch one runner and return its id as soon as the daemon replied."""
    argv = list(fields.pop("argv", SLEEPER))
    answer = control.ask(house.paths, "launch", project=PROJECT, argv=argv, **fields)
    return str(answer["runners"][0]["id"])


def state_of(house: House, runner_id: str) -> tuple[int, str]:
    """The number and the state of the runner's newest run, as the database has them."""
    row = house.rows.one(
        "SELECT number, state FROM runs WHERE runner_id = ? ORDER BY number DESC LIMIT 1", (runner_id,)
    )
    return row["number"], row["state"]


def check_status(house: House) -> str:
    """What the status command prints."""
    return run(house.status_command(), env=house.environment(), cwd=ROOT)


def _end_of(command: "subprocess.Popen[bytes]") -> None:
    _, said = command.communicate(timeout=60)
    if command.returncode:
        raise Failed(f"stratavore: {said.decode(errors='replace').strip()[-500:]}")
