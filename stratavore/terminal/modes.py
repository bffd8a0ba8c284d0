"""The terminal modes that a program has put in force, derived from its output.

Rule 1: `enter` puts exactly these modes in force on a fresh terminal, `leave` takes exactly these back: a detach resets
        what the program had set and touches nothing that the user had set.
Rule 2: the borders of the chunks do not matter.
Rule 3: it is fast (one regular expression beginning with a literal), for every byte shown while attached passes here.

Sources: xterm's ctlseqs, the kitty keyboard protocol, mode 2031 (colour scheme) and 2048 (size reports) of contour.
"""

import re
from collections.abc import Iterator

ALTERNATE = (1049, 1047, 47)
BRACKETED_PASTE = 2004
APPLICATION_CURSOR = 1
NORMALLY_ON = frozenset((7, 25))
"""Autowrap, and the cursor's visibility."""
KNOWN = NORMALLY_ON | {
    *(
        1,
        5,
        6,
        9,
        12,
        45,
        66,
        1000,
        1001,
        1002,
        1003,
        1004,
        1005,
        1006,
        1007,
        1015,
        1016,
        1034,
        1035,
        1036,
        1039,
    ),
    *(2004, 2026, 2027, 2031, 2048),
}
NOT_REPLAYED = frozenset((2026,))
"""A synchronized update that was begun must be ended, never begun again: the terminal would wait."""
_MAX_STACK = 32
_LONGEST = 64

_CHANGE = re.compile(
    rb"\x1b(?:"
    rb"\[\?(?P<private>[\d;]+)(?P<set>[hl])"
    rb"|\[(?P<stack>[<>=])(?P<kitty>[\d;]*)u"
    rb"|\[>4(?:;(?P<modify>\d*))?m"
    rb"|\[(?P<insert>4|20)(?P<insert_set>[hl])"
    rb"|(?P<keypad>[=>])"
    rb"|\[(?P<region>[\d;]*)r"
    rb"|\[(?P<shape>\d*) q"
    rb"|\](?P<colour>4|1[0-2]|17|19|1(?:04|1[0-9]))(?P<query>(?:;[^\x07\x1b]{0,40})?)[\x07\x1b]"
    rb"|(?P<reset>c|\[!p)"
    rb")"
)


