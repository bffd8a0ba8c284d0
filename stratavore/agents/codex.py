"""Codex.

It makes its own session ids, so the conversation of a run is found by the lock or the rollout file that its process
holds open, or else, after its end, by being the only one that began in the run's directory since the run did.

Its interface was seen with 0.169.
"""

import json
import os
import re
import signal
from collections.abc import Iterator, Mapping, Sequence
from contextlib import suppress
from datetime import datetime
from glob import escape
from pathlib import Path
from typing import Any

from stratavore.agents.agent import (
    Agent,
    Launch,
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
    option,
    read_json,
)
from stratavore.agents.telling_apart import the_one, why_not_one
from stratavore.model import Activity

_ID = "[0-9a-f]{8}(?:-[0-9a-f]{4}){3}-[0-9a-f]{12}"
_OPEN = re.compile(rf"(?:/sessions/.*/rollout-.*-|/thread-writer-locks/)({_ID})\.(?:jsonl|lock)$")
_LONGEST_META = 1 << 20


class Codex(Agent):
    """Ends at TERM with 143, or with TERM itself when its launcher is Node."""

    name = "codex"
    program = "codex"
    remedy = "npm install -g @openai/codex"
    home_variable = "CODEX_HOME"
    home_default = "~/.codex"
    can_fork = True
    permission_options: Mapping[str, int] = {
        "--ask-for-approval": 1,
        "-a": 1,
        "--sandbox": 1,
        "-s": 1,
        "--full-auto": 0,
        "--dangerously-bypass-approvals-and-sandbox": 0,
    }
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
        has_own_session = bool(set(start.extra) & {"resume", "fork"})
        resumed = self.can_resume(start) and not has_own_session
        fork_of = None if resumed or has_own_session else start.fork_of
        prompt = first_prompt(start, resumed=resumed)
        operands = [start.session_id or ""] if resumed else [fork_of] if fork_of else []
        operands += [] if prompt is None else [prompt]
        argv = (
            *command(self, start),
            *(() if start.tty else ("exec",)),
            *(("resume",) if resumed else ("fork",) if fork_of else ()),
            # Else it starts a server that it shares with others, and that outlives the runner.
            *(("--no-daemon",) if start.tty else ("--json", "--skip-git-repo-check")),
            *option("--model", start.profile.model),
            *option("-c", self._approval(start.profile.permission_mode)),
            *start.extra,
            *(("--", *operands) if operands else ()),
        )
        session_id = start.session_id if resumed else None
        return Launch(argv=argv, env=account_env(self, start), session_id=session_id)

    def transcript(self, home: Path, session_id: str) -> Path | None:
        return next((home / "sessions").glob(f"*/*/*/rollout-*-{escape(session_id)}.jsonl"), None)

    def find_session(self, start: Start, traces: Traces) -> str | None:
        if held := _held_open(traces.processes):
            return max(held, key=held.__getitem__)
        if start.session_id:
            return start.session_id
        return the_one(None, self._began(start, traces), traces)

    def why_unknown(self, start: Start, traces: Traces) -> str:
        return why_not_one(self._began(start, traces), traces)

    def writers(self, home: Path) -> Sequence[Writer]:
        """The processes that have a conversation open."""
        prefix = f"{home}/"
        return [
            Writer(found[1], pid)
            for pid in map(int, filter(str.isdecimal, os.listdir("/proc")))
            for path in _open_files(pid)
            if path.startswith(prefix) and (found := _OPEN.search(path))
        ]

    def stop_steps(self, argv: Sequence[str], *, tty: bool, grace_seconds: float) -> tuple[Step, ...]:
        return (Step(signal=signal.SIGTERM, wait_seconds=grace_seconds),)

    def _began(self, start: Start, traces: Traces) -> dict[str, float]:
        return _began_since(account_dir(self, start) / "sessions", start.cwd, traces.since)

    def _approval(self, mode: str) -> str:
        """As configuration, which `codex exec` takes too; it has no `--ask-for-approval`."""
        return f"approval_policy={json.dumps(mode)}" if mode else ""


def _held_open(processes: Sequence[Process]) -> dict[str, float]:
    """The conversations of people that these processes have open, each with the time of its last change.

    After `/new` the old one stays open beside the new one. There is a lock before there is a rollout.
    """
    held: dict[str, float] = {}
    for path in (path for pid, _ in processes for path in _open_files(pid)):
        if found := _OPEN.search(path):
            with suppress(OSError, ValueError, KeyError, TypeError):
                if path.endswith(".lock") or _is_persons(_meta(Path(path))):
                    held[found[1]] = max(os.stat(path).st_mtime, held.get(found[1], 0.0))
    return held


def _open_files(pid: int) -> Iterator[str]:
    """The paths of what the process has open; none if it is not ours to look at."""
    directory = f"/proc/{pid}/fd"
    try:
        descriptors = os.listdir(directory)
    except OSError:
        return
    for descriptor in descriptors:
        with suppress(OSError):
            yield os.readlink(f"{directory}/{descriptor}")


def _began_since(sessions: Path, cwd: str, since: float) -> dict[str, float]:
    """The conversations of people that began in a directory since a time, each with the time of its last change."""
    began = {}
    for path in sessions.glob("*/*/*/rollout-*.jsonl"):
        with suppress(OSError, ValueError, KeyError, TypeError):
            changed = path.stat().st_mtime
            if changed < since:
                continue
            meta = _meta(path)
            if _is_persons(meta) and meta["cwd"] == cwd and _seconds(meta["timestamp"]) >= since:
                began[str(meta["id"])] = changed
    return began


def _meta(rollout: Path) -> Mapping[str, Any]:
    with rollout.open() as lines:
        meta: Mapping[str, Any] = read_json(lines.readline(_LONGEST_META))["payload"]
    return meta


def _is_persons(meta: Mapping[str, Any]) -> bool:
    """Whether it is a person's conversation; a sub-agent's says whose it is."""
    return isinstance(meta["source"], str)


def _seconds(timestamp: str) -> float:
    return datetime.fromisoformat(timestamp).timestamp()
