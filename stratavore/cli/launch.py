"""`launch`: new runners of a project."""

import os
import shlex
import sys
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import click

from stratavore import bounds
from stratavore.cli import completing, humane
from stratavore.cli.asking import change, from_stdin
from stratavore.cli.listing import show_runners
from stratavore.cli.options import (
    Reference,
    UserPath,
    agent_option,
    json_option,
    project_argument,
    timeout_option,
)
from stratavore.cli.output import note, say, show_facts, show_json
from stratavore.cli.quantities import AMOUNT, SOME_TIME, SPAN, Whole
from stratavore.cli.starting import refuse_failed, started
from stratavore.errors import Invalid, from_dict
from stratavore.wording import budget_title

POLICIES = ("never", "on-failure", "always", "on-limit-reset")


_BEHIND_DASHES = "What is to run in the project stands behind `--`, as in `stratavore launch PROJECT -- ls -la`."


class TakesArgv(click.Command):
    """A command that leaves everything behind `--` to another program; it is `ctx.obj`."""

    def parse_args(self, ctx: click.Context, args: list[str]) -> list[str]:
        at = args.index("--") if "--" in args else len(args)
        ctx.obj = args[at + 1 :]
        try:
            return super().parse_args(ctx, args[:at])
        except click.UsageError as error:
            meant_for_it = isinstance(error, click.NoSuchOption) and not error.possibilities
            if meant_for_it or "extra argument" in error.message:
                raise click.UsageError(f"{error.format_message().rstrip('.')}. {_BEHIND_DASHES}", ctx) from None
            raise

    def collect_usage_pieces(self, ctx: click.Context) -> list[str]:
        return [*super().collect_usage_pieces(ctx), "[-- ARGV...]"]


