"""What every test has: an environment in which nothing of the person who runs the tests shows."""

import os

import pytest


@pytest.fixture(autouse=True)
def _no_configuration_of_the_caller(monkeypatch: pytest.MonkeyPatch) -> None:
    for variable in [name for name in os.environ if name.startswith("STRATAVORE_")]:
        monkeypatch.delenv(variable)
