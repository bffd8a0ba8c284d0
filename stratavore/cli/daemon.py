"""`daemon`: the supervising process itself.

Rule: stopping or restarting it touches no runner, unless `--runners` says so.
"""

import os
import sys
import time
from typing import Any

import click

from stratavore import control
from stratavore.cli import humane
from stratavore.cli.asking import change, config_file, here, need_daemon, read
from stratavore.cli.choosing import Listed, ids
from stratavore.cli.ending import is_ended
from stratavore.cli.options import config_option, json_option, yes_option
from stratavore.cli.output import note, say, show_facts, show_json
from stratavore.cli.settling import settle
from stratavore.errors import DaemonUnreachable


@click.group
def daemon() -> None:
    """Run, start, stop, restart or look at the daemon."""


@daemon.command
@click.option("--unless-stopped", is_flag=True, help="End at once if a person stopped the daemon.")
@config_option
@click.pass_context
def run(ctx: click.Context, unless_stopped: bool) -> None:
    """Be the daemon, in the foreground (for service managers)."""
    from stratavore.daemon import run as run_daemon

    ctx.exit(run_daemon(here(), config_file(), unless_stopped=unless_stopped))


@daemon.command
@config_option
@json_option
def start(as_json: bool) -> None:
    """Start the daemon, unless it runs."""
    from stratavore import autostart

    started = autostart.start(here(), config_file())
    if not started:
        autostart.ensure_daemon(here(), config_file())  # an older one is restarted
    found = control.ask(here(), "daemon_status")
    if as_json:
        show_json(found)
    else:
        say(f"the daemon {'runs now' if started else 'was running'}, pid {found['pid']}")


@daemon.command
@click.option("--runners", is_flag=True, help="Stop every runner too.")
@yes_option
def stop(runners: bool, yes: bool) -> None:
    """End the daemon; the runners live on, and nothing but a person starts it again."""
    if runners:
        _stop_all(yes)
    living = read("list_runners", quiet=True)
    was_there = _end(leave_mark=True)
    word = "the daemon has ended" if was_there else "the daemon was not running"
    left = f"; {_living(len(living))} on, `stratavore daemon start` finds them again" if living else ""
    say(word + left)


@daemon.command
@config_option
@json_option
def restart(as_json: bool) -> None:
    """End the daemon and start it anew; no runner notices."""
    from stratavore import autostart, config

    config.load(here(), config_file(), os.environ)  # a daemon that could not start again must not be ended
    if not _end(leave_mark=False):
        note("the daemon was not running")
    autostart.start(here(), config_file())
    found = control.ask(here(), "daemon_status")
    show_json(found) if as_json else say(f"the daemon runs anew, pid {found['pid']}")


@daemon.command
@json_option
def status(as_json: bool) -> None:
    """Whether the daemon runs, and how it does."""
    found = read("daemon_status", quiet=not as_json)
    show_json(found) if as_json else _show(found)


def _show(found: dict[str, Any]) -> None:
    if found["pid"] is None:
        known = humane.plural(found["runners"], "living runner")
        say(f"the daemon is not running; {known} when it last wrote; `stratavore daemon start` starts it")
        return
    show_facts(
        [
            ("pid", str(found["pid"])),
            ("version", found["version"]),
            ("started", humane.ago(found["started_at"])),
            ("runners", f"{found['runners']} living"),
            ("holders", humane.plural(found["shims"], "process")),
            ("database", found["database"]),
            ("quotas", found["limits"]),
            ("healthy", "yes" if found["healthy"] else "no"),
        ]
    )
    if not found["healthy"]:
        say("\n".join(f"! {warning}" for warning in read("status")["warnings"]))


def _stop_all(yes: bool) -> None:
    """Say what `--runners` will do, on a terminal ask, and return when all have ended.

    A daemon that is down is started for it, and one that ended before them could not book their ends.
    """
    from stratavore.offline import live_shims

    if live_shims(here(), busy=True):
        need_daemon()
    living: Listed = read("list_runners", quiet=True)
    what = f"This stops {humane.plural(len(living), 'runner')} and then the daemon."
    if yes or not sys.stdin.isatty():
        note(what)
    else:
        click.confirm(f"{what} Go on?", abort=True, err=True)
    if living:
        change("stop_runners", runner="*")
        settle(ids(living), "ended", is_ended, timeout=None, waiting_for="stopped")


def _end(*, leave_mark: bool) -> bool:
    """End the daemon, and any that is coming up at this moment; whether one answered.

    The zygote may have begun to start one before our mark lay there: it either sees the mark, or comes to answer.
    """
    from stratavore.autostart import START_SECONDS, wait_until_gone
    from stratavore.shim.client import is_locked

    answered, deadline = False, time.monotonic() + START_SECONDS
    while True:
        try:
            control.ask(here(), "stop_daemon", timeout=START_SECONDS, restart=not leave_mark)
            answered = True
            wait_until_gone(here())
        except DaemonUnreachable as unreachable:
            if leave_mark:
                _leave_stop_mark()
            if not is_locked(here().lock):
                return answered
            if time.monotonic() > deadline:
                raise unreachable
            time.sleep(0.02)


def _living(count: int) -> str:
    return "1 runner lives" if count == 1 else f"{count} runners live"


def _leave_stop_mark() -> None:
    """A person said stop: the zygote must not start it, even if the daemon had died before."""
    if here().state.is_dir():
        here().stop_mark.touch(mode=0o600)
