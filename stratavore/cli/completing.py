"""What the shell may offer after TAB.

Rule: completion is quick and silent: the daemon if it answers, else the database, else nothing; no error is ever shown.
A meaning has no comma: the script for fish takes it for a border.
"""

from typing import Any

import click

from stratavore.cli.asking import read
from stratavore.errors import StratavoreError


def projects(ctx: click.Context, param: click.Parameter | None, incomplete: str) -> list[Any]:
    """The projects whose name begins so."""
    return _items(
        [(project["name"], project["path"]) for project in _read("list_projects")],
        incomplete,
    )


def runners(ctx: click.Context, param: click.Parameter | None, incomplete: str) -> list[Any]:
    """The runners whose name begins so; by id only when that is how the word began. Living ones come first."""
    found = sorted(_read("list_runners", all=True), key=lambda runner: runner["ended_at"] is not None)
    named = _items([(runner["name"], f"{runner['state']} in {runner['project']}") for runner in found], incomplete)
    if named or not incomplete:
        return named
    return _items([(runner["id"], f"{runner['name']}: {runner['state']}") for runner in found], incomplete)


def sessions(ctx: click.Context, param: click.Parameter | None, incomplete: str) -> list[Any]:
    """The sessions whose id begins so, the newest first."""
    return _items(
        [
            (session["id"], f"{session['agent']}: {session['title'] or session['cwd'] or ''}".replace(",", " "))
            for session in _read("list_sessions")
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
