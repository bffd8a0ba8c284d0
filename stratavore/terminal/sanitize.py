"""What of a program's output is passed on to a person's terminal.

Rule 1: replayed output holds no query: the terminal would answer it into a program that asked long ago (or into the
        person's shell). Only what is known to be harmless is replayed, and no device string (DCS, SOS, PM, APC) at all.
Rule 2: an OSC 52 reaches the terminal only where the person turned it on: it writes the clipboard.
Rule 3: the borders of the chunks do not matter.
"""

import re

from stratavore.terminal.escapes import Kind, Token, Tokenizer

_CLIPBOARD = re.compile(rb"\s*0*52\s*(?:;|\Z)")
_OSC_REPLAYED = re.compile(rb"(?:0|1|2|7|8|133|104|110|111|112)(?:;|\Z)")
_OSC_COLOUR = re.compile(rb"(?:4|5|10|11|12|13|14|15|16|17|18|19|21)(?:;|\Z)")
# Finals of the sequences that make a terminal answer: device attributes, status reports, DECREQTPARM; `i` prints.
_ASKING_FINALS = b"cnxi"
_WINDOW_CHANGES = frozenset((b"22", b"23"))
"""Of the window operations only pushing and popping the title is replayed: the others ask, resize or move."""


class ReplayFilter:
    """For output from the past."""

    def __init__(self, *, osc52: bool = False) -> None:
        self._tokens = Tokenizer()
        self._osc52 = osc52

    def feed(self, data: bytes) -> bytes:
        """What of `data` may be replayed. A sequence that has not ended yet comes with the chunk that ends it."""
        return b"".join(self._passed(token) for token in self._tokens.feed(data))

    @property
    def kept_bytes(self) -> int:
        """How many bytes at the end are not passed yet, because their sequence has not ended."""
        return self._tokens.kept_bytes

    def _passed(self, token: Token) -> bytes:
        match token.kind:
            case Kind.CSI:
                return token.inside.replace(b"\x05", b"") + (b"" if _asks(token) else _plain_csi(token))
            case Kind.OSC:
                return token.raw if self._is_harmless(token.payload) else b""
            case Kind.CONTROL:
                return b"" if token.raw == b"\x05" else token.raw  # ENQ is answered with the answerback message
            case Kind.ESCAPE:
                return b"" if token.final == b"Z" and not token.payload else token.raw  # DECID
            case Kind.TEXT:
                return token.raw
            case _:
                return b""

    def _is_harmless(self, payload: bytes) -> bool:
        if _CLIPBOARD.match(payload):
            return self._osc52 and not payload.endswith(b"?")
        if _OSC_COLOUR.match(payload):
            return b"?" not in payload
        return _OSC_REPLAYED.match(payload) is not None and b"?" not in payload[:2]


class LiveFilter:
    """For output as it comes: everything but OSC 52, unless `osc52` lets that pass too."""

    def __init__(self, *, osc52: bool = False) -> None:
        self._osc52 = osc52
        self._kept = self._before = b""
        self._is_dropping = False

    def feed(self, data: bytes) -> bytes:
        """What of `data` reaches the terminal now."""
        if self._osc52:
            return data
        # The byte before decides whether an 8-bit OSC is one, or a part of a character.
        position, data, self._kept = len(self._before), self._before + self._kept + data, b""
        passed = []
        while True:
            if self._is_dropping:
                if not (end := _STRING_END.search(data, position)):
                    self._kept = data[-1:] if data.endswith(b"\x1b") else b""
                    break
                position, self._is_dropping = end.end(), False
            if not (start := _CLIPBOARD_BEGINS.search(data, position)):
                held = _MAY_BEGIN.search(data, max(position, len(data) - 64))
                cut = held.start() if held else len(data)
                passed.append(data[position:cut])
                self._kept = data[cut:]
                break
            passed.append(data[position : start.start()])
            position, self._is_dropping = start.end(), True
        self._before = data[: len(data) - len(self._kept)][-1:]
        return b"".join(passed)


_IGNORED = rb"[\x00-\x06\x08-\x17\x19\x1c-\x1f\x7f]{0,8}"
_OSC = rb"(?:\x1b" + _IGNORED + rb"\]|\xc2\x9d|(?<![\x80-\xff])\x9d)"
_CLIPBOARD_BEGINS = re.compile(_OSC + rb"[\x00-\x06\x08-\x17\x19\x1c-\x20\x7f0]*52(?=[^0-9])")
_STRING_END = re.compile(rb"\x1b\\|(?=\x1b[^\\])|[\x07\x18\x1a\x9c]")
_MAY_BEGIN = re.compile(
    rb"(?:" + _OSC + rb"[\x00-\x06\x08-\x17\x19\x1c-\x20\x7f0]*5?2?|\x1b" + _IGNORED + rb"|\xc2"
    rb"|[\xe0-\xef][\x80-\xbf]?|[\xf0-\xf4][\x80-\xbf]{0,2})\Z"
)


def _asks(token: Token) -> bool:
    """Whether it makes the terminal answer, prints, resizes, or takes away the person's scrollback."""
    payload, final = token.payload, token.final
    if final in _ASKING_FINALS or final == b"t":
        return final != b"t" or payload.split(b";")[0] not in _WINDOW_CHANGES
    if final == b"J":
        return payload == b"3"
    if final == b"u":
        return payload.startswith(b"?")  # kitty: which flags are on?
    if final == b"q":
        return payload.startswith(b">")  # XTVERSION
    if final == b"S":
        return payload.startswith(b"?")  # XTSMGRAPHICS
    if final == b"m":
        return payload.startswith(b"?")  # XTQMODKEYS
    if final in b"pwyz|{}":
        return b"$" in payload or b"*" in payload or b"'" in payload or b"&" in payload  # DECRQM, DECRQCRA, locator …
    return b"$" in payload and final == b"u"


def _plain_csi(token: Token) -> bytes:
    """The sequence without the controls that stood in it; they were passed on before it."""
    return b"\x1b[" + token.payload + token.final if token.inside or b"\x7f" in token.raw else token.raw
