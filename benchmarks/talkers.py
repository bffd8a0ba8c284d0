"""Runners that print what they are told to, and who tells them.

Each makes a pipe named after its pid and copies what comes in to its output. So the load is made by one loop outside,
on a fixed schedule, and it is known to the byte what must be in every log.
"""

import os
import stat
import time
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path

from benchmarks.measure import own_core, wait_until

LINE = b"the quick brown fox jumps over the lazy dog, again and again\n"


def copying(pipes: Path) -> tuple[str, ...]:
    """A runner that prints what comes through its pipe, and ends with it."""
    return ("/bin/sh", "-c", f'mkfifo "{pipes}/$$" && exec cat "{pipes}/$$"')


def obeying(pipes: Path) -> tuple[str, ...]:
    """A runner that prints each line, and ends with code N when the line is `exit N`."""
    script = (
        f'mkfifo "{pipes}/$$"; while read -r word rest; do '
        '[ "$word" = exit ] && exit "$rest"; echo "$word $rest"; '
        f'done <"{pipes}/$$"'
    )
    return ("/bin/sh", "-c", script)


class Pipes:
    """The writing ends of all pipes in a directory, by the pid of the reader."""

    def __init__(self, directory: Path, count: int) -> None:
        wait_until(lambda: len(_pipes(directory)) == count, f"{count} pipes are there", look_seconds=0.02)
        # Opened for both directions it does not wait for the reader, and the reader never sees an end.
        self.ends: Mapping[int, int] = {
            int(pipe.name): os.open(pipe, os.O_RDWR | os.O_NONBLOCK) for pipe in _pipes(directory)
        }

    def tell(self, pid: int, line: bytes) -> None:
        """Have one runner print the line."""
        os.write(self.ends[pid], line)

    def talk(self, *, lines_per_second: float, seconds: float) -> int:
        """Have each of them print so many lines a second, evenly spread; how many were sent in all."""
        ends = list(self.ends.values())
        each = 1 / (lines_per_second * len(ends))
        total, sent = int(seconds / each), 0
        with own_core():
            began = time.perf_counter()
            while sent < total:
                due = min(total, int((time.perf_counter() - began) / each) + 1)
                for number in range(sent, due):
                    os.write(ends[number % len(ends)], LINE)
                sent = due
                time.sleep(0.002)
        return sent

    def close(self) -> None:
        for end in self.ends.values():
            with suppress(OSError):
                os.close(end)


def _pipes(directory: Path) -> list[Path]:
    return [file for file in directory.iterdir() if stat.S_ISFIFO(file.stat().st_mode)]
