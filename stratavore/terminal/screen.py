"""What the terminal shows now, from the tail of a log. pyte emulates it; it is slow and gets only what counts.

Rule 1: pyte sees only sequences that it understands: everything else confuses it (it prints the payload of a DCS and of
        kitty's `CSI = 1 u`, takes `CSI > 4 m` for a colour, and fails over a wrong number of parameters).
Rule 2: the lines hold only printable characters.
"""

import re
from contextlib import suppress
from typing import TYPE_CHECKING

from stratavore.terminal.escapes import Kind, Token, tokenize
from stratavore.terminal.printable import printable

if TYPE_CHECKING:
    import pyte

FED_BYTES = 256 << 10
MAX_ROWS, MAX_COLUMNS = 500, 1000
_FULL_CLEAR = re.compile(rb"\x1b\[[23]J|\x1bc|\x1b\[\?(?:1049|1047|47)[hl]")
_ALTERNATE = re.compile(rb"\x1b\[\?(?:1049|1047|47)([hl])")
_PARAMETERS = re.compile(rb"\??[0-9;]*\Z")
_COLON = re.compile(rb"(\d+)(?::\d*)+")
# Finals that pyte knows, with the number of parameters that they take at most.
_KNOWN = {
    **dict.fromkeys(b"@ABCDEFGIJKLMPSTXa`de", 1),
    **dict.fromkeys(b"Hfr", 2),
    **dict.fromkeys(b"mhlg", 16),
}
_ESCAPES = frozenset((b"c", b"D", b"E", b"M", b"H", b"7", b"8"))
_PRIVATE_KNOWN = b"hl"


def snapshot(tail: bytes, rows: int, cols: int) -> list[str]:
    """The lines of the screen after `tail`, from the top, without blanks at their ends and below the last one."""
    rows, cols = min(max(rows, 1), MAX_ROWS), min(max(cols, 1), MAX_COLUMNS)
    screen = _feed(_what_counts(tail), rows, cols)
    lines = [printable(line).rstrip() for line in screen.display]
    while lines and not lines[-1]:
        lines.pop()
    return lines


def _what_counts(tail: bytes) -> bytes:
    """From the last full clear, or entry of the alternate screen, if it is near enough; else the last FED_BYTES."""
    start = max(len(tail) - FED_BYTES, 0)
    clears = [match.start() for match in _FULL_CLEAR.finditer(tail, start)]
    is_left = (switch := _last(_ALTERNATE, tail)) is not None and switch[1] == b"l"
    return tail[clears[-1] if clears and not is_left else start :]


def _last(pattern: re.Pattern[bytes], data: bytes) -> re.Match[bytes] | None:
    found = None
    for match in pattern.finditer(data):
        found = match
    return found


def _feed(data: bytes, rows: int, cols: int) -> "pyte.Screen":
    import pyte

    main = shown = pyte.Screen(cols, rows)
    stream = pyte.Stream(shown)
    for token in tokenize(data):
        if switch := _ALTERNATE.fullmatch(token.raw):
            stream.detach(shown)
            shown = pyte.Screen(cols, rows) if switch[1] == b"h" else main
            stream.attach(shown)
        elif text := _for_pyte(token):
            _feed_one(stream, text)
    return shown


def _feed_one(stream: "pyte.Stream", text: str) -> None:
    # pyte fails over odd numbers; its stream recovers, and one sequence is lost.
    with suppress(Exception):
        stream.feed(text)


def _for_pyte(token: Token) -> str:
    """The token in the form that pyte understands, or nothing."""
    match token.kind:
        case Kind.TEXT:
            return printable(token.raw.decode("utf-8", "replace"))
        case Kind.CONTROL:
            return token.raw.decode("ascii") if token.raw in b"\b\t\n\v\f\r" else ""
        case Kind.ESCAPE:
            return "\x1b" + token.final.decode() if not token.payload and token.final in _ESCAPES else ""
        case Kind.CSI:
            return _csi_for_pyte(token)
        case _:
            return ""


def _csi_for_pyte(token: Token) -> str:
    payload, final = _COLON.sub(rb"\1", token.payload), token.final
    if not _PARAMETERS.match(payload):
        return ""
    is_private = payload.startswith(b"?")
    if final in b"su":
        return "" if payload else {b"s": "\x1b7", b"u": "\x1b8"}[final]
    limit = _KNOWN.get(final[0], 0)
    if not limit or (is_private and final not in _PRIVATE_KNOWN):
        return ""
    fields = [field[:4] for field in payload.removeprefix(b"?").split(b";")[:limit]]
    return "\x1b[" + ("?" if is_private else "") + b";".join(fields).decode() + final.decode()
