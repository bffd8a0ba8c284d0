"""What reaches a person's terminal, replayed and live."""

import re

import pytest
from hypothesis import example, given, settings

from stratavore.terminal.sanitize import LiveFilter, ReplayFilter
from tests.terminal.streams import ATTACKS, CUTS, STREAMS, split

QUERIES = [
    b"\x1b[c", b"\x1b[0c", b"\x1b[>c", b"\x1b[=c", b"\x1bZ", b"\x1b[5n", b"\x1b[6n", b"\x1b[?6n",
    b"\x1b[?15n", b"\x1b[?996n",
    b"\x1b[?2026$p", b"\x1b[4$p", b"\x1b[>0q", b"\x1b[>q", b"\x1b[?u", b"\x1b[?4m", b"\x1b[14t", b"\x1b[18t",
    b"\x1b[21t",
    b"\x1b[x", b"\x1b[1$w", b"\x1b[1;1;1;1;1;1*y", b"\x1b[?1;1;0S", b"\x1b]4;1;?\x07", b"\x1b]10;?\x07",
    b"\x1b]11;?\x1b\\",
    b"\x1b]12;?\x07", b"\x1b]52;c;?\x07", b"\x1bP$qm\x1b\\", b"\x1bP+q544e\x1b\\",
    b"\x1b_Gi=1,a=q;AAAA\x1b\\", b"\x05",
    b"\x9b6n", b"\xc2\x9b6n", b"\x1b[\x006n", b"\x1b[6\n;1n", b"\x1b]7501;?\x07", b"\x1b[5i", b"\x1b[3J",
]  # fmt: skip
KEPT = [
    b"text\r\n", b"\x1b[1;31m", b"\x1b[2J", b"\x1b[5;5H", b"\x1b[?1049h", b"\x1b[?2004h", b"\x1b[>1u",
    b"\x1b[<u", b"\x1b[K",
    b"\x1b]0;title\x07", b"\x1b]8;;http://x\x1b\\", b"\x1b7", b"\x1b(B", b"\x1b[4:3m", b"\x1b[2 q",
    b"\x1b[!p", b"\x1b[u",
    "✳ wide 日本".encode(), b"\x1b]11;rgb:00/00/00\x07",
]  # fmt: skip
ANSWERED = re.compile(
    rb"(?:\x1b\[|\x9b)[\x20-\x3f]*[cnx]|\x1b\[[?>]+[0-9]*[uq]|\$p|\x1bP|\x1b_|\x1b\][^\x07]*\?|\x05|\x1bZ"
)


@pytest.mark.parametrize("query", QUERIES)
def test_no_query_is_replayed(query: bytes) -> None:
    passed = ReplayFilter(osc52=True).feed(b"a" + query + b"b\r\n")
    assert ANSWERED.search(passed) is None
    assert passed.replace(b"\x00", b"").replace(b"\n", b"").replace(b"\r", b"") == b"ab"


@pytest.mark.parametrize("sequence", KEPT)
def test_what_draws_is_replayed(sequence: bytes) -> None:
    assert ReplayFilter().feed(sequence + b"\r\n") == sequence + b"\r\n"


@settings(max_examples=300, deadline=None)
@given(STREAMS)
def test_nothing_that_is_replayed_asks(data: bytes) -> None:
    once = ReplayFilter().feed(data)
    assert re.search(rb"\x1b\[[0-9;?>=]*[cn]|\x1bP|\x1b\]52", once) is None
    assert ReplayFilter().feed(once + b"\x18") in (once, once + b"\x18")


@settings(max_examples=300, deadline=None)
@given(STREAMS, CUTS)
@example(b"\x00\x80\x9d", [2])
def test_the_borders_of_chunks_do_not_matter(data: bytes, cuts: list[int]) -> None:
    for make in (ReplayFilter, LiveFilter):
        whole, pieces = make(), make()
        assert b"".join(map(pieces.feed, split(data, cuts))) == whole.feed(data)


@pytest.mark.parametrize(
    "write",
    [b"\x1b]52;c;AAAA\x07", b"\x1b]52;c;AAAA\x1b\\", b"\x1b]052;p;AAAA\x07", b"\xc2\x9d52;c;AAAA\xc2\x9c",
    b"\x9d52;c;AAAA\x9c",
     b"\x1b]52;c;" + b"A" * 3_000_000 + b"\x07", b"\x1bPtmux;\x1b\x1b]52;c;AAAA\x07\x1b\\",
     b"\x1b\x00]52;c;AAAA\x07"],
    ids=range(8),
)  # fmt: skip
def test_the_clipboard_is_never_written_live_unless_it_may(write: bytes) -> None:
    live = LiveFilter()
    data = b"before" + write + b"after"
    passed = b"".join(live.feed(data[start : start + 7000]) for start in range(0, len(data), 7000))
    assert b"AAAA" not in passed
    assert passed.startswith(b"before")
    assert passed.endswith(b"after")
    assert LiveFilter(osc52=True).feed(data) == data


def test_live_output_is_otherwise_untouched() -> None:
    for data in (*QUERIES, *KEPT, *ATTACKS):
        if b"52;" not in data:
            assert LiveFilter().feed(data + b"\x1b\\.") == data + b"\x1b\\."
