"""Which runners a command means."""

from collections.abc import Iterator, Sequence
from typing import Any, NamedTuple

import click

LONGEST_LIST = 4000
"""Characters of references in one request: HTTP servers refuse a request line that is much longer."""

Listed = list[dict[str, Any]]


class Choice(NamedTuple):
    """The runners that RUNNER…, `--project` and `--all` chose, as the routes take them."""

    references: tuple[str, ...]
    project: str | None = None

    def requests(self) -> Iterator[dict[str, Any]]:
        """The fields of the requests that reach all of them."""
        project = {} if self.project is None else {"project": self.project}
        batch: list[str] = []
        for reference in self.references:
            if batch and sum(len(each) + 1 for each in batch) + len(reference) > LONGEST_LIST:
                yield {"runner": ",".join(batch), **project}
                batch = []
            batch.append(reference)
        if batch:
            yield {"runner": ",".join(batch), **project}


def chosen(runners: Sequence[str], project: str | None, everyone: bool) -> Choice:
    """The choice; exactly one way of choosing must have been used. Raises click.UsageError."""
    if runners and (project or everyone):
        raise click.UsageError("Name runners, or use --project or --all, not both.")
    if runners:
        return Choice(tuple(dict.fromkeys(runners)))
    if project or everyone:
        return Choice(("*",), project)
    raise click.UsageError("Name one runner or several, or use --project P or --all.")


def ids(listed: Listed) -> Choice:
    """The choice of exactly these runners."""
    return Choice(tuple(runner["id"] for runner in listed))
