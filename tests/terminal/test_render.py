"""Readable text from raw output."""

from pathlib import Path

import pytest
from hypothesis import example, given, settings

from stratavore.agents import AGENTS
from stratavore.terminal.render import LAST_LINE, Renderer, last_line, render
from tests.terminal.streams import ATTACKS, CUTS, STREAMS, split

RECORDING = Path(__file__).with_name("recordings") / "claude-2.1.330.raw"


def is_harmless(text: str) -> bool:
    return all(char in "\n\t" or char.isprintable() for char in text)


@pytest.mark.parametrize(
    ("raw", "text"),
    [
        (b"one\r\ntwo", "one\ntwo\n"),
        (b"\x1b[1;31mred\x1b[0m\r\n", "red\n"),
        (b"10%\r55%\r100%\r\ndone\r\n", "100%\ndone\n"),
        (b"long line\rshort\x1b[K\r\n", "short\n"),
        (b"abc\b\bX\r\n", "aXc\n"),
        (b"a\x1b[5Cb\r\n", "a     b\n"),
        (b"a\tb\r\n", "a       b\n"),
        (b"\x1b]0;title\x07x\x1b]8;;http://h\x1b\\link\x1b]8;;\x1b\\\r\n", "xlink\n"),
        (b"\x1bPsecret\x1b\\a\x1b_b\x1b\\c\x1b^d\x9ce\r\n", "ace\n"),
        (b"\x9b31mraw\xc2\x9b0m eight bit\r\n", "raw eight bit\n"),
        ("✳ héllo 日本\r\n".encode(), "✳ héllo 日本\n"),
        (b"bad \xff\xfe bytes\r\n", "bad \ufffd\ufffd bytes\n"),
        ("a\u202eb\u200bc\u2066d\x7f\r\n".encode(), "abcd\n"),
        (b"no terminal\nhere\n", "no terminal\nhere\n"),
        (b"\x1b]0;died in the title\nnext\r\n", "\nnext\n"),
    ],
)
def test_a_line_is_told_as_it_was_last_seen(raw: bytes, text: str) -> None:
    assert render(raw) == text


@settings(max_examples=300, deadline=None)
@given(STREAMS)
def test_only_printable_characters_come_out(data: bytes) -> None:
    assert is_harmless(render(data, rows=5, cols=20))


@pytest.mark.parametrize("size", [(24, 80), (3, 10), (24, None)])
def test_no_attack_comes_out(size: tuple[int, int | None]) -> None:
    assert len(ATTACKS) >= 200
    rows, cols = size
    for attack in ATTACKS:
        text = render(b"before\r\n" + attack + b"\r\nafter\r\n\x1b\\\x07end\r\n", rows=rows, cols=cols)
        assert is_harmless(text), attack
        assert "end" in text or "\x1b" in attack.decode("latin-1"), attack


@settings(max_examples=300, deadline=None)
@given(STREAMS, CUTS)
@example(b"\x1b]0;\xe2\x9c\xb3 x\x07y\r\n", [5, 6, 7])
@example(b"ab\tc\r\nplain \r\n\x1b[1Aup\r\n", [1, 3, 9])
def test_the_borders_of_chunks_do_not_matter(data: bytes, cuts: list[int]) -> None:
    renderer = Renderer(rows=5, cols=20)
    text = "".join(renderer.feed(chunk) for chunk in split(data, cuts)) + renderer.finish()
    assert text == render(data, rows=5, cols=20)


def test_plain_lines_are_told_at_once() -> None:
    renderer = Renderer()
    assert renderer.feed(b"one\r\ntw") == "one\n"
    assert renderer.feed(b"o\r\n") == "two\n"


def test_a_region_that_is_drawn_again_and_again_is_told_once() -> None:
    """As Ink and log-update do it: erase the lines of the last frame upwards, and print the next."""
    renderer, text, erase = Renderer(rows=24, cols=80), "", b""
    for step in range(500):
        fixed = b"step %d done\r\n" % step if step % 100 == 0 else b""
        text += renderer.feed(erase + fixed + b"| working %d\r\n| please wait\r\n" % step)
        erase = b"\x1b[2K\x1b[1A" * 2 + b"\x1b[2K\x1b[G"
    text += renderer.finish()
    lines = text.split("\n")
    assert [line for line in lines if line.startswith("step")] == [f"step {step} done" for step in range(0, 500, 100)]
    assert text.count("please wait") <= 2
    assert sum("working" in line for line in lines) <= 2
    assert "| working 499" in lines


