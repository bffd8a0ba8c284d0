"""The runs of a runner as one stream."""

import fcntl
import os
import threading
from pathlib import Path

from stratavore.shim.kernel import punch_hole
from stratavore.terminal.output import Edge, follow, raw_tail, read, rendered, tail
from stratavore.terminal.replay import replay
from stratavore.terminal.runlog import Gap, LogFile, Run
from tests.terminal.holding import Shim, wait_until


def run_of(path: Path, data: bytes, sidecar: str = "") -> Run:
    path.write_bytes(data)
    if sidecar:
        Path(f"{path}.idx").write_text(sidecar)
    return Run("a.1", path, None)


def test_what_the_disk_refused_is_shown_at_its_place(tmp_path: Path) -> None:
    run = run_of(tmp_path / "log", b"one\r\ntwo\r\n", "gap 1000 5 12345\n")
    assert [piece for _, piece in read([run])] == [b"one\r\n", Gap(12345), b"two\r\n", Edge.RUN_ENDED]
    text = "".join(rendered(read([run])))
    assert text == "one\n[stratavore: 12,345 bytes were dropped here: disk full]\ntwo\n"


def test_a_punched_head_is_never_shown_as_zeros(tmp_path: Path) -> None:
    run = run_of(tmp_path / "log", b"x" * 8192 + b"kept\r\n", "head 1000 8192 [?2004h [>1u\n")
    fd = os.open(run.log, os.O_RDWR)
    assert punch_hole(fd, 0, 8192)
    os.close(fd)
    assert [piece for _, piece in read([run])] == [b"kept\r\n", Edge.RUN_ENDED]
    with LogFile(run.log) as log:
        shown, modes, offset = replay(log, 1 << 20, osc52=False)
        assert shown == b"\x1b[>1u\x1b[?2004hkept\r\n"
        assert modes.bracketed_paste
        assert offset == 8192 + 6


def test_a_time_is_found_by_the_marks(tmp_path: Path) -> None:
    run = run_of(tmp_path / "log", b"old\r\nnew\r\n", "mark 1000 5\nmark 2000 10\n")
    assert "".join(rendered(read([run], since_ms=1500))) == "new\n"
    assert "".join(rendered(read([run], since_ms=500))) == "old\nnew\n"


def test_the_tail_joins_the_runs(tmp_path: Path) -> None:
    first = run_of(tmp_path / "1", b"a\r\nb\r\nc\r\n")
    second = run_of(tmp_path / "2", b"d\r\ne")
    assert tail([first, second], 3) == ["c", "d", "e"]
    assert tail([first, second], 99) == ["a", "b", "c", "d", "e"]
    assert tail([first, second, Run("a.3", tmp_path / "none", None)], 1) == ["e"]


def test_the_tail_of_a_long_log_reads_only_its_end(tmp_path: Path) -> None:
    run = run_of(tmp_path / "1", b"".join(b"line %d\r\n" % number for number in range(200_000)))
    assert tail([run], 2) == ["line 199998", "line 199999"]


def test_the_raw_tail_begins_at_a_line(tmp_path: Path) -> None:
    for data, lines, start in ((b"a\nb\nc\n", 2, 2), (b"a\nb\nc", 2, 2), (b"a\nb\nc\n", 9, 0), (b"", 3, 0)):
        with LogFile(run_of(tmp_path / "log", data).log) as log:
            assert raw_tail(log, lines) == start
    with LogFile(run_of(tmp_path / "log", b"z\n" * 100_000).log) as log:
        assert raw_tail(log, 60_000) == 80_000


def test_a_living_run_is_followed_to_its_end_and_into_the_next(shim: Shim, tmp_path: Path) -> None:
    go = tmp_path / "go"
    first = shim.shell(f"echo one; while [ ! -e {go} ]; do sleep 0.02; done; echo two")
    second = run_of(tmp_path / "2", b"three\r\n")
    wait_until(first.log.exists)
    following: list[Run | None] = [second, None]
    seen = []
    for text in rendered(follow(first, start=0, next_run=lambda: following.pop(0))):
        seen.append(text)
        go.touch()
    assert "".join(seen) == "one\ntwo\nthree\n"
    assert seen[0] == "one\n"


def test_a_log_is_followed_without_a_shim_that_answers(tmp_path: Path) -> None:
    """The shim lives (its lock is held) but does not speak: the file is looked at."""
    directory = tmp_path / "s1"
    directory.mkdir()
    lock = (directory / "lock").open("w")
    fcntl.flock(lock, fcntl.LOCK_EX)
    run = run_of(tmp_path / "log", b"one\r\n")._replace(shim=directory)
    seen: list[str] = []
    reader = threading.Thread(
        target=lambda: seen.extend(rendered(follow(run, start=0, next_run=lambda: None))), daemon=True
    )
    reader.start()
    wait_until(lambda: "one\n" in seen)
    with run.log.open("ab") as log:
        log.write(b"two\r\n")
    wait_until(lambda: "two\n" in seen)
    lock.close()
    reader.join(10)
    assert not reader.is_alive()


def test_a_painted_page_is_replayed_from_where_its_painting_began(tmp_path: Path) -> None:
    old = b"old\r\n" * 1000 + b"\x1b[?1049h\x1b[2J\x1b[Hpage\x1b[6n\x1b[3;3Hmore"
    with LogFile(run_of(tmp_path / "log", old).log) as log:
        shown, modes, _ = replay(log, 100, osc52=False)
    assert modes.alternate_screen
    assert shown.endswith(b"\x1b[2J\x1b[Hpage\x1b[3;3Hmore")
    assert b"old" not in shown
