"""What a one-shot command loads. Noise cannot fool this: it looks at names, not at seconds."""

import subprocess
import sys
from pathlib import Path

import pytest

import stratavore.cli
from tests.cli.conftest import Cli
from tests.fake_daemon import Asked, fake_daemon
from tests.test_architecture import imports_of

CLI = Path(stratavore.cli.__file__).parent
DENIED = frozenset(
    "asyncio dataclasses logging http.client msgspec rich aiohttp telegram textual psutil apsw tomllib pyte ssl"
    " concurrent.futures multiprocessing email unittest subprocess tempfile pkgutil importlib.metadata jwt limits"
    " prometheus_client stratavore.model stratavore.protocol stratavore.config stratavore.store stratavore.offline"
    " stratavore.autostart stratavore.environment stratavore.client".split()
)
STATUS = {"runners": 0, "by_state": {}, "projects": 0, "cpu_percent": None, "rss_bytes": None, "warnings": []}


@pytest.mark.parametrize(
    "argv",
    [
        ["--version"],
        ["status"],
        ["status", "--json"],
        ["ps"],
        ["ps", "--json"],
        ["projects"],
        ["events"],
        ["usage"],
        ["du"],
    ],
    ids=" ".join,
)
def test_a_reading_command_loads_nothing_heavy(cli: Cli, argv: list[str]) -> None:
    with fake_daemon(cli.home, _answer):
        assert not _loaded(cli, argv) & DENIED


def test_the_version_does_not_even_load_click(cli: Cli) -> None:
    assert "click" not in _loaded(cli, ["--version"])


def test_a_changing_command_with_a_daemon_loads_no_struct(cli: Cli) -> None:
    with fake_daemon(cli.home, lambda _: []):
        loaded = _loaded(cli, ["stop", "--all", "--no-wait"])
    assert not loaded & (DENIED - {"stratavore.autostart"})


def test_the_list_would_notice(cli: Cli) -> None:
    """The negative control: with the daemon down the answer comes from the database, with all it takes."""
    assert {"msgspec", "apsw"} <= _loaded(cli, ["status"])


def test_no_file_of_the_command_line_needs_one_that_needs_it() -> None:
    """Not even inside a function: a circle is two files that are one."""
    needs = {f"stratavore.cli.{file.stem}": imports_of(file) for file in CLI.glob("*.py")}
    below = dict(needs)
    while below != (grown := {name: _and_theirs(modules, needs) for name, modules in below.items()}):
        below = grown
    assert [name for name, modules in below.items() if name in modules] == []


def _and_theirs(modules: frozenset[str], needs: dict[str, frozenset[str]]) -> frozenset[str]:
    return modules.union(*(needs.get(module, frozenset()) for module in modules))


def _answer(asked: Asked) -> object:
    if "/status" in asked.target:
        return STATUS
    if "/usage" in asked.target:
        return {"rows": [], "total": {}}
    return (
        {"database_bytes": 1, "output_bytes": 1, "transcript_bytes": 1, "other_bytes": 1, "by_runner": {}}
        if "disk" in asked.target
        else []
    )


def _loaded(cli: Cli, argv: list[str]) -> set[str]:
    """The modules that a command imported, packages included."""
    done = subprocess.run(
        [sys.executable, "-X", "importtime", "-m", "stratavore", *argv],
        env=cli.environment,
        capture_output=True,
        text=True,
        check=True,
    )
    lines = [line for line in done.stderr.splitlines() if line.startswith("import time:")]
    return {line.rpartition("|")[2].strip() for line in lines}
