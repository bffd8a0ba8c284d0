"""Plain aligned tables.

Rule 1: a cell is clean text on one line; on a terminal the widest columns give way until a row fits into the window.
Rule 2: into a pipe nothing is cut.
"""

import os
import sys
from collections.abc import Sequence

from stratavore.cli.sanitise import clean

GAP = "  "


def render(heads: Sequence[str], rows: Sequence[Sequence[str]], width: int | None = None) -> str:
    """The table as lines; `width` is the window's, None where nothing need be cut."""
    cells = [list(heads), *([clean(cell) for cell in row] for row in rows)]
    widths = [max(columns(row[at]) for row in cells) for at in range(len(heads))]
    if width is not None:
        _narrow(widths, width - len(GAP) * (len(heads) - 1))
    return "\n".join(
        GAP.join(_fit(cell, room) for cell, room in zip(row, widths, strict=True)).rstrip() for row in cells
    )


def window_width() -> int | None:
    """The columns of the terminal that stdout is, None if it is none."""
    return os.get_terminal_size(sys.stdout.fileno()).columns or 80 if sys.stdout.isatty() else None


def columns(text: str) -> int:
    """How many columns of a terminal `text` takes."""
    if text.isascii():
        return len(text)
    from stratavore.terminal.printable import width

    return sum(map(width, text))


def cut(text: str, room: int) -> str:
    """`text` in at most `room` columns, with `…` where something is missing."""
    if columns(text) <= room:
        return text
    while columns(text) > max(room - 1, 0):
        text = text[:-1]
    return text + "…" if room > 0 else ""


def _fit(cell: str, room: int) -> str:
    shown = cut(cell, room)
    return shown + " " * (room - columns(shown))


def _narrow(widths: list[int], room: int) -> None:
    """Take from the widest column until all fit; none gets narrower than its share or 4."""
    while sum(widths) > room and max(widths) > 4:
        widest = widths.index(max(widths))
        others = [wide for at, wide in enumerate(widths) if at != widest]
        widths[widest] -= max(1, min(sum(widths) - room, widths[widest] - max([4, *others])))
