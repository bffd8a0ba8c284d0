"""The page that a program draws on, as far as reading needs it: characters and a cursor, no colours.

It is a terminal's screen on which a line that leaves at the top is not lost but handed out (`scrolled`). Sizes are
hints: a program that addresses a row or column beyond them makes the page larger, for its terminal must have been so.

Rule 1: a long line that wrapped is one line again when it leaves the page.
Rule 2: whatever the numbers in a sequence are, no more than MAX_ROWS × MAX_COLUMNS cells exist.
"""

from collections.abc import Iterable

from stratavore.terminal.printable import width

MAX_ROWS = 1000
MAX_COLUMNS = 4096
TAB = 8


class Row:
    """One row of cells. A wide character is followed by an empty cell; `wraps` tells that the line goes on below."""

    __slots__ = ("cells", "wraps")

    def __init__(self, cells: list[str] | None = None, *, wraps: bool = False) -> None:
        self.cells = [] if cells is None else cells
        self.wraps = wraps

    @property
    def text(self) -> str:
        return "".join(self.cells)


class Grid:
    """See the module. Rows and columns count from 0; `rows` of them at most are on the page at once."""

    def __init__(self, rows: int, cols: int | None) -> None:
        self.rows = min(max(rows, 1), MAX_ROWS)
        self.cols = None if cols is None else min(max(cols, 1), MAX_COLUMNS)
        self.page: list[Row] = [Row()]
        self.y = self.x = 0
        self.top, self.bottom = 0, self.rows - 1
        self.saved = (0, 0)
        self.scrolled: list[Row] = []
        """Rows that left at the top since they were last taken."""

    def lines(self) -> list[str]:
        """The logical lines on the page, without blanks at their ends."""
        return join(self.page)

    def rows_shown(self) -> list[str]:
        """The rows on the page as they stand, without blanks at their ends."""
        return [row.text.rstrip(" ") for row in self.page]

    # Writing

    def write(self, text: str) -> None:
        """Printable text at the cursor."""
        if text.isascii():
            self._write_narrow(text)
            return
        for char in text:
            columns = width(char)
            if columns == 1:
                self._write_narrow(char)
            elif columns == 2:
                self._write_wide(char)
            else:
                self._combine(char)

    def _write_narrow(self, text: str) -> None:
        limit = self.cols or MAX_COLUMNS
        while text:
            if self.x >= limit:
                self._wrap()
            part, text = text[: limit - self.x], text[limit - self.x :]
            cells = self._cells_to(self.x)
            cells[self.x : self.x + len(part)] = part
            self.x += len(part)

    def _write_wide(self, char: str) -> None:
        if self.x + 2 > (self.cols or MAX_COLUMNS):
            self._wrap()
        self._cells_to(self.x)[self.x : self.x + 2] = (char, "")
        self.x += 2

    def _combine(self, char: str) -> None:
        cells = self.page[self.y].cells
        at = min(self.x, len(cells)) - 1
        if at > 0 and not cells[at]:
            at -= 1
        if at >= 0 and len(cells[at]) < 8:
            cells[at] += char

    def _cells_to(self, column: int) -> list[str]:
        cells = self.page[self.y].cells
        if len(cells) < column:
            cells.extend(" " * (column - len(cells)))
        return cells

    def _wrap(self) -> None:
        self.page[self.y].wraps = True
        self.x = 0
        self.line_feed()

    # Moving

    def line_feed(self) -> None:
        """Down one row, scrolling if there is none."""
        if self.y == self.bottom or self.y >= self.rows - 1:
            self._scroll_up()
        else:
            self.move_to(self.y + 1, self.x)

    def reverse_line_feed(self) -> None:
        """Up one row; at the top the page moves down."""
        if self.y == self.top:
            self.page.insert(self.top, Row())
            del self.page[self.bottom + 1 :][:1]
            self._fit()
        else:
            self.y = max(self.y - 1, 0)

    def move_to(self, y: int, x: int) -> None:
        """To a row and column, which the page grows to hold."""
        y, x = min(max(y, 0), MAX_ROWS - 1), min(max(x, 0), MAX_COLUMNS - 1)
        if y >= self.rows:
            if self.bottom == self.rows - 1:
                self.bottom = y
            self.rows = y + 1
        if self.cols is not None and x >= self.cols:
            self.cols = x + 1
        while len(self.page) <= y:
            self.page.append(Row())
        self.y, self.x = y, x

    def move_by(self, down: int, right: int) -> None:
        """Relative, and kept on the page by its edges."""
        last = self.bottom if self.y <= self.bottom else self.rows - 1
        width = self.cols or MAX_COLUMNS
        self.move_to(min(max(self.y + down, 0), last), min(max(self.x + right, 0), width - 1))

    def tab(self) -> None:
        limit = (self.cols or MAX_COLUMNS) - 1
        self.x = min((self.x // TAB + 1) * TAB, limit)

    # Erasing

    def erase_line(self, how: int) -> None:
        """0: from the cursor on, 1: up to it, 2: all."""
        row = self.page[self.y]
        if how == 0:
            del row.cells[self.x :]
            row.wraps = False
        elif how == 1:
            count = min(self.x + 1, len(row.cells))
            row.cells[:count] = " " * count
        elif how == 2:
            row.cells.clear()
            row.wraps = False

    def erase_page(self, how: int) -> None:
        """0: from the cursor on, 1: up to it, 2: all."""
        if how == 0:
            self.erase_line(0)
            del self.page[self.y + 1 :]
        elif how == 1:
            self.page[: self.y] = [Row() for _ in range(self.y)]
            self.erase_line(1)
        elif how == 2:
            self.page = [Row() for _ in range(self.y + 1)]

    def erase_cells(self, count: int) -> None:
        cells = self.page[self.y].cells
        count = min(count, len(cells) - self.x)
        if count > 0:
            cells[self.x : self.x + count] = " " * count

    def delete_cells(self, count: int) -> None:
        del self.page[self.y].cells[self.x : self.x + count]

    def insert_cells(self, count: int) -> None:
        cells = self._cells_to(self.x)
        cells[self.x : self.x] = " " * min(count, MAX_COLUMNS)
        del cells[self.cols or MAX_COLUMNS :]

    def delete_rows(self, count: int) -> None:
        """Rows at the cursor go; those below, within the scrolling region, move up."""
        self._rotate(self.y, count)

    def insert_rows(self, count: int) -> None:
        if self.top <= self.y <= self.bottom:
            count = min(count, self.bottom - self.y + 1)
            del self.page[self.bottom + 1 - count : self.bottom + 1]
            self.page[self.y : self.y] = [Row() for _ in range(count)]
            self._fit()

    # Scrolling

    def set_region(self, top: int, bottom: int) -> None:
        """The rows that scroll."""
        bottom = min(bottom, MAX_ROWS - 1)
        if 0 <= top < bottom:
            self.top, self.bottom = top, bottom
            self.rows = max(self.rows, bottom + 1)
            self.move_to(0, 0)

    def scroll_up(self, count: int) -> None:
        for _ in range(min(count, self.rows)):
            self._scroll_up()

    def scroll_down(self, count: int) -> None:
        y, self.y = self.y, self.top
        self.insert_rows(min(count, self.rows))
        self.y = y

    def _scroll_up(self) -> None:
        if self.top == 0:
            self.scrolled.append(self.page.pop(0))
            self._pad(self.bottom)
            self.page.insert(self.bottom, Row())
            self._fit()
        else:
            self._rotate(self.top, 1)

    def _rotate(self, first: int, count: int) -> None:
        if self.top <= first <= self.bottom:
            count = min(count, self.bottom - first + 1)
            self._pad(self.bottom + 1)
            del self.page[first : first + count]
            self.page[self.bottom + 1 - count : self.bottom + 1 - count] = [Row() for _ in range(count)]
            self._fit()

    def _pad(self, length: int) -> None:
        while len(self.page) < length:
            self.page.append(Row())

    def _fit(self) -> None:
        del self.page[self.rows :]
        self._pad(self.y + 1)


def wrapped(line: str, cols: int | None) -> list[Row]:
    """The rows that a line takes."""
    if cols is None or len(line) <= cols:
        return [Row(list(line))]
    starts = range(0, len(line), cols)
    return [Row(list(line[start : start + cols]), wraps=start != starts[-1]) for start in starts]


def join(rows: Iterable[Row]) -> list[str]:
    """The logical lines of rows: a row that wraps goes on in the next."""
    lines, begun = [], ""
    for row in rows:
        begun += row.text
        if not row.wraps:
            lines.append(begun.rstrip(" "))
            begun = ""
    if begun:
        lines.append(begun.rstrip(" "))
    return lines
