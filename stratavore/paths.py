"""Where everything lives.

Rule 1: all state is below one directory, sockets included: XDG_RUNTIME_DIR is unknown to cron and deleted at logout.
Rule 2: paths are made from ids, never from names.
"""

import os
from pathlib import Path

HOME_VARIABLE = "STRATAVORE_HOME"
"""The directory that holds everything, configuration included."""


class Paths:
    """The state directory and all that lies in it, and the user's configuration file."""

    def __init__(self, state: Path, user_config: Path) -> None:
        self.state = state
        self.user_config = user_config
        self.database = state / "state.db"
        self.socket = state / "control.sock"
        self.log = state / "daemon.log"
        self.lock = state / "state.lock"
        """Held by the daemon with `flock` for its whole life."""
        self.start_lock = state / "start.lock"
        """Held by whoever is starting a daemon, so that fifty commands start one."""
        self.otlp = state / "otlp.json"
        """The port and the secret of the receiver of what agents export."""
        self.stop_mark = state / "stopped"
        """Its presence means that a person stopped the daemon: nothing but a person starts it again."""
        self.disk_failures = state / "disk-failures"
        self.current_zygote = state / "zygote.current"
        self.zygotes = state / "zygotes"
        self.shims = state / "shims"
        self.logs = state / "logs"
        self.runners = state / "runners"
        self.environments = state / "environments"
        self.transcripts = state / "transcripts"
        """Copies of what agents recorded, compressed."""
        self.quarantine = state / "quarantine"

    def shim(self, shim_id: str) -> Path:
        return self.shims / shim_id

    def run_log(self, shim_id: str, key: str) -> Path:
        """The output of the run `key`, which the shim `shim_id` writes."""
        return self.logs / shim_id / key

    def runner(self, runner_id: str) -> Path:
        """Where an agent finds the files that it was given; missing if it was given none."""
        return self.runners / runner_id

    def environment(self, runner_id: str) -> Path:
        """The file that keeps the environment for the runner's starts."""
        return self.environments / runner_id


def locate(environ: os._Environ[str] | dict[str, str] | None = None) -> Paths:
    """The paths of this user: STRATAVORE_HOME if set, else the XDG directories."""
    env = os.environ if environ is None else environ
    if home := env.get(HOME_VARIABLE):
        root = Path(home).absolute()
        return Paths(root, root / "config.toml")
    user = Path(env.get("HOME") or os.path.expanduser("~"))
    state = Path(env.get("XDG_STATE_HOME") or user / ".local" / "state")
    config = Path(env.get("XDG_CONFIG_HOME") or user / ".config")
    return Paths(state / "stratavore", config / "stratavore" / "config.toml")


SYSTEM_CONFIG = Path("/etc/stratavore/config.toml")
