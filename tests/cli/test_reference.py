"""docs/cli.md says what the program does, because it is made from it."""

from collections.abc import Iterator
from pathlib import Path

import click
import pytest

from stratavore import errors
from stratavore.cli.commands import COMMANDS
from stratavore.cli.program import program
from stratavore.cli.reference import ANSWERED_BY, render

DOCUMENT = Path(__file__).parents[2] / "docs" / "cli.md"
KEYS_OF_A_RUNNER = (
    "id name project agent state activity pid exit_code exit_signal end_reason restarts desired restart_policy argv cwd"
    " started_at ended_at cpu_percent rss_bytes session_id output_bytes last_line"
).split()


def test_the_document_is_fresh() -> None:
    assert DOCUMENT.read_text() == render(), "python -m stratavore.cli.reference > docs/cli.md"


@pytest.mark.parametrize("name", COMMANDS)
def test_every_command_is_in_it(name: str) -> None:
    assert f"\n### {name}\n" in DOCUMENT.read_text()


def test_what_every_verb_prints_with_json_is_in_it() -> None:
    root = click.Context(program, info_name="stratavore")
    assert [name for name in _telling_json(program, root) if name not in ANSWERED_BY] == []
    for key in ("rows", "unpriced_calls", "limit_usd", "shim", "cache_read_tokens"):
        assert f"\n| `{key}` | " in DOCUMENT.read_text()


def _telling_json(command: click.Command, ctx: click.Context) -> Iterator[str]:
    if any("--json" in param.opts for param in command.params):
        yield ctx.command_path.removeprefix("stratavore ")
    if not isinstance(command, click.Group):
        return
    for name in command.list_commands(ctx):
        child = command.get_command(ctx, name)
        assert child is not None
        yield from _telling_json(child, click.Context(child, info_name=name, parent=ctx))


@pytest.mark.parametrize("cls", errors.classes(), ids=lambda cls: cls.code)
def test_every_exit_code_is_in_it(cls: type[errors.StratavoreError]) -> None:
    assert f"\n| {cls.exit_code} | `{cls.code}` | " in DOCUMENT.read_text()


@pytest.mark.parametrize("key", KEYS_OF_A_RUNNER)
def test_every_promised_key_of_a_runner_is_in_it(key: str) -> None:
    assert f"\n| `{key}` | " in DOCUMENT.read_text()


def test_the_readme_gives_every_verb_its_place() -> None:
    readme = (DOCUMENT.parents[1] / "README.md").read_text()
    table = readme.partition("## Every verb")[2].partition("`stratavore VERB --help`")[0]
    assert [name for name in COMMANDS if f"`{name}`" not in table and f"`{name} " not in table] == []
