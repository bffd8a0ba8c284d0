"""Where everything lives.

Rule 1: all state is below one directory, sockets included: XDG_RUNTIME_DIR is unknown to cron and deleted at logout.
Rule 2: paths are made from ids, never from names.
"""

import os
from pathlib import Path
from typing import NamedTuple


class Paths(NamedTuple):
    """The state directory, and the user's configuration file."""

    state: Path
    user_config: Path

    @property
    def database(self) -> Path:
        return self.state / "state.db"

    @property
    def lock(self) -> Path:
        """Held by the daemon with `flock` for its whole life."""
        return self.state / "state.lock"

    @property
    def start_lock(self) -> Path:
        """Held by whoever is starting a daemon, so that fifty commands start one."""
        return self.state / "start.lock"

    @property
    def socket(self) -> Path:
        return self.state / "control.sock"

    @property
    def stop_mark(self) -> Path:
        """Its presence means that a person stopped the daemon: nothing but a person starts it again."""
        return self.state / "stopped"

    @property
    def log(self) -> Path:
        return self.state / "daemon.log"

    @property
    def current_zygote(self) -> Path:
        return self.state / "zygote.current"

    @property
    def zygotes(self) -> Path:
        return self.state / "zygotes"

    @property
    def shims(self) -> Path:
        return self.state / "shims"

    @property
    def logs(self) -> Path:
        return self.state / "logs"

    @property
    def runners(self) -> Path:
        return self.state / "runners"

    @property
    def quarantine(self) -> Path:
        return self.state / "quarantine"

    def shim(self, shim_id: str) -> Path:
        return self.shims / shim_id

    def run_log(self, shim_id: str, key: str) -> Path:
        """The output of the run `key`, which the shim `shim_id` writes."""
        return self.logs / shim_id / key

    def runner(self, runner_id: str) -> Path:
        return self.runners / runner_id


def locate(environ: os._Environ[str] | dict[str, str] | None = None) -> Paths:
    """The paths of this user: STRATAVORE_HOME if set, else the XDG directories."""
    env = os.environ if environ is None else environ
    if home := env.get("STRATAVORE_HOME"):
        root = Path(home).absolute()
        return Paths(root, root / "config.toml")
    user = Path(env.get("HOME") or os.path.expanduser("~"))
    state = Path(env.get("XDG_STATE_HOME") or user / ".local" / "state")
    config = Path(env.get("XDG_CONFIG_HOME") or user / ".config")
    return Paths(state / "stratavore", config / "stratavore" / "config.toml")


SYSTEM_CONFIG = Path("/etc/stratavore/config.toml")
