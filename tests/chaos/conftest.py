from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.chaos.house import House


@pytest.fixture
def house(tmp_path: Path) -> Iterator[House]:
    """A house in which nothing lives yet; whatever does in the end is ended."""
    with House(tmp_path) as house:
        yield house


@pytest.fixture
def inhabited(house: House) -> House:
    """A house with a daemon, and the project `p` with room for fifty."""
    house.start()
    house.project()
    return house
