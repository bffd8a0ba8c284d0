"""A daemon whose clocks can be set: `python tests/chaos/wall_clock.py FILE`.

FILE says by how many seconds its wall clock and its boot clock are off. The machine's own are nobody's to change here.
"""

import sys
from datetime import datetime, timedelta
from pathlib import Path

from stratavore import clock, daemon
from stratavore.paths import locate


def offsets() -> tuple[float, float]:
    wall, boot = Path(sys.argv[1]).read_text().split()
    return float(wall), float(boot)


class SettableClock(clock.SystemClock):
    def now(self) -> datetime:
        return super().now() + timedelta(seconds=offsets()[0])

    def boottime(self) -> float:
        return super().boottime() + offsets()[1]


if __name__ == "__main__":
    daemon.SystemClock = SettableClock  # type: ignore[attr-defined]
    sys.exit(daemon.run(locate(), None))
