"""A login that ends: its terminal hangs up, and everything in its session is killed, as sshd and the shell do."""

import os
import shlex
import signal
import time
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

import pexpect

from tests.cli.conftest import Cli, clean_environment, end_everything

SECONDS = 30
COUNTING = "while :; do echo tick; sleep 0.05; done"


def test_a_logout_kills_nothing(tmp_path: Path) -> None:
    """The first command of a login starts all of it; `nohup` shows that such an end takes what only looks away."""
    cli = Cli(tmp_path / "home", clean_environment(tmp_path))
    login = pexpect.spawn("/bin/sh", ["-i"], env={**cli.environment, "PS1": "$ "}, timeout=SECONDS, encoding="utf-8")
    leader = login.pid
    assert leader is not None
    try:
        new = shlex.join(cli.command("new", "demo", "--path", str(tmp_path), "--agent", "shell"))
        launch = shlex.join(cli.command("launch", "demo", "--name", "r", "--", "sh", "-c", COUNTING))
        login.sendline(f"nohup sleep 1000 >/dev/null 2>&1 & {new}; echo created''-$?")
        login.expect_exact("created-0")
        login.sendline(f"{launch}; echo launched''-$?")
        login.expect_exact("launched-0")
        runner = cli.json("show", "r")
        ours = _ours(cli)
        assert len(ours) >= 3, "a daemon, a zygote and a shim"
        in_session = _session(leader)
        assert len(in_session) >= 2, "the shell and what it left running"
        _log_out(login, in_session)
        assert not any(map(_is_alive, in_session))
        assert all(map(_is_alive, [*ours, runner["pid"]]))
        assert _session(leader) == []
        after = cli.json("show", "r")
        assert (after["state"], after["pid"], after["started_at"]) == ("running", runner["pid"], runner["started_at"])
        printed = cli("logs", "r").stdout
        _until(lambda: len(cli("logs", "r").stdout) > len(printed), "the runner prints on")
        assert _ours(cli) == ours
    finally:
        login.close(force=True)
        end_everything(cli)


def _log_out(login: "pexpect.spawn[str]", in_session: list[int]) -> None:
    """The terminal hangs up; what the shell and the kernel left alive is killed."""
    login.close(force=False)
    for pid in in_session:
        with suppress(ProcessLookupError):
            os.kill(pid, signal.SIGHUP)
            os.kill(pid, signal.SIGKILL)
    _until(lambda: not any(map(_is_alive, in_session)), "the session is gone")


def _ours(cli: Cli) -> list[int]:
    """Daemon, zygote and shims."""
    holders = [
        int(file.read_text().split()[0]) for kind in ("zygotes", "shims") for file in cli.home.glob(f"{kind}/*/pid")
    ]
    return [cli.json("daemon", "status")["pid"], *sorted(holders)]


def _session(leader: int) -> list[int]:
    """Every living process whose session it is."""
    found = []
    for entry in Path("/proc").iterdir():
        with suppress(OSError, ValueError):
            if os.getsid(int(entry.name)) == leader and _is_alive(int(entry.name)):
                found.append(int(entry.name))
    return found


def _is_alive(pid: int) -> bool:
    """A zombie is dead."""
    with suppress(OSError):
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] not in "ZX"
    return False


def _until(is_so: Callable[[], bool], what: str) -> None:
    deadline = time.monotonic() + SECONDS
    while not is_so():
        assert time.monotonic() < deadline, what
        time.sleep(0.02)
