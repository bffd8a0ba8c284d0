"""What every test has: an environment in which nothing of the person who runs the tests shows."""

import os
from collections.abc import Iterator

import pytest


@pytest.fixture(autouse=True, scope="session")
def _no_configuration_of_the_caller() -> Iterator[None]:
    """STRATAVORE_TEST_… stays: it says where the tests' own programs are."""
    with pytest.MonkeyPatch.context() as patch:
        for variable in list(os.environ):
            if variable.startswith("STRATAVORE_") and not variable.startswith("STRATAVORE_TEST_"):
                patch.delenv(variable)
        yield
