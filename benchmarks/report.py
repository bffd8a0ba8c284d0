"""The table: for a person, and as JSON for a program.

Rule 1: what falls short stands in a list of its own, above the details.
"""

import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

from benchmarks.rows import Figure, Row

_HEADS = ("row", "what", "ours", "floor", "ours / floor", "peers", "target", "reached")


def markdown(facts: Mapping[str, str], rows: Sequence[Row]) -> str:
    """The whole report."""
    missed = [row for row in rows if row.is_reached is False]
    judged = [row for row in rows if row.is_reached is not None]
    lines = ["# Benchmarks", "", *(f"- {name}: {value}" for name, value in facts.items()), ""]
    lines += ["Each figure is the median, with the lowest and the highest in brackets.", ""]
    lines += _table([_HEADS, *(_cells(row) for row in rows)])
    lines += ["", f"## What falls short: {len(missed)} of {len(judged)}", ""]
    lines += [
        f"- {row.name}: {row.ours} {row.unit}".rstrip() + f", to be reached {row.target.text}"
        for row in missed
        if row.target
    ] or ["Nothing."]
    lines += ["", "## Floors and notes", ""]
    for row in rows:
        said = ([f"floor: {row.floor_is}"] if row.floor_is else []) + list(row.notes)
        lines += [f"- {row.name}: {'; '.join(said)}"] if said else []
    return "\n".join(lines) + "\n"


def data(facts: Mapping[str, str], rows: Sequence[Row]) -> str:
    """The same as JSON."""
    found: dict[str, Any] = {"facts": dict(facts), "rows": []}
    for row in rows:
        found["rows"].append({**asdict(row), "ratio": row.ratio, "reached": row.is_reached})
    return json.dumps(found, indent=1, ensure_ascii=False) + "\n"


def write(directory: Path, name: str, facts: Mapping[str, str], rows: Sequence[Row]) -> Path:
    """Write both files; returns the one for people."""
    directory.mkdir(parents=True, exist_ok=True)
    (directory / f"{name}.json").write_text(data(facts, rows))
    target = directory / f"{name}.md"
    target.write_text(markdown(facts, rows))
    return target


def line(row: Row) -> str:
    """One row as it comes, for whoever waits."""
    reached = {True: "reached", False: "MISSED", None: ""}[row.is_reached]
    target = f"  ({row.target.text}) {reached}" if row.target else ""
    return f"{row.name:22} {row.ours} {row.unit}{target}"


def _cells(row: Row) -> tuple[str, ...]:
    peers = ", ".join(f"{name} {_peer(peer)}" for name, peer in row.peers.items())
    return (
        row.name,
        row.what,
        f"{row.ours} {row.unit}".rstrip(),
        str(row.floor) if row.floor else "–",
        f"{row.ratio:.2f}" if row.ratio is not None else "–",
        peers or "–",
        row.target.text if row.target else "–",
        {True: "yes", False: "**no**", None: "–"}[row.is_reached],
    )


def _peer(peer: Figure | str) -> str:
    return str(peer)


def _table(lines: Sequence[Sequence[str]]) -> list[str]:
    safe = [[cell.replace("|", "\\|") for cell in line] for line in lines]
    widths = [max(len(line[column]) for line in safe) for column in range(len(safe[0]))]
    padded = [
        "| " + " | ".join(cell.ljust(width) for cell, width in zip(line, widths, strict=True)) + " |" for line in safe
    ]
    return [padded[0], "|" + "|".join("-" * (width + 2) for width in widths) + "|", *padded[1:]]
