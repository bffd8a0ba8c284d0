"""Codex.

It makes its own session ids, so the conversation of a run is found by the rollout file that its process holds open, or
else, after its end, by being the only one that began in the run's directory since the run did.

Its interface was seen with 0.169.
"""

import json
import re
import signal
from collections.abc import Sequence
from contextlib import suppress
from datetime import datetime
from pathlib import Path

from stratavore.agents.agent import (
    Agent,
    Launch,
    Process,
    Start,
    Step,
    Traces,
    Typing,
    account_dir,
    account_env,
    command,
    first_prompt,
    option,
    read_json,
)
from stratavore.model import Activity

_ROLLOUT = re.compile(r"/sessions/.*/rollout-.*-([0-9a-f]{8}(?:-[0-9a-f]{4}){3}-[0-9a-f]{12})\.jsonl$")


class Codex(Agent):
    """Ends at TERM with 143, or with TERM itself when its launcher is Node."""

    name = "codex"
    program = "codex"
    remedy = "npm install -g @openai/codex"
    home_variable = "CODEX_HOME"
    home_default = "~/.codex"
    parent_markers = (
        "CODEX_CI",
        "CODEX_MANAGED_BY_NPM",
        "CODEX_MANAGED_PACKAGE_ROOT",
        "CODEX_SANDBOX",
        "CODEX_SANDBOX_NETWORK_DISABLED",
        "CODEX_SESSION_ID",
        "CODEX_THREAD_ID",
        "CODEX_TOOL_CALL_ID",
        "CODEX_VERSION",
    )
    # Its records tell neither that it asks for a permission nor what stands before its prompt.
    asks_on_screen = True
    dialogs = (
        ("Would you like to run the following command", Activity.WAITING_PERMISSION),
        ("Would you like to make the following edits", Activity.WAITING_PERMISSION),
        ("Would you like to grant these permissions", Activity.WAITING_PERMISSION),
        ("Hooks need review", Activity.WAITING_INPUT),
        ("Choose how you want to use Codex", Activity.WAITING_INPUT),
        ("Do you trust the contents of this directory", Activity.WAITING_INPUT),
    )
    typing = Typing(pause_seconds=0.3)

    def launch(self, start: Start) -> Launch:
        resumed = self.can_resume(start) and not set(start.extra) & {"resume", "fork"}
        prompt = first_prompt(start, resumed=resumed)
        operands = [start.session_id or ""] if resumed else []
        operands += [] if prompt is None else [prompt]
        argv = (
            *command(self, start),
            *(() if start.tty else ("exec",)),
            *(("resume",) if resumed else ()),
            # Else it starts a server that it shares with others, and that outlives the runner.
            *(("--no-daemon",) if start.tty else ("--json", "--skip-git-repo-check")),
            *option("--model", start.profile.model),
            *option("-c", self._approval(start.profile.permission_mode)),
            *start.extra,
            *(("--", *operands) if operands else ()),
        )
        session_id = start.session_id if resumed else None
        return Launch(argv=argv, env=account_env(self, start), session_id=session_id)

    def can_resume(self, start: Start) -> bool:
        if not start.session_id:
            return False
        sessions = account_dir(self, start) / "sessions"
        return any(sessions.glob(f"*/*/*/rollout-*-{start.session_id}.jsonl"))

    def find_session(self, start: Start, traces: Traces) -> str | None:
        held = _held_open(traces.processes)
        if held is not None:
            return held
        if start.session_id:
            return start.session_id
        began = _began_since(account_dir(self, start) / "sessions", start.cwd, traces.since)
        left = began - traces.taken
        return left.pop() if len(left) == 1 else None

    def stop_steps(self, argv: Sequence[str], *, tty: bool, grace_seconds: float) -> tuple[Step, ...]:
        return (Step(signal=signal.SIGTERM, wait_seconds=grace_seconds),)

    def _approval(self, mode: str) -> str:
        """As configuration, which `codex exec` takes too; it has no `--ask-for-approval`."""
        return f"approval_policy={json.dumps(mode)}" if mode else ""


def _held_open(processes: Sequence[Process]) -> str | None:
    """The conversation whose rollout file one of these processes has open."""
    for pid, _ in processes:
        with suppress(OSError):
            for fd in Path(f"/proc/{pid}/fd").iterdir():
                with suppress(OSError):
                    if found := _ROLLOUT.search(str(fd.readlink())):
                        return found[1]
    return None


def _began_since(sessions: Path, cwd: str, since: float) -> set[str]:
    """The conversations of people (not of sub-agents) that began in a directory since a time."""
    began = set()
    for path in sessions.glob("*/*/*/rollout-*.jsonl"):
        with suppress(OSError, ValueError, KeyError, TypeError):
            if path.stat().st_mtime < since:
                continue
            with path.open() as lines:
                meta = read_json(lines.readline())["payload"]
            is_persons = isinstance(meta["source"], str)  # a sub-agent's says whose it is
            if is_persons and meta["cwd"] == cwd and _seconds(meta["timestamp"]) >= since:
                began.add(str(meta["id"]))
    return began


def _seconds(timestamp: str) -> float:
    return datetime.fromisoformat(timestamp).timestamp()
