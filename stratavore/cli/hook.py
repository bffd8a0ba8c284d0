"""`hook`: what agents run. `stratavore.hook` does it, before click is there; what stands here is for `--help`."""

import click


@click.command(context_settings={"ignore_unknown_options": True})
@click.argument("arguments", nargs=-1, type=click.UNPROCESSED)
def hook(arguments: tuple[str, ...]) -> None:
    """What the hooks of an agent run, which Stratavore gives it; nothing for people."""
    from stratavore.hook import main

    main([*arguments])