@click.command(cls=TakesArgv)
@project_argument
@click.option("--name", metavar="N", help="The runner's name; with --count N-1, N-2 and so on.")
@agent_option
@click.option("--restart", type=click.Choice(POLICIES), help="When the supervisor starts it again by itself.")
@click.option(
    "--max-restarts",
    metavar="N",
    type=Whole(bounds.RESTARTS),
    help="Give up after N restarts in a row; a run of ten minutes clears the count.",
)
@click.option(
    "--count", metavar="N", type=Whole(bounds.RUNNERS_AT_ONCE), default=1, help="Launch N of them, all or none."
)
@click.option("--partial", is_flag=True, help="With --count: as many as the quota has room for.")
@click.option("--attach", "then_attach", is_flag=True, help="Attach to it when it runs.")
@click.option("--prompt", metavar="TEXT|-", help="The first prompt; - reads it from stdin.")
@click.option("--no-tty", is_flag=True, help="No terminal: stdin is /dev/null; an agent runs headless.")
@click.option("--env", metavar="K[=V]", multiple=True, help="A variable for it; K alone takes yours.")
@click.option(
    "--env-file",
    metavar="F",
    type=UserPath(exists=True, directories=False),
    help="Lines of K=V.",
)
@click.option("--stop-grace", metavar="T", type=SPAN, help="How long a stop waits before it kills.")
@click.option("--max-time", metavar="T", type=SOME_TIME, help="End it after T.")
@click.option("--budget", metavar="B", type=AMOUNT, help="What each run may use: 2usd, 500ktok.")
@click.option(
    "--max-turns", metavar="N", type=Whole(bounds.TURNS), help="How many calls of the model each run may make."
)
@click.option(
    "--on-exceeded",
    type=click.Choice(("warn", "block", "stop")),
    help="What happens over --budget or --max-turns; block by default.",
)
@click.option("--allow-unpriced", is_flag=True, help="Under a budget of money, too, take a model without a price.")
@timeout_option("Wait at most so long for the start; what was asked goes on.")
@click.option("--no-wait", is_flag=True, help="Return when the wish is recorded.")
@click.option("--continue", "newest", is_flag=True, help="Go on with the newest session of the project that can be.")
@click.option(
    "--fork",
    metavar="SESSION",
    type=Reference("session"),
    shell_complete=completing.sessions,
    help="Begin with a copy of that session.",
)
@click.option("--dry-run", is_flag=True, help="Show what would run, do nothing, and end as the launch would.")
@json_option
@click.pass_context
def launch(
    ctx: click.Context,
    project: str,
    name: str | None,
    agent: str | None,
    restart: str | None,
    max_restarts: int | None,
    count: int,
    partial: bool,
    then_attach: bool,
    prompt: str | None,
    no_tty: bool,
    env: tuple[str, ...],
    env_file: Path | None,
    stop_grace: float | None,
    max_time: float | None,
    budget: tuple[str, float] | None,
    max_turns: int | None,
    on_exceeded: str | None,
    allow_unpriced: bool,
    timeout: float | None,
    no_wait: bool,
    newest: bool,
    fork: str | None,
    dry_run: bool,
    as_json: bool,
) -> None:
    """Launch runners in PROJECT and wait until they run.

    ARGV behind -- is appended to the agent's own command line; for the agent `shell` it is the whole command.
    """
    if then_attach and (count > 1 or no_tty or no_wait or dry_run):
        raise click.UsageError("--attach does not go with --count, --no-tty, --no-wait or --dry-run.")
    if newest and fork is not None:
        raise click.UsageError("A launch goes on with one session: say --continue or --fork SESSION, not both.")
    if newest and count > 1:
        raise click.UsageError("--continue is for one runner, as only one may be in a session; --fork makes copies.")
    if on_exceeded is not None and budget is None and max_turns is None:
        raise click.UsageError(
            "--on-exceeded says what happens over --budget or --max-turns: say one; other budgets have their own."
        )
    answer = change(
        "launch",
        **wish(project, ctx.obj),
        name=name,
        agent=agent,
        restart_policy=restart,
        max_restarts=max_restarts,
        count=count,
        partial=partial,
        prompt=from_stdin() if prompt == "-" else prompt,
        tty=not no_tty,
        env={**(_from_file(env_file) if env_file else {}), **variables(env)},
        stop_grace_seconds=stop_grace,
        max_seconds=max_time,
        **({} if budget is None else {f"budget_{budget[0]}": budget[1]}),
        max_turns=max_turns,
        on_exceeded=on_exceeded,
        allow_unpriced=allow_unpriced,
        dry_run=dry_run,
        continue_newest=newest,
        fork=fork,
    )
    if dry_run:
        show_json(answer) if as_json else _show_plan(answer)
        _refuse_as(answer)
        return
    if answer["goes_on_with"]:
        note(goes_on_with(answer["goes_on_with"]))
    for warning in answer["warnings"]:
        note(warning)
    runners = answer["runners"] if no_wait else started(answer["runners"], timeout)
    if then_attach:
        from stratavore.cli.attach import attach_to

        refuse_failed(runners)
        ctx.exit(attach_to(runners[0]))
    show_json({**answer, "runners": runners}) if as_json else show_runners(runners, as_json=False)
    if answer["refused"]:
        note(f"{answer['refused']} of {count} did not fit into the project's quota, or its budgets")
    refuse_failed(runners)


def wish(project: str, argv: list[str]) -> dict[str, Any]:
    """What every launch sends: where to, what, and the caller's own surroundings."""
    window = os.get_terminal_size(sys.stdout.fileno()) if sys.stdout.isatty() else None
    size = {"rows": window.lines, "columns": window.columns} if window and window.lines and window.columns else {}
    return {"project": project, "argv": argv, "environment": callers_environment(), "umask": _umask(), **size}


def goes_on_with(session: dict[str, Any]) -> str:
    """Which session was taken."""
    how = "begins with a copy of" if session["is_fork"] else "goes on with"
    title = f" “{session['title']}”" if session["title"] else ""
    return f"{how} session {session['id']}{title} ({session['agent']}, {humane.ago(session['last_message_at'])})"


def callers_environment() -> dict[str, str]:
    """The whole environment of this process; the daemon filters it. What is not UTF-8 cannot travel."""
    return {key: value for key, value in os.environ.items() if _is_text(key) and _is_text(value)}


