"""Attach, from a real PTY to a real shim."""

import os
import re
import signal
import subprocess
import sys
import termios
from collections.abc import Callable
from contextlib import closing
from pathlib import Path

import pexpect
import pytest

from stratavore.shim import client
from stratavore.terminal.runlog import Run
from tests.terminal.holding import Shim, wait_until

Attacher = Callable[..., "pexpect.spawn[bytes]"]
ECHO = "stty raw -echo; echo ready; cat -v"


def settings(child: "pexpect.spawn[bytes]") -> list[object]:
    return termios.tcgetattr(child.child_fd)


def shown(child: "pexpect.spawn[bytes]") -> bytes:
    """What came before that which was expected last."""
    assert isinstance(child.before, bytes)
    return child.before


def output(run: Run) -> bytes:
    return run.log.read_bytes()


@pytest.mark.parametrize(
    "keys", [b"\x1cd", b"\x1b[92;5ud", b"\x1b[92;5:1u\x1b[92;5:3u\x1b[100;1u", b"\x1b[27;5;92~d"],
    ids=["legacy", "kitty", "kitty with events", "modifyOtherKeys"],
)  # fmt: skip
def test_the_detach_key_works_in_every_encoding_and_the_terminal_is_as_before(
    shim: Shim, attacher: Attacher, keys: bytes
) -> None:
    run = shim.shell(ECHO)
    child = attacher(run)
    before = settings(child)
    child.expect_exact("detach with Ctrl-\\ d")
    child.expect_exact("ready")
    assert settings(child) != before
    child.send(b"x")
    child.expect_exact("x")
    child.send(keys)
    child.expect_exact("OUTCOME detached")
    child.expect(pexpect.EOF)
    assert settings(child) == before
    assert b"^\\" not in output(run)


def test_the_first_key_of_the_chord_pressed_twice_reaches_the_program_once(shim: Shim, attacher: Attacher) -> None:
    child = attacher(shim.shell(ECHO))
    child.expect_exact("ready")
    child.send(b"a\x1c\x1cb\x1cxc")
    child.expect_exact(r"a^\b^\xc")
    child.send(b"\x1cd")
    child.expect_exact("OUTCOME detached")


def test_another_detach_key_can_be_chosen(shim: Shim, attacher: Attacher) -> None:
    child = attacher(shim.shell(ECHO), "--chord", "ctrl-]")
    child.expect_exact("detach with Ctrl-]")
    child.expect_exact("ready")
    child.send(b"\x1c")
    child.expect_exact(r"^\ ".strip())
    child.send(b"\x1d")
    child.expect_exact("OUTCOME detached")


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGHUP])
def test_a_signal_that_ends_attach_leaves_the_terminal_as_it_was(
    shim: Shim, attacher: Attacher, number: signal.Signals
) -> None:
    child = attacher(shim.shell(r"printf '\033[?1049h\033[?2004h\033[>1u'; " + ECHO))
    before = settings(child)
    child.expect_exact("ready")
    child.kill(number)
    child.expect_exact("\x1b[?2004l")
    child.expect_exact("\x1b[<1u")
    child.expect_exact("\x1b[?1049l")
    child.expect_exact(f"OUTCOME disconnected {number.name}")
    child.expect(pexpect.EOF)
    assert settings(child) == before


def test_the_modes_that_the_program_set_are_put_in_force_and_taken_back(shim: Shim, attacher: Attacher) -> None:
    run = shim.shell(r"printf '\033[?2004h\033[?1h\033[?1000h\033[?1000l\033[>5u'; " + ECHO)
    wait_until(lambda: b"ready" in output(run))
    child = attacher(run)
    child.expect_exact("ready")
    child.send(b"\x1cd")
    child.expect_exact("OUTCOME")
    left = shown(child)
    for taken_back in (b"\x1b[?2004l", b"\x1b[?1l", b"\x1b[<1u", b"\x1b[?25h", b"\x1b[m"):
        assert taken_back in left
    assert b"1000" not in left


