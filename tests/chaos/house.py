"""A whole Stratavore in a directory of its own: daemon, zygote, shims, runners, and the truth about them from /proc.

Rule 1: everything is real, and every process that is ended was started by this house: it is found by the lock, by the
pid file of a held lock, or by the mark that each runner of the house carries in its environment.
Rule 2: nothing sleeps: whoever waits, waits for a condition, with a deadline.
Rule 3: chance comes from `dice`, whose seed is printed and taken back from STRATAVORE_TEST_SEED.
"""

import os
import random
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterable, Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any, NamedTuple, Self, TypeVar

from stratavore import control
from stratavore.client import Client
from stratavore.errors import DaemonUnreachable, StratavoreError
from stratavore.model import Launched, Run, Runner
from stratavore.paths import Paths
from stratavore.shim.client import MARKER, is_locked
from stratavore.store.lock import last_holder

T = TypeVar("T")
MARK = "CHAOS_HOUSE"
DEADLINE_SECONDS = 20.0
DAEMON = ("-m", "stratavore", "daemon", "run")
RETURN_SECONDS = 5.0
"""So long after each return the states may differ from reality."""
LIVE_STATES = frozenset({"running", "paused", "stopping"})
FINAL_STATES = frozenset({"terminated", "failed", "lost"})


def dice(salt: str = "") -> random.Random:
    """Chance that can be had again: the seed is printed, which pytest shows when the test fails."""
    seed = os.environ.get("STRATAVORE_TEST_SEED") or str(random.SystemRandom().randrange(10**9))
    print(f"STRATAVORE_TEST_SEED={seed}")
    return random.Random(seed + salt)


def until(is_so: Callable[[], T], *, seconds: float = DEADLINE_SECONDS, why: str = "it") -> T:
    """Wait for something true and return it. Raises AssertionError."""
    deadline = time.monotonic() + seconds
    pause = 0.002
    while not (found := is_so()):
        assert time.monotonic() < deadline, f"not within {seconds:g} s: {why}"
        time.sleep(pause)
        pause = min(0.05, pause * 1.5)
    return found


class Process(NamedTuple):
    """One process that bears the marker of a runner."""

    pid: int
    runner: str
    is_leader: bool
    """Whether it leads its session, as the process of a run does and what it starts does not."""


