"""Nothing that a stranger named may act on a terminal."""

import unicodedata

from hypothesis import given
from hypothesis import strategies as st

from stratavore.cli.sanitise import clean, clean_lines
from stratavore.cli.table import columns, cut, render

ANY_TEXT = st.text(st.characters(exclude_categories=[]))
HIDDEN = "\u200b\u200c\u200d\u2060\ufeff\u200e\u200f\u061c\u202a\u202b\u202c\u202d\u202e\u2066\u2067\u2068\u2069\u00ad"


@given(ANY_TEXT)
def test_what_is_clean_has_no_controls_and_hides_nothing(text: str) -> None:
    for char in clean(text):
        assert unicodedata.category(char) not in {"Cc", "Cf", "Cs", "Zl", "Zp"}
        assert char not in HIDDEN


@given(ANY_TEXT)
def test_cleaning_twice_changes_nothing_more(text: str) -> None:
    assert clean(clean(text)) == clean(text)


@given(st.text(st.characters(codec="ascii", exclude_categories=["Cc"])))
def test_ordinary_text_stays_as_it_is(text: str) -> None:
    assert clean(text) == text


@given(ANY_TEXT)
def test_what_is_clean_can_be_written(text: str) -> None:
    clean(text).encode()


def test_escape_sequences_lose_their_escape_and_words_stay_apart() -> None:
    assert clean("a\x1b[31mb\x9b2Jc\x7f") == "a[31mb2Jc"
    assert clean("one\ntwo\tthree\r\nfour") == "one two three  four"
    assert clean(f"user{HIDDEN}name") == "username"
    assert clean_lines("a\r\nb\x1b[2J\nc") == "a\nb[2J\nc"


@given(st.lists(st.lists(ANY_TEXT, min_size=3, max_size=3), max_size=5), st.integers(1, 120))
def test_a_table_has_a_line_for_each_row_and_none_is_wider_than_the_window(rows: list[list[str]], width: int) -> None:
    lines = render(("ONE", "TWO", "THREE"), rows, width).split("\n")
    assert len(lines) == len(rows) + 1
    assert all(columns(line) <= max(width, 3 * 5 + 4) for line in lines)


def test_into_a_pipe_nothing_is_cut() -> None:
    assert render(("A", "B"), [["x" * 500, "y"]], None).split("\n")[1] == "x" * 500 + "  y"


def test_wide_characters_are_counted_and_cut_by_columns() -> None:
    assert columns("日本") == 4
    assert cut("日本語", 5) == "日本…"
    assert render(("A", "B"), [["日本", "x"], ["abcd", "y"]], None).split("\n")[1:] == ["日本  x", "abcd  y"]
