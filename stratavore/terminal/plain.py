"""The fast path of reading: complete lines that need no page to be understood.

Rule: what is accepted here comes out exactly as the page would have told it; whatever might differ is refused.
"""

import re

from stratavore.terminal.grid import MAX_COLUMNS, TAB

MAX_PLAIN_LINE = 1 << 14
_STYLE = re.compile(rb"\x1b\[[\d;:]*m")
_CONTROL = re.compile(rb"[\x00-\x08\x0b-\x1f\x7f]")
# Whatever might combine, hide or be unprintable: the page looks at those one by one.
_UNUSUAL = re.compile(
    "[^\x00-\x7e\xa1-\xac\xae-\u02ff\u0400-\u0481\u2010-\u2027\u2030-\u205e\u20a0-\u20bf\u2190-\u23ff"
    "\u2500-\u27ff\u2900-\u2b4f\u3041-\u3096\u30a1-\u30ff\u4e00-\u9fef\uac00-\ud7a3]"
)
_BLANK_END = re.compile(r" +$", re.MULTILINE)


def plain_lines(data: bytes, cols: int | None) -> list[str] | None:
    """The lines of `data`, which ends with a line feed; None if they hold more than text, colours and tabs."""
    if b"\x1b[" in data:
        data = _STYLE.sub(b"", data)
    data = data.replace(b"\r\n", b"\n")
    if _CONTROL.search(data):
        return None
    try:
        text = data.decode()
    except UnicodeDecodeError:
        return None
    has_tabs = "\t" in text
    if not text.isascii() and (has_tabs or _UNUSUAL.search(text)):
        return None
    if has_tabs:
        text = text.expandtabs(TAB)
    if " \n" in text:
        text = _BLANK_END.sub("", text)
    lines = text.split("\n")
    lines.pop()
    longest = max(map(len, lines))
    if longest > MAX_PLAIN_LINE or (has_tabs and longest > (cols or MAX_COLUMNS)):
        return None
    return lines
