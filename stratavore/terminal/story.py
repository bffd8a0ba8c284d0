"""What there is to tell of a page that a program paints and repaints.

A full-screen program prints no lines: it changes cells. A reader wants each line once, in order, in its last form. So
the page is looked at whenever the program's pen goes up again after drawing (a frame), and a line is told when it goes:

Rule 1: lines that moved up, because the program scrolled, push the vanished ones above them out: those are told.
Rule 2: where a whole page was replaced, lines that stood there for more than one frame are told, unless told lately.
Rule 3: a line that was changed where it stood (a clock, a spinner, an answer that grows) is not told; its last form is.
Rule 4: what was told while it still stood on the page (`settle`) is not told again when it leaves.
"""

from collections import Counter, OrderedDict
from collections.abc import Iterable

PAGE_CHANGE = 3
"""So many lines must vanish at once for it to be another page and not the change of a line or two."""
STEADY = 2
"""Frames that a line must have stood to be told when the page is replaced."""
REMEMBERED = 2000
_BLANK = hash("")


class Recent:
    """The lines told last, bounded: by their hashes, for a line may be long."""

    def __init__(self) -> None:
        self._lines: OrderedDict[int, None] = OrderedDict()

    def add(self, line: str) -> None:
        self._lines[hash(line)] = None
        self._lines.move_to_end(hash(line))
        if len(self._lines) > REMEMBERED:
            self._lines.popitem(last=False)

    def __contains__(self, line: str) -> bool:
        return hash(line) in self._lines


class Frames:
    """The story of one page; each method returns the lines to tell now."""

    def __init__(self) -> None:
        self._page: list[str] = []
        self._ages: dict[str, int] = {}
        self._early: Counter[str] = Counter()
        self._recent = Recent()

    def frame(self, page: list[str]) -> list[str]:
        """The program has drawn; `page` is what stands there now."""
        if page == self._page:
            return []
        leaving = self._leaving(page)
        self._ages = {line: self._ages.get(line, 0) + 1 for line in page if line}
        self._page = page
        return self._tell(leaving)

    def settle(self, page: list[str]) -> list[str]:
        """Nothing more comes for now: also what stands there and was not told yet."""
        told = self.frame(page)
        early, fresh = Counter[str](), []
        for line in _trimmed(page):
            early[line] += 1
            if not line or (early[line] > self._early[line] and line not in self._recent):
                fresh.append(line)
        self._early = early
        return told + self._remember(_trimmed(fresh))

    def end(self, page: list[str]) -> list[str]:
        """The page is left: all of it that was not told yet."""
        told = self.frame(page)
        return told + self._tell(_trimmed(page))

    def _leaving(self, page: list[str]) -> list[str]:
        standing = set(page)
        vanished = [y for y, line in enumerate(self._page) if line and line not in standing]
        if not vanished:
            return []
        if edge := _scrolled_to(self._page, page):
            return self._above(vanished, edge)
        if len(vanished) < PAGE_CHANGE:
            return []
        lines = (self._page[y] for y in vanished)
        return [line for line in lines if self._is_worth_telling(line, page)]

    def _above(self, vanished: list[int], edge: int) -> list[str]:
        """The vanished lines above row `edge`, and the blank ones after the first of them."""
        gone, leaving = set(vanished), list[str]()
        for y, line in enumerate(self._page[:edge]):
            if y in gone or (leaving and not line):
                leaving.append(line)
        return leaving

    def _is_worth_telling(self, line: str, page: list[str]) -> bool:
        if self._ages.get(line, 0) < STEADY or line in self._recent:
            return False
        return not any(other.startswith(line) for other in page)

    def _tell(self, lines: Iterable[str]) -> list[str]:
        fresh = []
        for line in lines:
            if line and self._early[line] > 0:
                self._early[line] -= 1
            else:
                fresh.append(line)
        return self._remember(fresh)

    def _remember(self, lines: list[str]) -> list[str]:
        told: list[str] = []
        for line in lines:
            if line:
                self._recent.add(line)
            if line or (told and told[-1]):
                told.append(line)
        return told


class Retelling:
    """After a page was cleared, a program may print all of its story again (Ink does, when it outgrew the page).

    It counts as that only if its first line is the first line of the story; then each line that comes in the old order
    was told already.
    """

    def __init__(self, story: list[int]) -> None:
        """`story` holds the hash of each line that was told, from the first on."""
        self._story = story
        self._next = 0

    def was_told(self, line: str) -> bool:
        if not line:
            return 0 < self._next < len(self._story)
        if self._next == 0:
            first = next((index for index, told in enumerate(self._story) if told != _BLANK), None)
            is_first = first is not None and self._story[first] == hash(line)
            self._next = first + 1 if first is not None and is_first else len(self._story)
            return is_first
        try:
            self._next = self._story.index(hash(line), self._next) + 1
        except ValueError:
            return False
        return True


def _scrolled_to(old: list[str], new: list[str]) -> int:
    """The row of `old` at which the part begins that moved up; 0 if nothing did."""
    where = {line: y for y, line in enumerate(new) if _is_telling(line)}
    shifts = Counter[int]()
    first: dict[int, int] = {}
    for y, line in enumerate(old):
        if (shift := y - where.get(line, y)) > 0:
            shifts[shift] += 1
            first.setdefault(shift, y)
    if not shifts:
        return 0
    shift, _ = shifts.most_common(1)[0]
    return first[shift]


def _is_telling(line: str) -> bool:
    """Whether the line says enough to be recognised on another row: rules and prompts stand on many."""
    return len(line) >= 4 and any(char.isalnum() for char in line)


def _trimmed(page: list[str]) -> list[str]:
    """Without the blank lines before and after."""
    start, end = 0, len(page)
    while start < end and not page[start]:
        start += 1
    while end > start and not page[end - 1]:
        end -= 1
    return page[start:end]