def test_a_new_size_reaches_the_program(shim: Shim, attacher: Attacher) -> None:
    run = shim.shell("trap 'stty size' WINCH; echo ready; while :; do sleep 0.05; done")
    child = attacher(run, rows=30, cols=100)
    child.expect_exact("30 100")
    child.setwinsize(41, 132)
    child.expect_exact("41 132")
    child.send(b"\x1cd")
    child.expect_exact("OUTCOME detached")


def test_a_program_paints_again_when_somebody_comes_with_the_same_size(shim: Shim, attacher: Attacher) -> None:
    run = shim.shell("trap 'echo painted' WINCH; echo ready; while :; do sleep 0.05; done")
    wait_until(lambda: b"ready" in output(run))
    child = attacher(run, rows=24, cols=80)
    child.expect_exact("painted")


def test_one_types_many_watch_and_a_takeover_is_told(shim: Shim, attacher: Attacher) -> None:
    run = shim.shell(ECHO)
    writer = attacher(run)
    writer.expect_exact("ready")
    observer = attacher(run, "--read-only")
    observer.expect_exact("ready")
    observer.send(b"never")
    refused = attacher(run)
    refused.expect(r"REFUSED process \d+ is attached")
    writer.send(b"typed")
    observer.expect_exact("typed")
    second = attacher(run, "--takeover")
    writer.expect(r"OUTCOME taken another terminal took over \(process \d+\)")
    second.send(b"mine")
    observer.expect_exact("mine")
    observer.send(b"\x1cd")
    observer.expect_exact("OUTCOME detached")
    assert b"never" not in output(run)


def test_news_that_come_together_with_the_answer_are_heard(shim: Shim, attacher: Attacher) -> None:
    """Nobody is told of more before it has read what it was told: who misses one hears nothing ever again."""
    program = "import itertools, time\nfor n in itertools.count(): print(n, 'told', flush=True), time.sleep(0.002)"
    run = shim.spawn(sys.executable, "-c", program)
    for _ in range(12):
        child = attacher(run, "--takeover")
        child.expect_exact("detach with")
        newest = output(run).count(b"\n")
        child.expect_exact(f"\n{newest + 20} told")
        child.send(b"\x1cd")
        child.expect_exact("OUTCOME detached")


def test_scrollback_is_replayed_without_the_questions_of_then(shim: Shim, attacher: Attacher) -> None:
    queries = r"\033[6n\033[c\033[>0q\033[?u\033]11;?\007\033P+q544e\033\\\033[?2026$p\033[14t\033]52;c;?\007"
    run = shim.shell(f"printf 'old output{queries}\\r\\n'; " + ECHO)
    wait_until(lambda: b"ready" in output(run))
    child = attacher(run)
    child.expect_exact("ready")
    replayed = shown(child)
    assert b"old output" in replayed
    assert not re.search(rb"\x1b\[(6n|c|>0q|\?u|14t)|\x1b\]|\x1bP|\$p", replayed.replace(b"\x1b[22;0t", b""))


def test_the_clipboard_is_written_only_where_that_is_on(shim: Shim, attacher: Attacher) -> None:
    script = r"echo ready; read go; printf '\033]52;c;c2VjcmV0\007done\r\n'; cat"
    for option, is_there in (((), False), (("--osc52",), True)):
        child = attacher(shim.shell(script), *option)
        child.expect_exact("ready")
        child.send(b"\r")
        child.expect_exact("done")
        assert (b"c2VjcmV0" in shown(child)) is is_there


def test_the_end_of_the_run_is_told_with_all_of_its_output(shim: Shim, attacher: Attacher) -> None:
    child = attacher(shim.shell("echo ready; read go; seq 20000; exit 7"))
    child.expect_exact("ready")
    child.send(b"\r")
    child.expect_exact("OUTCOME ended exit code 7")
    numbers = [int(line) for line in shown(child).split() if line.isdigit()]
    assert numbers == list(range(1, 20001))


def test_a_restart_goes_on_with_the_next_run(shim: Shim, attacher: Attacher) -> None:
    first, second = shim.shell("echo one; read go; kill -9 $$"), shim.shell("echo two; " + ECHO)
    assert second.shim is not None
    child = attacher(first, "--next", second.key, str(second.log), str(second.shim))
    child.expect_exact("one")
    child.send(b"\r")
    child.expect_exact("killed by SIGKILL; started again")
    child.expect_exact("two")
    child.send(b"z\x1cd")
    child.expect_exact("OUTCOME detached")
    wait_until(lambda: b"z" in output(second))


