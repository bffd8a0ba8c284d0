"""Somebody who writes transcripts as agents do: answers of several lines that grow, in pieces, with forks of them."""

import os
import random
import threading
import time
from pathlib import Path
from typing import Any

from tests.ledger.transcripts import Counts, answer, file_of

_FILES = ("trunk", "branch", "twig")
"""Each is a fork of the one before, and repeats some of its answers."""
_MOST_PIECE = 3000


class Scribe:
    """Appends `lines` lines to the files of `home`, at most so fast that it takes `seconds`."""

    def __init__(self, home: Path, chance: random.Random, *, lines: int, seconds: float) -> None:
        self.files = [file_of(home, name) for name in _FILES]
        self._chance = chance
        self._lines = lines
        self._pause = seconds / lines
        self._thread = threading.Thread(target=self._write, daemon=True)

    def begin(self) -> None:
        for path in self.files:
            path.touch()
        self._thread.start()

    @property
    def is_writing(self) -> bool:
        return self._thread.is_alive()

    def _write(self) -> None:
        ends = [os.open(path, os.O_WRONLY | os.O_APPEND) for path in self.files]
        began, written, number = time.monotonic(), 0, 0
        while written < self._lines:
            number += 1
            at = self._chance.choices((0, 1, 2), (8, 3, 1))[0]
            told = [line for each in self._repeated(number, at) for line in self._told(each, at)]
            self._append(ends[at], b"".join(told))
            written += len(told)
            ahead = began + written * self._pause - time.monotonic()
            if ahead > 0.01:
                time.sleep(ahead)  # a scribe keeps its pace: nobody waits for this
        for end in ends:
            os.close(end)

    def _repeated(self, number: int, at: int) -> list[int]:
        """The answers that are written now: a new one, or some that were copied from the files before."""
        if at and self._chance.random() < 0.2:
            first = self._chance.randrange(1, number + 1)
            return list(range(first, min(first + 5, number + 1)))
        return [number]

    def _told(self, number: int, at: int) -> list[bytes]:
        """Its lines; one answer grows from line to line, and ends in the same wherever it stands."""
        chance = random.Random(number)
        whole: Counts = tuple(chance.randrange(1, 5000) for _ in range(5))  # type: ignore[assignment]
        steps = [(whole[0], chance.randrange(1, whole[1] + 1), *whole[2:]) for _ in range(chance.randrange(3))]
        more: dict[str, Any] = {"forkedFrom": {"sessionId": _FILES[at - 1]}} if at else {}
        return [answer(number, session=_FILES[at], counts=counts, **more) for counts in (*steps, whole)]

    def _append(self, end: int, data: bytes) -> None:
        while data:
            size = self._chance.randrange(1, _MOST_PIECE)
            data = data[os.write(end, data[:size]) :]
