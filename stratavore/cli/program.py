"""Which command is meant, and what happens to errors.

Rule 1: a word that is no command is a project: `stratavore demo` is `stratavore open demo`.
Rule 2: every error ends here, on one line of stderr and in an exit code.
"""

import os
import sys
from importlib import import_module
from typing import Any

import click

from stratavore import __version__
from stratavore.cli import INTERRUPTED, NO_ROOM
from stratavore.cli.commands import COMMANDS, COMPLETE
from stratavore.cli.options import config_option
from stratavore.errors import NotFound, StratavoreError
from stratavore.spelling import nearest


class Program(click.Group):
    """The commands of COMMANDS, loaded by name."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        return list(COMMANDS)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        place = COMMANDS.get(cmd_name)
        if place is None:
            return None
        module, _, function = place.partition(":")
        command: click.Command = getattr(import_module(module), function)
        return command

    def resolve_command(
        self, ctx: click.Context, args: list[str]
    ) -> tuple[str | None, click.Command | None, list[str]]:
        if args and args[0] not in COMMANDS and not args[0].startswith("-"):
            refuse_unknown(args[0])
            args = ["open", *args]
        return super().resolve_command(ctx, args)

    def shell_complete(self, ctx: click.Context, incomplete: str) -> list[Any]:
        from stratavore.cli.completing import projects

        return [*super().shell_complete(ctx, incomplete), *projects(ctx, None, incomplete)]


@click.group(
    cls=Program,
    invoke_without_command=True,
    context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 110},
    epilog="`stratavore PROJECT` is `stratavore open PROJECT`: into its runner, or into a new one.",
)
@config_option
@click.version_option(__version__, message="stratavore %(version)s")
@click.pass_context
def program(ctx: click.Context) -> None:
    """A local supervisor for AI coding agents: launches them, keeps them, knows what each is doing."""
    if ctx.invoked_subcommand is None:
        from stratavore.cli.status import overview

        overview(ctx)


def run(argv: list[str]) -> int:
    """Run the command `argv` and return its exit code; every error is told here, on one line of stderr."""
    try:
        if instruction := os.environ.get(COMPLETE):
            from click.shell_completion import shell_complete

            return shell_complete(program, {}, "stratavore", COMPLETE, instruction)
        with program.make_context("stratavore", argv) as ctx:
            program.invoke(ctx)
        return 0
    except click.exceptions.Exit as end:
        return end.exit_code
    except click.Abort:
        return INTERRUPTED
    except click.ClickException as error:
        tell(_usage(error))
        return error.exit_code
    except StratavoreError as error:
        tell(error)
        return error.exit_code
    except (KeyboardInterrupt, BrokenPipeError):
        raise
    except Exception as error:  # the border: a bug of ours
        if isinstance(error, OSError) and error.errno in NO_ROOM:
            raise
        if os.environ.get("STRATAVORE_DEBUG") or {"daemon", "run"} <= {*argv}:  # a daemon's stderr is its log
            import traceback

            traceback.print_exc()
        tell(StratavoreError(f"internal error: {type(error).__name__}: {error}", remedy=_HOW_TO_REPORT))
        return StratavoreError.exit_code


_HOW_TO_REPORT = "run it again with STRATAVORE_DEBUG=1 for the traceback, and report that"


def tell(error: StratavoreError) -> None:
    """`stratavore: what is wrong → what to do`, on one line."""
    from stratavore.cli.sanitise import clean

    remedy = f" → {error.remedy}" if error.remedy else ""
    print(f"stratavore: {clean(error.message)}{clean(remedy)}", file=sys.stderr)


def _usage(error: click.ClickException) -> StratavoreError:
    """What click says of a wrong command line, as we say what is wrong."""
    message = " ".join(error.format_message().split()).removesuffix(".")
    ctx = error.ctx if isinstance(error, click.UsageError) else None
    remedy = f"`{ctx.command_path} --help` shows how it is said" if ctx else "see `stratavore --help`"
    return StratavoreError(f"{message[:1].lower()}{message[1:]}", remedy=remedy)


def refuse_unknown(word: str) -> None:
    """Raise NotFound if `word` is neither a command nor a project, before a daemon is started for a typing error."""
    from stratavore.cli.asking import read

    try:
        read("get_project", quiet=True, project=word)
        return
    except NotFound:
        names = [project["name"] for project in read("list_projects", quiet=True)]
    near = nearest(word, [*COMMANDS, *names])
    remedy = f"did you mean `stratavore {near}`?" if near else "`stratavore --help` lists the commands"
    raise NotFound(f"there is no command and no project {word!r}", remedy=remedy)
