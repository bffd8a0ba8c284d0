"""What the program does that an agent runs at its hooks, as a process of its own, with and without a daemon."""

import json
import os
import socket
import stat
import subprocess
import sys
import threading
import time
from pathlib import Path
from typing import Any

import pytest

from stratavore import hook, verdicts
from stratavore.executable import hook_command
from stratavore.paths import Paths
from stratavore.shim.client import Decoder

SAID = {"session_id": "s1", "hook_event_name": "PreToolUse", "tool_name": "Bash"}


@pytest.fixture
def paths(tmp_path: Path) -> Paths:
    paths = Paths(tmp_path, tmp_path / "config.toml")
    paths.runner("r1").mkdir(parents=True)
    return paths


def run(paths: Paths, event: str, *options: str, said: object = SAID) -> Any:
    """What the hook answers; it must end well."""
    text = said if isinstance(said, bytes) else json.dumps(said).encode()
    command = [*hook_command(), str(paths.runner("r1")), event, *options]
    done = subprocess.run(command, input=text, capture_output=True, timeout=30)
    assert (done.returncode, done.stderr) == (0, b"")
    return json.loads(done.stdout) if done.stdout else None


def spooled(paths: Paths) -> list[list[bytes]]:
    lines = (paths.runner("r1") / hook.SPOOL).read_bytes().splitlines()
    return [line.split(b" ", 3) for line in lines]


def test_it_leaves_what_the_agent_said_on_one_line(paths: Paths) -> None:
    assert run(paths, "PreToolUse", said=json.dumps(SAID, indent=2).encode()) is None
    assert run(paths, "Stop") is None
    first, second = spooled(paths)
    assert abs(int(first[0]) / 1000 - time.time()) < 30
    assert (first[1:3], json.loads(first[3])) == ([b"PreToolUse", b"allow"], SAID)
    assert second[1] == b"Stop"
    assert stat.S_IMODE((paths.runner("r1") / hook.SPOOL).stat().st_mode) == 0o600


def test_a_verdict_blocks_the_next_prompt_and_the_next_tool_and_nothing_else(paths: Paths) -> None:
    reason = 'over "budget"\nuntil Monday, ü'
    verdicts.write(paths, "r1", reason)
    assert run(paths, "UserPromptSubmit") == {"decision": "block", "reason": reason}
    assert run(paths, "PreToolUse") == {"continue": False, "stopReason": reason}
    assert run(paths, "Stop") is None
    assert [line[2] for line in spooled(paths)] == [b"block", b"block", b"allow"]
    verdicts.write(paths, "r1", None)
    assert run(paths, "UserPromptSubmit") is None


def test_without_a_verdict_it_allows_unless_it_is_to_fail_closed(paths: Paths) -> None:
    assert run(paths, "UserPromptSubmit") is None
    assert run(paths, "UserPromptSubmit", hook.FAIL_CLOSED)["decision"] == "block"
    verdicts.write(paths, "r1", None)
    assert run(paths, "UserPromptSubmit", hook.FAIL_CLOSED) is None


@pytest.mark.parametrize("damaged", [b"", b'"', b'"cut', b"{}", b"\0"])
def test_a_damaged_verdict_is_no_verdict(paths: Paths, damaged: bytes) -> None:
    (paths.runner("r1") / hook.VERDICT).write_bytes(damaged)
    assert run(paths, "UserPromptSubmit") is None
    assert run(paths, "UserPromptSubmit", hook.FAIL_CLOSED)["decision"] == "block"


def test_what_is_too_long_is_left_by_its_event_alone(paths: Paths) -> None:
    run(paths, "PostToolUse", said=b'"' + b"x" * (hook.LARGEST_REQUEST * 3) + b'"')
    run(paths, "PostToolUse", said=b'"' + b"x" * hook.LARGEST_LINE + b'"')
    assert [(line[1], line[3]) for line in spooled(paths)] == [(b"PostToolUse", b"")] * 2


def test_a_full_spool_grows_no_more_and_its_losses_are_counted(paths: Paths) -> None:
    spool = paths.runner("r1") / hook.SPOOL
    spool.write_bytes(b"")
    os.truncate(spool, hook.LARGEST_SPOOL + 1)
    verdicts.write(paths, "r1", "no")
    for _ in range(3):
        assert run(paths, "UserPromptSubmit") == {"decision": "block", "reason": "no"}
    assert spool.stat().st_size == hook.LARGEST_SPOOL + 1
    assert (paths.runner("r1") / hook.DROPPED).stat().st_size == 3


@pytest.mark.parametrize("shell", ['exec "$@" <&-', 'exec "$@"'], ids=["no stdin", "no zygote"])
def test_who_is_blocked_is_told_so_whatever_else_fails(paths: Paths, shell: str) -> None:
    paths.current_zygote.write_bytes(b"\xff")  # as after a power loss
    command = [*hook_command(), str(paths.runner("r1")), "UserPromptSubmit", hook.FAIL_CLOSED]

    def answer() -> bytes:
        done = subprocess.run(["sh", "-c", shell, "sh", *command], input=b"{}", capture_output=True, check=True)
        return done.stdout

    assert json.loads(answer())["decision"] == "block", "it has no verdict"
    verdicts.write(paths, "r1", "no")
    assert json.loads(answer())["reason"] == "no"
    verdicts.write(paths, "r1", None)
    assert answer() == b""


