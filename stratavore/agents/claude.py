"""Claude Code.

Rule 1: we choose the id of a conversation before it begins, so that it is known whatever happens next.
Rule 2: what we want of its settings goes in a file of our own through `--settings`; there an unknown key is ignored,
where an unknown option would end an older version.

What it writes and understands was seen with 2.1.197 and 2.1.330; `sessions/PID.json` is undocumented.
"""

import json
import signal
import uuid
from collections.abc import Iterator, Mapping, Sequence
from contextlib import suppress
from datetime import datetime
from glob import escape
from pathlib import Path
from typing import Any

from stratavore.agents import claude_hooks, claude_status_line, claude_telemetry
from stratavore.agents.agent import (
    Agent,
    Launch,
    Live,
    Process,
    Start,
    Step,
    Traces,
    Typing,
    Writer,
    account_dir,
    account_env,
    command,
    first_prompt,
    names_one_of,
    option,
    read_json,
    start_ticks,
)
from stratavore.agents.decoding import from_seconds
from stratavore.agents.hooks import Asked, HookTold
from stratavore.agents.telemetry import Telemetry
from stratavore.model import Activity

SETTINGS_FILE = "claude-settings.json"

# Agent teams would else open a tmux server of their own, which outlives the runner.
_SETTINGS = {"teammateMode": "in-process"}

_OWN_SESSION = ("--session-id", "--resume", "-r", "--continue", "-c", "--from-pr", "--no-session-persistence")
_PERMISSIONS = ("permission prompt", "sandbox request", "worker request")


