"""The terminal modes in force, derived from output."""

import pytest
from hypothesis import given, settings

from stratavore.terminal.modes import Modes, modes_of
from tests.terminal.streams import CUTS, STREAMS, split


@pytest.mark.parametrize(
    ("written", "entered", "left"),
    [
        (b"\x1b[?2004h", b"\x1b[?2004h", b"\x1b[?2004l"),
        (b"\x1b[?2004h\x1b[?2004l", b"", b""),
        (b"\x1b[?1000;1006h", b"\x1b[?1000h\x1b[?1006h", b"\x1b[?1000l\x1b[?1006l"),
        (b"\x1b[?25l\x1b[?7l", b"\x1b[?25l\x1b[?7l", b"\x1b[?25h\x1b[?7h"),
        (b"\x1b[?1049h", b"\x1b[?1049h", b"\x1b[?1049l"),
        (b"\x1b[>1u\x1b[>5u", b"\x1b[>1u\x1b[>5u", b"\x1b[<2u"),
        (b"\x1b[>1u\x1b[>5u\x1b[<u", b"\x1b[>1u", b"\x1b[<1u"),
        (b"\x1b[=3u", b"\x1b[=3u", b"\x1b[=0u"),
        (b"\x1b[?1049h\x1b[>1u", b"\x1b[?1049h\x1b[>1u", b"\x1b[<1u\x1b[?1049l"),
        (b"\x1b[>4;2m", b"\x1b[>4;2m", b"\x1b[>4m"),
        (b"\x1b=", b"\x1b=", b"\x1b>"),
        (b"\x1b[3;9r", b"\x1b7\x1b[3;9r\x1b8", b"\x1b7\x1b[r\x1b8"),
        (b"\x1b[5 q", b"\x1b[5 q", b"\x1b[0 q"),
        (b"\x1b]11;rgb:0/0/0\x07", b"", b"\x1b]111\x07"),
        (b"\x1b[?2026h", b"", b"\x1b[?2026l"),
        (b"\x1b[?2004h\x1b[?1h\x1bc", b"", b""),
        (b"\x1b[?1h\x1b[?2004h\x1b[!p", b"\x1b[?2004h", b"\x1b[?2004l"),
        (b"\x1b[31mplain\r\n\x1b[?9999h", b"", b""),
    ],
)
def test_what_was_set_is_put_in_force_and_taken_back(written: bytes, entered: bytes, left: bytes) -> None:
    modes = modes_of(written)
    assert modes.enter() == entered
    assert modes.leave() == left + b"\x1b(B\x0f\x1b[m"


def test_a_program_is_asked_for_what_typing_needs() -> None:
    modes = modes_of(b"\x1b[?2004h\x1b[?1h\x1b[?1049h\x1b[>7u")
    assert modes.bracketed_paste
    assert modes.application_cursor
    assert modes.alternate_screen
    assert modes.kitty_flags == 7
    assert modes.is_set(25)
    assert Modes().kitty_flags == 0


@settings(max_examples=300, deadline=None)
@given(STREAMS, CUTS)
def test_the_borders_of_chunks_do_not_matter(data: bytes, cuts: list[int]) -> None:
    pieces = Modes()
    for chunk in split(data, cuts):
        pieces.feed(chunk)
    whole = modes_of(data)
    assert (pieces.enter(), pieces.leave()) == (whole.enter(), whole.leave())


@settings(max_examples=200, deadline=None)
@given(STREAMS)
def test_entering_brings_about_the_same_modes_and_leaving_none(data: bytes) -> None:
    modes = modes_of(data)
    again = modes_of(modes.enter())
    assert again.enter() == modes.enter()
    assert modes_of(modes.enter() + modes.leave()).enter() == b""
