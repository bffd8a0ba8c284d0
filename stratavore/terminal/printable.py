"""Which characters may reach a person's terminal as text.

Rule: what `printable` returns holds nothing but characters that take a place and can do no harm: no controls (C0, C1,
DEL), no bidirectional or zero-width controls, no line separators of Unicode, no invisible fillers.
"""

import re
import unicodedata

# Printable for Python, but nothing is seen: variation selectors, the grapheme joiner, Hangul and Khmer fillers,
# Mongolian selectors, Braille blank.
_UNSEEN = re.compile(
    "[\ufe00-\ufe0f\u034f\u115f\u1160\u3164\uffa0\u17b4\u17b5\u180b-\u180f\u2800\U000e0100-\U000e01ef]"
)


class _Cleaning(dict[int, str]):
    """What stands for a character, decided when it is first met. Bounded by the number of characters there are."""

    def __missing__(self, code: int) -> str:
        clean = self[code] = _clean(chr(code))
        return clean


def printable(text: str) -> str:
    """`text` without what could act on a terminal, or hide in it; what cannot be shown but takes a place is U+FFFD."""
    if text.isprintable() and (text.isascii() or _UNSEEN.search(text) is None):
        return text
    return text.translate(_CLEANING)


def width(char: str) -> int:
    """How many columns the character takes: 0, 1 or 2."""
    if char < "\u0300":
        return 1
    if unicodedata.combining(char) or unicodedata.category(char) in ("Mn", "Me"):
        return 0
    return 2 if unicodedata.east_asian_width(char) in "WF" else 1


def _clean(char: str) -> str:
    category = unicodedata.category(char)
    if _UNSEEN.match(char) or category in ("Cc", "Cf", "Zl", "Zp"):
        return ""
    if category == "Zs":
        return " "
    return char if char.isprintable() else "\ufffd"


_CLEANING = _Cleaning()
