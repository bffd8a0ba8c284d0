"""Names of keys, and the bytes that a terminal sends for them (xterm's and, where that has none, kitty's encoding)."""

from stratavore.errors import Invalid

_LETTERED = {"up": "A", "down": "B", "right": "C", "left": "D", "home": "H", "end": "F"}
_FUNCTION_LETTERED = {"f1": "P", "f2": "Q", "f3": "R", "f4": "S"}
_NUMBERED = {
    "insert": 2,
    "delete": 3,
    "pageup": 5,
    "pagedown": 6,
    "f5": 15,
    "f6": 17,
    "f7": 18,
    "f8": 19,
    "f9": 20,
    "f10": 21,
    "f11": 23,
    "f12": 24,
}
_SINGLE = {"esc": 0x1B, "enter": 0x0D, "tab": 0x09, "space": 0x20, "backspace": 0x7F}
_ALIASES = {
    "escape": "esc",
    "return": "enter",
    "del": "delete",
    "ins": "insert",
    "pgup": "pageup",
    "pgdn": "pagedown",
    "pgdown": "pagedown",
    "bs": "backspace",
    "spc": "space",
}
_MODIFIERS = {"shift": 1, "alt": 2, "meta": 2, "ctrl": 4, "control": 4, "c": 4, "m": 2, "s": 1}
SHIFT, ALT, CTRL = 1, 2, 4
NAMES = (*_SINGLE, *_LETTERED, *_NUMBERED, *_FUNCTION_LETTERED, "backtab", "ctrl-c", "ctrl-d", "ctrl-u", "ctrl-z")
"""Those that have one, and the most used of the others."""


def parse(name: str) -> tuple[str, int]:
    """The key and the sum of SHIFT, ALT and CTRL that `name` means: `ctrl-c`, `alt-x`, `shift-up`, `ctrl-\\`.

    Raises:
        Invalid: no such key.
    """
    rest, modifiers = name.strip(), 0
    while True:
        head, dash, tail = rest.partition("-")
        if not (dash and tail and head.lower() in _MODIFIERS):
            break
        modifiers |= _MODIFIERS[head.lower()]
        rest = tail
    key = rest if len(rest) == 1 else _ALIASES.get(rest.lower(), rest.lower())
    if key == "backtab":
        key, modifiers = "tab", modifiers | SHIFT
    if len(key) == 1 and modifiers & CTRL:
        key = key.lower()
    if not ((len(key) == 1 and key.isprintable()) or key in _SINGLE | _NUMBERED | _LETTERED | _FUNCTION_LETTERED):
        raise Invalid(f"there is no key {name!r}", remedy="keys are named like esc, enter, up, f5, ctrl-c, alt-x")
    return key, modifiers


def encode(name: str, *, application_cursor: bool = False) -> bytes:
    """What a terminal sends for the key; `application_cursor` is the mode that the program set (DECCKM).

    Raises:
        Invalid: no such key.
    """
    key, modifiers = parse(name)
    if key in _LETTERED:
        intro = b"\x1bO" if application_cursor else b"\x1b["
        return _lettered(_LETTERED[key], modifiers, intro)
    if key in _FUNCTION_LETTERED:
        return _lettered(_FUNCTION_LETTERED[key], modifiers, b"\x1bO")
    if key in _NUMBERED:
        suffix = b";%d" % (modifiers + 1) if modifiers else b""
        return b"\x1b[%d%s~" % (_NUMBERED[key], suffix)
    if key == "tab" and modifiers == SHIFT:
        return b"\x1b[Z"
    return _typed(key, modifiers)


def _lettered(letter: str, modifiers: int, intro: bytes) -> bytes:
    if modifiers:
        return b"\x1b[1;%d%s" % (modifiers + 1, letter.encode())
    return intro + letter.encode()


def _typed(key: str, modifiers: int) -> bytes:
    """A key that sends a character of its own, or has one for Ctrl."""
    if key in _SINGLE and modifiers & ~ALT and not (key == "space" and modifiers & CTRL):
        return b"\x1b[%d;%du" % (_SINGLE[key], modifiers + 1)
    code = _SINGLE.get(key)
    char = key.encode() if code is None else bytes((code,))
    if modifiers & CTRL:
        control = control_byte(" " if key == "space" else key)
        if control is None:
            return b"\x1b[%d;%du" % (ord(key), modifiers + 1)
        char = control
    elif modifiers & SHIFT:
        char = key.upper().encode()
    return b"\x1b" + char if modifiers & ALT else char


def control_byte(char: str) -> bytes | None:
    """What Ctrl and this character send in the legacy encoding; None if nothing of its own."""
    if char in " 2":
        return b"\x00"
    if char == "?":
        return b"\x7f"
    code = ord(char.upper())
    return bytes((code & 0x1F,)) if 0x40 <= code <= 0x5F else None
