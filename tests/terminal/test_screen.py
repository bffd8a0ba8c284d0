"""What the terminal shows now."""

from pathlib import Path

from hypothesis import given, settings

from stratavore.terminal.screen import FED_BYTES, snapshot
from tests.terminal.streams import ATTACKS, STREAMS

RECORDING = Path(__file__).with_name("recordings") / "claude-2.1.330.raw"


def test_it_is_what_a_terminal_would_show() -> None:
    assert snapshot(b"one\r\ntwo\x1b[1;1Hx", 5, 20) == ["xne", "two"]
    assert snapshot(b"shell$ \x1b[?1049h\x1b[2Jfull\x1b[?1049l", 5, 20) == ["shell$"]
    assert snapshot(b"shell$ \x1b[?1049h\x1b[H\x1b[2Jfull", 5, 20) == ["full"]


def test_sequences_that_pyte_would_print_or_fail_over_are_kept_from_it() -> None:
    odd = b"\x1b[>4;2m\x1b[=1u\x1b[<u\x1b[?u\x1bPq#0~\x1b\\\x1b_G\x1b\\"
    odd += b"\x1b[4:3m\x1b[?1;2;3n\x1b[1;2;3;4;5H\x1b[!p\x1b[2 q"
    assert snapshot(odd + b"fine", 5, 20)[-1].endswith("fine")
    for attack in ATTACKS:
        snapshot(attack + b"\x1b\\\x07 fine", 5, 20)


@settings(max_examples=150, deadline=None)
@given(STREAMS)
def test_nothing_harms_it(data: bytes) -> None:
    assert all(line.isprintable() for line in snapshot(data, 5, 20))


def test_a_real_session_shows_its_prompt() -> None:
    shown = snapshot(RECORDING.read_bytes()[:20_000], 24, 80)
    assert any(line.startswith("❯") for line in shown)
    assert any("auto mode on" in line for line in shown)


def test_only_the_end_of_a_long_log_is_fed() -> None:
    data = b"x" * (4 * FED_BYTES) + b"\x1b[2J\x1b[Hnow"
    assert snapshot(data, 5, 20) == ["now"]
