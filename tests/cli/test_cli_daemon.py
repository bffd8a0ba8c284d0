"""The daemon's life as a person sees it: started by need, one for all, ended when told, back when it was killed."""

import contextlib
import fcntl
import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

from stratavore.paths import Paths
from stratavore.shim.client import is_locked
from tests.cli.conftest import Cli, clean_environment, end_everything
from tests.fake_daemon import Asked, fake_daemon

SECONDS = 30
KEYS = {"pid", "version", "started_at", "runners", "shims", "database", "healthy"}


def test_status_has_the_promised_keys_with_and_without_a_daemon(fresh: Cli) -> None:
    status = fresh.json("daemon", "status")
    assert status.keys() >= KEYS
    assert (status["pid"], status["started_at"], status["healthy"]) == (None, None, False)
    fresh("daemon", "start")
    status = fresh.json("daemon", "status")
    assert status.keys() >= KEYS
    assert status["healthy"] is True
    os.kill(status["pid"], 0)


def test_reading_starts_no_daemon(fresh: Cli) -> None:
    for argv in (
        ["status"],
        ["ps"],
        ["projects"],
        ["events"],
        ["daemon", "status"],
        ["du"],
        ["watch", "--json"],
    ):
        if argv[0] != "watch":
            fresh(*argv)
    assert not fresh.home.exists()


def test_the_first_changing_command_starts_it(fresh: Cli, tmp_path: Path) -> None:
    fresh("new", "demo", "--path", str(tmp_path))
    assert fresh.json("daemon", "status")["healthy"] is True


def test_fifty_first_commands_start_one_daemon(fresh: Cli) -> None:
    """Each of them asks the daemon that it found for its pid: they must all have found the same one."""
    commands = [
        subprocess.Popen(
            fresh.command("daemon", "start", "--json"),
            env=fresh.environment,
            stdout=subprocess.PIPE,
            text=True,
        )
        for _ in range(50)
    ]
    printed = [command.communicate(timeout=120)[0] for command in commands]
    assert [command.returncode for command in commands] == [0] * 50
    assert len(set(printed)) == 1
    started = [event for event in fresh.json("events") if event["type"] == "daemon.started"]
    assert len(started) == 1


def test_stopped_it_leaves_the_runners_alive_and_stays_stopped(fresh: Cli, tmp_path: Path) -> None:
    pid = _launch(fresh, tmp_path)
    done = fresh("daemon", "stop")
    assert "1 runner lives on" in done.stdout
    os.kill(pid, 0)
    fresh("ps")
    assert fresh.paths.stop_mark.exists()
    assert fresh.json("daemon", "status")["pid"] is None


def test_it_finds_its_runners_again(fresh: Cli, tmp_path: Path) -> None:
    pid = _launch(fresh, tmp_path)
    fresh("daemon", "stop")
    fresh("daemon", "start")
    assert not fresh.paths.stop_mark.exists()
    runner = fresh.json("show", "sleeper")
    assert (runner["state"], runner["pid"]) == ("running", pid)


def test_a_restart_touches_no_runner(fresh: Cli, tmp_path: Path) -> None:
    pid = _launch(fresh, tmp_path)
    before = fresh.json("daemon", "status")["pid"]
    assert fresh.json("daemon", "restart")["pid"] != before
    assert fresh.json("show", "sleeper")["pid"] == pid
    assert not fresh.paths.stop_mark.exists()


def test_stop_with_runners_says_what_it_does_and_does_it(fresh: Cli, tmp_path: Path) -> None:
    pid = _launch(fresh, tmp_path)
    done = fresh("daemon", "stop", "--runners", "--yes")
    assert "This stops 1 runner and then the daemon." in done.stderr
    assert not Path(f"/proc/{pid}").exists()
    assert fresh.json("ps") == []


def test_stop_with_runners_stops_them_though_the_daemon_was_killed(fresh: Cli, tmp_path: Path) -> None:
    pid = _launch(fresh, tmp_path)
    os.kill(fresh.json("daemon", "status")["pid"], signal.SIGKILL)
    assert "This stops 1 runner" in fresh("daemon", "stop", "--runners", "--yes").stderr
    assert not Path(f"/proc/{pid}").exists()
    assert fresh.json("show", "sleeper")["state"] == "terminated"


def test_killed_it_comes_back_by_itself_while_runners_live(fresh: Cli, tmp_path: Path) -> None:
    pid = _launch(fresh, tmp_path)
    before = fresh.json("daemon", "status")["pid"]
    os.kill(before, signal.SIGKILL)
    deadline = time.monotonic() + SECONDS
    while (now := fresh.json("daemon", "status")["pid"]) in (None, before):
        assert time.monotonic() < deadline
    assert fresh.json("show", "sleeper")["pid"] == pid
    assert now != before


