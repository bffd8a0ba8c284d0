"""`budget`: how spending is bounded."""

from typing import Any

import click

from stratavore.cli import completing, humane
from stratavore.cli.asking import change, read
from stratavore.cli.completing import PERIODS
from stratavore.cli.consent import consent
from stratavore.cli.options import json_option, yes_option
from stratavore.cli.output import note, say, show_facts, show_json, show_table
from stratavore.cli.quantities import BUDGET, PERCENT, THRESHOLDS, TOKENS, USD
from stratavore.cli.usage import UNPRICED, remark
from stratavore.wording import bounded, budget_title

SCOPES = ("global", "project", "runner")


_all_option = click.option("-a", "--all", "everything", is_flag=True, help="Those of the runs of ended runners, too.")


@click.group(invoke_without_command=True)
@_all_option
@json_option
@click.pass_context
def budget(ctx: click.Context, everything: bool, as_json: bool) -> None:
    """List the budgets; or set, show, extend and remove one."""
    if ctx.invoked_subcommand is None:
        _list(everything, as_json)


@budget.command("list")
@_all_option
@json_option
def list_(everything: bool, as_json: bool) -> None:
    """List the budgets, and what is left of them in their present periods."""
    _list(everything, as_json)


@budget.command("set")
@click.argument("scope", metavar="(global|project NAME|runner R)", type=click.Choice(SCOPES))
@click.argument("words", metavar="(hourly|daily|weekly|monthly)", nargs=-1, shell_complete=completing.bounded)
@click.option("--tokens", metavar="N", type=TOKENS, help="At most N tokens, such as 500k or 2M.")
@click.option("--usd", metavar="X", type=USD, help="At most X US dollars.")
@click.option("--window", type=click.Choice(("5h", "7d")), help="An account's own window, in place of a period.")
@click.option("--percent", metavar="P", type=PERCENT, help="At most P % of that window.")
@click.option("--warn", metavar="P,P", type=THRESHOLDS, help="Tell when so many % are used; 75,90 by default.")
@click.option(
    "--on-exceeded",
    type=click.Choice(("warn", "block", "stop")),
    help="Tell it only; block prompts and tools (the default); or end the runner after a grace, too.",
)
@json_option
def set_(
    scope: str,
    words: tuple[str, ...],
    tokens: int | None,
    usd: float | None,
    window: str | None,
    percent: float | None,
    warn: list[int] | None,
    on_exceeded: str | None,
    as_json: bool,
) -> None:
    """Bound what everything, a project or a runner may use in each hour, day, week or month.

    Set again, it is changed: what is not said stays. What was used in the present period counts already. One of tokens
    and one of dollars are two budgets. That of a runner does not bound the new runner in which its session is resumed.
    """
    name, period = _bounded(scope, words, window)
    if [tokens, usd, percent].count(None) != 2 or (percent is None) != (window is None):
        raise click.UsageError("Say one limit: --tokens N, --usd X, or --percent P of a --window.")
    limits: dict[str, Any] = {"tokens": tokens, "usd": usd, "percent": percent}
    found = change("set_budget", scope=scope, name=name, period=period, **limits, warn=warn, on_exceeded=on_exceeded)
    show_json(found) if as_json else _show(found)


@budget.command
@click.argument("number", metavar="BUDGET", type=BUDGET, shell_complete=completing.budgets)
@json_option
def show(number: str, as_json: bool) -> None:
    """One budget, and what was used in its periods."""
    found = read("get_budget", budget=number)
    if as_json:
        show_json(found)
        return
    _show(found)
    if periods := found["periods"]:
        print()
        show_table(("FROM", "UNTIL", "USED", "EXCEEDED"), [_period(found, period) for period in periods])


@budget.command
@click.argument("number", metavar="BUDGET", type=BUDGET, shell_complete=completing.budgets)
@click.option("--tokens", metavar="N", type=TOKENS, help="By N tokens.")
@click.option("--usd", metavar="X", type=USD, help="By X US dollars.")
@click.option("--percent", metavar="P", type=PERCENT, help="By P %.")
@json_option
def extend(number: str, tokens: int | None, usd: float | None, percent: float | None, as_json: bool) -> None:
    """Raise a limit for the present period; who was blocked by it goes on at once."""
    if [tokens, usd, percent].count(None) != 2:
        raise click.UsageError("Say by how much: --tokens N, --usd X or --percent P.")
    found = change("extend_budget", budget=number, tokens=tokens, usd=usd, percent=percent)
    show_json(found) if as_json else _show(found)


