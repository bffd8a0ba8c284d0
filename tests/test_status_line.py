"""What Claude runs for its status line, as a process of its own."""

import json
import os
import stat
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from stratavore import hook, status_line
from stratavore.executable import status_line_command
from stratavore.paths import Paths

FIVE_HOURS = {"used_percentage": 42.5, "resets_at": 4_000_000_000}
SHOWS_ALL = r"cat; printf 'second line \033[31m'; exit 3"


@pytest.fixture
def paths(tmp_path: Path) -> Paths:
    paths = Paths(tmp_path, tmp_path / "config.toml")
    paths.runner("r1").mkdir(parents=True)
    (tmp_path / "account").mkdir()
    (tmp_path / "project" / ".claude").mkdir(parents=True)
    return paths


def configure(file: Path, command: object) -> None:
    """The user's own status line."""
    file.write_text(json.dumps({"theme": "dark", "statusLine": {"type": "command", "command": command}}))


def given(paths: Paths, **more: Any) -> bytes:
    """What Claude gives to it."""
    return json.dumps({"workspace": {"project_dir": str(paths.state / "project")}, **more}, indent=1).encode()


def run(paths: Paths, said: bytes, *, exits: int = 0) -> bytes:
    """What it prints."""
    command = [*status_line_command(), str(paths.runner("r1")), str(paths.state / "account")]
    done = subprocess.run(command, input=said, capture_output=True, timeout=30)
    assert (done.returncode, done.stderr) == (exits, b"")
    return done.stdout


def told(paths: Paths) -> list[Any]:
    spool = paths.runner("r1") / hook.SPOOL
    lines = [line.split(b" ", 3) for line in spool.read_bytes().splitlines()] if spool.exists() else []
    assert all(line[1:3] == [b"StatusLine", b"allow"] for line in lines)
    return [json.loads(line[3])["rate_limits"] for line in lines]


def test_the_users_own_line_is_shown_as_if_nothing_stood_between(paths: Paths) -> None:
    configure(paths.state / "account" / "settings.json", SHOWS_ALL)
    said = given(paths, rate_limits={"five_hour": FIVE_HOURS}, more="x" * 300_000)
    assert run(paths, said, exits=3) == said + b"second line \x1b[31m"
    assert told(paths) == [{"five_hour": FIVE_HOURS}]


def test_who_has_none_sees_none(paths: Paths) -> None:
    assert run(paths, given(paths, rate_limits={"five_hour": FIVE_HOURS})) == b""
    assert told(paths) == [{"five_hour": FIVE_HOURS}]
    assert stat.S_IMODE((paths.runner("r1") / status_line.TOLD).stat().st_mode) == 0o600


def test_what_is_nearer_to_the_project_counts(paths: Paths) -> None:
    account, project = paths.state / "account", paths.state / "project" / ".claude"
    for file, word in (
        (account / "settings.json", "user"),
        (project / "settings.json", "project"),
        (project / "settings.local.json", "local"),
    ):
        configure(file, f"echo {word}")
        before = file.read_bytes()
        assert run(paths, given(paths)) == f"{word}\n".encode()
        assert file.read_bytes() == before
    (project / "settings.local.json").write_text('{"statusLine": ')
    configure(project / "settings.json", ["no", "command"])
    assert run(paths, given(paths)) == b"user\n"


def test_what_was_told_is_not_told_again(paths: Paths) -> None:
    """Who sits idle shows what was so at its last answer, whatever others have used since."""
    for percent in (1, 1, 2, 2, 1):
        run(paths, given(paths, rate_limits={"five_hour": {"used_percentage": percent}}))
    assert [each["five_hour"]["used_percentage"] for each in told(paths)] == [1, 2, 1]


@pytest.mark.parametrize(
    "said", [b"", b"{", b"[]", b"null", b"\xff", b"[" * 100_000, b'{"rate_limits": [1], "workspace": 7}']
)
def test_whatever_is_said_the_users_own_line_is_shown(paths: Paths, said: bytes) -> None:
    configure(paths.state / "account" / "settings.json", "wc -c")
    assert int(run(paths, said)) == len(said)
    assert told(paths) == []


def test_without_a_place_to_tell_it_the_users_own_line_is_shown(paths: Paths, tmp_path: Path) -> None:
    configure(paths.state / "account" / "settings.json", "echo mine")
    precious = tmp_path / "precious"
    precious.write_text("mine")
    (paths.runner("r1") / status_line.TOLD).symlink_to(precious)
    said = given(paths, rate_limits={"five_hour": FIVE_HOURS})
    assert run(paths, said) == b"mine\n"
    assert precious.read_text() == "mine"
    for file in paths.runner("r1").iterdir():
        file.unlink()
    paths.runner("r1").rmdir()
    assert run(paths, said) == b"mine\n"


def test_settings_that_never_end_hold_nobody(paths: Paths) -> None:
    os.mkfifo(paths.state / "project" / ".claude" / "settings.json")
    configure(paths.state / "account" / "settings.json", "echo mine")
    assert run(paths, given(paths)) == b"mine\n"


def test_without_its_arguments_it_fails_nobody() -> None:
    done = subprocess.run([*status_line_command()], input=b"{}", capture_output=True)
    assert (done.returncode, done.stdout, done.stderr) == (0, b"", b"")


def test_as_a_command_it_does_the_same(paths: Paths) -> None:
    configure(paths.state / "account" / "settings.json", "echo mine")
    command = [sys.executable, "-m", "stratavore", "hook", "status-line"]
    command += [str(paths.runner("r1")), str(paths.state / "account")]
    assert subprocess.run(command, input=given(paths), capture_output=True, check=True).stdout == b"mine\n"
