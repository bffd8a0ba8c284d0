"""The verdict on a runner: a file that its agent's hooks answer from, so that none of them has to ask the daemon.

Rule 1: the file is whole or absent, and holds one JSON value: `null` lets the agent go on, a text blocks it and is why.
Rule 2: no file means allow, unless the hooks were told to fail closed; so who is allowed has a file too.
"""

import json
from contextlib import suppress

from stratavore.hook import VERDICT
from stratavore.paths import Paths
from stratavore.runner_files import link_file, write_files

LONGEST_REASON = 1000
"""Letters; it is shown to a person inside the agent."""


def write(paths: Paths, runner_id: str, reason: str | None, *, like: str | None = None) -> None:
    """From now on block the agent's next prompt and next tool, with this reason; None: let it go on.

    `like` is another runner, for whom the same was just written: one file with a thousand names is sooner there than a
    thousand files.

    Raises:
        OSError: the file cannot be written; the verdict is what it was.
    """
    if like is not None:
        with suppress(OSError):  # it has gone, or has names enough
            link_file(paths.runner(like) / VERDICT, paths.runner(runner_id) / VERDICT)
            return
    write_files(paths.runner(runner_id), {VERDICT: json.dumps(None if reason is None else reason[:LONGEST_REASON])})


def read(paths: Paths, runner_id: str) -> str | None:
    """The reason for which the agent is blocked; None if it is not, or if there is no verdict."""
    with suppress(OSError, ValueError):
        found = json.loads((paths.runner(runner_id) / VERDICT).read_bytes())
        return found if isinstance(found, str) else None
    return None
