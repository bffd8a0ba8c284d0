"""Old output, made fit to be shown to a terminal that comes to it late.

Rule 1: the modes in force where the replay begins come first, and no query comes at all.
Rule 2: a page that a full-screen program painted is replayed from where the program began to paint it, or not at all:
        what changes a page that is not there would be soup. (A writer's coming makes the program paint again.)
"""

import re

from stratavore.terminal.modes import Modes
from stratavore.terminal.runlog import LogFile
from stratavore.terminal.sanitize import ReplayFilter

PAINTING_BYTES = 1 << 20
_FRESH_PAGE = re.compile(rb"\x1b\[2J|\x1b\[\?(?:1049|1047|47)h")


def replay(log: LogFile, scrollback_bytes: int, *, osc52: bool) -> tuple[bytes, Modes, int]:
    """What to write to the terminal, the modes that are in force after it, and the offset at which it goes on live."""
    end = log.size
    head = log.sidecar().head
    modes = log.modes_at(end)
    if modes.alternate_screen:
        start = _painting_start(log, max(end - PAINTING_BYTES, head), end)
        return _from(log, start, end, osc52=osc52)
    if scrollback_bytes <= 0:
        return modes.enter(), modes, end
    return _from(log, log.line_start(max(end - scrollback_bytes, head)), end, osc52=osc52)


def _from(log: LogFile, start: int, end: int, *, osc52: bool) -> tuple[bytes, Modes, int]:
    modes = log.modes_at(start)
    clean = ReplayFilter(osc52=osc52)
    shown = [modes.enter(), b"\x1b[H\x1b[2J" if modes.alternate_screen else b""]
    for piece in log.pieces(start, end):
        if isinstance(piece, bytes):
            passed = clean.feed(piece)
            modes.feed(passed)
            shown.append(passed)
    return b"".join(shown), modes, end - clean.kept_bytes


def _painting_start(log: LogFile, start: int, end: int) -> int:
    """Where the page was last cleared, or `end` if that is too long ago."""
    found, position = end, start
    before = b""
    for piece in log.pieces(start, end):
        if isinstance(piece, bytes):
            for match in _FRESH_PAGE.finditer(before + piece):
                found = position - len(before) + match.start()
            position += len(piece)
            before = piece[-8:]
    return found
