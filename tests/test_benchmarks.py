"""The benchmarks run from end to end, with tiny numbers: that they measure well is seen in their results."""

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

ROOT = Path(__file__).parent.parent


def measured(tmp_path: Path, *rows: str) -> dict[str, Any]:
    """The rows of a tiny run, by name."""
    only = [word for row in rows for word in ("--only", row)]
    command = [
        sys.executable,
        "-m",
        "benchmarks",
        "--scale",
        "tiny",
        "--name",
        "test",
        "--results",
        str(tmp_path),
    ]
    env = {**os.environ, "XDG_STATE_HOME": str(tmp_path / "state")}
    done = subprocess.run(
        [*command, *only], cwd=ROOT, env=env, capture_output=True, text=True, check=False, timeout=100
    )
    assert done.returncode == 0, done.stderr
    assert list((tmp_path / "state").iterdir()) == [], "nothing of it is left"
    [report] = tmp_path.glob("*.json")
    found = json.loads(report.read_text())
    assert report.with_suffix(".md").read_text() in done.stdout
    return {row["name"]: row for row in found["rows"]}


def test_a_crowd_is_launched_asked_about_and_ended(tmp_path: Path) -> None:
    rows = measured(tmp_path, "launch-4", "stop-all", "exit-storm", "api-one", "memory")
    assert rows.keys() == {
        "launch-4",
        "launch-client-4",
        "memory",
        "stop-all",
        "exit-storm",
        "api-one-p50",
        "api-one-p99",
    }
    for row in rows.values():
        assert row["ours"]["low"] <= row["ours"]["value"] <= row["ours"]["high"]
        assert row["floor"]["value"] > 0
        assert row["floor_is"]


def test_a_killed_daemon_loses_nothing(tmp_path: Path) -> None:
    rows = measured(tmp_path, "readopt")
    assert rows["readopt-losses"]["ours"]["value"] == 0
    assert rows["readopt-losses"]["reached"] is True


def test_a_flood_is_counted_to_the_byte(tmp_path: Path) -> None:
    rows = measured(tmp_path, "flood")
    assert rows["flood"]["ours"]["value"] > 0


def test_a_hook_is_timed(tmp_path: Path) -> None:
    rows = measured(tmp_path, "hook")
    ours, floor = rows["hook"]["ours"], rows["hook"]["floor"]
    assert 0 < ours["low"] <= 3 * floor["low"], "the promise, as far as a busy machine can tell"
    assert "each left its line: True" in rows["hook"]["notes"]


def test_a_budget_that_is_crossed_blocks(tmp_path: Path) -> None:
    rows = measured(tmp_path, "block")
    assert 0 < rows["block-p50"]["ours"]["low"] <= rows["block-p99"]["ours"]["value"]
    assert rows["block-p99"]["ours"]["runs"] == rows["block-all-p99"]["ours"]["runs"] == 2


def test_a_row_that_is_not_there_is_told(tmp_path: Path) -> None:
    with pytest.raises(AssertionError, match="no such row: nonsense"):
        measured(tmp_path, "nonsense")


def test_a_backlog_of_transcripts_is_booked_and_live_lines_are_timed(tmp_path: Path) -> None:
    rows = measured(tmp_path, "ledger")
    assert rows["ledger-backlog"]["ours"]["value"] > 0
    assert rows["ledger-backlog"]["floor"]["value"] > 0
    assert 0 < rows["ledger-lag-p50"]["ours"]["value"] <= rows["ledger-lag-p99"]["ours"]["value"]
    assert rows["ledger-lag-p99"]["ours"]["runs"] == 100
