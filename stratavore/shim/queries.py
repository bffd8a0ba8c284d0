"""Answers to the terminal queries that a program gives up without, for the time when nobody is attached.

The table is fixed (ECMA-48 and the VT510 manual): device status, cursor position (we have no screen: the home
position), primary device attributes (a VT100 with the advanced video option).
"""

import re

ANSWERS = {b"\x1b[5n": b"\x1b[0n", b"\x1b[6n": b"\x1b[1;1R", b"\x1b[c": b"\x1b[?1;2c", b"\x1b[0c": b"\x1b[?1;2c"}
_QUERY = re.compile(rb"\x1b\[(?:[56]n|0?c)")
_BEGUN = re.compile(rb"\x1b(?:\[[560]?)?\Z")


def answer(chunk: bytes, carry: bytes) -> tuple[bytes, bytes]:
    """What to type in answer to `carry + chunk`, and the query that has only begun: the next call's `carry`."""
    if not carry and b"\x1b" not in chunk:
        return b"", b""
    text = carry + chunk
    begun = _BEGUN.search(text)
    return b"".join(ANSWERS[query] for query in _QUERY.findall(text)), begun[0] if begun else b""
