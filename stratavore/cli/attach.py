"""`attach`: this terminal becomes the runner's, until the detach key."""

import os
from typing import Any

import click

from stratavore.cli.asking import config_file, here, need_daemon, read
from stratavore.cli.ending import is_over
from stratavore.cli.options import living_runner_argument
from stratavore.cli.output import note
from stratavore.cli.runs import following, runs_of
from stratavore.cli.starting import started
from stratavore.errors import Conflict, DaemonUnreachable, RunnerFailed


@click.command
@living_runner_argument
@click.option("--read-only", is_flag=True, help="Only watch; any number may.")
@click.option("--takeover", is_flag=True, help="Become the writer, even if another terminal is.")
@click.option("--detach-key", metavar="KEY", help="The keys that leave it, such as 'ctrl-\\ d'.")
@click.pass_context
def attach(ctx: click.Context, runner: str, read_only: bool, takeover: bool, detach_key: str | None) -> None:
    """Lend this terminal to a runner; the banner names the keys that give it back.

    To type the first of these keys, press it twice. The exit code is 0 after leaving it or when it ended well, 7 when
    it ended otherwise, 4 when another terminal took it.
    """
    if read_only and takeover:
        raise click.UsageError("--takeover is for writing, --read-only for watching.")
    try:
        need_daemon()
    except DaemonUnreachable as unreachable:  # the holder has the terminal, so it goes without a daemon, too
        note(f"{unreachable.message}; {unreachable.remedy}")
    ctx.exit(attach_to(read("get_runner", runner=runner), read_only, takeover, detach_key))


def attach_to(
    runner: dict[str, Any], read_only: bool = False, takeover: bool = False, detach_key: str | None = None
) -> int:
    """Lend this terminal to `runner`, as the API tells it; returns the exit code.

    Raises:
        Conflict: it has ended, or another terminal is its writer.
    """
    from stratavore import config
    from stratavore.terminal.attach import How, Options
    from stratavore.terminal.attach import attach as lend
    from stratavore.terminal.chord import Chord

    settings = config.load(here(), config_file(), os.environ).config
    chord = Chord.parse(detach_key or settings.attach.detach_key)
    if runner["state"] == "starting":
        runner = started([runner])[0]
    if is_over(runner):
        name = runner["name"]
        remedy = f"`stratavore logs {name}` shows what it printed, `stratavore restart {name}` starts it again"
        raise Conflict(f"{name} has ended: it is {runner['state']}", remedy=remedy)
    run = runs_of(runner)[-1]
    options = Options(
        chord=chord,
        read_only=read_only,
        takeover=takeover,
        scrollback_bytes=settings.attach.scrollback_bytes,
        osc52=settings.output.osc52,
        name=runner["name"],
    )
    outcome = lend(run, options, next_run=following(runner["id"], run.key))
    match outcome.how:
        case How.DETACHED:
            return 0
        case How.ENDED:
            ended = read("get_runner", quiet=True, runner=runner["id"])
            return 0 if ended["state"] == "terminated" else RunnerFailed.exit_code
        case How.TAKEN:
            return Conflict.exit_code
        case How.DISCONNECTED:
            return RunnerFailed.exit_code
