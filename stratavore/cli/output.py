"""What commands print."""

import json
import sys
from collections.abc import Sequence
from typing import Any

from stratavore.cli.sanitise import clean, clean_lines
from stratavore.cli.table import render, window_width


def show_json(answer: Any) -> None:
    """Exactly what the API answered."""
    print(json.dumps(answer, indent=2))


def show_json_line(answer: Any) -> None:
    """One answer of a stream, on one line, out at once."""
    print(json.dumps(answer, separators=(",", ":")), flush=True)


def show_table(heads: Sequence[str], rows: Sequence[Sequence[str]]) -> None:
    print(render(heads, rows, window_width()))


def show_facts(facts: Sequence[tuple[str, str]]) -> None:
    """Names and values, one pair a line; a value that is empty is left out."""
    wide = max(len(name) for name, _ in facts)
    for name, value in facts:
        if value:
            print(f"{name:<{wide}}  {clean(value)}")


def say(text: str) -> None:
    """A line of result."""
    print(clean_lines(text))


def note(text: str) -> None:
    """A remark about the result, for people: on stderr."""
    print(f"stratavore: {clean(text)}", file=sys.stderr)
