"""`attach` as a process: KEY LOG SHIM [--read-only] [--takeover] [--osc52] [--unsure] [--next KEY LOG SHIM]
[--chord TEXT].

Prints `OUTCOME how detail` when it is back, or `REFUSED message`.
"""

import argparse
import sys
from pathlib import Path

from stratavore.errors import StratavoreError
from stratavore.terminal.attach import Options, attach
from stratavore.terminal.chord import DEFAULT, Chord
from stratavore.terminal.output import Waiting
from stratavore.terminal.runlog import Run


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("run", nargs=3)
    parser.add_argument("--read-only", action="store_true")
    parser.add_argument("--takeover", action="store_true")
    parser.add_argument("--osc52", action="store_true")
    parser.add_argument("--chord", default=DEFAULT)
    parser.add_argument("--unsure", action="store_true", help="at first nobody knows what follows")
    parser.add_argument("--next", nargs=3, action="append", default=[])
    given = parser.parse_args()
    following: list[Run | Waiting] = [Waiting("")] * given.unsure + [_run(text) for text in given.next]
    options = Options(Chord.parse(given.chord), given.read_only, given.takeover, osc52=given.osc52, name="the runner")
    try:
        outcome = attach(_run(given.run), options, next_run=lambda: following.pop(0) if following else None)
    except StratavoreError as problem:
        print("REFUSED", problem.message)
        sys.exit(problem.exit_code)
    print("OUTCOME", outcome.how, outcome.detail)


def _run(text: list[str]) -> Run:
    key, log, shim = text
    return Run(key, Path(log), Path(shim) if shim else None)


if __name__ == "__main__":
    main()