def test_a_spool_that_is_a_link_is_not_followed(paths: Paths, tmp_path: Path) -> None:
    precious = tmp_path / "precious"
    precious.write_text("mine")
    (paths.runner("r1") / hook.SPOOL).symlink_to(precious)
    verdicts.write(paths, "r1", "no")
    assert run(paths, "UserPromptSubmit") == {"decision": "block", "reason": "no"}
    assert precious.read_text() == "mine"


def test_a_hook_without_its_directory_or_its_arguments_fails_nobody(tmp_path: Path) -> None:
    paths = Paths(tmp_path, tmp_path / "config.toml")
    assert run(paths, "Stop") is None
    done = subprocess.run([*hook_command()], input=b"", capture_output=True)
    assert (done.returncode, done.stdout, done.stderr) == (0, b"", b"")


def test_it_pokes_the_daemon_with_the_runners_id(tmp_path: Path) -> None:
    """Whatever the length of the path."""
    state = tmp_path / ("long" * 30)
    paths = Paths(state, tmp_path / "config.toml")
    paths.runner("r1").mkdir(parents=True)
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as daemon:
        at = os.open(state, os.O_PATH)
        daemon.bind(f"/proc/self/fd/{at}/{hook.SOCKET}")
        run(paths, "Stop")
        daemon.setblocking(False)
        assert daemon.recv(100) == b"r1"
        os.close(at)


def test_without_a_daemon_it_asks_the_zygote_for_one(paths: Paths) -> None:
    zygote = paths.zygotes / "z1"
    zygote.mkdir(parents=True)
    paths.current_zygote.write_text("z1\n")
    with socket.socket(socket.AF_UNIX) as listener:
        at = os.open(zygote, os.O_PATH)
        listener.bind(f"/proc/self/fd/{at}/sock")
        os.close(at)
        listener.listen()
        asked: list[Any] = []

        def serve() -> None:
            peer, _ = listener.accept()
            decoder = Decoder()
            while len(asked) < 2 and (data := peer.recv(4096)):
                asked.extend(message for _, message in decoder.feed(data))
            peer.close()

        thread = threading.Thread(target=serve)
        thread.start()
        run(paths, "Stop")
        thread.join()
    assert [request["op"] for request in asked] == ["hello", "start_daemon"]


def test_a_daemon_that_cannot_answer_is_asked_again(paths: Paths) -> None:
    """Its disk is full, say; the request is held until the time is over."""
    answers = [b"HTTP/1.1 503 Service Unavailable\r\n\r\n{}", b'HTTP/1.1 200 OK\r\n\r\n{"answer":"{}"}']
    with socket.socket(socket.AF_UNIX) as listener:
        at = os.open(paths.state, os.O_PATH)
        listener.bind(f"/proc/self/fd/{at}/control.sock")
        os.close(at)
        listener.listen()

        def serve() -> None:
            for answer in answers:
                peer, _ = listener.accept()
                peer.recv(4096)
                peer.sendall(answer)
                peer.close()

        thread = threading.Thread(target=serve, daemon=True)
        thread.start()
        assert run(paths, "PermissionRequest", f"{hook.HOLD}20") == {}
        thread.join()


def test_as_a_command_it_does_the_same(paths: Paths) -> None:
    verdicts.write(paths, "r1", "no")
    command = [sys.executable, "-m", "stratavore", "hook", str(paths.runner("r1")), "UserPromptSubmit"]
    done = subprocess.run(command, input=b"{}", capture_output=True, check=True)
    assert json.loads(done.stdout) == {"decision": "block", "reason": "no"}


def test_it_imports_next_to_nothing(paths: Paths) -> None:
    """Noise cannot fool this: it looks at names, not at seconds."""

    def loaded(*command: str) -> set[str]:
        argv = [sys.executable, "-I", "-S", "-X", "importtime", *command]
        done = subprocess.run(argv, input=b"{}", capture_output=True, check=True, timeout=30)
        return {line.rpartition("|")[2].strip() for line in done.stderr.decode().splitlines()}

    *_, script = hook_command()
    bare = loaded("-c", "import os")
    assert loaded(script, str(paths.runner("r1")), "PreToolUse") - bare <= {"fcntl", "time", "_socket"}


def test_it_takes_hardly_longer_than_python_takes_to_begin(paths: Paths) -> None:
    """The bound is wide, for a busy machine; benchmarks/ has the numbers."""

    def quickest(command: list[str]) -> float:
        times = []
        for _ in range(7):
            began = time.perf_counter()
            subprocess.run(command, input=b"{}", capture_output=True)
            times.append(time.perf_counter() - began)
        return min(times)

    bare = quickest([sys.executable, "-c", "pass"])
    assert quickest([*hook_command(), str(paths.runner("r1")), "PreToolUse"]) < max(3 * bare, 0.045) * 2
