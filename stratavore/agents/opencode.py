"""OpenCode.

It makes its own session ids. What it prints says them (headless on every line, in a terminal as it ends); else its
database is asked, for the only conversation that began in the run's directory since the run did.

Its interface was seen with 1.18.
"""

import re
import signal
from collections.abc import Sequence
from contextlib import closing

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
)
from stratavore.errors import Invalid

PROMPT_FILE = "opencode-prompt.txt"

# `opencode run` escapes the quotes of a prompt that is an argument, and fails over one that is a number.
_READING = ("/bin/sh", "-c", 'exec "$@" <"$0"')

_SAID = re.compile(r'(?:opencode -s |"sessionID":")(ses_\w+)')
_OWN_SESSION = ("--session", "-s", "--continue", "-c")


class OpenCode(Agent):
    """Ends at TERM with 0, older versions after as much as five seconds."""

    name = "opencode"
    program = "opencode"
    remedy = "npm install -g opencode-ai"
    home_variable = "XDG_DATA_HOME"
    home_default = "~/.local/share"
    home_folder = "opencode"
    parent_markers = ("AGENT", "OPENCODE", "OPENCODE_PID")
    typing = Typing(pause_seconds=0.3)

    def launch(self, start: Start) -> Launch:
        resumed = self.can_resume(start) and not names_one_of(start.extra, _OWN_SESSION)
        prompt = first_prompt(start, resumed=resumed)
        argv = (
            *command(self, start),
            *(() if start.tty else ("run", "--format", "json")),
            *(("--session", start.session_id or "") if resumed else ()),
            *option("--model", start.profile.model),
            *self._permissions(start.profile.permission_mode),
            *start.extra,
            *((f"--prompt={prompt}",) if start.tty and prompt is not None else ()),
        )
        files: dict[str, str] = {}
        if not start.tty:
            files[PROMPT_FILE] = prompt or ""
            argv = (*_READING, str(start.runner_dir / PROMPT_FILE), *argv)
        return Launch(
            argv=argv,
            program=command(self, start)[0],
            env=account_env(self, start),
            files=files,
            session_id=start.session_id if resumed else None,
        )

    def can_resume(self, start: Start) -> bool:
        if not start.session_id:
            return False
        return bool(self._ask(start, "SELECT id FROM session WHERE id = ?", (start.session_id,)))

    def find_session(self, start: Start, traces: Traces) -> str | None:
        if said := _SAID.findall(traces.output_tail):
            return str(said[-1])
        if start.session_id:
            return start.session_id
        began = "SELECT id FROM session WHERE directory = ? AND time_created >= ? AND parent_id IS NULL"
        left = self._ask(start, began, (start.cwd, int(traces.since * 1000))) - traces.taken
        return left.pop() if len(left) == 1 else None

    def stop_steps(self, argv: Sequence[str], *, tty: bool, grace_seconds: float) -> tuple[Step, ...]:
        return (Step(signal=signal.SIGTERM, wait_seconds=grace_seconds),)

    def succeeded(self, exit_code: int, *, tty: bool, output_tail: str) -> bool:
        """Headless, an error that ended it is a line of its output, whatever the exit code."""
        return exit_code == 0 and (tty or '{"type":"error"' not in output_tail)

    def _permissions(self, mode: str) -> tuple[str, ...]:
        if mode not in ("", "auto"):
            remedy = 'take it out of the profile, or say "auto"'
            raise Invalid(f"opencode has no permission mode {mode!r}", remedy=remedy)
        return ("--auto",) if mode else ()

    def _ask(self, start: Start, sql: str, values: tuple[str | int, ...]) -> set[str]:
        """Ids from OpenCode's own database, read-only; none if there is no such database or it looks different."""
        import sqlite3  # only who runs OpenCode pays for it

        path = account_dir(self, start) / self.home_folder / "opencode.db"
        try:
            with closing(sqlite3.connect(f"{path.as_uri()}?mode=ro", uri=True, timeout=1)) as database:
                return {str(row[0]) for row in database.execute(sql, values)}
        except (sqlite3.Error, ValueError):
            return set()
