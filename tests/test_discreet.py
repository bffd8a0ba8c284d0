"""No record that carries an environment shows a value of it."""

from collections.abc import Callable
from pathlib import Path

import pytest

from stratavore import protocol
from stratavore.agents import Launch, Plain, Start
from stratavore.config import Config
from stratavore.config.settings import Environment, Profile
from stratavore.shims import SpawnRequest

SECRET = {"TOKEN": "s3cr3t"}
RECORDS: dict[str, Callable[[], object]] = {
    "a request to launch": lambda: protocol.Launch(project="p", environment=SECRET, env=SECRET),
    "a start": lambda: Start(name="n", cwd="/", runner_dir=Path("/"), env=SECRET, profile=Plain(env=SECRET)),
    "what an adapter wants": lambda: Launch(argv=("x",), env=SECRET, files={"settings.json": "s3cr3t"}),
    "a spawn": lambda: SpawnRequest("k.1", "{}", ["x"], SECRET, "/"),
    "the configuration": lambda: Config(environment=Environment(set=SECRET), agents={"mine": Profile(env=SECRET)}),
}


@pytest.mark.parametrize("made", RECORDS.values(), ids=RECORDS)
def test_a_repr_names_the_variables_and_shows_no_value(made: Callable[[], object]) -> None:
    shown = repr(made())
    assert "'TOKEN': '***'" in shown
    assert "s3cr3t" not in shown
    assert "s3cr3t" not in f"{made()}"


def test_what_is_no_secret_is_shown() -> None:
    shown = repr(protocol.Launch(project="p", count=3))
    assert shown.startswith("Launch(project='p', name=None")
    assert "count=3" in shown
