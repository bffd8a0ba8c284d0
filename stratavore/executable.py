"""How this very program is started again by others: as a daemon, as the hook of an agent.

Rule: a checkout, an installed package and a frozen binary differ here, and nowhere else.
"""

import sys
from pathlib import Path

_ROOM = Path(__file__).resolve().parent
_LAUNCHER = _ROOM.parent / "stratavore.py"


def daemon_command(config_file: Path | None = None) -> list[str]:
    """The argv of a daemon of this installation."""
    config = [] if config_file is None else ["--config", str(config_file.absolute())]
    return [*_program(), *config, "daemon", "run"]


def hook_command() -> tuple[str, ...]:
    """The beginning of the argv of an agent's hook; its own arguments (see hook.py) follow.

    As a script, without `site` and the user's variables: a tenth of the time that `stratavore hook` would take.
    """
    if is_frozen():
        return (sys.executable, "hook")
    return (sys.executable, "-I", "-S", str(_ROOM / "hook.py"))


def status_line_command() -> tuple[str, ...]:
    """The beginning of the argv of an agent's status line; its own arguments (see status_line.py) follow."""
    if is_frozen():
        return (sys.executable, "hook", "status-line")
    return (sys.executable, "-I", "-S", str(_ROOM / "status_line.py"))


def is_frozen() -> bool:
    """Whether a bundler made one file of all."""
    return bool(getattr(sys, "frozen", False))


def _program() -> list[str]:
    if is_frozen():
        return [sys.executable]
    # A checkout that is not installed has its launcher beside it.
    return [sys.executable, *([str(_LAUNCHER)] if _LAUNCHER.is_file() else ["-m", "stratavore"])]
