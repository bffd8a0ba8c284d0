"""`config`: what the configuration is, and where it came from. Asks no daemon."""

import os
from typing import TYPE_CHECKING, Any

import click

from stratavore.cli.asking import config_file, here
from stratavore.cli.options import config_option, json_option
from stratavore.cli.output import say, show_json

if TYPE_CHECKING:
    from stratavore.config import Loaded


@click.group
def config() -> None:
    """Show or check the configuration."""


@config.command
@click.option("--source", is_flag=True, help="Say of each value where it came from.")
@config_option
@json_option
def show(source: bool, as_json: bool) -> None:
    """Print every key with the value in force, as TOML; secrets are masked."""
    from stratavore.config import render_all

    loaded = _load()
    show_json(_as_json(loaded)) if as_json else say(render_all(loaded, sources=source).rstrip("\n"))


@config.command
@config_option
@json_option
def validate(as_json: bool) -> None:
    """Check the configuration; the first mistake is told with its file and line, with exit code 78."""
    loaded = _load()
    files = [str(file) for file in loaded.files]
    if as_json:
        show_json({"valid": True, "files": files})
    else:
        say(f"The configuration is good: {', '.join(files) or 'no file is there, so the defaults hold'}")


def _load() -> "Loaded":
    from stratavore.config import load

    return load(here(), config_file(), os.environ)


def _as_json(loaded: "Loaded") -> dict[str, Any]:
    """`{section: {key: {value, source}}}`; a value is what the TOML says, secrets masked."""
    from stratavore.config import rows_of

    return {
        section: {name: {"value": value, "source": str(source)} for name, value, source in rows}
        for section, rows in rows_of(loaded)
    }