class Claude(Agent):
    """Chooses its session ids, resumes by them, tells its state in a file, and ends at TERM with 143."""

    name = "claude"
    program = "claude"
    remedy = "npm install -g @anthropic-ai/claude-code"
    tells_activity = True
    takes_verdicts = True
    failures = ("Unable to connect to Anthropic services",)
    model_options = ("--model",)
    model_aliases = frozenset(
        "default best opus opus[1m] sonnet sonnet[1m] haiku fable fable[1m] opusplan opusplan[1m]".split()
    )
    tells_session = True
    home_variable = "CLAUDE_CONFIG_DIR"
    home_default = "~/.claude"
    can_fork = True
    permission_options: Mapping[str, int] = {
        "--permission-mode": 1,
        "--dangerously-skip-permissions": 0,
        "--allow-dangerously-skip-permissions": 0,
    }
    parent_markers = (
        "AI_AGENT",
        "CLAUDECODE",
        "CLAUDE_CODE_CHILD_NOTES_DIR",
        "CLAUDE_CODE_CHILD_SESSION",
        "CLAUDE_CODE_ENTRYPOINT",
        "CLAUDE_CODE_EXECPATH",
        "CLAUDE_CODE_LAUNCHED_BY_SESSION_ID",
        "CLAUDE_CODE_MESSAGING_SOCKET",
        "CLAUDE_CODE_MESSAGING_TOKEN",
        "CLAUDE_CODE_SESSION_ATTENDED",
        "CLAUDE_CODE_SESSION_ID",
        "CLAUDE_EFFORT",
        "CLAUDE_ENV_FILE",
        "CLAUDE_PID",
        "CLAUDE_PROJECT_DIR",
    )
    # It writes no state before it has come to its prompt.
    dialogs = (
        ("Do you want to use this API key", Activity.WAITING_INPUT),
        ("Quick safety check", Activity.WAITING_INPUT),
        ("Do you trust the files", Activity.WAITING_INPUT),
        ("Select login method", Activity.WAITING_INPUT),
    )
    # After an interrupted turn the old prompt stands in the input box again: Ctrl-U takes it away.
    typing = Typing(clear=b"\x15", pause_seconds=0.4)

    def new_session_id(self) -> str | None:
        return str(uuid.uuid4())

    def launch(self, start: Start) -> Launch:
        has_own_session = names_one_of(start.extra, _OWN_SESSION)
        session_id = None if has_own_session else start.session_id
        resumed = session_id is not None and self.can_resume(start)
        prompt = first_prompt(start, resumed=resumed, would_tell=True)
        argv = (
            *command(self, start),
            *self._conversation(session_id, None if resumed else start.fork_of, resumed=resumed),
            *("-n", start.name),
            *("--settings", str(start.runner_dir / SETTINGS_FILE)),
            *option("--model", start.profile.model),
            *option("--permission-mode", start.profile.permission_mode),
            *(() if start.tty else self._headless(start.extra)),
            *start.extra,
            # Some options take any number of values: without `--` they would take the prompt too.
            *(() if prompt is None else ("--", prompt)),
        )
        files = {SETTINGS_FILE: json.dumps(self._settings(start))}
        return Launch(argv=argv, env=self._env(start), files=files, session_id=session_id)

    def _settings(self, start: Start) -> dict[str, Any]:
        wanted = _SETTINGS | claude_hooks.settings(start.hooks)
        if start.hooks is None:
            return wanted
        places = str(start.runner_dir), str(account_dir(self, start))
        return wanted | claude_status_line.settings(start.hooks.status_line, *places)

    def telemetry_of_others(self, env: Mapping[str, str], ours: Telemetry) -> str | None:
        return claude_telemetry.of_others(env, ours)

    def _env(self, start: Start) -> dict[str, str]:
        own = account_env(self, start)
        if start.telemetry is None or self.telemetry_of_others({**start.env, **own}, start.telemetry):
            return own
        return {**claude_telemetry.variables(start.telemetry), **own}

    def transcript(self, home: Path, session_id: str) -> Path | None:
        """It exists from the first prompt on; before, the same id is begun anew."""
        return next((home / "projects").glob(f"*/{escape(session_id)}.jsonl"), None)

    def find_session(self, start: Start, traces: Traces) -> str | None:
        """The one that its state file names: `/clear` begins a new one in the same process."""
        live = self.live(traces.processes, start)
        return (live and live.session_id) or start.session_id

    def live(self, processes: Sequence[Process], start: Start) -> Live | None:
        states = _states(account_dir(self, start) / "sessions", processes)
        state = next(states, None)
        if state is None:
            return None
        status, waiting_for = str(state.get("status", "")), str(state.get("waitingFor", ""))
        session_id = state.get("sessionId")
        return Live(
            activity=_activity(status, waiting_for),
            session_id=session_id if isinstance(session_id, str) else None,
            said=f"{status}: {waiting_for}" if waiting_for else status,
            at=_since(state),
        )

    def state_file(self, process: Process, start: Start) -> Path:
        return account_dir(self, start) / "sessions" / f"{process[0]}.json"

    def hooked(self, event: str, said: bytes, at: datetime, *, is_blocked: bool) -> HookTold:
        return claude_hooks.told(event, said, at, is_blocked=is_blocked)

    def writers(self, home: Path) -> Sequence[Writer]:
        """Those of its state files whose process lives."""
        found = []
        for file in (home / "sessions").glob("*.json"):
            pid = int(file.stem) if file.stem.isdecimal() else 0
            for state in _states(file.parent, [(pid, start_ticks(pid))]):
                if isinstance(session_id := state.get("sessionId"), str):
                    found.append(Writer(session_id, pid))
        return found

    def asked(self, said: bytes) -> Asked | None:
        return claude_hooks.asked(said)

    def answer(self, asked: Asked, *, allow: bool, for_session: bool, reason: str | None) -> str:
        return claude_hooks.answer(asked, allow=allow, for_session=for_session, reason=reason)

    def too_wide_for_session(self, tool: str, given: Mapping[str, Any]) -> str | None:
        return claude_hooks.too_wide(tool, given)

    def stop_steps(self, argv: Sequence[str], *, tty: bool, grace_seconds: float) -> tuple[Step, ...]:
        return (Step(signal=signal.SIGTERM, wait_seconds=grace_seconds),)

    def succeeded(self, exit_code: int, *, tty: bool, output_tail: str) -> bool:
        """Headless, its last `result` has the last word: an interrupted run exits with 0 and `is_error`."""
        return exit_code == 0 and (tty or not _is_error(output_tail))

    def _conversation(self, session_id: str | None, fork_of: str | None, *, resumed: bool) -> tuple[str, ...]:
        if session_id is None:
            return ()
        if fork_of is not None:
            return ("--resume", fork_of, "--fork-session", "--session-id", session_id)
        return ("--resume" if resumed else "--session-id", session_id)

    def _headless(self, extra: Sequence[str]) -> tuple[str, ...]:
        if names_one_of(extra, ("--output-format",)):
            return ("-p",)
        return ("-p", "--output-format", "stream-json", "--verbose")


def _states(directory: Path, processes: Sequence[Process]) -> Iterator[Mapping[str, Any]]:
    """The state files of these processes. A killed process leaves its file behind, so its start time is compared."""
    for pid, start_time in processes:
        with suppress(OSError, ValueError):
            state = read_json((directory / f"{pid}.json").read_bytes())
            if isinstance(state, dict) and state.get("procStart") == str(start_time):
                yield state


def _since(state: Mapping[str, Any]) -> datetime | None:
    """When its status began, in milliseconds of Unix time."""
    at = state.get("statusUpdatedAt")
    return from_seconds(at / 1000) if isinstance(at, int | float) else None


def _activity(status: str, waiting_for: str) -> Activity:
    match status:
        case "busy":
            return Activity.WORKING
        case "idle" | "shell":  # shell: the turn is over, a command of it runs on in the background
            return Activity.IDLE
        case "waiting":
            is_permission = waiting_for in _PERMISSIONS
            return Activity.WAITING_PERMISSION if is_permission else Activity.WAITING_INPUT
        case _:
            return Activity.UNKNOWN


def _is_error(output: str) -> bool:
    """Whether the last result in the output says so."""
    for line in reversed(output.splitlines()):
        with suppress(ValueError):
            said = read_json(line)
            if isinstance(said, dict) and said.get("type") == "result":
                return bool(said.get("is_error"))
    return False