def test_a_program_that_prints_all_again_after_a_clear_is_told_once() -> None:
    """Ink clears terminal and scrollback and prints its whole story when a frame outgrows the page."""
    story = b"".join(b"fact number %d\r\n" % number for number in range(60))
    again = b"\x1b[2J\x1b[3J\x1b[H" + story
    text = render(b"\x1b[1A\x1b[G" + story + again * 5 + b"the end\r\n", rows=10, cols=80)
    assert text.count("fact number 7\n") == 1
    assert text.endswith("the end\n")


def test_what_a_clear_takes_away_is_told_nevertheless() -> None:
    text = render(b"\x1b[1A\rresult 1\r\nresult 2\r\nresult 3\r\n\x1b[H\x1b[2J$ \r\n", rows=10, cols=80)
    assert "result 1\nresult 2\nresult 3\n" in text


def test_a_line_that_wrapped_is_one_line() -> None:
    line = b"x" * 200
    assert render(b"\x1b[1A\r" + line + b"\r\n", rows=10, cols=80) == line.decode() + "\n"


def test_a_line_without_end_is_broken_and_costs_no_memory() -> None:
    text = render(b"y" * 1_000_000, rows=10, cols=80)
    assert text.count("y") == 1_000_000
    assert max(map(len, text.split("\n"))) < 100_000


def test_a_real_full_screen_session_reads_as_a_conversation() -> None:
    """Claude Code 2.1.330 on the alternate screen, painting only the cells that change, scrolling by repainting."""
    text = render(RECORDING.read_bytes(), rows=24, cols=80)
    lines = text.split("\n")
    for number in range(40):
        said = [line for line in lines if f"number {number}." in line]
        assert len(said) == 2, (number, said)  # both answers had the same forty lines
    assert lines.index("❯ first question please") < lines.index("❯ and the second one")
    assert len(lines) < 200
    assert "claude --resume" in text


def test_a_real_full_screen_session_can_be_followed() -> None:
    data, renderer, text = RECORDING.read_bytes(), Renderer(rows=24, cols=80), ""
    for start in range(0, len(data), 4096):
        text += renderer.feed(data[start : start + 4096]) + renderer.settle()
    text += renderer.finish()
    for number in range(40):
        assert f"number {number}." in text
    assert text.count("\n") < 400


def test_the_last_line_is_the_last_that_says_something() -> None:
    assert last_line(b"one\r\ntwo\r\n\r\n   \r\n") == "two"
    assert last_line(b"\x1b[31mfailed: \x1b[0mno\x1b]0;t\x07 disk") == "failed: no disk"
    assert last_line(b"z" * 1000) == "z" * LAST_LINE
    assert last_line(b"\x1b[2J\r\n") is None


def test_the_words_by_which_a_program_says_why_it_ends_are_told_in_place_of_its_advice() -> None:
    """As Claude Code 2.1 drew it in 80 columns."""
    screen = (
        b"Welcome to Claude Code v2.1.330\r\n\r\n\x1b[2G\x1b[38;5;211mUnable\x1b[9Gto connect"
        b" to Anthropic services\x1b[39m\r\r\n\r\r\n"
        b"\x1b[2GFailed to connect to api.anthropic.com: ECONNREFUSED\r\r\n\r\r\n"
        b" Claude Code might not be available in your country. Check supported countries\r\r\n"
        b" at https://anthropic.com/supported-countries\r\r\n\x1b[?25h"
    )
    said = "Unable to connect to Anthropic services: Failed to connect to api.anthropic.com: ECONNREFUSED"
    assert last_line(screen, AGENTS["claude"].failures) == said
    assert last_line(screen) == "at https://anthropic.com/supported-countries"
    assert last_line(b"", AGENTS["claude"].failures) is None