def test_that_it_is_started_again_is_said_only_where_that_is_known(shim: Shim, attacher: Attacher) -> None:
    child = attacher(shim.shell("echo one; read go; exit 3"), "--unsure")
    child.expect_exact("one")
    child.send(b"\r")
    child.expect_exact("OUTCOME ended exit code 3")
    assert b"; " not in shown(child)


def test_a_slow_terminal_gets_everything(shim: Shim, attacher: Attacher) -> None:
    child = attacher(shim.shell("echo ready; read go; seq 100000 | tr '\\n' ' '; echo; echo finished; cat"))
    child.expect_exact("ready")
    child.send(b"\r")
    child.expect_exact("finished", timeout=30)
    assert shown(child).split()[-1] == b"100000"
    assert len(shown(child).split()) >= 100_000


def test_the_detach_key_works_while_the_terminal_stands_still(shim: Shim, attacher: Attacher) -> None:
    run = shim.shell("stty raw -echo; echo ready; read go; yes 'nobody takes this' | head -c 5000000; cat")
    child = attacher(run)
    child.expect_exact("ready")
    child.send(b"\n")
    wait_until(lambda: run.log.stat().st_size > 4_000_000)  # and we read nothing
    child.send(b"\x1cd")
    wait_until(lambda: attached(shim, run) == 0, "the detach")


def attached(shim: Shim, run: Run) -> int:
    """How many writers the run has: another may come if there is none."""
    with closing(client.connect(shim.directory)) as connection:
        try:
            connection.attach(run.key, role=client.WRITER, rows=24, cols=80)
        except client.Refused:
            return 1
        return 0


def test_watching_needs_no_terminal(shim: Shim, tmp_path: Path) -> None:
    run = shim.shell("echo ready; sleep 0.3; echo last; exit 0")
    done = subprocess.run(
        [sys.executable, Path(__file__).with_name("attacher.py"), run.key, run.log, str(run.shim), "--read-only"],
        stdin=subprocess.DEVNULL, capture_output=True, timeout=15, check=True,
    )  # fmt: skip
    assert b"last" in done.stdout
    assert b"OUTCOME ended exit code 0" in done.stdout
    assert b"\x1b" not in done.stdout
    assert b"no terminal" not in done.stdout
    run = shim.shell("sleep 0.3; exit 0")
    done = subprocess.run(
        [sys.executable, Path(__file__).with_name("attacher.py"), run.key, run.log, str(run.shim)],
        stdin=subprocess.DEVNULL, capture_output=True, timeout=15, check=True,
    )  # fmt: skip
    assert b"for stdin is no terminal to type on; detach" in done.stdout, "nobody asked for watching only"


def test_the_death_of_the_shim_ends_it_with_the_terminal_restored(tmp_path: Path, attacher: Attacher) -> None:
    shim = Shim(tmp_path)
    try:
        child = attacher(shim.shell(ECHO))
        before = settings(child)
        child.expect_exact("ready")
        os.kill(shim.pids[1], signal.SIGKILL)
        child.expect_exact("OUTCOME disconnected")
        child.expect(pexpect.EOF)
        assert settings(child) == before
    finally:
        shim.close()


def test_suspended_and_continued_it_lends_the_terminal_again(shim: Shim, attacher: Attacher) -> None:
    child = attacher(shim.shell(r"printf '\033[?2004h'; " + ECHO))
    before = settings(child)
    child.expect_exact("ready")
    child.kill(signal.SIGTSTP)
    child.expect_exact("\x1b[?2004l")
    wait_until(lambda: Path(f"/proc/{child.pid}/stat").read_text().split()[2] == "T", "the stop")
    assert settings(child) == before
    child.kill(signal.SIGCONT)
    child.expect_exact("\x1b[?2004h")
    child.send(b"again\x1cd")
    child.expect_exact("OUTCOME detached")
