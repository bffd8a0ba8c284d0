"""Gemini CLI.

It takes a session id that we choose, once; a used one must be resumed. Its interface was seen with 0.61.

It gets no hooks of ours: the file that GEMINI_CLI_SYSTEM_DEFAULTS_PATH names would be merged with the user's settings,
but it is skipped, with a warning on the screen, unless it and all directories above it belong to root.
"""

import signal
import uuid
from collections.abc import Sequence

from stratavore.agents.agent import (
    Agent,
    Launch,
    Start,
    Step,
    Typing,
    account_dir,
    account_env,
    command,
    first_prompt,
    names_one_of,
    option,
)
from stratavore.model import Activity

_OWN_SESSION = ("--session-id", "--resume", "-r", "--session-file")


class Gemini(Agent):
    """Runs as one process instead of two, because its outer one is deaf to signals; ends at TERM with 0."""

    name = "gemini"
    program = "gemini"
    remedy = "npm install -g @google/gemini-cli"
    home_variable = "GEMINI_CLI_HOME"
    home_default = "~"
    home_folder = ".gemini"
    parent_markers = ("GEMINI_CLI", "GEMINI_CLI_TRUST_WORKSPACE")
    # Its records tell neither that it asks for a permission nor that it is done.
    asks_on_screen = True
    dialogs = (
        ("Allow execution of", Activity.WAITING_PERMISSION),
        ("Apply this change?", Activity.WAITING_PERMISSION),
        ("Do you want to proceed?", Activity.WAITING_PERMISSION),
        ("Do you trust the files in this folder?", Activity.WAITING_INPUT),
        ("How would you like to authenticate", Activity.WAITING_INPUT),
        ("esc to cancel", Activity.WORKING),
        ("Type your message", Activity.IDLE),
    )
    # Until it has drawn a paste, Enter is a line end to it; on a busy machine its first drawing takes a second.
    typing = Typing(pause_seconds=1.0)

    def new_session_id(self) -> str | None:
        return str(uuid.uuid4())

    def launch(self, start: Start) -> Launch:
        has_own_session = names_one_of(start.extra, _OWN_SESSION)
        session_id = None if has_own_session else start.session_id
        resumed = session_id is not None and self.can_resume(start)
        prompt = first_prompt(start, resumed=resumed)
        flag = "--prompt-interactive" if start.tty else "--prompt"
        argv = (
            *command(self, start),
            *option("--resume" if resumed else "--session-id", session_id or ""),
            *option("--model", start.profile.model),
            *option("--approval-mode", start.profile.permission_mode),
            *(() if start.tty else self._headless(start.extra)),
            *start.extra,
            *(() if prompt is None else (f"{flag}={prompt}",)),
        )
        env = {"GEMINI_CLI_NO_RELAUNCH": "true"} | account_env(self, start)
        return Launch(argv=argv, env=env, session_id=session_id)

    def can_resume(self, start: Start) -> bool:
        """Its file exists: the name ends with the id's first eight letters, and the folder is the project's."""
        if not start.session_id:
            return False
        folder = account_dir(self, start) / self.home_folder / "tmp"
        return any(folder.glob(f"*/chats/session-*-{start.session_id[:8]}.jsonl"))

    def stop_steps(self, argv: Sequence[str], *, tty: bool, grace_seconds: float) -> tuple[Step, ...]:
        return (Step(signal=signal.SIGTERM, to_group=True, wait_seconds=grace_seconds),)

    def _headless(self, extra: Sequence[str]) -> tuple[str, ...]:
        has_own_format = names_one_of(extra, ("--output-format", "-o"))
        return ("--skip-trust", *(() if has_own_format else ("--output-format", "stream-json")))
