"""What Claude's status line tells of an account, and how ours is asked for."""

import json
import subprocess
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
from msgspec.structs import replace

from stratavore.agents import AGENTS, Start
from stratavore.agents.claude_status_line import EVENT, windows
from stratavore.agents.hooks import Hooks
from stratavore.agents.records import Window

AT = datetime(2031, 1, 2, tzinfo=UTC)
RESETS = datetime(2031, 1, 2, 3, tzinfo=UTC)
GOOD = {"used_percentage": 42.5, "resets_at": RESETS.timestamp()}


def of(limits: Any) -> list[Window]:
    return [*windows(json.dumps({"rate_limits": limits}).encode(), AT)]


def test_both_windows_are_told() -> None:
    five, seven = of({"five_hour": GOOD, "seven_day": {"used_percentage": 7}, "spend_limit": {"used_percentage": 9}})
    assert five == Window(at=AT, name="5h", used_percent=42.5, resets_at=RESETS)
    assert seven == Window(at=AT, name="7d", used_percent=7, resets_at=None)


@pytest.mark.parametrize(
    "odd",
    [
        *(None, 7, "x", [], {}, {**GOOD, "resets_at": "2031-01-02"}),
        *({"used_percentage": odd} for odd in ("7", -1, 1e300, None)),
    ],
)
def test_a_window_of_another_shape_hides_no_other(odd: Any) -> None:
    assert of({"five_hour": odd, "seven_day": GOOD}) == [Window(at=AT, name="7d", used_percent=42.5, resets_at=RESETS)]


def test_a_reset_that_cannot_be_is_none() -> None:
    [found] = of({"five_hour": {**GOOD, "resets_at": 1e18}})
    assert found.resets_at is None


@pytest.mark.parametrize("text", [b"", b"{", b"[]", b"[" * 100_000, b'{"rate_limits": null}', b'{"rate_limits": 1}'])
def test_what_tells_of_no_window_tells_nothing(text: bytes) -> None:
    told = AGENTS["claude"].hooked(EVENT, text, AT, is_blocked=False)
    assert (told.windows, told.activity) == ((), None)


def test_it_is_asked_for_only_where_that_was_wanted(tmp_path: Path) -> None:
    """The user's directories may have any name: the command is for a shell."""
    account = tmp_path / "it's mine"
    start = Start(
        name="x",
        cwd="/",
        runner_dir=tmp_path,
        env={"HOME": "/", "CLAUDE_CONFIG_DIR": str(account)},
        session_id="7152777b-c145-4252-b509-e1cb76cb2619",
    )
    for hooks in (None, Hooks(command=("true",))):
        assert "statusLine" not in _settings(start, hooks)
    line = _settings(start, Hooks(command=("true",), status_line=("printf", "%s,")))["statusLine"]
    shown = subprocess.run(["/bin/sh", "-c", line["command"]], capture_output=True, text=True, check=True).stdout
    assert (line["type"], shown) == ("command", f"{tmp_path},{account},")


def _settings(start: Start, hooks: Hooks | None) -> Any:
    launch = AGENTS["claude"].launch(replace(start, hooks=hooks))
    return json.loads(launch.files["claude-settings.json"])
