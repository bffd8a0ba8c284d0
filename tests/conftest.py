"""What every test has: an environment in which nothing of the person who runs the tests shows.

What some ask for: `books`, a database with the real schema; `house`, a daemon in the test's own process; `shared`, one
for all tests of a module that are marked `@together`.
"""

from __future__ import annotations

import os
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
import pytest_asyncio

if TYPE_CHECKING:
    from tests.books import Books
    from tests.house import House


@pytest.fixture(autouse=True, scope="session")
def _nothing_of_the_caller(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """No configuration, and no files of agents. STRATAVORE_TEST_… stays: it says where the tests' own programs are."""
    with pytest.MonkeyPatch.context() as patch:
        for variable in list(os.environ):
            if variable.startswith("STRATAVORE_") and not variable.startswith("STRATAVORE_TEST_"):
                patch.delenv(variable)
        for variable in ("CLAUDE_CONFIG_DIR", "CODEX_HOME", "XDG_DATA_HOME", "GEMINI_CLI_HOME"):
            patch.delenv(variable, raising=False)
        patch.setenv("HOME", str(tmp_path_factory.mktemp("home")))
        yield


@pytest.fixture
def books(tmp_path: Path) -> Iterator[Books]:
    from tests.books import Books  # not above: most tests need no daemon's modules

    with Books.open(tmp_path / "books" / "state.db") as opened:
        yield opened


@pytest.fixture
async def house(tmp_path: Path) -> AsyncIterator[House]:
    from tests.house import living

    async with living(tmp_path / "state") as house:
        yield house


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def shared(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[House]:
    """With a project `p` for those who need any."""
    from tests.house import living

    async with living(tmp_path_factory.mktemp("shared") / "state") as house:
        await house.project("p", max_runners=1000)
        yield house
