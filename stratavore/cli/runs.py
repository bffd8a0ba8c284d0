"""The runs of a runner: where their output is, and which one goes on when one has ended."""

from pathlib import Path
from typing import TYPE_CHECKING, Any

from stratavore.cli.asking import here, read
from stratavore.errors import StratavoreError

if TYPE_CHECKING:
    from stratavore.terminal.output import NextRun, Waiting
    from stratavore.terminal.runlog import Run

DEFAULT_SIZE = (24, 80)
"""Rows and columns of a terminal whose holder cannot be asked."""


def runs_of(found: dict[str, Any]) -> "list[Run]":
    """Where the output of each run of the runner is, oldest first."""
    return [_as_run(found, run) for run in read("list_runs", quiet=True, runner=found["id"])]


def _as_run(found: dict[str, Any], run: dict[str, Any]) -> "Run":
    from stratavore.terminal.runlog import Run

    shim = None if run["ended_at"] else here().shim(run["shim"])
    rows, columns = _size(shim, run["key"])
    return Run(run["key"], Path(run["log"]), shim, rows, columns if found["tty"] else None)


def _size(shim: Path | None, key: str) -> tuple[int, int]:
    """The size of the terminal that the run writes for, as its holder knows it."""
    from stratavore.shim import client

    if shim is None:
        return DEFAULT_SIZE
    try:
        connection = client.connect(shim)
    except (OSError, client.Refused):
        return DEFAULT_SIZE
    try:
        answer = connection.attach(key)
        return answer["rows"] or DEFAULT_SIZE[0], answer["cols"] or DEFAULT_SIZE[1]
    except (OSError, client.Refused):
        return DEFAULT_SIZE
    finally:
        connection.close()


def following(runner_id: str, key: str) -> "NextRun":
    """A function that tells, after the run `key`, which run follows, and at its next call the one after that.

    It tells Waiting as long as the runner is between two, None when it has ended for good.
    """
    from stratavore.model import RunnerState
    from stratavore.terminal.output import Waiting

    number = int(key.rpartition(".")[2])

    def next_run() -> "Run | Waiting | None":
        nonlocal number
        try:
            found = read("get_runner", quiet=True, runner=runner_id)
            later = [run for run in runs_of(found) if int(run.key.rpartition(".")[2]) > number]
            if later:
                number = int(later[0].key.rpartition(".")[2])
                return later[0]
            is_living = runner_id in [runner["id"] for runner in read("list_runners", quiet=True)]
        except StratavoreError as error:
            return Waiting(error.message)
        if not is_living:
            return None
        # While it still counts as running, its end is not written down yet, nor what follows.
        return Waiting() if found["state"] == RunnerState.BACKOFF else Waiting("")

    return next_run
