"""Gemini CLI.

It takes a session id that we choose, once; a used one must be resumed. Its interface was seen with 0.61.

It gets no hooks of ours: the file that GEMINI_CLI_SYSTEM_DEFAULTS_PATH names would be merged with the user's settings,
but it is skipped, with a warning on the screen, unless it and all directories above it belong to root.
"""

import signal
import uuid
from collections.abc import Mapping, Sequence
from contextlib import suppress
from datetime import datetime
from glob import escape
from hashlib import sha256
from pathlib import Path

from stratavore.agents.agent import (
    Agent,
    Launch,
    Start,
    Step,
    Traces,
    Typing,
    account_dir,
    account_env,
    command,
    first_prompt,
    names_one_of,
    option,
    read_json,
)
from stratavore.agents.telling_apart import the_one
from stratavore.errors import Invalid
from stratavore.model import Activity

_LONGEST_HEAD = 1 << 20
_OWN_SESSION = ("--session-id", "--resume", "-r", "--session-file")


class Gemini(Agent):
    """Ends at TERM with 0.

    With a terminal it is two processes: after some answers (to trust the folder, to sign in) the inner one ends with
    199, and the outer one starts it anew with the same words. The outer one is deaf to signals: TERM goes to the group.
    Without a terminal there is nobody to answer, and one is enough.
    """

    name = "gemini"
    program = "gemini"
    remedy = "npm install -g @google/gemini-cli"
    home_variable = "GEMINI_CLI_HOME"
    home_default = "~"
    home_folder = ".gemini"
    permission_options: Mapping[str, int] = {"--approval-mode": 1, "--yolo": 0, "-y": 0}
    parent_markers = ("GEMINI_CLI", "GEMINI_CLI_NO_RELAUNCH", "GEMINI_CLI_TRUST_WORKSPACE")
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
        if start.fork_of is not None:
            raise Invalid("gemini cannot fork a conversation", remedy="resume it, or begin a new one")
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
        alone = {} if start.tty else {"GEMINI_CLI_NO_RELAUNCH": "true"}
        return Launch(argv=argv, env=alone | account_env(self, start), session_id=session_id)

    def transcript(self, home: Path, session_id: str) -> Path | None:
        """The name ends with the id's first eight letters, and the folder is the project's."""
        return next((home / "tmp").glob(f"*/chats/session-*-{escape(session_id[:8])}.jsonl"), None)

    def find_session(self, start: Start, traces: Traces) -> str | None:
        """`/clear` begins a new one in the same process."""
        folder = account_dir(self, start) / "tmp"
        return the_one(start.session_id, _began_since(folder, start, traces.since), traces)

    def stop_steps(self, argv: Sequence[str], *, tty: bool, grace_seconds: float) -> tuple[Step, ...]:
        return (Step(signal=signal.SIGTERM, to_group=True, wait_seconds=grace_seconds),)

    def _headless(self, extra: Sequence[str]) -> tuple[str, ...]:
        has_own_format = names_one_of(extra, ("--output-format", "-o"))
        return ("--skip-trust", *(() if has_own_format else ("--output-format", "stream-json")))


def _began_since(folder: Path, start: Start, since: float) -> dict[str, float]:
    """The conversations in the run's directory that began since a time, and the one that it was in, each with the time
    of its last change."""
    began = {}
    project = sha256(start.cwd.encode()).hexdigest()
    for path in folder.glob("*/chats/session-*.jsonl"):
        with suppress(OSError, ValueError, KeyError, TypeError):
            changed = path.stat().st_mtime
            if changed < since:
                continue
            with path.open() as lines:
                head = read_json(lines.readline(_LONGEST_HEAD))
            is_new = head["projectHash"] == project and datetime.fromisoformat(head["startTime"]).timestamp() >= since
            if is_new or head["sessionId"] == start.session_id:
                began[str(head["sessionId"])] = changed
    return began
