"""The command line as a person uses it: a process, its two streams, its exit code."""

import json
import os
import signal
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from functools import cache
from pathlib import Path
from typing import Any

import pytest

from stratavore.agents import AGENTS
from stratavore.paths import Paths

SECONDS = 30


class Cli:
    """`cli("ps", "--json")` runs `stratavore ps --json` in a home of its own."""

    def __init__(self, home: Path, environment: Mapping[str, str]) -> None:
        self.home = home
        self.paths = Paths(home, home / "config.toml")
        self.environment = {**environment, "STRATAVORE_HOME": str(home)}

    def __call__(
        self,
        *argv: str,
        exits: int = 0,
        stdin: str = "",
        env: Mapping[str, str] | None = None,
        cwd: Path | None = None,
    ) -> subprocess.CompletedProcess[str]:
        """Run to the end; the exit code must be `exits`."""
        done = subprocess.run(
            self.command(*argv),
            input=stdin,
            capture_output=True,
            text=True,
            env={**self.environment, **(env or {})},
            cwd=cwd,
            timeout=SECONDS,
        )
        assert done.returncode == exits, f"{argv}: exit {done.returncode}\n{done.stdout}\n{done.stderr}"
        return done

    def json(self, *argv: str, exits: int = 0) -> Any:
        """What it printed with `--json`."""
        at = argv.index("--") if "--" in argv else len(argv)
        return json.loads(self(*argv[:at], "--json", *argv[at:], exits=exits).stdout)

    def command(self, *argv: str) -> list[str]:
        return [sys.executable, "-m", "stratavore", *argv]


@pytest.fixture
def cli(tmp_path: Path) -> Cli:
    """No daemon runs, and none may be started."""
    return Cli(tmp_path / "home", {**clean_environment(tmp_path), "STRATAVORE_DAEMON_AUTOSTART": "false"})


@pytest.fixture(scope="module")
def live(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Cli]:
    """A real daemon, one for the tests of a file; it is ended with every runner afterwards."""
    with living(tmp_path_factory.mktemp("live")) as cli:
        yield cli


@pytest.fixture
def fresh(tmp_path: Path) -> Iterator[Cli]:
    """No daemon runs yet, but any command may start one; it is ended with every runner afterwards."""
    cli = Cli(tmp_path / "home", clean_environment(tmp_path))
    try:
        yield cli
    finally:
        end_everything(cli)


@pytest.fixture
def project(live: Cli, tmp_path: Path, request: pytest.FixtureRequest) -> str:
    """A project of the test's own, with room for twenty runners."""
    name = request.node.name.replace("[", "-").replace("]", "")[-60:].lstrip("-")
    live("new", name, "--path", str(tmp_path), "--agent", "shell", "--max-runners", "20")
    return str(name)


@contextmanager
def living(directory: Path) -> Iterator[Cli]:
    """A daemon in a home below `directory`."""
    cli = Cli(directory / "home", clean_environment(directory))
    try:
        cli("daemon", "start")
        yield cli
    finally:
        end_everything(cli)


def end_everything(cli: Cli) -> None:
    """Leave no process of this home behind, whatever the test did."""
    if not cli.home.exists():
        return
    for argv in (("daemon", "start"), ("kill", "--all", "--timeout", "20s"), ("daemon", "stop", "-y")):
        with suppress(subprocess.SubprocessError):
            subprocess.run(cli.command(*argv), env=cli.environment, capture_output=True, timeout=SECONDS)
    for pid in (
        *cli.home.glob("zygotes/*/pid"),
        *cli.home.glob("shims/*/pid"),
    ):  # they would stay for a minute
        with suppress(ValueError, OSError):
            os.kill(int(pid.read_text().split()[0]), signal.SIGTERM)


def clean_environment(tmp_path: Path) -> dict[str, str]:
    kept = {key: os.environ[key] for key in ("PATH", "LANG", "LC_ALL", "USER") if key in os.environ}
    home = tmp_path / "user"
    home.mkdir()
    kept["PATH"] = _path_without_agents(kept["PATH"])
    return {**kept, "HOME": str(home), "SHELL": "/bin/sh", "TERM": "xterm-256color"}


@cache
def _path_without_agents(path: str) -> str:
    """So that a test starts no agent of the person who runs the tests: what else lies beside one is linked."""
    found = []
    for directory in filter(os.path.isdir, path.split(":")):
        names = set(os.listdir(directory))
        if names & AGENTS.keys():
            links = tempfile.mkdtemp(prefix="stratavore-path-")
            for name in names - AGENTS.keys():
                os.symlink(f"{directory}/{name}", f"{links}/{name}")
            directory = links
        found.append(directory)
    return ":".join(found)
