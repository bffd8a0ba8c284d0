"""The fixture of all: a person's machine with one agent on it, Claude unless a test asks for another."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.agents.bench import KINDS
from tests.e2e.house import House
from tests.standins import messages

WORD_SECONDS = 0.025
"""Between two words of a slow answer: `count to 200 slowly` takes five seconds."""


@pytest.fixture
def house(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[House]:
    agent = getattr(request, "param", "claude")
    serving = messages.serve(pause_seconds=WORD_SECONDS) if agent == "claude" else KINDS[agent].serve()
    with serving as standin:
        house = House(agent, tmp_path, standin)
        try:
            house.cli("new", "demo", "--path", str(house.folder))
            yield house
        finally:
            house.close()
