"""`completion`: what a shell must be told to complete our words."""

import click

from stratavore.cli.commands import COMPLETE

SHELLS = ("bash", "zsh", "fish")


@click.command
@click.argument("shell", type=click.Choice(SHELLS))
@click.pass_context
def completion(ctx: click.Context, shell: str) -> None:
    """Print the completion script of a shell.

    bash: `eval "$(stratavore completion bash)"` in ~/.bashrc. zsh: the same in ~/.zshrc. fish: `stratavore completion
    fish > ~/.config/fish/completions/stratavore.fish`.
    """
    from click.shell_completion import get_completion_class

    cls = get_completion_class(shell)
    assert cls is not None, f"click knows {shell}"
    script = cls(ctx.find_root().command, {}, "stratavore", COMPLETE)
    click.echo(script.source_template % script.source_vars())
