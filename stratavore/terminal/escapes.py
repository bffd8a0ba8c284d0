"""The grammar of what a program writes to a terminal, as tokens over bytes.

Everything in this room that must know where an escape sequence begins and ends asks here.

Rule 1: 7-bit (`ESC [`) and 8-bit forms (raw 0x9B, and U+009B in UTF-8) are the same token; a byte that belongs to a
        valid UTF-8 character is never a control: the title "✳ Claude Code" contains 0x9C, which ends no string.
Rule 2: the borders of the chunks do not matter. What could still grow into a token is kept for the next call.
Rule 3: nothing is kept without a limit. A string longer than MAX_STRING is cut there, and its rest is swallowed.
Rule 4: a string ends at its terminator, at ESC, CAN or SUB; an OSC also at a line feed, so that a program that died in
        the middle of a title hides no more than that line.

After ECMA-48, and Paul Williams' parser of DEC's terminals (vt100.net/emu/dec_ansi_parser).
"""

import re
from collections.abc import Iterator
from enum import IntEnum
from typing import NamedTuple

MAX_STRING = 1 << 20
MAX_SEQUENCE = 256

# Alternatives are repeated atomically, and at most STRETCH times at once: with backtracking an unterminated string
# would take exponential time, without a limit the memory of a hundred times its length. (Possessive quantifiers over
# alternatives would do, but Python before 3.11.5 matches them wrongly: python/cpython#106052, #100061.)
_STRETCH = b"{1,256}"
_CHAR = rb"\xc2[\xa0-\xbf]|[\xc3-\xdf][\x80-\xbf]|[\xe0-\xef][\x80-\xbf]{2}|[\xf0-\xf4][\x80-\xbf]{3}"
_CHAR_BEGUN = rb"[\xe0-\xef][\x80-\xbf]|[\xf0-\xf4][\x80-\xbf]{1,2}|[\xc2-\xf4]"
# A byte of a string that is no whole character, unless it ends the string, or the chunk ends in a character's middle.
_HIGH_IN_STRING = _CHAR + rb"|(?!\xc2?\x9c|(?:" + _CHAR_BEGUN + rb")\Z)[\x80-\xff]"
_CSI = rb"(?:\x1b\[|\xc2\x9b|\x9b)"
_CSI_WITH_CONTROLS = _CSI + rb"[\x00-\x17\x19\x1c-\x3f\x7f]{0,256}+"

_TOKEN = re.compile(
    rb"(?P<text>(?>(?:[\x20-\x7e]++|" + _CHAR + rb")" + _STRETCH + rb"))"
    rb"|(?P<csi>" + _CSI + rb"(?P<body>[\x20-\x3f]{0,256}+)[\x40-\x7e])"
    rb"|(?P<control>[\x00-\x17\x19\x1c-\x1f\x7f\x18\x1a])"
    rb"|(?P<escape>\x1b(?:[\x20-\x2f]{1,16}[\x30-\x7e]|[\x30-\x4f\x51-\x57\x59\x5a\x5c\x60-\x7e]))"
    rb"|(?P<mixed>" + _CSI_WITH_CONTROLS + rb"[\x40-\x7e])"
    rb"|(?P<c1>\xc2?[\x80-\x8f\x91-\x97\x99\x9a\x9c])",
    re.DOTALL,
)
_UNFINISHED = re.compile(rb"(?:\x1b[\x20-\x2f]{0,16}|" + _CSI_WITH_CONTROLS + rb"|" + _CHAR_BEGUN + rb")\Z", re.DOTALL)
_INTRODUCER = re.compile(rb"(?P<osc>\x1b\]|\xc2\x9d|\x9d)|\x1b[PX^_]|\xc2[\x90\x98\x9e\x9f]|[\x90\x98\x9e\x9f]")
_CHARACTER_BEGUN = re.compile(_CHAR_BEGUN)
_ABORTED = re.compile(_CSI_WITH_CONTROLS + rb"|.", re.DOTALL)


class _Grammar(NamedTuple):
    """What a string is made of, as far as its kind decides that."""

    stretch: re.Pattern[bytes]
    end: re.Pattern[bytes]

    @classmethod
    def of(cls, plain: bytes, end: bytes) -> "_Grammar":
        stretch = rb"(?>(?:" + plain + rb"++|" + _HIGH_IN_STRING + rb")" + _STRETCH + rb")"
        return cls(re.compile(stretch, re.DOTALL), re.compile(end, re.DOTALL))

    def body_end(self, data: bytes, position: int) -> int:
        """Where the body that goes on at `position` is over, or `data` is."""
        while match := self.stretch.match(data, position):
            position = match.end()
        return position


_OSC = _Grammar.of(rb"[\x00-\x06\x08\x09\x0b-\x17\x19\x1c-\x7f]", rb"\x07|\x1b\\|\xc2?\x9c|(?=\x1b[^\\]|[\x18\x1a\n])")
_STRING = _Grammar.of(rb"[\x00-\x17\x19\x1c-\x7f]", rb"\x1b\\|\xc2?\x9c|(?=\x1b[^\\]|[\x18\x1a])")
_CONTROLS = bytes(range(0x20)) + b"\x7f"
_NO_CONTROLS = bytes(range(0x20, 0x7F)) + bytes(range(0x80, 0x100))