def test_a_command_inside_a_runner_has_the_zygote_start_it(fresh: Cli, tmp_path: Path) -> None:
    """The daemon must not become a descendant of the runner that needed it."""
    _launch(fresh, tmp_path)
    os.kill(fresh.json("daemon", "status")["pid"], signal.SIGKILL)
    fresh("reconcile", env={"STRATAVORE_RUNNER": "abcdefghij"}, exits=8)  # it may only read
    daemon = fresh.json("daemon", "status")["pid"]
    zygotes = [int(file.read_text()) for file in fresh.home.glob("zygotes/*/pid")]
    assert _parent(daemon) in [*zygotes, 1] or _parent(daemon) not in _all_pids_of(fresh)


def test_inside_a_runner_a_stopped_daemon_stays_stopped(fresh: Cli, tmp_path: Path) -> None:
    _launch(fresh, tmp_path)
    fresh("daemon", "stop")
    done = fresh("reconcile", env={"STRATAVORE_RUNNER": "abcdefghij"}, exits=6)
    assert "a person stopped the daemon" in done.stderr


def test_stopping_what_does_not_run_is_fine(fresh: Cli) -> None:
    assert "was not running" in fresh("daemon", "stop").stdout


def test_stopped_while_the_zygote_starts_it_again_it_stays_down(fresh: Cli, tmp_path: Path) -> None:
    """The daemon that the zygote began to start before the mark lay there ends by itself when it sees the mark."""
    pid = _launch(fresh, tmp_path)
    os.kill(fresh.json("daemon", "status")["pid"], signal.SIGKILL)
    fresh("daemon", "stop")
    late = subprocess.run(fresh.command("daemon", "run", "--unless-stopped"), env=fresh.environment, timeout=60)
    assert late.returncode == 0
    assert fresh.paths.stop_mark.exists()
    assert not is_locked(fresh.paths.lock)
    os.kill(pid, 0)


def test_the_zygote_starts_it_unless_stopped(fresh: Cli, tmp_path: Path) -> None:
    _launch(fresh, tmp_path)
    before = fresh.json("daemon", "status")["pid"]
    os.kill(before, signal.SIGKILL)
    deadline = time.monotonic() + SECONDS
    while (now := fresh.json("daemon", "status")["pid"]) in (None, before):
        assert time.monotonic() < deadline
    assert b"--unless-stopped" in Path(f"/proc/{now}/cmdline").read_bytes().split(b"\0")


def test_a_daemon_that_holds_the_house_but_does_not_answer_yet_is_stopped_when_it_does(fresh: Cli) -> None:
    """The moment between its lock and its socket: the stand-in for it is this test."""
    fresh.home.mkdir(mode=0o700)
    with fresh.paths.lock.open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        command = fresh.command("daemon", "stop")
        stop = subprocess.Popen(command, env=fresh.environment, stdout=subprocess.PIPE, text=True)
        deadline = time.monotonic() + SECONDS
        while not fresh.paths.stop_mark.exists():
            assert time.monotonic() < deadline
            assert stop.poll() is None, "it gave up before the daemon answered"
        with fake_daemon(fresh.home, lambda _: {}) as asked:
            while not [each for each in asked if each.target.endswith("/daemon/stop")]:
                assert time.monotonic() < deadline
                assert stop.poll() is None, "it did not ask the daemon that came up"
    assert "the daemon has ended" in stop.communicate(timeout=60)[0]
    assert fresh.paths.stop_mark.exists()


def test_a_daemon_that_still_starts_can_be_ended(fresh: Cli, tmp_path: Path) -> None:
    """It waits for a zygote and for shims that do not answer."""
    fresh("new", "demo", "--path", str(tmp_path))
    fresh("launch", "demo", "--agent", "shell", "--", "sleep", "1000")
    fresh("daemon", "stop")
    holders = [int(file.read_text()) for kind in ("zygotes", "shims") for file in fresh.home.glob(f"{kind}/*/pid")]
    assert len(holders) == 2
    for pid in holders:
        os.kill(pid, signal.SIGSTOP)
    try:
        daemon = subprocess.Popen(fresh.command("daemon", "run"), env=fresh.environment, stderr=subprocess.DEVNULL)
        deadline = time.monotonic() + SECONDS
        while not has_open(daemon.pid, fresh.home / "state.db-wal"):
            assert time.monotonic() < deadline
            time.sleep(0.01)
        daemon.terminate()
        assert daemon.wait(4) == 0
    finally:
        daemon.kill()
        for pid in holders:
            os.kill(pid, signal.SIGCONT)


