"""Options and arguments that several commands share."""

import os
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

import click

from stratavore.cli import completing
from stratavore.cli.quantities import SPAN

if TYPE_CHECKING:
    from datetime import datetime

F = TypeVar("F", bound=Callable[..., Any])


class Moment(click.ParamType[str]):
    """A moment: a span ago (`7d`), a day (`2026-01-31`), or a time (`2026-01-31T12:00`), by the reader's clock."""

    name = "moment"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> str:
        from datetime import UTC, datetime

        try:
            return datetime.fromisoformat(value).astimezone(UTC).isoformat()
        except (ValueError, OverflowError):
            moment = _span_ago(str(value).removesuffix(" ago"))
        if moment is None:
            self.fail(f"{value!r} is no moment; write 7d, 2026-01-31 or 2026-01-31T12:00.", param, ctx)
        return moment.isoformat()


class DayOrMoment(Moment):
    """The same, but a bare day is left as it is: whoever is asked knows by which clock it begins."""

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> str:
        from datetime import date

        try:
            return date.fromisoformat(value).isoformat()
        except ValueError:
            return super().convert(value, param, ctx)


def _span_ago(text: str) -> "datetime | None":
    """The moment so long ago; None if that is no span, or leads out of the calendar."""
    from datetime import UTC, datetime, timedelta

    from stratavore.config.units import parse_seconds

    try:
        seconds = parse_seconds(text)
        return datetime.now(UTC) - timedelta(seconds=seconds) if seconds >= 0 else None
    except (ValueError, OverflowError):
        return None


class Reference(click.ParamType[str]):
    """What names a runner or a project; never empty, so that it always is one part of a path."""

    def __init__(self, name: str) -> None:
        self.name = name

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> str:
        text = str(value)
        if not text or "," in text or "*" in text or "/" in text or not text.isprintable():
            self.fail(f"{value!r} cannot be the name of a {self.name}.", param, ctx)
        return text


class UserPath(click.Path):
    """A path, absolute; `~` is expanded here as well, for in `--path=~/x` no shell does it."""

    def __init__(self, *, exists: bool = False, files: bool = True, directories: bool = True) -> None:
        super().__init__(exists=exists, file_okay=files, dir_okay=directories, path_type=Path)

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Path:
        path = super().convert(os.path.expanduser(value), param, ctx)
        assert isinstance(path, Path)
        return path.absolute()


MOMENT = Moment()
DAY_OR_MOMENT = DayOrMoment()
AGENTS = ("claude", "codex", "gemini", "opencode", "shell")
"""For completion only: the configuration may add more, and the daemon judges."""


def project_argument(function: F) -> F:
    return click.argument("project", type=Reference("project"), shell_complete=completing.projects)(function)


def project_option(help: str = "Only runners of this project.") -> Callable[[F], F]:
    return click.option(
        "--project", metavar="P", type=Reference("project"), help=help, shell_complete=completing.projects
    )


def runner_argument(function: F) -> F:
    """One runner: a name, an id, or a unique prefix of either."""
    return click.argument("runner", type=Reference("runner"), shell_complete=completing.runners)(function)


def living_runner_argument(function: F) -> F:
    """The same, for what only a living one takes."""
    return click.argument("runner", type=Reference("runner"), shell_complete=completing.living_runners)(function)


def asking_runner_argument(function: F) -> F:
    """The same, for what only one takes that asks for a permission."""
    return click.argument("runner", type=Reference("runner"), shell_complete=completing.asking_runners)(function)


def session_argument(function: F) -> F:
    """One session: its id, or a unique prefix of it."""
    return click.argument("session", type=Reference("session"), shell_complete=completing.sessions)(function)


def living_runners_argument(function: F) -> F:
    """Several runners, for what only living ones take."""
    return runners_argument(function, completing.living_runners)


def runners_argument(function: F, complete: Callable[..., Any] = completing.runners) -> F:
    """Several runners, or `--project`, or `--all`: see `choosing.chosen`."""
    for decorator in (
        click.option("--all", "everyone", is_flag=True, help="All runners."),
        project_option("All runners of this project."),
        click.argument(
            "runners",
            metavar="[RUNNER]...",
            nargs=-1,
            type=Reference("runner"),
            shell_complete=complete,
        ),
    ):
        function = decorator(function)
    return function


def agent_option(function: F) -> F:
    return click.option(
        "--agent",
        metavar="A",
        help="claude, codex, gemini, opencode, shell, or a profile of the configuration.",
        shell_complete=lambda ctx, param, start: [agent for agent in AGENTS if agent.startswith(start)],
    )(function)


def json_option(function: F) -> F:
    return click.option("--json", "as_json", is_flag=True, help="Print what the API answered.")(function)


def timeout_option(help: str) -> Callable[[F], F]:
    return click.option("--timeout", metavar="T", type=SPAN, help=help)


def yes_option(function: F) -> F:
    return click.option("-y", "--yes", is_flag=True, help="Do not ask for confirmation.")(function)


def config_option(function: F) -> F:
    """`--config FILE`, before or behind the command; the daemon that it starts reads the file too."""
    return click.option(
        "--config",
        metavar="FILE",
        type=UserPath(directories=False),
        help="One more configuration file, read last.",
        expose_value=False,
        callback=_remember_config,
    )(function)


def _remember_config(ctx: click.Context, param: click.Parameter, value: Path | None) -> None:
    if value is not None:
        if not value.is_file():
            raise click.BadParameter(f"there is no file {value}", ctx, param)
        ctx.find_root().meta["config_file"] = value