class Kind(IntEnum):
    TEXT = 0
    CONTROL = 1
    CSI = 2
    OSC = 3
    STRING = 4
    """DCS, SOS, PM or APC; `payload` begins with the letter that tells which: P, X, ^ or _."""
    ESCAPE = 5
    """ESC with intermediates and a final, or a C1 control in its ESC form."""
    JUNK = 6
    """A byte that is no UTF-8, or an escape sequence that was aborted."""


class Token(NamedTuple):
    """One token. Of a CSI or ESCAPE, `payload` is parameters and intermediates, and `final` its last byte."""

    kind: Kind
    raw: bytes
    payload: bytes = b""
    final: bytes = b""
    inside: bytes = b""
    """Controls that stood inside a CSI: a terminal carries them out before the sequence."""


class Tokenizer:
    """Bytes in, tokens out; see the rules of this module."""

    def __init__(self) -> None:
        self._kept = b""
        self._swallowing: _Grammar | None = None

    def feed(self, data: bytes) -> Iterator[Token]:
        """The tokens that `data` completes. Take them all before the next call."""
        data, self._kept = self._kept + data, b""
        position = self._swallowed(data)
        while position < len(data):
            if match := _TOKEN.match(data, position):
                yield _token(match)
                position = match.end()
            elif match := _INTRODUCER.match(data, position):
                if (token := self._string(data, match)) is None:
                    break
                yield token
                position += len(token.raw)
            elif (match := _UNFINISHED.match(data, position)) and len(data) - position <= MAX_SEQUENCE:
                break
            else:
                match = _ABORTED.match(data, position)
                assert match is not None
                yield Token(Kind.JUNK, match.group())
                position = match.end()
        self._kept = data[position:]

    def finish(self) -> Iterator[Token]:
        """What was kept, as junk: nothing will complete it any more."""
        kept, self._kept, self._swallowing = self._kept, b"", None
        if kept:
            yield Token(Kind.JUNK, kept)

    @property
    def idle(self) -> bool:
        """Whether the last byte ended a token, so that the next one begins another."""
        return not self._kept and self._swallowing is None

    @property
    def kept_bytes(self) -> int:
        """How much of what was fed waits for the rest of its token."""
        return len(self._kept)

    def _string(self, data: bytes, introducer: re.Match[bytes]) -> Token | None:
        """The string that begins there; None if its end has not come. What is longer than MAX_STRING is cut."""
        begin, grammar = introducer.start(), _OSC if introducer["osc"] else _STRING
        body_end = grammar.body_end(data, introducer.end())
        if match := grammar.end.match(data, body_end):
            end = match.end()
        elif len(data) - begin <= MAX_STRING:
            return None
        else:
            self._swallowing, end = grammar, body_end
        body = data[introducer.end() : body_end]
        if grammar is _OSC:
            return Token(Kind.OSC, data[begin:end], body)
        return Token(Kind.STRING, data[begin:end], _letter(introducer.group()) + body)

    def _swallowed(self, data: bytes) -> int:
        """How much of `data` still belongs to a string that was cut."""
        if self._swallowing is None:
            return 0
        end = self._swallowing.body_end(data, 0)
        if end < len(data) and not _CHARACTER_BEGUN.fullmatch(data, end):
            self._swallowing = None
        return end


def tokenize(data: bytes) -> Iterator[Token]:
    """The tokens of `data` that are complete."""
    return Tokenizer().feed(data)


def _token(match: re.Match[bytes]) -> Token:
    raw, kind = match.group(), match.lastgroup
    if kind == "text":
        return Token(Kind.TEXT, raw)
    if kind == "csi":
        return Token(Kind.CSI, raw, match["body"], raw[-1:])
    if kind == "control":
        return Token(Kind.CONTROL, raw)
    if kind == "escape":
        return Token(Kind.ESCAPE, raw, raw[1:-1], raw[-1:])
    if kind == "c1":
        return Token(Kind.ESCAPE, raw, b"", bytes((raw[-1] - 0x40,)))
    inner = raw[_intro(raw) : -1]
    inside = inner.translate(None, _NO_CONTROLS).replace(b"\x7f", b"")
    return Token(Kind.CSI, raw, inner.translate(None, _CONTROLS), raw[-1:], inside)


def _intro(raw: bytes) -> int:
    """How long the introducer is: `ESC [` and U+009B take two bytes, raw 0x9B one."""
    return 2 if raw[0] in (0x1B, 0xC2) else 1


def _letter(raw: bytes) -> bytes:
    """Which string it is, by its letter after ESC."""
    if raw[0] == 0x1B:
        return raw[1:2]
    return bytes((raw[raw[0] == 0xC2] - 0x40,))
