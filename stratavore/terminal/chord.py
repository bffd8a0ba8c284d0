"""The keys that detach: finds them in what a person types, in every encoding that the terminal may use.

Rule 1: a chord is one key or a few in a row. Its keys are not passed on; if another key comes between, all pass.
Rule 2: the first key of a longer chord pressed twice is passed on once: that is how to type it.
Rule 3: the borders of the reads do not matter. What may be the beginning of a key's sequence is kept until the next
        read, or until `flush` (which a loop calls when nothing came for a moment, for Esc is such a beginning).
Rule 4: what is pasted is never a chord. Releases of keys (kitty's event type 3) and modifiers alone are no keys.

Encodings: the byte; kitty's `CSI code:shifted:base;modifiers:event u`; xterm's `CSI 27;modifiers;code ~`.
"""

import re
from typing import NamedTuple, Self

from stratavore.errors import Invalid
from stratavore.terminal import keys

DEFAULT = "ctrl-\\ d"
_LOCKS = 64 | 128
"""Caps Lock and Num Lock, which kitty counts among the modifiers."""
_RELEASE = "3"
_MODIFIER_KEYS = range(57441, 57455)

_KEY = re.compile(
    rb"\x1b\[(?P<body>[\x20-\x3f]*)(?P<final>[\x40-\x7e])"
    rb"|\x1bO[\x20-\x7e]"
    rb"|(?P<alt>\x1b[\x00-\x1a\x1c-\x4e\x50-\x5a\x5c-\x7f])"
    rb"|[\xc2-\xdf][\x80-\xbf]|[\xe0-\xef][\x80-\xbf]{2}|[\xf0-\xf4][\x80-\xbf]{3}"
    rb"|(?P<single>[\x00-\x1a\x1c-\xff])",
    re.DOTALL,
)
_BEGUN = re.compile(
    rb"(?:\x1b(?:\[[\x20-\x3f]{0,64}|O)?|[\xe0-\xef][\x80-\xbf]?|[\xf0-\xf4][\x80-\xbf]{0,2}|[\xc2-\xdf])\Z"
)
_PASTE_BEGINS, _PASTE_ENDS = b"\x1b[200~", b"\x1b[201~"


class Key(NamedTuple):
    """One key of a chord: the code point of its unshifted character, and the modifiers held."""

    code: int
    modifiers: int

    @classmethod
    def from_name(cls, name: str) -> Self:
        key, modifiers = keys.parse(name)
        single = {"esc": 27, "enter": 13, "tab": 9, "space": 32, "backspace": 127}
        if key not in single and len(key) > 1:
            raise Invalid(f"{name!r} cannot be part of a detach key", remedy="use letters, signs and Ctrl: `ctrl-\\ d`")
        return cls(single.get(key) or ord(key), modifiers)


class Chord(NamedTuple):
    """The keys that detach, and the text that a person knows them by."""

    keys: tuple[Key, ...]
    text: str

    @classmethod
    def parse(cls, text: str) -> Self:
        """From names apart by blanks: `ctrl-\\ d`, `ctrl-]`.

        Raises:
            Invalid: not a key, or no key, or one that every program needs for itself alone.
        """
        parsed = tuple(Key.from_name(name) for name in text.split())
        if not 1 <= len(parsed) <= 4:
            raise Invalid(f"{text!r} is no detach key", remedy="give one to four keys, such as `ctrl-\\ d`")
        if len(parsed) == 1 and not parsed[0].modifiers & (keys.CTRL | keys.ALT):
            raise Invalid(f"{text!r} alone would take that key from the program", remedy="use `ctrl-\\ d` or `ctrl-]`")
        return cls(parsed, text)

    @property
    def shown(self) -> str:
        """For the banner: `Ctrl-\\ d`."""
        return " ".join(name[:1].upper() + name[1:] if len(name) > 1 else name for name in self.text.split())


class Fed(NamedTuple):
    """What a read amounts to: bytes for the program, and whether the chord was completed (the rest is then dropped)."""

    passed: bytes
    is_detach: bool


