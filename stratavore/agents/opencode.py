"""OpenCode.

It makes its own session ids. What it prints says them (headless on every line, in a terminal as it ends); else its
database is asked, for the only conversation that began in the run's directory since the run did; once it is known, the
one that changed last is followed, unless others are at work there.

Its interface was seen with 1.18.
"""

import re
import signal
from collections.abc import Mapping, Sequence
from contextlib import closing
from pathlib import Path
from typing import Any

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
from stratavore.agents.telling_apart import the_one, why_not_one
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
    can_fork = True
    permission_options: Mapping[str, int] = {"--auto": 0}
    parent_markers = ("AGENT", "OPENCODE", "OPENCODE_PID")
    typing = Typing(pause_seconds=0.3)

    def launch(self, start: Start) -> Launch:
        has_own_session = names_one_of(start.extra, _OWN_SESSION)
        resumed = self.can_resume(start) and not has_own_session
        fork_of = None if resumed or has_own_session else start.fork_of
        prompt = first_prompt(start, resumed=resumed)
        argv = (
            *command(self, start),
            *(() if start.tty else ("run", "--format", "json")),
            *(("--session", start.session_id or "") if resumed else ()),
            *(("--session", fork_of, "--fork") if fork_of else ()),
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

    def transcript(self, home: Path, session_id: str) -> Path | None:
        """The database, which holds all of them."""
        found = _ask(home, "SELECT id FROM session WHERE id = ?", (session_id,))
        return home / "opencode.db" if found else None

    def find_session(self, start: Start, traces: Traces) -> str | None:
        if said := _SAID.findall(traces.output_tail):
            return str(said[-1])
        return the_one(start.session_id, self._began(start, traces), traces)

    def why_unknown(self, start: Start, traces: Traces) -> str:
        return why_not_one(self._began(start, traces), traces)

    def _began(self, start: Start, traces: Traces) -> dict[str, float]:
        """With the one that it was in, which may have begun before."""
        began = (
            "SELECT id, time_updated FROM session"
            " WHERE directory = ? AND time_created >= ? AND parent_id IS NULL OR id = ?"
        )
        values = (start.cwd, int(traces.since * 1000), start.session_id or "")
        return {str(row[0]): float(row[1]) for row in _ask(account_dir(self, start), began, values)}

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


def _ask(home: Path, sql: str, values: tuple[str | int, ...]) -> list[tuple[Any, ...]]:
    """Rows from OpenCode's own database, read-only; none if there is no such database or it looks different."""
    import sqlite3  # only who runs OpenCode pays for it

    path = home / "opencode.db"
    try:
        with closing(sqlite3.connect(f"{path.as_uri()}?mode=ro", uri=True, timeout=1)) as database:
            return list(database.execute(sql, values))
    except (sqlite3.Error, ValueError):
        return []