class House:
    """One state directory and all that lives of it."""

    def __init__(self, directory: Path, **settings: str) -> None:
        self.home = directory / "home"
        self.folder = directory / "folder"
        self.folder.mkdir(parents=True, exist_ok=True)
        (directory / "user").mkdir(exist_ok=True)
        self.paths = Paths(self.home, self.home / "config.toml")
        self.client = Client(self.paths)
        kept = {name: os.environ[name] for name in ("PATH", "LANG", "USER") if name in os.environ}
        self.environment = {
            **kept,
            "HOME": str(directory / "user"),
            "SHELL": "/bin/sh",
            "STRATAVORE_HOME": str(self.home),
            "STRATAVORE_SUPERVISION_RECONCILE_INTERVAL": "2s",
            "STRATAVORE_SUPERVISION_SAMPLE_INTERVAL": "2s",
            "STRATAVORE_RUNNERS_BACKOFF_FIRST": "0.2s",
            **settings,
        }
        self.entry: Iterable[str] = DAEMON
        """What is run in place of the daemon, where a test wants one with a bug again and again."""
        self._children: list[subprocess.Popen[bytes]] = []

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.clear()

    # The daemon

    def begin(self, *, entry: Iterable[str] = DAEMON, **environment: str) -> subprocess.Popen[bytes]:
        """Start a daemon and look no further."""
        self.home.mkdir(mode=0o700, exist_ok=True)
        with open(self.paths.log, "ab") as log:
            child = subprocess.Popen(
                [sys.executable, *entry],
                stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=log,
                env={**self.environment, **environment}, cwd="/", start_new_session=True,
            )  # fmt: skip
        self._children.append(child)
        return child

    def start(self, *, entry: Iterable[str] = DAEMON, **environment: str) -> subprocess.Popen[bytes]:
        """Start a daemon; it answers when this returns."""
        child = self.begin(entry=entry, **environment)
        until(lambda: self.answers() or child.poll() is not None, why="a daemon that answers")
        assert child.poll() is None, f"the daemon ended: {child.returncode}\n{self.log_text()[-2000:]}"
        return child

    def answers(self) -> bool:
        with suppress(StratavoreError):
            return control.daemon_version(self.paths) is not None
        return False

    def daemon_pid(self) -> int:
        """The pid of the living daemon, 0 if there is none."""
        holder = last_holder(self.paths.lock)
        return holder.pid if holder and is_locked(self.paths.lock) else 0

    def kill_daemon(self) -> int:
        """SIGKILL it if it lives; returns when it is gone."""
        pid = self.daemon_pid()
        if pid:
            with suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
            until(lambda: self.daemon_pid() != pid, why="the lock of a killed daemon to be free")
        self._reap()
        return pid

    def returns(self, *, than: int, seconds: float = DEADLINE_SECONDS) -> int:
        """Wait until another daemon `than` that pid answers; its pid."""

        def back() -> int:
            pid = self.daemon_pid()
            return pid if pid != than and self.answers() else 0

        return until(back, seconds=seconds, why="the daemon to be back")

    def log_text(self) -> str:
        """Everything any daemon of this house said."""
        files = [self.paths.log, *self.paths.zygotes.glob("*/log")]
        return "".join(file.read_text(errors="replace") for file in files if file.exists())

    # Asking

    def cli(self, *argv: str, exits: int | None = 0, **environment: str) -> "subprocess.CompletedProcess[str]":
        """Run a command to its end."""
        done = subprocess.run(
            [sys.executable, "-m", "stratavore", *argv],
            capture_output=True, text=True, env={**self.environment, **environment}, timeout=60, check=False,
        )  # fmt: skip
        assert exits is None or done.returncode == exits, f"{argv}: {done.returncode}\n{done.stdout}{done.stderr}"
        return done

    def project(self, name: str = "p", *, max_runners: int = 50) -> str:
        self.client.new_project(name, str(self.folder), agent="shell", max_runners=max_runners)
        return name

    def launch(self, *argv: str, project: str = "p", **fields: Any) -> Runner:
        """Have one runner accepted; it is starting."""
        return self.launch_many(*argv, project=project, **fields)[0]

    def launch_many(self, *argv: str, project: str = "p", **fields: Any) -> list[Runner]:
        asked = {"agent": "shell", "environment": self.environment, "env": {MARK: str(self.home)}, **fields}
        launched = self.client.launch(project, argv=list(argv), **asked)
        assert isinstance(launched, Launched)
        return launched.runners

    def patiently(self, ask: Callable[[], T]) -> T:
        """Ask again and again while no daemon answers."""

        def attempt() -> list[T]:
            try:
                return [ask()]
            except DaemonUnreachable:
                return []

        return until(attempt, why="an answer of the daemon")[0]

    def runner(self, reference: str) -> Runner:
        return self.patiently(lambda: self.client.get_runner(reference))

    def runners(self, **fields: Any) -> list[Runner]:
        return self.patiently(lambda: self.client.list_runners(all=True, **fields))

    def runs(self, reference: str) -> list[Run]:
        return self.patiently(lambda: self.client.list_runs(reference))

    def becomes(self, reference: str, *states: str, seconds: float = DEADLINE_SECONDS) -> Runner:
        """The runner, once it is in one of these states."""

        def look() -> Runner | None:
            found = self.runner(reference)
            return found if found.state in states else None

        found = until(look, seconds=seconds, why=f"{reference} to be {' or '.join(states)}")
        assert found is not None
        return found

    def output(self, reference: str) -> bytes:
        """What the log files of the runner hold."""
        return b"".join(Path(run.log).read_bytes() for run in self.runs(reference))

    def free_slots(self, project: str = "p") -> int:
        found = self.patiently(lambda: self.client.get_project(project))
        return found.max_runners - found.runners

    # The truth

    def processes(self, *runners: str) -> list[Process]:
        """The living processes of this house's runners (or of these), from /proc and nothing else."""
        wanted, mark = set(runners), f"{MARK}={self.home}".encode()
        found = []
        for pid, environ in environments():
            if mark not in environ:
                continue
            runner = next((each[len(MARKER) + 1 :] for each in environ if each.startswith(MARKER.encode() + b"=")), b"")
            if not wanted or runner.decode() in wanted:
                with suppress(OSError):
                    found.append(Process(pid, runner.decode(), os.getsid(pid) == pid))
        return found

    def disagreements(self) -> list[str]:
        """Where the states differ from the processes. What changes right now may show up here and go again."""
        before = {runner.id: runner for runner in self.runners()}
        processes = self.processes()
        after = {runner.id: runner for runner in self.runners()}
        steady = {id for id in before.keys() & after.keys() if before[id].state == after[id].state}
        return compare(
            [runner for id, runner in after.items() if id in steady],
            [process for process in processes if process.runner in steady or process.runner not in after],
        )

    def agrees(self, *, seconds: float = RETURN_SECONDS) -> None:
        """Within that time the states equal reality."""
        deadline = time.monotonic() + seconds
        while found := self.disagreements():
            assert time.monotonic() < deadline, f"after {seconds:g} s still: {'; '.join(found[:9])}"
            time.sleep(0.05)

    def shim_pids(self) -> dict[str, int]:
        """The living shims."""
        return _holders(self.paths.shims)

    def zygote_pids(self) -> dict[str, int]:
        """The living zygotes."""
        return _holders(self.paths.zygotes)

    def shim_of(self, reference: str) -> str:
        return self.runs(reference)[-1].shim

    # The end

    def clear(self) -> None:
        """End every process of this house, in the order in which nobody starts another again."""
        if self.home.exists():
            with suppress(OSError):
                self.paths.stop_mark.touch()
        until(self._kill_all, why=f"every process of {self.home} to end")

    def _kill_all(self) -> bool:
        """KILL what lives; whether nothing did."""
        doomed = [self.daemon_pid(), *self._holders(), *(process.pid for process in self.processes())]
        doomed += [child.pid for child in self._children if child.poll() is None]
        for pid in filter(None, doomed):
            with suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
        return not any(doomed)

    def _holders(self) -> list[int]:
        """Zygotes and shims by the state directory in their arguments, daemons by that in their environment: those
        too that have no lock yet."""
        found = []
        here = {str(self.home).encode(), f"STRATAVORE_HOME={self.home}".encode()}
        for entry in filter(str.isdigit, (path.name for path in Path("/proc").iterdir())):
            with suppress(OSError):
                arguments = Path("/proc", entry, "cmdline").read_bytes().split(b"\0")
                told = arguments if b"stratavore-zygote" in arguments else []
                if b"daemon" in arguments:
                    told = Path("/proc", entry, "environ").read_bytes().split(b"\0")
                if not here.isdisjoint(told):
                    found.append(int(entry))
        return found

    def _reap(self) -> None:
        for child in self._children:
            child.poll()