class ChordMatcher:
    """See the rules of this module."""

    def __init__(self, chord: Chord) -> None:
        self._chord = chord.keys
        self._begun = b""
        self._held = b""
        self._matched = 0
        self._first = b""
        self._is_pasting = False

    @property
    def has_begun(self) -> bool:
        """Whether a sequence is kept that `flush` would let pass."""
        return bool(self._begun)

    def flush(self) -> bytes:
        """Nothing came for a moment: a kept beginning was a key of its own. Keys of a begun chord stay held."""
        begun, self._begun = self._begun, b""
        if not begun:
            return b""
        held, self._held, self._matched = self._held, b"", 0
        return held + begun

    def feed(self, data: bytes) -> Fed:
        """What was typed."""
        data, self._begun = self._begun + data, b""
        passed: list[bytes] = []
        position = 0
        while position < len(data):
            if self._is_pasting:
                position = self._paste(data, position, passed)
                continue
            match = _KEY.match(data, position)
            if (match is None or match["single"]) and _BEGUN.match(data, position):
                self._begun = data[position:]
                break
            raw = match.group() if match else data[position : position + 1]
            position += len(raw)
            if raw == _PASTE_BEGINS:
                self._is_pasting = True
                passed.append(self._let_go() + raw)
            elif self._take(raw, match, passed):
                return Fed(b"".join(passed), True)
        return Fed(b"".join(passed), False)

    def _paste(self, data: bytes, position: int, passed: list[bytes]) -> int:
        end = data.find(_PASTE_ENDS, position)
        if end >= 0:
            self._is_pasting = False
            passed.append(data[position : end + len(_PASTE_ENDS)])
            return end + len(_PASTE_ENDS)
        keep = next((size for size in range(len(_PASTE_ENDS) - 1, 0, -1) if data.endswith(_PASTE_ENDS[:size])), 0)
        keep = min(keep, len(data) - position)
        passed.append(data[position : len(data) - keep])
        self._begun = data[len(data) - keep :]
        return len(data)

    def _take(self, raw: bytes, match: re.Match[bytes] | None, passed: list[bytes]) -> bool:
        """Handle one key; True if it completes the chord."""
        pressed = _pressed(match) if match else None
        if pressed is None and match is not None and _is_silent(match):
            if self._matched:
                self._held += raw
            else:
                passed.append(raw)
            return False
        if pressed is not None and self._chord[self._matched] in pressed:
            if self._matched + 1 == len(self._chord):
                return True
            self._first = self._first if self._matched else raw
            self._matched += 1
            self._held += raw
        elif self._matched == 1 and pressed is not None and self._chord[0] in pressed:
            self._let_go()
            passed.append(self._first)
        else:
            passed.append(self._let_go() + raw)
        return False

    def _let_go(self) -> bytes:
        held, self._held, self._matched = self._held, b"", 0
        return held


def _pressed(match: re.Match[bytes]) -> set[Key] | None:
    """The keys that this may be (a shifted sign has two names); None if it is none of a chord's."""
    if single := match["single"]:
        return _from_byte(single[0])
    if alt := match["alt"]:
        return {Key(key.code, key.modifiers | keys.ALT) for key in _from_byte(alt[1])}
    fields = _fields(match)
    if fields is None:
        return None
    codes, modifiers, event = fields
    if event == _RELEASE or codes[0] in _MODIFIER_KEYS:
        return None
    found = {Key(code, modifiers) for code in codes if code}
    if modifiers & keys.SHIFT:
        found |= {Key(code, modifiers & ~keys.SHIFT) for code in codes[1:] if code}
    return found


def _is_silent(match: re.Match[bytes]) -> bool:
    """A release, or a modifier by itself."""
    fields = _fields(match)
    return fields is not None and (fields[2] == _RELEASE or fields[0][0] in _MODIFIER_KEYS)


def _fields(match: re.Match[bytes]) -> tuple[list[int], int, str] | None:
    """Code points, modifiers and event type of a CSI that encodes a key by its code point."""
    if match["final"] not in (b"u", b"~"):
        return None
    parts = match["body"].decode("ascii").split(";")
    if match["final"] == b"~":
        if len(parts) != 3 or parts[0] != "27":
            return None
        parts = [parts[2], parts[1]]
    modifiers, _, event = (parts[1] if len(parts) > 1 else "").partition(":")
    try:
        codes = [int(code or "0") for code in parts[0].split(":")]
        held = max(int(modifiers or "1") - 1, 0)
    except ValueError:
        return None
    return codes, held & ~_LOCKS, event


def _from_byte(byte: int) -> set[Key]:
    if byte in (9, 13, 27, 32, 127):
        found = {Key(byte, 0)}
    elif byte >= 0x20:
        return {Key(byte, 0)}
    else:
        found = set()
    if byte == 0:
        return {Key(ord(sign), keys.CTRL) for sign in " @2"}
    return found | ({Key(byte + 0x60, keys.CTRL), Key(byte + 0x40, keys.CTRL)} if byte < 0x20 else set())
