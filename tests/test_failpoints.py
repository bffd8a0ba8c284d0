"""Failpoints do what the environment says, and nothing without it."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

PASSES = """
from stratavore.failpoints import fp
for n in range(3):
    fp("here")
    print(n, flush=True)
    fp("there")
"""


def run(failpoints: str | None, code: str = PASSES) -> "subprocess.CompletedProcess[str]":
    environ = {**os.environ, "PYTHONPATH": str(Path(__file__).parents[1])}
    if failpoints is not None:
        environ["STRATAVORE_FAILPOINTS"] = failpoints
    return subprocess.run([sys.executable, "-c", code], env=environ, capture_output=True, text=True, check=False)


@pytest.mark.parametrize("failpoints", [None, "", "elsewhere=kill"])
def test_nothing_happens_at_a_place_that_is_not_armed(failpoints: str | None) -> None:
    assert run(failpoints).stdout.split() == ["0", "1", "2"]


def test_kill_happens_at_the_nth_time() -> None:
    killed = run("here=kill@2")
    assert killed.returncode == -9
    assert killed.stdout.split() == ["0"]


def test_raise_happens_once() -> None:
    raised = run("there=raise@3")
    assert raised.stdout.split() == ["0", "1", "2"]
    assert "FailpointHit: there" in raised.stderr


def test_enospc_is_the_error_of_a_full_disk() -> None:
    assert "[Errno 28] No space left on device: 'here'" in run("here=enospc").stderr


def test_sleep_waits_every_time() -> None:
    code = PASSES.replace("from", "import time; began = time.monotonic()\nfrom", 1) + "print(time.monotonic() - began)"
    assert float(run("here=sleep:0.1", code).stdout.split()[-1]) >= 0.3


def test_the_trace_names_every_place_that_was_passed(tmp_path: Path) -> None:
    run(f"trace:{tmp_path / 'trace'};there=kill@2")
    assert (tmp_path / "trace").read_text().split() == ["here", "there", "here", "there"]


def test_a_bundled_executable_never_arms_them() -> None:
    assert run("here=kill", "import sys; sys.frozen = True\n" + PASSES).returncode == 0


@pytest.mark.parametrize("failpoints", ["here", "here=explode", "=", "here=sleep:long"])
def test_a_wrong_action_stops_the_start(failpoints: str) -> None:
    assert "ValueError" in run(failpoints).stderr