def variables(given: Iterable[str]) -> dict[str, str]:
    """`K=V` as it stands, `K` with the caller's value; a `K` that the caller has not is left out, as docker does."""
    found: dict[str, str] = {}
    for word in given:
        key, equals, value = word.partition("=")
        if not key or not key.isprintable() or " " in key:
            raise click.UsageError(f"--env {word!r}: a variable is written K=V or K.")
        if equals:
            found[key] = value
        elif key in os.environ:
            found[key] = os.environ[key]
        else:
            note(f"{key} is not set here, so the runner gets none")
    return found


def _from_file(file: Path) -> Mapping[str, str]:
    """The variables of a file: lines of `K=V` or `K`, `#` comments, an `export ` and a pair of quotes allowed."""
    found: dict[str, str] = {}
    try:
        lines = file.read_text().splitlines()
    except (OSError, UnicodeDecodeError) as error:
        raise Invalid(f"{file} cannot be read: {error}", remedy="name a readable file of lines K=V") from None
    for number, line in enumerate(lines, 1):
        line = line.strip().removeprefix("export ").lstrip()
        if not line or line.startswith("#"):
            continue
        key, equals, value = line.partition("=")
        if not key.strip() or " " in key.strip():
            raise Invalid(f"{file}:{number}: not K=V", remedy="write one variable a line, `#` begins a comment")
        value = value.strip()
        if len(value) >= 2 and value[0] == value[-1] and value[0] in "'\"":
            value = value[1:-1]
        found |= variables([f"{key.strip()}={value}" if equals else key.strip()])
    return found


def _show_plan(plan: dict[str, Any]) -> None:
    show_facts(
        [
            ("command", shlex.join(plan["argv"])),
            ("directory", plan["cwd"]),
            ("session", plan["session_id"] or ""),
            ("", goes_on_with(plan["goes_on_with"]) if plan["goes_on_with"] else ""),
            ("room", f"{humane.plural(plan['slots_left'], 'more runner')} may be launched"),
            ("each run", _own_limits(plan)),
            ("budgets", _budgets(plan)),
            *(
                ("", _left_out(budget))
                for budget in plan["budgets"]
                if budget["limit_usd"] and budget["unpriced_calls"]
            ),
            ("refused", plan["refused"] or ""),
        ]
    )
    print()
    for key, value in sorted(plan["environment"].items()):
        say(f"{key}={value}")


def _refuse_as(plan: dict[str, Any]) -> None:
    """Fail as the launch would."""
    if plan["refused"] is not None:
        raise from_dict({"code": plan["refused_code"], "message": plan["refused"], "remedy": plan["refused_remedy"]})


def _budgets(plan: dict[str, Any]) -> str:
    """What the budgets would say."""
    count = humane.plural(len(plan["budgets"]), "budget")
    if not plan["budgets"]:
        return "none bounds it, but its own" if _own_limits(plan) else "none bounds it"
    if plan["unmetered"]:
        return f"{count}; unmetered: nobody tells what it uses"
    expected = f"{humane.tokens(plan['estimate_tokens'])}, {humane.usd(plan['estimate_usd'])} USD"
    if plan["refused"]:
        return f"{count} bound it; it would reserve {expected}"
    return f"{count} would let it in, and reserve {expected}"


def _own_limits(plan: dict[str, Any]) -> str:
    """What `--budget` and `--max-turns` say."""
    tokens, dollars, turns = plan["budget_tokens"], plan["budget_usd"], plan["max_turns"]
    said = [
        "" if tokens is None else f"{tokens:,} tokens",
        "" if dollars is None else f"{humane.usd(dollars)} USD",
        "" if turns is None else humane.plural(turns, "turn"),
    ]
    return ", ".join(f"at most {each}" for each in said if each)


def _left_out(budget: dict[str, Any]) -> str:
    title, calls = budget_title(budget["period"], budget["scope"], budget["name"]), budget["unpriced_calls"]
    return f"{title} leaves out {humane.plural(calls, 'call')} of models of which no price is known"


def _umask() -> int:
    mask = os.umask(0o077)
    os.umask(mask)
    return mask


def _is_text(value: str) -> bool:
    try:
        value.encode()
    except UnicodeEncodeError:
        return False
    return True
