"""What the state directory holds on disk."""

import os
from pathlib import Path

from stratavore.model import DiskUse


def measure(state: Path) -> DiskUse:
    """What the state directory holds, in bytes on disk: holes do not count."""
    database = output = transcripts = other = 0
    linked: set[int] = set()
    by_runner: dict[str, int] = {}
    for directory, _, names in os.walk(state):
        for name in names:
            try:
                found = os.lstat(os.path.join(directory, name))
            except OSError:
                continue
            size = 0 if found.st_ino in linked else found.st_blocks * 512
            if found.st_nlink > 1:
                linked.add(found.st_ino)
            if directory == str(state) and name.startswith("state.db"):
                database += size
            elif directory.startswith(str(state / "logs")):
                output += size
                runner_id = name.partition(".")[0]
                by_runner[runner_id] = by_runner.get(runner_id, 0) + size
            elif directory.startswith(str(state / "transcripts")):
                transcripts += size
            else:
                other += size
    return DiskUse(
        database_bytes=database,
        output_bytes=output,
        transcript_bytes=transcripts,
        other_bytes=other,
        by_runner=by_runner,
    )