@budget.command
@click.argument("number", metavar="BUDGET", type=BUDGET, shell_complete=completing.budgets)
@yes_option
@json_option
def remove(number: str, yes: bool, as_json: bool) -> None:
    """Forget a budget and its history; who was blocked by it goes on at once."""
    change("remove_budget", budget=number, dry_run=True)  # who may not is told before anything is asked
    found = read("get_budget", budget=number)
    consent(f"This forgets {_title(found)}, and what was used in its periods.", yes)
    answer = change("remove_budget", budget=number)
    show_json(answer) if as_json else say(f"{_title(found)} is gone")


def _bounded(scope: str, words: tuple[str, ...], window: str | None) -> tuple[str | None, str]:
    """The name and the period that were said."""
    name, rest = (None, words) if scope == "global" else (words[0] if words else "", words[1:])
    if name == "" or (name in PERIODS and not rest and window is None):
        raise click.UsageError(f"Say which {scope}: `stratavore budget set {scope} NAME daily …`.")
    if window is not None and not rest:
        return name, window
    if window is not None or len(rest) != 1 or rest[0] not in PERIODS:
        raise click.UsageError(f"Say one period: {', '.join(PERIODS)}, or --window 5h or 7d.")
    return name, rest[0]


def _list(everything: bool, as_json: bool) -> None:
    found = read("list_budgets", all=everything)
    if as_json:
        show_json(found)
    elif found:
        heads = ("BUDGET", "BOUNDS", "PERIOD", "USED", "RESERVED", "LIMIT", "RESETS", "OVER IT", "BLOCKED")
        show_table(heads, [_row(each) for each in found])
        if unpriced := max(_unpriced(each) for each in found):
            note(remark(unpriced))
    else:
        say("No budget is set; `stratavore budget set global daily --usd 10` bounds a day.")


def _show(found: dict[str, Any]) -> None:
    show_facts(_facts(found))
    if unpriced := _unpriced(found):
        note(remark(unpriced))


def _row(found: dict[str, Any]) -> list[str]:
    return [
        str(found["id"]),
        bounded(found["scope"], found["name"]),
        found["period"],
        _used(found) + (" !" if found["exceeded"] else ""),
        _amount(found, "reserved"),
        _amount(found, "limit"),
        humane.UNKNOWN if found["resets_at"] is None else humane.ago(found["resets_at"]),
        found["on_exceeded"],
        " ".join(found["blocked"]),
    ]


def _facts(found: dict[str, Any]) -> list[tuple[str, str]]:
    warned = "".join(f", {share} % passed" for share in found["warned"])
    return [
        ("budget", str(found["id"])),
        ("bounds", bounded(found["scope"], found["name"])),
        ("period", f"{found['period']}, since {humane.local_time(found['starts_at'])}"),
        ("used", f"{_used(found)}{warned}{', exceeded' if found['exceeded'] else ''}"),
        ("reserved", "" if found["limit_percent"] is not None else _amount(found, "reserved")),
        ("limit", _amount(found, "limit")),
        ("resets", "" if found["resets_at"] is None else humane.local_time(found["resets_at"])),
        ("warns at", ", ".join(f"{share} %" for share in found["warn"])),
        ("over it", found["on_exceeded"]),
        ("blocked", " ".join(found["blocked"])),
        ("unmetered", " ".join(found["unmetered"])),
    ]


def _period(found: dict[str, Any], period: dict[str, Any]) -> list[str]:
    return [
        humane.local_time(period["starts_at"]),
        humane.UNKNOWN if period["ends_at"] is None else humane.local_time(period["ends_at"]),
        _amount({**found, **period}, "used"),
        "" if period["exceeded_at"] is None else humane.local_time(period["exceeded_at"]),
    ]


def _title(found: dict[str, Any]) -> str:
    return budget_title(found["period"], found["scope"], found["name"])


def _used(found: dict[str, Any]) -> str:
    """A cost that leaves calls out is marked, as in `usage`."""
    return _amount(found, "used") + (UNPRICED if _unpriced(found) else "")


def _unpriced(found: dict[str, Any]) -> int:
    """How many calls a budget of money cannot count."""
    return 0 if found["limit_usd"] is None else int(found["unpriced_calls"])


def _amount(found: dict[str, Any], what: str) -> str:
    """A figure in the unit that the budget counts."""
    if found["limit_tokens"] is not None:
        return humane.tokens(found[f"{what}_tokens"])
    if found["limit_usd"] is not None:
        return f"{humane.usd(found[f'{what}_usd'])} USD"
    share = found.get(f"{what}_percent")
    return humane.UNKNOWN if share is None else f"{share:g} %"
