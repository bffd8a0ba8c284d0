"""What the shell may offer after TAB.

Rule: completion is quick and silent: the daemon if it answers, else the database, else nothing; no error is ever shown.
A meaning has no comma: the script for fish takes it for a border.
"""

from typing import Any

import click

from stratavore.cli.asking import read
from stratavore.errors import StratavoreError
from stratavore.wording import budget_title

PERIODS = ("hourly", "daily", "weekly", "monthly")


def projects(ctx: click.Context, param: click.Parameter | None, incomplete: str) -> list[Any]:
    """The projects whose name begins so."""
    return _items(
        [(project["name"], project["path"]) for project in _read("list_projects")],
        incomplete,
    )


def runners(ctx: click.Context, param: click.Parameter | None, incomplete: str) -> list[Any]:
    """The runners whose name begins so; by id only when that is how the word began. Living ones come first."""
    return _runners(
        sorted(_read("list_runners", all=True), key=lambda runner: runner["ended_at"] is not None), incomplete
    )


def living_runners(ctx: click.Context, param: click.Parameter | None, incomplete: str) -> list[Any]:
    """The living among them: for a verb that refuses all others."""
    return _runners(_read("list_runners"), incomplete)


def asking_runners(ctx: click.Context, param: click.Parameter | None, incomplete: str) -> list[Any]:
    """Those that ask for a permission."""
    return _items([(asked["runner"], asked["tool"]) for asked in _read("list_approvals")], incomplete)


def budgets(ctx: click.Context, param: click.Parameter | None, incomplete: str) -> list[Any]:
    """The numbers of the budgets."""
    found = _read("list_budgets")
    return _items(
        [(str(each["id"]), budget_title(each["period"], each["scope"], each["name"])) for each in found], incomplete
    )


def bounded(ctx: click.Context, param: click.Parameter | None, incomplete: str) -> list[Any]:
    """What may follow `budget set SCOPE`: a name where the scope has one, then a period."""
    scope, words = ctx.params.get("scope"), ctx.params.get("words") or ()
    if scope in ("project", "runner") and not words:
        return (projects if scope == "project" else living_runners)(ctx, param, incomplete)
    return [] if len(words) > (scope != "global") else _items([(word, "") for word in PERIODS], incomplete)


def keys(ctx: click.Context, param: click.Parameter | None, incomplete: str) -> list[Any]:
    """The names of keys; a letter with its modifiers (`alt-x`) is not listed."""
    from stratavore.terminal.keys import NAMES

    return _items([(name, "") for name in NAMES], incomplete)


def _runners(found: list[dict[str, Any]], incomplete: str) -> list[Any]:
    named = _items([(runner["name"], f"{runner['state']} in {runner['project']}") for runner in found], incomplete)
    if named or not incomplete:
        return named
    return _items([(runner["id"], f"{runner['name']}: {runner['state']}") for runner in found], incomplete)


def sessions(ctx: click.Context, param: click.Parameter | None, incomplete: str) -> list[Any]:
    """The sessions whose id begins so, the newest first."""
    return _sessions(_read("list_sessions"), incomplete)


def foreign_sessions(ctx: click.Context, param: click.Parameter | None, incomplete: str) -> list[Any]:
    """Those that were started elsewhere."""
    return _sessions(_read("list_sessions", foreign=True), incomplete)


def _sessions(found: list[dict[str, Any]], incomplete: str) -> list[Any]:
    return _items(
        [
            (session["id"], f"{session['agent']}: {session['title'] or session['cwd'] or ''}".replace(",", " "))
            for session in found
        ],
        incomplete,
    )


def _read(name: str, **fields: Any) -> list[dict[str, Any]]:
    try:
        answer: list[dict[str, Any]] = read(name, quiet=True, **fields)
    except StratavoreError:
        return []
    return answer


def _items(words: list[tuple[str, str]], incomplete: str) -> list[Any]:
    from click.shell_completion import CompletionItem

    from stratavore.cli.sanitise import clean

    seen: dict[str, Any] = {}
    for word, meaning in words:
        if word.startswith(incomplete) and word not in seen:
            seen[word] = CompletionItem(word, help=clean(meaning))
    return list(seen.values())
