"""The fixture `shims`: a zygote and its shims in a temporary directory."""

from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from tests.shim.harness import House


@pytest.fixture
async def house(tmp_path: Path) -> AsyncIterator[House]:
    """A started house; `house.shims` is the daemon's side of it."""
    async with House(tmp_path / "state") as started:
        yield started
