"""What programs, and attackers, may write to a terminal: strategies and a list."""

from hypothesis import strategies as st

PIECES = st.one_of(
    st.sampled_from(
        [
            b"plain text", b"\r\n", b"\n", b"\r", b"\b", b"\t", b" ", b"\x1b[31m", b"\x1b[0m", b"\x1b[K",
            b"\x1b[2K",
            b"\x1b[1A", b"\x1b[3A", b"\x1b[2B", b"\x1b[5C", b"\x1b[G", b"\x1b[H", b"\x1b[2J", b"\x1b[3J",
            b"\x1b[J",
            b"\x1b[5;9H", b"\x1b[?1049h", b"\x1b[?1049l", b"\x1b7", b"\x1b8", b"\x1bM", b"\x1bD", b"\x1bc",
            b"\x1b[L",
            b"\x1b[2M", b"\x1b[2;5r", b"\x1b[r", b"\x1b[S", b"\x1b[T", b"\x1b[4P", b"\x1b[3@", b"\x1b[2X",
            b"\x1b[2004h",
            b"\x1b]0;title\x07", b"\x1b]8;;http://x\x1b\\", b"\x1b]52;c;AAAA\x07", b"\x1bPq~\x1b\\",
            b"\x1b_Ga=d\x1b\\",
            b"\x9b31m", b"\xc2\x9b31m", b"\x1b[>1u", b"\x1b[<u", b"\x1b[=1u", b"\x1b[?2004h", b"\x1b[?25l",
            b"\x1b=",
            b"\x1b]0;unfinished", b"\x1b[", b"\x1b", b"\xc3", b"\xe2\x9c", b"\xff", b"\x18", b"\x00", b"\x7f",
            "✳ é 日本 e\u0301 \u202e \u200b ─".encode(), b"Line 1: a story\r\n", b"Line 2: goes on\r\n",
            b"\x1b[99999999A",
        ]
    ),
    st.binary(max_size=6),
    st.text(max_size=6).map(lambda text: text.encode("utf-8", "surrogatepass")),
)  # fmt: skip
STREAMS = st.lists(PIECES, max_size=40).map(b"".join)


def split(data: bytes, cuts: list[int]) -> list[bytes]:
    """`data` in chunks, cut at the places that `cuts` name (whatever is too large is taken around)."""
    places = sorted({cut % (len(data) + 1) for cut in cuts})
    return [data[start:end] for start, end in zip([0, *places], [*places, len(data)], strict=True)]


CUTS = st.lists(st.integers(0, 1 << 16), max_size=12)

_INTRODUCERS = [
    b"\x1b[",
    b"\x9b",
    b"\xc2\x9b",
    b"\x1b]",
    b"\x9d",
    b"\xc2\x9d",
    b"\x1bP",
    b"\x90",
    b"\x1bX",
    b"\x1b^",
    b"\x1b_",
    b"\x9f",
]
_BODIES = [
    b"31m", b"?1049h", b"6n", b"8;;https://evil.example\x07click\x1b]8;;\x07", b"52;c;ZXZpbA==\x07",
    b"0;title\x1b\\",
    b"2;title\x9c", b"\x00\x08\x0731m", b"1;1H\x1b[2J", b"999999999999999C", b"%s%n", b"\xe2\x80\xae31m",
    b"1337;File=inline=1:AAAA\x07", b"?5W", b"$q\"p\x1b\\", b"tmux;\x1b\x1b]52;c;AAAA\x07\x1b\\",
]  # fmt: skip
_LOOSE = [
    "\u202eevil\u202c".encode(), "\u2066a\u2069".encode(), "a\u200bb".encode(), "\ufeff".encode(),
    "\u2028x\u2029".encode(),
    b"\x7f\x7f", b"\x05", b"\x0e\x0f", bytes(range(0x80, 0xA0)), b"\xf5\x80\x80\x80", b"\xed\xa0\x80",
    b"\xc0\x9b31m",
    b"a\rb\x08c", b"\x1bZ", b"\x1bc", b"\x1b#8", b"\x1b(0lqk", b"\x1b%G", "\U000e0041".encode(),
    "\ud7ff\ue000".encode(),
]  # fmt: skip
ATTACKS = [intro + body for intro in _INTRODUCERS for body in _BODIES] + _LOOSE
