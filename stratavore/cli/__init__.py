"""The command line. A command is arguments, one question to the daemon, one print.

Rule 1: what a command does not need it does not import; tests/cli/test_import_time.py guards the list.
Rule 2: a result goes to stdout, everything said about it to stderr.
Rule 3: whatever comes from a runner passes `sanitise.clean` before it reaches a terminal.
Rule 4: exit codes are those of errors.py, 130 after an interrupt or a refused confirmation, 141 after a closed pipe.
"""

import errno
import os
import sys
from collections.abc import Sequence

from stratavore import __version__

INTERRUPTED = 130
PIPE_CLOSED = 141
OUTPUT_LOST = 74
NO_ROOM = (errno.ENOSPC, errno.EIO, errno.EDQUOT)


def main(argv: Sequence[str] | None = None) -> int:
    """Run one command and return its exit code."""
    given = list(sys.argv[1:] if argv is None else argv)
    for name in ("stdout", "stderr"):
        if getattr(sys, name) is None:  # closed by who called us
            setattr(sys, name, open(os.devnull, "w"))  # noqa: SIM115 - for as long as we live
    if given == ["--version"]:
        print(f"stratavore {__version__}")
        return 0
    if given[:2] == ["hook", "status-line"]:
        from stratavore import status_line

        return status_line.main(given[2:])
    if given[:1] == ["hook"] and given[1:] not in (["--help"], ["-h"]):  # an agent waits for it
        from stratavore import hook

        return hook.main(given[1:])
    try:
        from stratavore.cli.program import run

        code = run(given)
        sys.stdout.flush()
        return code
    except KeyboardInterrupt:
        return INTERRUPTED
    except BrokenPipeError:
        _flush_into_nothing()
        return PIPE_CLOSED
    except OSError as problem:
        if problem.errno not in NO_ROOM:
            raise
        _flush_into_nothing()
        print(f"stratavore: the output cannot be written: {problem.strerror} → make room there", file=sys.stderr)
        return OUTPUT_LOST


def _flush_into_nothing() -> None:
    """The interpreter flushes once more at its end."""
    os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
