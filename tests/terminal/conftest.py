"""A real shim for the tests of the terminal room, and a place in a real PTY to attach from."""

import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pexpect
import pytest

from stratavore.terminal.runlog import Run
from tests.terminal.holding import DEADLINE_SECONDS, Shim

HERE = Path(__file__).parent


@pytest.fixture(scope="module")
def shim(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Shim]:
    shim = Shim(tmp_path_factory.mktemp("state"))
    yield shim
    shim.close()


@pytest.fixture
def attacher() -> Iterator[Callable[..., "pexpect.spawn[bytes]"]]:
    """Starts `attach` as a process of its own in a PTY; options as `tests/terminal/attacher.py` takes them."""
    children: list[pexpect.spawn[bytes]] = []

    def start(run: Run, *options: str, rows: int = 24, cols: int = 80) -> "pexpect.spawn[bytes]":
        arguments = [str(HERE / "attacher.py"), run.key, str(run.log), str(run.shim or ""), *options]
        child: pexpect.spawn[bytes] = pexpect.spawn(
            sys.executable, arguments, dimensions=(rows, cols), timeout=DEADLINE_SECONDS
        )
        children.append(child)
        return child

    yield start
    for child in children:
        child.close(force=True)
