"""Output on its way to the log: nothing is lost without a mark, nobody waits, memory stays bounded."""

import asyncio
import os
import resource
import shutil
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from stratavore.shim.client import read_sidecar
from stratavore.shim.log import Log, modes_after
from stratavore.shim.queries import ANSWERS, answer
from stratavore.shims import Part
from tests.shim.harness import House, is_alive, request, until

FLOOD_BYTES = 200_000_000


def rss_bytes(pid: int) -> int:
    return int(Path(f"/proc/{pid}/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE")


async def test_a_flood_costs_no_memory_and_loses_only_its_head(house: House) -> None:
    """200 MB through a pipe: the kept tail is exact, the rest is a hole, and the other runner is served meanwhile."""
    script = f"yes 0123456 | head -c {FLOOD_BYTES}"
    await house.run("calm.1", "read x; exit 1")
    pid = house.shim_pid("calm.1")
    before = rss_bytes(pid)
    await house.spawn(request("flood.1", script, tty=False, log_cap_bytes=8 << 20), house.places["calm.1"])
    peak, slowest = 0, 0.0
    while "flood.1" not in house.exits:
        began = time.monotonic()
        await house.holdings()
        slowest = max(slowest, time.monotonic() - began)
        peak = max(peak, rss_bytes(pid))
        await asyncio.sleep(0.02)
    record = house.exits["flood.1"]
    assert (record.exit_code, record.output_bytes, record.dropped_bytes) == (0, FLOOD_BYTES, 0)
    log = house.log("flood.1")
    sidecar = read_sidecar(log)
    assert FLOOD_BYTES - (9 << 20) - 4096 <= sidecar.head <= FLOOD_BYTES - (8 << 20)
    assert log.stat().st_size == FLOOD_BYTES
    assert log.stat().st_blocks * 512 < 10 << 20
    with log.open("rb") as file:
        file.seek(sidecar.head)
        assert file.read() == (b"0123456\n" * (FLOOD_BYTES // 8))[sidecar.head :]
    assert peak - before < 8 << 20
    assert slowest < 1.0


async def test_a_flood_through_a_terminal_is_complete(house: House) -> None:
    await house.run("a.1", "stty raw; yes 0123456 | head -c 20000000")
    record = await house.ended("a.1")
    assert record.output_bytes == 20_000_000
    assert house.output("a.1") == b"0123456\n" * 2_500_000


async def test_what_is_printed_right_before_the_end_is_kept(house: House) -> None:
    keys = [f"a{number}.1" for number in range(20)]
    for key in keys:
        await house.run(key, "head -c 3000 /dev/zero | tr '\\0' x; echo end")
    await until(lambda: len(house.exits) == len(keys))
    assert {house.output(key) for key in keys} == {b"x" * 3000 + b"end\r\n"}


async def test_the_sidecar_tells_when_the_log_was_how_long(house: House) -> None:
    started = time.time_ns() // 1_000_000
    await house.run("a.1", "echo one; read x; echo two; read x")
    await house.says("a.1", "one")
    await until(lambda: read_sidecar(house.log("a.1")).marks)
    await house.shims.send("a.1", [Part(b"\r")])
    await until(lambda: len(read_sidecar(house.log("a.1")).marks) == 2)
    (first, one), (second, two) = read_sidecar(house.log("a.1")).marks
    assert started <= first <= second - 900
    assert (one, two) == (len(b"one\r\n"), len(house.output("a.1")))


async def test_logs_that_are_removed_are_no_trouble(house: House) -> None:
    await house.run("a.1", "read x; echo late")
    shutil.rmtree(house.paths.logs)
    await house.spawn(request("b.1", "echo there"), house.places["a.1"])
    await house.ended("b.1")
    assert house.output("b.1") == b"there\r\n"
    await house.shims.kill("a.1", by="tester")
    await house.ended("a.1")


async def test_a_shim_without_descriptors_reads_on(house: House) -> None:
    """Beyond the cap it opens the log once more, to punch its head out."""
    await house.run("a.1", "read x; head -c 3000000 /dev/zero; exit 4", log_cap_bytes=1 << 20)
    pid = house.shim_pid("a.1")
    soft, hard = resource.prlimit(pid, resource.RLIMIT_NOFILE)
    resource.prlimit(pid, resource.RLIMIT_NOFILE, (len(os.listdir(f"/proc/{pid}/fd")), hard))
    await house.shims.send("a.1", [Part(b"\r")])
    record = await house.ended("a.1")
    resource.prlimit(pid, resource.RLIMIT_NOFILE, (soft, hard))
    assert record.exit_code == 4
    assert record.output_bytes == len(b"\r\n") + 3_000_000


async def test_a_deleted_log_keeps_to_its_cap(house: House) -> None:
    spawned = await house.run("a.1", "read x; head -c 20000000 /dev/zero; read x; exit 4", log_cap_bytes=1 << 20)
    log, pid = house.log("a.1"), house.shim_pid("a.1")
    [kept] = [path for path in Path(f"/proc/{pid}/fd").iterdir() if path.is_symlink() and os.readlink(path) == str(log)]
    log.unlink()
    await house.shims.send("a.1", [Part(b"\r")])
    await until(lambda: kept.stat().st_size >= 20_000_000)
    assert kept.stat().st_blocks * 512 < 2 << 20
    assert is_alive(spawned.pid)
    await house.shims.send("a.1", [Part(b"\r")])
    assert (await house.ended("a.1")).exit_code == 4


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """A file system of half a megabyte for the logs."""
    logs = tmp_path / "state" / "logs"
    logs.mkdir(parents=True)
    mounted = subprocess.run(
        ["mount", "-t", "tmpfs", "-o", "size=512k", "test", str(logs)], capture_output=True, text=True, check=False
    )
    if mounted.returncode:
        pytest.skip(f"cannot mount a small file system: {mounted.stderr.strip()}")
    yield logs
    subprocess.run(["umount", "-l", str(logs)], check=True)


async def test_a_full_disk_drops_output_counts_it_and_stops_nobody(small_disk: Path, tmp_path: Path) -> None:
    ballast, flooded = small_disk / "ballast", tmp_path / "flooded"
    ballast.write_bytes(bytes(200_000))
    async with House(tmp_path / "state") as house:
        await house.run("a.1", f"head -c 3000000 /dev/zero | tr '\\0' x; : >{flooded}; read x; echo after; exit 4")
        await until(flooded.exists)
        ballast.unlink()
        await house.shims.send("a.1", [Part(b"\r")])
        record = await house.ended("a.1")
        kept = house.output("a.1")
        [gap] = read_sidecar(house.log("a.1")).gaps
    assert record.exit_code == 4
    assert record.output_bytes == len(kept) < 400_000
    assert record.output_bytes + record.dropped_bytes == 3_000_000 + len(b"\r\nafter\r\n")
    assert gap == (len(kept) - len(b"\r\nafter\r\n"), record.dropped_bytes)
    assert kept[gap[0] :] == b"\r\nafter\r\n"


_ASK = r"stty raw -echo; echo up; read -n1 x; printf '\033[6n'; read -t 0.5 -n6 y; echo; echo ${y@Q}"


async def test_queries_are_answered_while_nobody_is_attached(house: House) -> None:
    await house.run("a.1", "", argv=["bash", "-c", _ASK])
    await house.says("a.1", "up")
    await house.shims.send("a.1", [Part(b"x")])
    await house.ended("a.1")
    assert rb"$'\E[1;1R'" in house.output("a.1")


async def test_a_query_is_left_to_the_terminal_of_whoever_is_attached(house: House) -> None:
    """The control of the test before."""
    await house.run("a.1", "", argv=["bash", "-c", _ASK])
    await house.says("a.1", "up")
    connection = house.connect("a.1")
    connection.attach("a.1", role="writer", rows=24, cols=80)
    connection.input(b"x")
    await house.ended("a.1")
    connection.close()
    assert b"''" in house.output("a.1")


def test_a_query_is_found_across_the_borders_of_reads() -> None:
    for query, reply in ANSWERS.items():
        text = b"abc" + query + b"def" + query
        for cut in range(len(text)):
            first, carry = answer(text[:cut], b"")
            second, rest = answer(text[cut:], carry)
            assert (first + second, rest) == (reply * 2, b""), (query, cut)
    assert answer(b"\x1b[31mred\x1b[0m \x1b[?5n", b"") == (b"", b"")


def test_the_modes_at_the_new_head_are_those_in_force_there() -> None:
    sequences = b"\x1b[?2004h\x1b[?25l text \x1b[?1049;1006h\x1b[>1u\x1b[?25h\x1b="
    modes = modes_after([], sequences, len(sequences))
    assert modes == [b"[?2004h", b"[?25l", b"[?1049;1006h", b"[>1u", b"[?25h", b"="]
    assert modes_after(modes, b"\x1b[<u\x1b[?25l", 99) == [*modes[:1], *modes[2:], b"[<u", b"[?25l"]
    assert modes_after(modes, b"\x1bc\x1b[?7l", 99) == [b"[?7l"]
    assert modes_after([], b"..\x1b[?2004h", 2) == []


def test_a_punched_log_begins_with_a_preamble(tmp_path: Path) -> None:
    log = Log(str(tmp_path / "log"), 1 << 20)
    log.append(b"\x1b[?2004h\x1b[?1049h" + b"x" * 100)
    for _ in range(40):
        log.append(b"line\n" * 20_000)
    log.mark()
    log.close()
    sidecar = read_sidecar(tmp_path / "log")
    assert sidecar.head > 0
    assert sidecar.preamble == b"\x1b[?2004h\x1b[?1049h"
    assert sidecar.marks[-1][1] == log.size


def test_a_torn_or_missing_sidecar_is_read_as_far_as_it_goes(tmp_path: Path) -> None:
    log = tmp_path / "log"
    assert read_sidecar(log) == (0, b"", (), ())
    (tmp_path / "log.idx").write_bytes(b"mark 1000 10\ngap 1001 10 5\nhead 1002 4096 [?25l =\nmark 10")
    assert read_sidecar(log) == (4096, b"\x1b[?25l\x1b=", ((1000, 10),), ((10, 5),))
