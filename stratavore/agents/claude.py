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
from pathlib import Path
from typing import Any

from stratavore.agents.agent import (
    Agent,
    Hooks,
    Launch,
    Live,
    Process,
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
from stratavore.model import Activity

SETTINGS_FILE = "claude-settings.json"

# Agent teams would else open a tmux server of their own, which outlives the runner.
_SETTINGS = {"teammateMode": "in-process"}

HOOKS = (
    *("SessionStart", "UserPromptSubmit", "PreToolUse", "PostToolUse", "PostToolUseFailure", "PermissionRequest"),
    *("Notification", "Stop", "StopFailure", "SubagentStop", "PreCompact", "SessionEnd"),
)
_HOOK_SECONDS = 10
"""A hook takes a twentieth of a second; what takes so long is a machine that stands still."""

_OWN_SESSION = ("--session-id", "--resume", "-r", "--continue", "-c", "--from-pr", "--no-session-persistence")
_PERMISSIONS = ("permission prompt", "sandbox request", "worker request")


class Claude(Agent):
    """Chooses its session ids, resumes by them, tells its state in a file, and ends at TERM with 143."""

    name = "claude"
    program = "claude"
    remedy = "npm install -g @anthropic-ai/claude-code"
    tells_activity = True
    takes_verdicts = True
    model_options = ("--model",)
    model_aliases = frozenset(
        "default best opus opus[1m] sonnet sonnet[1m] haiku fable fable[1m] opusplan opusplan[1m]".split()
    )
    home_variable = "CLAUDE_CONFIG_DIR"
    home_default = "~/.claude"
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
    # After an interrupted turn the old prompt stands in the input box again: Ctrl-U takes it away.
    typing = Typing(clear=b"\x15", pause_seconds=0.4)

    def new_session_id(self) -> str | None:
        return str(uuid.uuid4())

    def launch(self, start: Start) -> Launch:
        has_own_session = names_one_of(start.extra, _OWN_SESSION)
        session_id = None if has_own_session else start.session_id
        resumed = session_id is not None and self.can_resume(start)
        prompt = first_prompt(start, resumed=resumed)
        argv = (
            *command(self, start),
            *option("--resume" if resumed else "--session-id", session_id or ""),
            *("-n", start.name),
            *("--settings", str(start.runner_dir / SETTINGS_FILE)),
            *option("--model", start.profile.model),
            *option("--permission-mode", start.profile.permission_mode),
            *(() if start.tty else self._headless(start.extra)),
            *start.extra,
            # Some options take any number of values: without `--` they would take the prompt too.
            *(() if prompt is None else ("--", prompt)),
        )
        files = {SETTINGS_FILE: json.dumps(_settings(start.hooks))}
        return Launch(argv=argv, env=account_env(self, start), files=files, session_id=session_id)

    def can_resume(self, start: Start) -> bool:
        """Its transcript exists, which it does from the first prompt on; before, the same id is begun anew."""
        if not start.session_id:
            return False
        projects = account_dir(self, start) / "projects"
        return any(projects.glob(f"*/{start.session_id}.jsonl"))

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
        )

    def stop_steps(self, argv: Sequence[str], *, tty: bool, grace_seconds: float) -> tuple[Step, ...]:
        return (Step(signal=signal.SIGTERM, wait_seconds=grace_seconds),)

    def succeeded(self, exit_code: int, *, tty: bool, output_tail: str) -> bool:
        """Headless, its last `result` has the last word: an interrupted run exits with 0 and `is_error`."""
        return exit_code == 0 and (tty or not _is_error(output_tail))

    def _headless(self, extra: Sequence[str]) -> tuple[str, ...]:
        if names_one_of(extra, ("--output-format",)):
            return ("-p",)
        return ("-p", "--output-format", "stream-json", "--verbose")


def _settings(hooks: Hooks | None) -> dict[str, Any]:
    """What we want of it. The user's own hooks run besides ours: they are merged, event by event."""
    if hooks is None:
        return _SETTINGS
    return {**_SETTINGS, "hooks": {event: [{"matcher": "*", "hooks": [_hook(hooks, event)]}] for event in HOOKS}}


def _hook(hooks: Hooks, event: str) -> dict[str, Any]:
    """Only a permission request is held: beside it stands Claude's own dialog, and the first answer counts."""
    held = hooks.hold_seconds if event == "PermissionRequest" else 0
    options = (f"hold={held:g}",) if held else ()
    return {"type": "command", "command": hooks.line(event, *options), "timeout": int(held) + _HOOK_SECONDS}


def _states(directory: Path, processes: Sequence[Process]) -> Iterator[Mapping[str, Any]]:
    """The state files of these processes. A killed process leaves its file behind, so its start time is compared."""
    for pid, start_time in processes:
        with suppress(OSError, ValueError):
            state = read_json((directory / f"{pid}.json").read_bytes())
            if isinstance(state, dict) and state.get("procStart") == str(start_time):
                yield state


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
