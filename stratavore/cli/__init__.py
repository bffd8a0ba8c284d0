"""The command line. A command is arguments, one question to the daemon, one print.

Rule 1: what a command does not need it does not import; tests/cli/test_import_time.py guards the list.
Rule 2: a result goes to stdout, everything said about it to stderr.
Rule 3: whatever comes from a runner passes `sanitise.clean` before it reaches a terminal.
Rule 4: exit codes are those of errors.py, 130 after an interrupt or a refused confirmation, 141 after a closed pipe.
"""

import os
import sys
from collections.abc import Sequence

from stratavore import __version__

INTERRUPTED = 130
PIPE_CLOSED = 141


def main(argv: Sequence[str] | None = None) -> int:
    """Run one command and return its exit code."""
    given = list(sys.argv[1:] if argv is None else argv)
    if given == ["--version"]:
        print(f"stratavore {__version__}")
        return 0
    try:
        from stratavore.cli.program import run

        code = run(given)
        sys.stdout.flush()
        return code
    except KeyboardInterrupt:
        return INTERRUPTED
    except BrokenPipeError:
        # The interpreter flushes once more at its end; let that go nowhere.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return PIPE_CLOSED
