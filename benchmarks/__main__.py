"""`python -m benchmarks [--quick] [--only ROW]…`: measure, print the table, and write it to benchmarks/results/."""

import argparse
import os
import shutil
import signal
import sys
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import NoReturn

from benchmarks import (  # fmt: skip
    blocking,
    counting,
    crowd,
    dying,
    hooking,
    launching,
    machine,
    processes,
    reading,
    readoption,
    report,
    storing,
    talking,
)
from benchmarks.bench import FULL, ROOT, SCALES, Bench, Scale, scratch
from benchmarks.rows import Row

GROUPS: Mapping[str, Callable[[Bench], Iterator[Row]]] = {
    "store": storing.rows,
    "launch": launching.rows,
    "crowd": crowd.rows,
    "api": reading.rows,
    "death": dying.rows,
    "output": talking.rows,
    "readopt": readoption.rows,
    "hook": hooking.rows,
    "block": blocking.rows,
    "ledger": counting.rows,
}


def main(words: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(prog="python -m benchmarks", description=__doc__)
    parser.add_argument("--scale", choices=SCALES, default="full", help="how much of everything; full: for the record")
    parser.add_argument("--quick", dest="scale", action="store_const", const="quick", help="the same as --scale quick")
    parser.add_argument(
        "--only", action="append", default=[], metavar="ROW", help=f"a row, or one of {', '.join(GROUPS)}"
    )
    parser.add_argument("--results", type=Path, default=ROOT / "benchmarks" / "results", help="where to write")
    parser.add_argument("--name", help="the name of the files, after the date")
    chosen = parser.parse_args(words)
    name = chosen.name or f"{os.cpu_count()}-cores"
    return measure(SCALES[chosen.scale], frozenset(chosen.only), chosen.results, name)


def measure(scale: Scale, wanted: frozenset[str], results: Path, name: str) -> int:
    """Run what is wanted (nothing named: everything) and write the table; 1 if nothing was measured."""
    processes.raise_limits()
    processes.adopt_orphans()
    signal.signal(signal.SIGTERM, _end)
    os.environ.pop("PYTHONDONTWRITEBYTECODE", None)
    machine.compile_all()
    place = scratch()
    try:
        facts = machine.describe(place, scale)
        began, times = time.monotonic(), machine.cpu_times()
        found = _measured(Bench(scale, place, wanted))
        facts |= {
            "fdatasync after": machine.syncs(place),
            "load after": machine.load(),
            "stolen by the host": machine.stolen(times),
            "took": f"{time.monotonic() - began:.0f} s",
        }
    finally:
        processes.end_all()
        shutil.rmtree(place, ignore_errors=True)
    if not found:
        print(f"no such row: {', '.join(sorted(wanted))}", file=sys.stderr)
        return 1
    suffix = ("" if scale is FULL else f"-{scale.name}") + ("-part" if wanted else "")
    day = datetime.now(UTC).strftime("%Y-%m-%d")
    written = report.write(results, f"{day}-{name}{suffix}", facts, found)
    print(f"\n{written.read_text()}\nwritten to {written}")
    return 0


def _measured(bench: Bench) -> list[Row]:
    found = []
    for rows in GROUPS.values():
        for row in rows(bench):
            print(report.line(row), flush=True)
            found.append(row)
    return found


def _end(number: int, frame: object) -> NoReturn:
    raise SystemExit(128 + number)


if __name__ == "__main__":
    raise SystemExit(main())
