"""What the CSI sequences that draw and move do to a page (ECMA-48 and xterm's ctlseqs)."""

from collections.abc import Callable

from stratavore.terminal.grid import MAX_COLUMNS, Grid

Act = Callable[[Grid, int], None]

_ACTS: dict[bytes, Act] = {
    b"A": lambda grid, n: grid.move_by(-_one(n), 0),
    b"B": lambda grid, n: grid.move_by(_one(n), 0),
    b"e": lambda grid, n: grid.move_by(_one(n), 0),
    b"C": lambda grid, n: grid.move_by(0, _one(n)),
    b"a": lambda grid, n: grid.move_by(0, _one(n)),
    b"D": lambda grid, n: grid.move_by(0, -_one(n)),
    b"E": lambda grid, n: grid.move_by(_one(n), -MAX_COLUMNS),
    b"F": lambda grid, n: grid.move_by(-_one(n), -MAX_COLUMNS),
    b"G": lambda grid, n: grid.move_to(grid.y, _one(n) - 1),
    b"`": lambda grid, n: grid.move_to(grid.y, _one(n) - 1),
    b"d": lambda grid, n: grid.move_to(_one(n) - 1, grid.x),
    b"I": lambda grid, n: _tab(grid, _one(n)),
    b"J": lambda grid, n: grid.erase_page(n),
    b"K": lambda grid, n: grid.erase_line(n),
    b"X": lambda grid, n: grid.erase_cells(_one(n)),
    b"P": lambda grid, n: grid.delete_cells(_one(n)),
    b"@": lambda grid, n: grid.insert_cells(_one(n)),
    b"L": lambda grid, n: grid.insert_rows(_one(n)),
    b"M": lambda grid, n: grid.delete_rows(_one(n)),
    b"S": lambda grid, n: grid.scroll_up(_one(n)),
    b"T": lambda grid, n: grid.scroll_down(_one(n)),
}
LEAVES_THE_LINE = b"ABEFHdefrLMST"
"""Finals after which more than the current line must be known."""


def draw(grid: Grid, final: bytes, numbers: tuple[int, ...]) -> None:
    """Carry out one sequence; one that neither draws nor moves does nothing."""
    second = numbers[1] if len(numbers) > 1 else 0
    if final in b"Hf":
        grid.move_to(_one(numbers[0]) - 1, _one(second) - 1)
    elif final == b"r":
        grid.set_region(_one(numbers[0]) - 1, (second or grid.rows) - 1)
    elif act := _ACTS.get(final):
        act(grid, numbers[0])


def is_vertical(grid: Grid, final: bytes, numbers: tuple[int, ...]) -> bool:
    """Whether the sequence takes the pen up, or moves rows: a new round of drawing begins."""
    if final in b"Hfd":
        return _one(numbers[0]) - 1 < grid.y
    return final in b"AFrLMST"


def _one(number: int) -> int:
    return max(number, 1)


def _tab(grid: Grid, count: int) -> None:
    for _ in range(min(count, MAX_COLUMNS)):
        grid.tab()
