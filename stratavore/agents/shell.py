"""Any command: the user's shell, or what stands after `--`."""

import signal
from collections.abc import Sequence
from pathlib import Path

from stratavore.agents.agent import Agent, Launch, Start, Step, Typing, account_env
from stratavore.errors import Invalid

_SHELLS = frozenset({"sh", "bash", "dash", "zsh", "fish", "ksh", "mksh", "ash", "tcsh", "csh", "nu", "xonsh"})


class Shell(Agent):
    """Keeps no conversation: a restart starts it again."""

    name = "shell"
    program = ""
    remedy = "look whether it is installed, and at the PATH that the runner was given"
    typing = Typing(interrupt=b"\x03")
    is_prompted = False
    is_metered = False

    def launch(self, start: Start) -> Launch:
        if start.prompt is not None:
            raise Invalid("a shell takes no prompt", remedy="say what to run after `--`")
        if start.profile.model or start.profile.permission_mode:
            raise Invalid("a shell has no model or permission mode", remedy="take them out of its profile")
        argv = (*start.profile.argv, *start.extra) or (start.env.get("SHELL") or "/bin/sh",)
        if not start.tty and not start.extra and not start.profile.argv:
            raise Invalid("a shell without a terminal has nothing to do", remedy="say what to run after `--`")
        return Launch(argv=argv, env=account_env(self, start))

    def stop_steps(self, argv: Sequence[str], *, tty: bool, grace_seconds: float) -> tuple[Step, ...]:
        """TERM, but an interactive shell ignores that and ends when its terminal hangs up."""
        is_deaf_to_term = tty and _is_interactive_shell(argv)
        number = signal.SIGHUP if is_deaf_to_term else signal.SIGTERM
        return (Step(signal=number, to_group=True, wait_seconds=grace_seconds),)


def _is_interactive_shell(argv: Sequence[str]) -> bool:
    """A shell without command or script, so far as one can tell; no words at all: it is not known yet."""
    program, *arguments = argv or ("sh",)  # hanging up ends most programs, and every shell
    options = [argument for argument in arguments if not argument.startswith("--")]
    has_command = any(not option.startswith("-") or "c" in option for option in options)
    return Path(program).name.removeprefix("-") in _SHELLS and not has_command