def compare(runners: Iterable[Runner], processes: Iterable[Process]) -> list[str]:
    """The judge: what is wrong between what is said and what is, a line each."""
    leaders: dict[str, list[int]] = {}
    for process in processes:
        if process.is_leader:
            leaders.setdefault(process.runner, []).append(process.pid)
    wrong = []
    for runner in runners:
        living = leaders.pop(runner.id, [])
        if len(living) > 1:
            wrong.append(f"{runner.name} has {len(living)} processes: {living}")
        elif runner.state in LIVE_STATES and living != [runner.pid]:
            wrong.append(f"{runner.name} is {runner.state} as {runner.pid}, but {living or 'nothing'} lives")
        elif runner.state not in LIVE_STATES and living:
            wrong.append(f"{runner.name} is {runner.state}, but {living} lives")
        elif runner.state == "starting":
            wrong.append(f"{runner.name} is still starting")
    wrong += [f"{pids} of runner {runner!r} that nobody knows" for runner, pids in leaders.items()]
    return wrong


def environments() -> Iterable[tuple[int, list[bytes]]]:
    """Every process of ours, with its environment. A zombie has none."""
    for entry in filter(str.isdigit, (path.name for path in Path("/proc").iterdir())):
        try:
            environ = Path("/proc", entry, "environ").read_bytes()
        except OSError:
            continue
        yield int(entry), environ.split(b"\0")


def is_alive(pid: int) -> bool:
    """Whether the process runs; a zombie does not."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] not in "ZX"
    except OSError:
        return False


def bare(environment: Mapping[str, str], *names: str) -> dict[str, str]:
    """The environment without these."""
    return {name: value for name, value in environment.items() if name not in names}


def _holders(parent: Path) -> dict[str, int]:
    found = {}
    for directory in parent.glob("*"):
        with suppress(OSError, ValueError):
            if is_locked(directory / "lock"):
                found[directory.name] = int((directory / "pid").read_text())
    return found
