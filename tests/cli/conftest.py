"""The command line as a person uses it: a process, its two streams, its exit code."""

import json
import os
import subprocess
import sys
from collections.abc import Iterator, Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest

from stratavore.autostart import is_held
from stratavore.paths import Paths

SECONDS = 60


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
        return json.loads(self(*argv, "--json", exits=exits).stdout)

    def command(self, *argv: str) -> list[str]:
        return [sys.executable, "-m", "stratavore", *argv]


@pytest.fixture
def cli(tmp_path: Path) -> Cli:
    """No daemon runs, and none may be started."""
    return Cli(tmp_path / "home", {**_clean_environment(tmp_path), "STRATAVORE_DAEMON_AUTOSTART": "false"})


@pytest.fixture
def live(tmp_path: Path) -> Iterator[Cli]:
    """A real daemon runs, and is ended with every runner afterwards."""
    cli = Cli(tmp_path / "home", _clean_environment(tmp_path))
    cli("daemon", "start")
    try:
        yield cli
    finally:
        end_everything(cli)


def end_everything(cli: Cli) -> None:
    """Leave no process of this home behind, whatever the test did."""
    if not is_held(cli.paths.lock):
        subprocess.run(
            cli.command("daemon", "start"), env=cli.environment, capture_output=True, timeout=SECONDS
        )
    with suppress(subprocess.SubprocessError):
        subprocess.run(
            cli.command("kill", "--all", "--timeout", "20s"),
            env=cli.environment,
            capture_output=True,
            timeout=SECONDS,
        )
    subprocess.run(
        cli.command("daemon", "stop", "-y"), env=cli.environment, capture_output=True, timeout=SECONDS
    )


def _clean_environment(tmp_path: Path) -> dict[str, str]:
    kept = {key: os.environ[key] for key in ("PATH", "LANG", "LC_ALL", "USER") if key in os.environ}
    home = tmp_path / "user"
    home.mkdir()
    return {**kept, "HOME": str(home), "SHELL": "/bin/sh", "TERM": "xterm-256color"}
