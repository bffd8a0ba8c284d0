"""`status`, the bare command, `watch` into a pipe, `config`, `du`, `prune`, `reconcile`, `--version`."""

import json
import subprocess
from typing import Any

from stratavore import __version__
from stratavore.cli import humane
from stratavore.cli.status import summary
from tests.cli.conftest import Cli


def test_the_version(cli: Cli) -> None:
    assert cli("--version").stdout == f"stratavore {__version__}\n"


def test_the_bare_command_helps_whoever_has_nothing(cli: Cli) -> None:
    printed = cli().stdout
    assert "Usage: stratavore" in printed
    assert "Begin with `stratavore up`" in printed


def test_the_bare_command_shows_how_things_stand(live: Cli, project: str) -> None:
    live("launch", project, "--name", "on-the-board", "--", "sleep", "1000")
    printed = live().stdout
    assert "1 running" in printed
    assert "on-the-board" in printed


def test_help_lists_every_command(cli: Cli) -> None:
    from stratavore.cli.commands import COMMANDS

    printed = cli("--help").stdout
    assert all(f"\n  {name} " in printed for name in COMMANDS)


def test_status_in_a_line(live: Cli) -> None:
    assert live("status").stdout.startswith(("0 runners", "1 runner"))
    assert {"runners", "by_state", "projects", "cpu_percent", "rss_bytes", "warnings"} == live.json("status").keys()


def test_the_line_names_what_is_there_and_what_is_wrong() -> None:
    found: dict[str, Any] = {
        "runners": 3,
        "by_state": {"running": 2, "backoff": 1},
        "projects": 1,
        "cpu_percent": 12.34,
        "rss_bytes": 3 << 30,
        "warnings": ["the disk is full"],
    }
    assert summary(found) == (
        "3 runners: 2 running, 1 backoff · 1 project · CPU 12.3% · memory 3 GiB\n! the disk is full"
    )


def test_watch_into_a_pipe_is_one_table(live: Cli, project: str) -> None:
    live("launch", project, "--name", "watched", "--", "sleep", "1000")
    heads, watched = live("watch", "--project", project).stdout.splitlines()
    assert heads.split()[:3] == ["ID", "NAME", "PROJECT"]
    assert watched.split()[1] == "watched"


def test_watch_as_json_prints_at_once_and_ends_with_its_reader(live: Cli, project: str) -> None:
    watcher = subprocess.Popen(
        live.command("watch", "--json", "--interval", "0.05", "--project", project),
        env=live.environment,
        stdout=subprocess.PIPE,
        text=True,
    )
    assert watcher.stdout is not None
    with watcher.stdout:
        assert json.loads(watcher.stdout.readline()) == []
        live("launch", project, "--name", "seen", "--no-wait", "--", "sleep", "1000")
        assert json.loads(watcher.stdout.readline())[0]["name"] == "seen"
    assert watcher.wait(30) == 141, "nothing changed, but nobody reads"
    live("stop", "seen")


def test_config_says_where_a_value_came_from(cli: Cli) -> None:
    shown = cli("config", "show", "--source", env={"STRATAVORE_DAEMON_LOG_LEVEL": "debug"}).stdout
    assert "# STRATAVORE_DAEMON_LOG_LEVEL" in shown
    found = json.loads(cli("config", "show", "--json").stdout)
    assert found["runners"]["max_restarts"] == {"value": "3", "source": "default"}


def test_config_validate_names_file_and_line(cli: Cli) -> None:
    assert "is good" in cli("config", "validate").stdout
    cli.home.mkdir()
    file = cli.home / "config.toml"
    file.write_text("[runners]\nmax_restarts = -1\n")
    assert f"{file}:2" in cli("config", "validate", exits=78).stderr
    file.write_text('[budgets]\ntimezone = "Europe/Berlim"\n')
    assert "'Europe/Berlim' → correct that line" in cli("config", "validate", exits=78).stderr
    file.write_text("[runners]\nbackoff_first = '10m'\n")
    assert "→ change one of the two" in cli("config", "validate", exits=78).stderr
    file.write_text("")
    assert cli("config", "validate").stdout == f"The configuration is good: {file}\n"


def test_config_takes_one_more_file_before_and_behind_the_verb(cli: Cli) -> None:
    file = cli.home.parent / "more.toml"
    file.write_text("[runners]\nmax_restarts = 9\n")
    for argv in (["--config", str(file), "config", "show"], ["config", "show", "--config", str(file)]):
        assert "max_restarts = 9" in cli(*argv).stdout


def test_upkeep(live: Cli, project: str) -> None:
    live("launch", project, "--name", "kept", "--", "sleep", "1000")
    live("stop", "kept")
    assert live.json("reconcile").keys() == {"examined", "changed", "lost", "adopted"}
    assert live.json("du").keys() == {"database_bytes", "output_bytes", "transcript_bytes", "other_bytes", "by_runner"}
    assert live.json("prune", "--older-than", "0", "--dry-run")["runners"] >= 1
    live("show", "kept")
    assert "nothing was done" in live("prune", "--older-than", "0", exits=2).stderr
    live("prune", "--older-than", "0", "--yes")
    live("show", "kept", exits=3)


def test_times_and_sizes_are_told_as_people_read_them() -> None:
    now = humane.moment("2026-01-01T12:00:00Z")
    assert humane.ago("2026-01-01T11:56:30Z", now) == "3m ago"
    assert humane.ago("2026-01-01T12:00:09Z", now) == "in 9s"
    assert humane.ago("2026-01-01T12:00:00Z", now) == "now"
    assert humane.ago(None) == "-"
    assert [humane.size(count) for count in (None, 0, 999, 1024, 1 << 20, 1_300_000_000)] == [
        "-",
        "0 B",
        "999 B",
        "1 KiB",
        "1 MiB",
        "1.21 GiB",
    ]
