"""Starting the daemon when a command needs it.

Rule 1: only a person's command starts one, and it takes the stop mark away; what runs inside a runner asks the zygote,
or the daemon would be the runner's descendant.
Rule 2: whoever starts holds `start.lock` and looks again before it does, so that fifty commands start one daemon.
Rule 3: a daemon older than this program is restarted; a newer one refuses this program.
Rule 4: the daemon inherits nothing of its caller but an allowlisted environment.
"""

from __future__ import annotations

import fcntl
import os
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

from stratavore import __version__, control, errors
from stratavore.control import as_numbers, refuse_newer
from stratavore.errors import DaemonUnreachable
from stratavore.executable import daemon_command
from stratavore.paths import Paths

if TYPE_CHECKING:
    import subprocess

    from stratavore.config import Config

START_SECONDS = 15.0
UNLESS_STOPPED = "--unless-stopped"
"""With it, `daemon run` respects a stop mark that was left while it was being started: the zygote's way to start it."""
SILENCE_SECONDS = 0.5
"""A start that takes longer is told to whoever watches the terminal."""


def ensure_daemon(paths: Paths, config_file: Path | None = None) -> None:
    """Return once a daemon of this version answers; start or restart one if need be.

    Raises:
        DaemonUnreachable: none answers and none may be started here, or it did not come up.
        Conflict: the daemon is newer than this program.
        StratavoreError: the class that a daemon ended with instead of coming up (a broken configuration, for instance).
    """
    version = control.daemon_version(paths)
    if version is None:
        if not _configured(paths, config_file).daemon.autostart:
            raise DaemonUnreachable("the daemon is not running, and daemon.autostart is false")
        start(paths, config_file)
        return
    refuse_newer(version)
    if as_numbers(version) < as_numbers(__version__):
        _replace(paths, version, config_file)


def start(paths: Paths, config_file: Path | None = None) -> bool:
    """Start a daemon unless one answers, whatever `daemon.autostart` says; True if this call started it.

    Raises what `ensure_daemon` raises.
    """
    from stratavore.shim.client import MARKER

    if MARKER in os.environ:
        _ask_zygote(paths)
        return True
    paths.state.mkdir(mode=0o700, parents=True, exist_ok=True)
    with _start_lock(paths):
        if control.daemon_version(paths) is not None:
            return False
        paths.stop_mark.unlink(missing_ok=True)
        process = _spawn(paths, config_file)
        _wait_until_up(paths, process)
        process.returncode = 0  # it lives in its own session and is nobody's to wait for
    return True


def wait_until_gone(paths: Paths, timeout: float = START_SECONDS) -> None:
    """Return once no daemon holds the state directory. Raises DaemonUnreachable when one still does after `timeout`."""
    from stratavore.shim.client import is_locked

    deadline = time.monotonic() + timeout
    while is_locked(paths.lock):
        if time.monotonic() > deadline:
            raise DaemonUnreachable(f"the daemon did not end within {timeout:.0f} s", remedy=f"look into {paths.log}")
        time.sleep(0.01)


def _configured(paths: Paths, config_file: Path | None) -> Config:
    from stratavore import config  # not cheap, but a process is about to be started

    return config.load(paths, config_file, os.environ).config


def _replace(paths: Paths, version: str, config_file: Path | None) -> None:
    _tell(f"restarting the daemon: it is {version}, this is {__version__}; no runner notices")
    control.ask(paths, "stop_daemon", restart=True)
    wait_until_gone(paths)
    start(paths, config_file)


@contextmanager
def _start_lock(paths: Paths) -> Iterator[None]:
    descriptor = os.open(paths.start_lock, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX)
        yield
    finally:
        os.close(descriptor)


def _spawn(paths: Paths, config_file: Path | None) -> subprocess.Popen[bytes]:
    import subprocess

    log = os.open(paths.log, os.O_WRONLY | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC, 0o600)
    try:
        return subprocess.Popen(
            daemon_command(config_file),
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=log,
            cwd="/",
            env=_environment(paths, _configured(paths, config_file)),
            start_new_session=True,
        )
    finally:
        os.close(log)


def _environment(paths: Paths, config: Config) -> dict[str, str]:
    """What the daemon may offer to runners whose launcher has no environment, and what it must know itself."""
    from stratavore.environment import ALLOWED, OURS

    patterns = (*ALLOWED, *OURS, *config.environment.allow)
    names = frozenset(patterns)
    prefixes = tuple(pattern[:-1] for pattern in patterns if pattern.endswith("*"))
    passed = {key: value for key, value in os.environ.items() if key in names or key.startswith(prefixes)}
    if "STRATAVORE_HOME" in passed:  # it may be relative, and the daemon's directory is /
        passed["STRATAVORE_HOME"] = str(paths.state)
    return passed


def _wait_until_up(paths: Paths, process: subprocess.Popen[bytes]) -> None:
    from stratavore.shim.client import is_locked

    began = time.monotonic()
    pause, told = 0.005, not sys.stderr.isatty()
    while control.daemon_version(paths) is None:
        waited = time.monotonic() - began
        if process.poll() is not None and not is_locked(paths.lock):  # else another was quicker
            raise _death(paths, process.returncode)
        if waited > START_SECONDS:
            raise DaemonUnreachable(
                f"the daemon did not answer within {START_SECONDS:.0f} s of its start",
                remedy=f"look into {paths.log}",
            )
        if waited > SILENCE_SECONDS and not told:
            _tell("starting the daemon…")
            told = True
        time.sleep(pause)
        pause = min(pause * 1.5, 0.05)


def _death(paths: Paths, exit_code: int) -> errors.StratavoreError:
    """Why a daemon ended instead of coming up: its last words, in the class of its exit code."""
    said = paths.log.read_bytes()[-4096:].decode(errors="replace").strip().rpartition("\n")[2]
    message, _, remedy = said.removeprefix("stratavore: ").partition(" → ")
    fitting = [cls for cls in errors.classes()[1:] if cls.exit_code == exit_code]
    cls = fitting[0] if fitting else DaemonUnreachable
    return cls(
        f"the daemon did not start: {message or f'exit code {exit_code}'}",
        remedy=remedy or f"look into {paths.log}",
    )


def _ask_zygote(paths: Paths) -> None:
    """Inside a runner: let the zygote start the daemon, and wait until it answers."""
    from stratavore.shim import client

    try:
        client.start_daemon(paths.state)
    except (OSError, client.Refused) as problem:
        raise DaemonUnreachable(
            f"the daemon is not running, and the zygote did not start it: {problem}",
            remedy="start it outside the runner",
        ) from None
    deadline = time.monotonic() + START_SECONDS
    while control.daemon_version(paths) is None:
        if time.monotonic() > deadline:
            raise DaemonUnreachable("the zygote started no daemon", remedy=f"look into {paths.log}")
        time.sleep(0.02)


def _tell(text: str) -> None:
    sys.stderr.write(f"stratavore: {text}\n")
