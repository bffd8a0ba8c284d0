"""The fixture of all: a person's machine with one agent on it, Claude unless a test asks for another."""

from collections.abc import Iterator
from pathlib import Path
from tempfile import TemporaryDirectory

import pytest

from tests.agents.bench import KINDS
from tests.e2e.house import House
from tests.standins import messages

WORD_SECONDS = 0.025
"""Between two words of a slow answer: `count to 200 slowly` takes five seconds."""


@pytest.fixture
def house(request: pytest.FixtureRequest) -> Iterator[House]:
    """In a directory of a short name: agents leave away what does not fit beside it on the screen."""
    agent = getattr(request, "param", "claude")
    serving = messages.serve(pause_seconds=WORD_SECONDS) if agent == "claude" else KINDS[agent].serve()
    directory = TemporaryDirectory(prefix="house-", ignore_cleanup_errors=True)
    with serving as standin, directory as place:
        house = House(agent, Path(place), standin)
        try:
            house.cli("new", "demo", "--path", str(house.folder))
            yield house
        finally:
            house.close()
