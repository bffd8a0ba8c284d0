"""Readable text from the raw output of a program.

Rule 1: what comes out holds only printable characters, tabs and line feeds, whatever went in (CWE-150).
Rule 2: the borders of the chunks do not matter.
Rule 3: a line is told once, in its last form: a progress bar collapses, a redrawn region is told when it leaves the
        page or the program ends, not at each redraw.
Rule 4: plain lines are told as soon as they are complete, and fast; the page is modelled only after a program moved its
        cursor up, until it has printed a page of lines without doing so again.
"""

from collections import Counter, deque
from collections.abc import Sequence
from functools import lru_cache

from stratavore.terminal.drawing import LEAVES_THE_LINE, draw, is_vertical
from stratavore.terminal.escapes import Kind, Token, Tokenizer
from stratavore.terminal.grid import Grid, Row, join, wrapped
from stratavore.terminal.plain import plain_lines
from stratavore.terminal.printable import printable
from stratavore.terminal.story import Frames, Recent, Retelling

MAX_LINE = 1 << 16
"""A longer line is broken there."""
MAX_STORY = 20_000
SMALL_BLOCK = 1 << 10
LAST_LINE = 200
LAST_LINE_TAIL = 16 << 10


class Renderer:
    """Bytes in, readable lines out.

    `rows` and `cols` are the size of the terminal the program wrote for; without columns nothing wraps.
    """

    def __init__(self, *, rows: int = 24, cols: int | None = None) -> None:
        self._tokens = Tokenizer()
        self._size = rows, cols
        self._main = self._grid = Grid(rows, cols)
        self._frames: Frames | None = None
        self._is_live = False
        self._calm_lines = 0
        self._is_drawn = False
        self._above: deque[str] = deque(maxlen=rows)
        self._early: Counter[str] = Counter()
        self._begun = ""
        self._cleared: list[str] = []
        self._recent = Recent()
        self._story: list[int] = []
        self._retelling: Retelling | None = None
        self._out: list[str] = []

    def feed(self, data: bytes) -> str:
        """The lines that are now known, each with its line feed."""
        position, block = 0, len(data)
        while position < len(data):
            end = self._plain_until(data, position, block)
            if end == position:
                end = self._slow_until(data, position, block)
                block = SMALL_BLOCK
            else:
                block = min(block * 4, len(data))
            position = end
        return self._taken()

    def settle(self) -> str:
        """Nothing more comes for now: also the lines that stand on a live page and were not told yet."""
        if self._frames is not None:
            self._out += self._frames.settle(self._grid.rows_shown())
        elif self._is_live:
            self._settle_page()
        return self._taken()

    def finish(self) -> str:
        """The end of the output: everything that is left."""
        for token in self._tokens.finish():
            self._apply(token)
        if self._frames is not None:
            self._leave_alternate()
        lines = self._page_lines()
        while lines and not lines[-1]:
            lines.pop()
        self._tell_cleared(lines)
        for line in lines:
            self._tell(line)
        self._grid.page, self._grid.y, self._grid.x = [Row()], 0, 0
        self._above.clear()
        self._early.clear()
        return self._taken()

    # The fast path: plain lines

    def _plain_until(self, data: bytes, position: int, block: int) -> int:
        """Tell the plain lines at `position` without a page; returns where they end."""
        if not self._tokens.idle or not self._is_at_line_start():
            return position
        end = data.rfind(b"\n", position, position + block) + 1
        if end <= position:
            return position
        lines = plain_lines(data[position:end], self._grid.cols)
        if lines is None:
            return position
        self._keep_above(lines)
        self._out += lines
        return end

    def _slow_until(self, data: bytes, position: int, block: int) -> int:
        """Take one block, or what is left of a line, token by token; returns where it ended."""
        if self._is_live or self._frames is not None:
            end = len(data)
        elif block > SMALL_BLOCK and self._tokens.idle and self._is_at_line_start():
            return position  # a smaller block may be plain
        else:
            end = data.find(b"\n", position) + 1 or len(data)
        for token in self._tokens.feed(data[position:end]):
            self._apply(token)
        return end

    def _is_at_line_start(self) -> bool:
        grid = self._grid
        return not (self._is_live or self._frames or self._begun or grid.x or grid.y or grid.page[0].cells)

    # One token

    def _apply(self, token: Token) -> None:
        kind = token.kind
        if kind is Kind.TEXT:
            self._is_drawn = True
            self._grid.write(printable(token.raw.decode("utf-8", "replace")))
            if self._grid.scrolled:
                self._take_scrolled()
        elif kind is Kind.CONTROL:
            self._control(token.raw)
        elif kind is Kind.CSI:
            for control in token.inside:
                self._control(bytes((control,)))
            self._sequence(token)
        elif kind is Kind.ESCAPE:
            self._escape(token)
        elif kind is Kind.JUNK and token.raw[0] >= 0x80:
            self._grid.write("\ufffd")

    def _control(self, control: bytes) -> None:
        grid = self._grid
        match control:
            case b"\n" | b"\v" | b"\f":
                self._line_feed()
            case b"\r":
                grid.x = 0
            case b"\b":
                grid.x = max(grid.x - 1, 0)
            case b"\t":
                grid.tab()

    def _escape(self, token: Token) -> None:
        match token.payload + token.final:
            case b"D":
                self._line_feed()
            case b"E":
                self._line_feed()
                self._grid.x = 0
            case b"M":
                self._pen_goes_up()
                self._grid.reverse_line_feed()
            case b"7":
                self._save()
            case b"8":
                self._restore()
            case b"c":
                self._leave_alternate()
                self._clear_page()
                self._grid.move_to(0, 0)

    def _sequence(self, token: Token) -> None:
        if token.payload.startswith(b"?"):
            if token.final in b"hl":
                self._set_modes(token.payload[1:], is_on=token.final == b"h")
            return
        if token.payload.strip(b"0123456789:;"):
            return
        numbers = _numbers(token.payload)
        match token.final:
            case b"J" if numbers[0] >= 2:
                self._pen_goes_up()
                self._clear_page()
            case b"s":
                self._save()
            case b"u":
                self._restore()
            case final:
                if is_vertical(self._grid, final, numbers) or (
                    not self._is_live and self._frames is None and final in LEAVES_THE_LINE
                ):
                    self._pen_goes_up()
                draw(self._grid, final, numbers)
                if self._grid.scrolled:
                    self._take_scrolled()

    def _set_modes(self, modes: bytes, *, is_on: bool) -> None:
        for mode in modes.split(b";"):
            if mode in (b"1049", b"1047", b"47"):
                if is_on:
                    self._enter_alternate()
                else:
                    self._leave_alternate()
            elif mode == b"1048":
                if is_on:
                    self._save()
                else:
                    self._restore()

    # The page

    def _line_feed(self) -> None:
        grid = self._grid
        if self._frames is not None:
            if grid.y == grid.bottom:
                self._pen_goes_up()
            grid.line_feed()
            grid.scrolled.clear()
            return
        grid.x = 0
        if not self._is_live:
            self._end_plain_line()
            return
        grid.line_feed()
        if grid.scrolled:
            self._take_scrolled()
        self._calm_lines += 1
        if self._calm_lines > grid.rows:
            self._calm_down()

    def _end_plain_line(self) -> None:
        grid = self._grid
        if len(grid.page) == 1:
            line = (self._begun + grid.page[0].text).rstrip(" ")
        else:
            line = "".join([self._begun, *(row.text for row in grid.page)]).rstrip(" ")
        self._begun = ""
        grid.page, grid.y = [Row()], 0
        self._out.append(line)
        self._keep_above([line])

    def _take_scrolled(self) -> None:
        rows, self._grid.scrolled = self._grid.scrolled, []
        if self._frames is not None:
            return
        if self._cleared:
            self._tell_cleared(join(rows) + self._grid.lines())
        for row in rows:
            self._begun += row.text
            if not row.wraps or len(self._begun) > MAX_LINE:
                line, self._begun = self._begun.rstrip(" "), ""
                self._tell(line)

    def _pen_goes_up(self) -> None:
        """The program is about to draw over what it drew: look at the page first, and keep one from now on."""
        if self._frames is not None:
            if self._is_drawn:
                self._out += self._frames.frame(self._grid.rows_shown())
        elif not self._is_live:
            self._go_live()
        self._is_drawn = False
        self._calm_lines = 0

    def _go_live(self) -> None:
        """Rebuild the page from the lines told last, of which the current one is the bottom."""
        grid = self._grid
        rows = [row for line in self._above for row in wrapped(line, grid.cols)]
        rows = rows[max(len(rows) + len(grid.page) - grid.rows, 0) :]
        self._early = Counter(join(rows))
        grid.page = rows + grid.page
        grid.y += len(rows)
        self._is_live = True

    def _calm_down(self) -> None:
        """A page of lines has passed without the cursor going up: those above it are final."""
        grid = self._grid
        last = grid.y
        while last > 0 and grid.page[last - 1].wraps:
            last -= 1
        lines = join(grid.page[:last])
        self._tell_cleared(lines)
        for line in lines:
            self._tell(line)
        grid.page, grid.y = [Row()], 0
        grid.top, grid.bottom = 0, grid.rows - 1
        self._is_live, self._retelling = False, None
        self._early.clear()
        self._above.clear()
        self._keep_above(lines)

    def _page_lines(self) -> list[str]:
        lines = self._grid.lines()
        if self._begun:
            lines[:1] = [self._begun + "".join(lines[:1])]
            self._begun = ""
        return lines

    def _settle_page(self) -> None:
        lines = self._grid.lines()
        while lines and not lines[-1]:
            lines.pop()
        self._tell_cleared(lines)
        standing = Counter[str]()
        for line in lines:
            standing[line] += 1
            if standing[line] > self._early[line]:
                self._out.append(line)
        self._early = standing

    def _clear_page(self) -> None:
        if self._frames is None:
            self._tell_cleared([])
            self._cleared = [line for line in self._grid.lines() if line]
            self._retelling = Retelling(self._story)
        self._grid.erase_page(2)

    def _tell_cleared(self, standing: list[str]) -> None:
        """Lines that a clearing of the page took away, and that were not painted again."""
        cleared, self._cleared = self._cleared, []
        for line in cleared:
            if self._early[line] > 0:
                self._early[line] -= 1
            elif line not in standing and line not in self._recent:
                self._out.append(line)
                self._remember(line)

    def _save(self) -> None:
        self._pen_goes_up()
        self._grid.saved = self._grid.y, self._grid.x

    def _restore(self) -> None:
        self._pen_goes_up()
        self._grid.move_to(*self._grid.saved)

    def _enter_alternate(self) -> None:
        if self._frames is None:
            self._pen_goes_up()
            self._frames = Frames()
            self._grid = Grid(*self._size)
            self._is_drawn = False

    def _leave_alternate(self) -> None:
        if self._frames is not None:
            self._out += self._frames.end(self._grid.rows_shown())
            self._frames = None
            self._grid = self._main

    # Telling

    def _tell(self, line: str) -> None:
        if self._early[line] > 0:
            self._early[line] -= 1
            return
        if self._retelling is not None and self._retelling.was_told(line):
            return
        self._out.append(line)
        self._remember(line)

    def _remember(self, line: str) -> None:
        if line:
            self._recent.add(line)
        if len(self._story) < MAX_STORY and self._retelling is None:
            self._story.append(hash(line))

    def _keep_above(self, lines: list[str]) -> None:
        kept = lines[-(self._above.maxlen or 1) :]
        self._above += kept
        if room := MAX_STORY - len(self._story):
            self._story += map(hash, lines[:room])

    def _taken(self) -> str:
        if not self._out:
            return ""
        self._out.append("")
        text, self._out = "\n".join(self._out), []
        return text


def render(data: bytes, *, rows: int = 24, cols: int | None = None) -> str:
    """All of `data` as readable text."""
    renderer = Renderer(rows=rows, cols=cols)
    return renderer.feed(data) + renderer.finish()


def last_line(tail: bytes, failures: Sequence[str] = ()) -> str | None:
    """The last line of `tail` that is not blank, or the last that begins with one of `failures`, and the next one; at
    most LAST_LINE characters of that; None if there is none."""
    lines = [line.strip() for line in render(tail[-LAST_LINE_TAIL:]).split("\n") if line.strip()]
    said = (lines[at : at + 2] for at in reversed(range(len(lines))) if lines[at].startswith(tuple(failures)))
    return ": ".join(next(said, lines[-1:]))[:LAST_LINE] or None


@lru_cache(maxsize=4096)
def _numbers(payload: bytes) -> tuple[int, ...]:
    """Parameters; what is missing is 0, and what is too long for any terminal the largest."""
    fields = (field.partition(b":")[0] for field in payload.split(b";")[:16])
    return tuple(min(int(field[:6]), 99_999) if field else 0 for field in fields)
