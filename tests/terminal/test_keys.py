"""Keys by name, detach keys, pasted text."""

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from stratavore.errors import Invalid
from stratavore.terminal.chord import DEFAULT, Chord, ChordMatcher
from stratavore.terminal.keys import encode
from stratavore.terminal.modes import modes_of
from stratavore.terminal.paste import Pause, parts, paste
from tests.terminal.streams import CUTS, split


@pytest.mark.parametrize(
    ("name", "sent"),
    [
        ("esc", b"\x1b"), ("enter", b"\r"), ("tab", b"\t"), ("backtab", b"\x1b[Z"), ("shift-tab", b"\x1b[Z"),
        ("space", b" "),
        ("backspace", b"\x7f"), ("delete", b"\x1b[3~"), ("up", b"\x1b[A"), ("home", b"\x1b[H"), ("pageup",
        b"\x1b[5~"),
        ("f1", b"\x1bOP"), ("f5", b"\x1b[15~"), ("F12", b"\x1b[24~"), ("ctrl-c", b"\x03"), ("ctrl-C", b"\x03"),
        ("ctrl-\\", b"\x1c"), ("ctrl-]", b"\x1d"), ("ctrl-space", b"\x00"), ("alt-x", b"\x1bx"),
        ("alt-enter", b"\x1b\r"),
        ("ctrl-up", b"\x1b[1;5A"), ("shift-f5", b"\x1b[15;2~"), ("ctrl-alt-a", b"\x1b\x01"), ("shift-enter",
        b"\x1b[13;2u"),
        ("x", b"x"), ("-", b"-"), ("ctrl--", b"\x1b[45;5u"), ("é", "é".encode()), ("ctrl-1", b"\x1b[49;5u"),
    ],
)  # fmt: skip
def test_a_key_sends_what_a_terminal_sends(name: str, sent: bytes) -> None:
    assert encode(name) == sent


def test_arrows_follow_the_mode_of_the_program() -> None:
    assert encode("up", application_cursor=True) == b"\x1bOA"
    assert encode("ctrl-up", application_cursor=True) == b"\x1b[1;5A"


@pytest.mark.parametrize("name", ["", "hyper", "ctrl-", "f13", "ctrl-hyper", "\x1b"])
def test_an_unknown_key_is_refused(name: str) -> None:
    with pytest.raises(Invalid):
        encode(name)


def feed(matcher: ChordMatcher, *reads: bytes) -> tuple[bytes, bool]:
    passed = b""
    for read in reads:
        fed = matcher.feed(read)
        passed += fed.passed
        if fed.is_detach:
            return passed, True
    return passed, False


C = b"\x1b[92;5u"


@pytest.mark.parametrize(
    ("typed", "passed", "is_detach"),
    [
        (b"ab\x1cd", b"ab", True),
        (b"ab" + C + b"d", b"ab", True),
        (C + b"\x1b[100u", b"", True),
        (b"\x1b[92;69ud", b"", True),
        (b"\x1b[92:124;5:1u\x1b[92;5:3u\x1b[57442;1:3u\x1b[100;1:1u", b"", True),
        (b"\x1b[27;5;92~d", b"", True),
        (b"\x1cx", b"\x1cx", False),
        (C + b"x", C + b"x", False),
        (b"\x1c\x1c", b"\x1c", False),
        (b"\x1c\x1cd", b"\x1cd", False),
        (C + C + b"y", C + b"y", False),
        (b"\x1c\x1b[A", b"\x1c\x1b[A", False),
        (b"\x1b[92;5:3u", b"\x1b[92;5:3u", False),
        (b"\x1b[200~\x1cd\x1b[201~z", b"\x1b[200~\x1cd\x1b[201~z", False),
        ("é\x1cé".encode(), "é\x1cé".encode(), False),
        (b"\x1b[<0;1;1M\x1b[I", b"\x1b[<0;1;1M\x1b[I", False),
    ],
)
def test_the_default_chord(typed: bytes, passed: bytes, is_detach: bool) -> None:
    assert feed(ChordMatcher(Chord.parse(DEFAULT)), typed) == (passed, is_detach)
    single_bytes = [typed[at : at + 1] for at in range(len(typed))]
    assert feed(ChordMatcher(Chord.parse(DEFAULT)), *single_bytes) == (passed, is_detach)


def test_a_lone_escape_passes_after_a_moment() -> None:
    matcher = ChordMatcher(Chord.parse(DEFAULT))
    assert matcher.feed(b"\x1b").passed == b""
    assert matcher.has_begun
    assert matcher.flush() == b"\x1b"
    assert not matcher.has_begun


@pytest.mark.parametrize("text", ["", "d", "ctrl-\\ d e f g", "hyper-x", "up"])
def test_a_bad_detach_key_is_refused(text: str) -> None:
    with pytest.raises(Invalid):
        Chord.parse(text)


def test_neither_ctrl_q_nor_ctrl_b_detaches_by_default() -> None:
    assert feed(ChordMatcher(Chord.parse(DEFAULT)), b"\x11d\x02d") == (b"\x11d\x02d", False)


TYPED = st.lists(
    st.one_of(st.sampled_from([b"\x1c", C, b"x", b"\x1b[A", b"\x1b", b"\x1b[200~", b"\x1b[201~",
    "é".encode(), b"\x1bOP", b"\x1b[92;5:3u"]),
              st.binary(max_size=3)), max_size=20,
).map(b"".join)  # fmt: skip


@settings(max_examples=300, deadline=None)
@given(TYPED, CUTS)
def test_the_borders_of_reads_do_not_matter(typed: bytes, cuts: list[int]) -> None:
    whole = feed(ChordMatcher(Chord.parse(DEFAULT)), typed)
    assert feed(ChordMatcher(Chord.parse(DEFAULT)), *split(typed, cuts)) == whole


def test_nothing_pasted_can_end_the_paste_or_press_a_key() -> None:
    evil = "a\x1b[201~b\x1b[2\x1b[201~01~c\x03\x1b\x7f\x9b201~\r\nd\te"
    data = paste(evil, bracketed=True)
    assert data == b"\x1b[200~abc\nd\te\x1b[201~"
    assert paste("one\ntwo", bracketed=False) == b"one\rtwo"


def test_a_text_is_pasted_and_submitted_apart() -> None:
    modes = modes_of(b"\x1b[?2004h\x1b[?1h")
    assert parts("hi", ["up"], modes=modes, submit="enter", pause_seconds=0.3) == [
        b"\x1b[200~hi\x1b[201~", Pause(0.3), b"\r", Pause(0.3), b"\x1bOA",
    ]  # fmt: skip
    assert parts(None, ["ctrl-c"], modes=modes, submit="enter", pause_seconds=0.3) == [b"\x03"]