def has_open(pid: int, path: Path) -> bool:
    with contextlib.suppress(OSError):
        return str(path) in map(os.readlink, Path(f"/proc/{pid}/fd").iterdir())
    return False


def test_a_daemon_that_cannot_start_says_why(fresh: Cli) -> None:
    """What it wrote to its log before it died is what the person reads, with its own exit code."""
    fresh.home.mkdir(mode=0o700)
    (fresh.home / "state.db").write_bytes(b"this is no database" * 100)
    done = fresh("daemon", "start", exits=76)
    assert done.stderr.startswith("stratavore: the daemon did not start: ")
    assert done.stderr.count("\n") == 1
    for moved in fresh.home.glob("state.db*"):
        moved.unlink()


def test_an_older_daemon_is_restarted_by_a_newer_command(fresh: Cli) -> None:
    """The older one is a stand-in that ends when it is asked to."""
    asked_to_end = []

    def answer(asked: Asked) -> object:
        if asked.target.endswith("/daemon/stop"):
            asked_to_end.append(asked.body)
        return {}

    with fake_daemon(fresh.home, answer, version="0.0.1"):
        done = subprocess.Popen(fresh.command("reconcile"), env=fresh.environment, stderr=subprocess.PIPE, text=True)
        deadline = time.monotonic() + SECONDS
        while not asked_to_end and time.monotonic() < deadline:
            time.sleep(0.01)
    stderr = done.communicate(timeout=60)[1]
    assert asked_to_end == [{"restart": True}]
    assert "restarting the daemon: it is 0.0.1, this is 0.1.0" in stderr


def test_the_daemon_inherits_an_allowlist(tmp_path: Path) -> None:
    cli = Cli(tmp_path / "home", {**clean_environment(tmp_path), "CLAUDECODE": "1", "LD_PRELOAD_NOT": "x"})
    try:
        cli("daemon", "start")
        pid = cli.json("daemon", "status")["pid"]
        names = {entry.split(b"=")[0].decode() for entry in Path(f"/proc/{pid}/environ").read_bytes().split(b"\0")}
        assert {"HOME", "PATH", "STRATAVORE_HOME"} <= names
        assert not {"CLAUDECODE", "LD_PRELOAD_NOT"} & names
        assert Path(f"/proc/{pid}/cwd").readlink() == Path("/")
        assert os.getsid(pid) == pid
    finally:
        end_everything(cli)


def test_a_state_directory_with_a_very_long_path_works(tmp_path: Path) -> None:
    cli = Cli(tmp_path.joinpath(*["deep" * 20] * 3), clean_environment(tmp_path))
    try:
        _launch(cli, tmp_path)
        assert cli.json("show", "sleeper")["state"] == "running"
    finally:
        end_everything(cli)


def test_a_relative_home_is_the_same_for_daemon_and_command(tmp_path: Path) -> None:
    cli = Cli(Path("relative"), clean_environment(tmp_path))
    try:
        cli("daemon", "start", cwd=tmp_path)
        assert Paths(tmp_path / "relative", tmp_path).socket.exists()
    finally:
        end_everything(Cli(tmp_path / "relative", cli.environment))


def _launch(cli: Cli, directory: Path) -> int:
    """A runner called `sleeper`; returns its pid."""
    cli("new", "demo", "--path", str(directory), "--agent", "shell")
    launched = cli.json("launch", "demo", "--name", "sleeper", "--", "sleep", "1000")
    pid = launched["runners"][0]["pid"]
    assert isinstance(pid, int)
    return pid


def _parent(pid: int) -> int:
    return int(Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[1])


def _all_pids_of(cli: Cli) -> set[int]:
    return {runner["pid"] for runner in cli.json("ps") if runner["pid"]}


def test_a_checkout_that_is_not_installed_starts_its_own_daemon(fresh: Cli, tmp_path: Path) -> None:
    root = Path(__file__).resolve().parent.parent.parent
    shutil.copytree(root / "stratavore", tmp_path / "checkout" / "stratavore")
    launcher = shutil.copy(root / "stratavore.py", tmp_path / "checkout")
    subprocess.run([sys.executable, launcher, "daemon", "start"], env=fresh.environment, check=True, timeout=60)
    command = Path(f"/proc/{fresh.json('daemon', 'status')['pid']}/cmdline").read_bytes().split(b"\0")
    assert command[1] == os.fsencode(launcher)