class Modes:
    """Modes in force. Starts as a fresh terminal; `feed` applies what a program wrote."""

    def __init__(self) -> None:
        self._reset()
        self._rest = b""

    def _reset(self) -> None:
        self._changed: dict[int, bool] = {}
        self._ansi: set[int] = set()
        self._alternate: int | None = None
        self._stacks: dict[bool, list[int]] = {False: [0], True: [0]}
        self._modify_keys = b""
        self._keypad = False
        self._region = b""
        self._shape = b""
        self._colours: set[int] = set()

    @property
    def bracketed_paste(self) -> bool:
        return self.is_set(BRACKETED_PASTE)

    @property
    def application_cursor(self) -> bool:
        return self.is_set(APPLICATION_CURSOR)

    @property
    def alternate_screen(self) -> bool:
        return self._alternate is not None

    @property
    def kitty_flags(self) -> int:
        """What the program asked of the kitty keyboard protocol on the screen that is shown; 0 is the legacy way."""
        return self._stacks[self.alternate_screen][-1]

    def is_set(self, mode: int) -> bool:
        """Whether a DEC private mode is on."""
        if mode in ALTERNATE:
            return self.alternate_screen
        return self._changed.get(mode, mode in NORMALLY_ON)

    def feed(self, data: bytes) -> None:
        """Apply what a program wrote."""
        data = self._rest + data
        if b"\xc2\x9b" in data:
            data = data.replace(b"\xc2\x9b", b"\x1b[")
        end = 0
        for change in _CHANGE.finditer(data):
            self._apply(change)
            end = change.end()
        last = data.rfind(b"\x1b", max(end, len(data) - _LONGEST))
        self._rest = data[last:] if last >= 0 and _is_open(data[last:]) else b""

    def enter(self) -> bytes:
        """The sequences that put these modes in force on a fresh terminal."""
        return b"".join(self._entering())

    def leave(self) -> bytes:
        """The sequences that take these modes back, and colours with them; the cursor is where it was,."""
        return b"".join(self._leaving())

    def _entering(self) -> Iterator[bytes]:
        yield from _pushes(self._stacks[False])
        if self._alternate is not None:
            yield b"\x1b[?%dh" % self._alternate
            yield from _pushes(self._stacks[True])
        for mode, is_on in self._changed.items():
            if is_on != (mode in NORMALLY_ON) and mode not in NOT_REPLAYED:
                yield b"\x1b[?%d%c" % (mode, b"h" if is_on else b"l")
        for ansi in sorted(self._ansi):
            yield b"\x1b[%dh" % ansi
        if self._modify_keys:
            yield b"\x1b[>4;%sm" % self._modify_keys
        if self._keypad:
            yield b"\x1b="
        if self._region:
            yield b"\x1b7\x1b[%sr\x1b8" % self._region
        if self._shape:
            yield b"\x1b[%s q" % self._shape

    def _leaving(self) -> Iterator[bytes]:
        if self._changed.get(2026):
            yield b"\x1b[?2026l"
        if self._region:
            yield b"\x1b7\x1b[r\x1b8"
        for mode, is_on in self._changed.items():
            if is_on != (mode in NORMALLY_ON) and mode not in NOT_REPLAYED:
                yield b"\x1b[?%d%c" % (mode, b"l" if is_on else b"h")
        yield from (b"\x1b[%dl" % ansi for ansi in sorted(self._ansi))
        if self._modify_keys:
            yield b"\x1b[>4m"
        if self._keypad:
            yield b"\x1b>"
        if self._shape:
            yield b"\x1b[0 q"
        yield from (b"\x1b]%d\x07" % (colour + 100) for colour in sorted(self._colours))
        if self._alternate is not None:
            yield _pops(self._stacks[True])
            yield b"\x1b[?%dl" % self._alternate
        yield _pops(self._stacks[False])
        yield b"\x1b(B\x0f\x1b[m"

    # One change

    def _apply(self, change: re.Match[bytes]) -> None:
        if change["private"]:
            for mode in change["private"].split(b";"):
                self._set_private(int(mode[:6] or b"0"), is_on=change["set"] == b"h")
        elif change["stack"]:
            self._set_kitty(change["stack"], [int(part[:6] or b"0") for part in change["kitty"].split(b";")])
        elif change["insert"]:
            mode = int(change["insert"])
            (self._ansi.add if change["insert_set"] == b"h" else self._ansi.discard)(mode)
        elif change["keypad"]:
            self._keypad = change["keypad"] == b"="
        elif change["region"] is not None:
            self._region = change["region"]
        elif change["shape"] is not None:
            self._shape = b"" if change["shape"] in (b"", b"0") else change["shape"]
        elif change["colour"]:
            self._set_colour(int(change["colour"]), change["query"])
        elif change["reset"]:
            (self._reset if change["reset"] == b"c" else self._soft_reset)()
        else:
            self._modify_keys = b"" if (change["modify"] or b"0") == b"0" else change["modify"]

    def _set_private(self, mode: int, *, is_on: bool) -> None:
        if mode in ALTERNATE:
            if is_on and self._alternate is None:
                self._stacks[True] = [0]
            self._alternate = mode if is_on else None
        elif mode in KNOWN:
            self._changed.pop(mode, None)
            if is_on != (mode in NORMALLY_ON):
                self._changed[mode] = is_on

    def _set_kitty(self, how: bytes, numbers: list[int]) -> None:
        stack = self._stacks[self.alternate_screen]
        if how == b">":
            stack.append(numbers[0])
            del stack[1 : max(len(stack) - _MAX_STACK, 1)]
        elif how == b"<":
            del stack[max(len(stack) - max(numbers[0], 1), 1) :]
        else:
            kind = numbers[1] if len(numbers) > 1 else 1
            old, new = stack[-1], numbers[0]
            stack[-1] = new if kind == 1 else old | new if kind == 2 else old & ~new

    def _set_colour(self, number: int, value: bytes) -> None:
        if number >= 100:
            self._colours.discard(number - 100)
        elif b"?" not in value:
            self._colours.add(number)

    def _soft_reset(self) -> None:
        """DECSTR: a few modes, not the alternate screen or the mouse."""
        for mode in (1, 6, 25, 7):
            self._changed.pop(mode, None)
        self._ansi.discard(4)
        self._keypad, self._region = False, b""


def modes_of(data: bytes) -> Modes:
    """The modes that are in force after `data`."""
    modes = Modes()
    modes.feed(data)
    return modes


def _is_open(tail: bytes) -> bool:
    """Whether `tail`, which begins with ESC, might still become a change."""
    return len(tail) < _LONGEST and not re.match(
        rb"\x1b(?:\[[\x20-\x3f]*[\x40-\x7e]|\].*\x07|[^\[\]])", tail, re.DOTALL
    )


def _pushes(stack: list[int]) -> Iterator[bytes]:
    if stack[0]:
        yield b"\x1b[=%du" % stack[0]
    for flags in stack[1:]:
        yield b"\x1b[>%du" % flags


def _pops(stack: list[int]) -> bytes:
    pops = b"\x1b[<%du" % (len(stack) - 1) if len(stack) > 1 else b""
    return pops + (b"\x1b[=0u" if stack[0] else b"")
