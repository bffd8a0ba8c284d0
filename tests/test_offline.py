"""The same reading answers with the daemon down, from the database alone."""

import os
import signal
import time
from pathlib import Path
from typing import Any

import msgspec
import pytest

from stratavore import offline, protocol
from stratavore.errors import NotFound
from stratavore.paths import Paths
from tests.cli.conftest import Cli, clean_environment, end_everything

MOVING = {"cpu_percent", "rss_bytes", "threads", "children", "seen_at", "health", "output_bytes", "warnings"}
"""What only a living daemon knows, or what changes by itself."""


def test_only_reading_routes_are_answered() -> None:
    reading = {route.name for route in protocol.ROUTES if route.reads}
    assert set(offline.ANSWERS) == reading


def test_nothing_recorded_is_empty_and_makes_no_file(tmp_path: Path) -> None:
    paths = Paths(tmp_path / "state", tmp_path / "config.toml")
    for route in protocol.ROUTES:
        if route.reads and "{" in route.path:
            with pytest.raises(NotFound, match="nothing was ever recorded"):
                offline.read(paths, route.name, {"runner": "x", "project": "x", "budget": "x"})
        elif route.name == "daemon_status":
            assert offline.read(paths, route.name, {})["pid"] is None
        elif route.reads:
            msgspec.convert(offline.read(paths, route.name, {}), route.answer)
    assert not paths.state.exists()


def test_the_answers_are_those_of_the_daemon(tmp_path: Path) -> None:
    """Every reading command prints the same JSON with the daemon and without, but for what only a daemon knows."""
    cli = Cli(tmp_path / "home", clean_environment(tmp_path))
    try:
        cli("new", "demo", "--path", str(tmp_path), "--agent", "shell", "--tag", "one", "--max-memory", "8G")
        cli("new", "other", "--path", str(tmp_path))
        cli("projects", "archive", "other")
        cli("launch", "demo", "--count", "2", "--name", "lives", "--", "sleep", "1000")
        cli("launch", "demo", "--name", "over", "--", "sleep", "1000")
        cli("stop", "over")
        questions: list[tuple[str, ...]] = [
            ("status",),
            ("projects",),
            ("projects", "--status", "archived"),
            ("projects", "show", "demo"),
            ("ps",),
            ("ps", "--all", "--project", "demo"),
            ("ps", "--state", "terminated"),
            ("show", "over"),
            ("show", "lives-1"),
            ("usage", "--by", "model"),
        ]
        cli("daemon", "stop")
        without = [cli(*question, "--json") for question in questions]
        events = cli.json("events", "--limit", "1000")
        cli("daemon", "start")
        with_daemon = [cli.json(*question) for question in questions]
        for question, down, up in zip(questions, without, with_daemon, strict=True):
            assert "the daemon is not running; showing what the database knew at 20" in down.stderr
            assert "runners are alive" in down.stderr
            assert _still(msgspec.json.decode(down.stdout)) == _still(up), question
        assert cli.json("events", "--limit", "1000")[: len(events)] == events
    finally:
        end_everything(cli)


def test_after_a_kill_the_database_still_tells(tmp_path: Path) -> None:
    cli = Cli(tmp_path / "home", clean_environment(tmp_path))
    try:
        cli("new", "demo", "--path", str(tmp_path), "--agent", "shell")
        pid = cli.json("daemon", "status")["pid"]
        os.kill(pid, signal.SIGKILL)
        deadline = time.monotonic() + 20
        while Path(f"/proc/{pid}/stat").exists() and ") Z " not in Path(f"/proc/{pid}/stat").read_text():
            assert time.monotonic() < deadline
        assert [project["name"] for project in cli.json("projects")] == ["demo"]
        explained = cli("show", "nobody", exits=3)
        assert "no runner is called nobody" in explained.stderr
    finally:
        end_everything(cli)


def _still(answer: Any) -> Any:
    """The answer without what moves."""
    if isinstance(answer, list):
        return [_still(each) for each in answer]
    if isinstance(answer, dict):
        return {key: _still(value) for key, value in answer.items() if key not in MOVING}
    return answer
