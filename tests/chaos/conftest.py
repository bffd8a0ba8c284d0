"""Chaos: the whole system, real, with faults. The numbers in the tests' names are the rows of the fault matrix.

    1, 3        test_fault_01      the daemon killed at random (and by memory, which looks the same from outside)
    2           test_fault_02      the daemon killed at every failpoint of launch and stop
    4–10, 43    test_faults_04_10  stopped or dead daemons, shims, zygotes; reboot; reused pids; zombies; the socket
    11, 13, 14  test_faults_10_20  short runs, deaf runners, grandchildren
    16–20       test_faults_10_20  starts that fail: programs, terminals, descriptors, forks, crash loops
    34, 35      test_faults_10_20  clocks that jump, suspend
    22–25, 27,
    29–31, 33   test_faults_22_33  disks: full, limited, failing, locked, damaged, read-only, moved, of the future
    42          test_quotas        two daemons, many first commands; and quotas
    44, 47, 48  test_faults_44_48  bad clients, bare surroundings, SIGTERM in a burst

Elsewhere: 12 (a flood) in tests/shim; 21, 26, 28, 32 (power loss, slow disks, long readers, killed migrations) and the
seeds of 29 in tests/store. Nowhere: 15, a fork bomb, needs a cgroup or a uid of its own; 17 lowers the limit of a shim
instead of the machine's `kernel.pty.max`; 30 fails the system calls instead of remounting what has open files.

test_negative_controls seeds a bug into the daemon for each kind of check, and sees the check fail.
The long forms have the marker `long`. STRATAVORE_TEST_SEED takes back a seed.
"""

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.chaos.house import House


@pytest.fixture
def house(tmp_path: Path) -> Iterator[House]:
    """A house in which nothing lives yet; whatever does in the end is ended."""
    with House(tmp_path) as house:
        yield house


@pytest.fixture
def inhabited(house: House) -> House:
    """A house with a daemon, and the project `p` with room for fifty."""
    house.start()
    house.project()
    return house
