"""Our hooks in Claude Code 2.1.330: the settings that ask for them, and what each tells (docs/permissions.md).

Rule 1: that a person pressed Esc fires no hook: what they tell last may be long past.
Rule 2: a sub-agent's hooks tell nothing of what the conversation does, but that it waits for a permission.
Rule 3: whatever takes it into another conversation (`/clear`, `/resume`) fires SessionStart, which names that one.
"""

import hashlib
import json
import re
from collections.abc import Mapping
from datetime import datetime
from typing import Any

import msgspec

from stratavore.agents import claude_status_line, decoding
from stratavore.agents.hooks import Asked, Hooks, HookTold, Limited
from stratavore.agents.limits import resets_at
from stratavore.model import Activity

EVENTS = (
    *("SessionStart", "UserPromptSubmit", "PreToolUse", "PostToolUse", "PostToolUseFailure", "PermissionRequest"),
    *("Notification", "Stop", "StopFailure", "SubagentStop", "PreCompact", "SessionEnd"),
)
_HOOK_SECONDS = 10
"""A hook takes a twentieth of a second; what takes so long is a machine that stands still."""
_WORKING = ("UserPromptSubmit", "PreToolUse", "PostToolUse", "PostToolUseFailure", "PreCompact")
_FINISHED = ("PostToolUse", "PostToolUseFailure")
_DIALOG = "PermissionRequest"
_SHELL = "Bash"
_DENIED = "denied with `stratavore deny`"
_LONGEST_NAME = 200
_PLAIN = re.compile(r"[^*()\\\n]{1,500}(?<!:)")


class _Said(msgspec.Struct):
    """What of a hook's input is looked at. Whatever has another shape says nothing."""

    session_id: str | None = None
    agent_id: str | None = None
    tool_name: str = ""
    tool_input: msgspec.Raw = msgspec.Raw(b"{}")
    notification_type: str = ""
    message: str = ""
    error: str = ""
    last_assistant_message: str | None = None


def settings(hooks: Hooks | None) -> dict[str, Any]:
    """What asks for them. The user's own hooks run besides ours: they are merged, event by event."""
    if hooks is None:
        return {}
    return {"hooks": {event: [{"matcher": "*", "hooks": [_hook(hooks, event)]}] for event in EVENTS}}


def told(event: str, text: bytes, at: datetime, *, is_blocked: bool) -> HookTold:
    """What one call of a hook, or of the status line, tells."""
    if event == claude_status_line.EVENT:
        return HookTold(windows=claude_status_line.windows(text, at))
    said = _read(text)
    finished = fingerprint(said.tool_name, said.tool_input) if event in _FINISHED else None
    if event == _DIALOG:
        return HookTold(activity=Activity.WAITING_PERMISSION, said=_wish(said), finished_tool=finished)
    if said.agent_id:
        return HookTold(finished_tool=finished)
    if event == "SessionStart":
        return HookTold(entered=said.session_id, finished_tool=finished)
    if is_blocked:
        return HookTold(activity=Activity.IDLE, said=f"{event}, blocked", finished_tool=finished)
    if event in _WORKING:
        word = f"{event} {said.tool_name}".rstrip()
        return HookTold(activity=Activity.WORKING, said=word, finished_tool=finished)
    if event == "Stop":
        return HookTold(activity=Activity.IDLE, said=event, finished_tool=finished)
    if event == "StopFailure":
        why = decoding.title(said.last_assistant_message) or f"{event} {said.error}".rstrip()
        return HookTold(activity=Activity.WAITING_INPUT, said=why, limit=_limit(said, at), finished_tool=finished)
    if event == "Notification":
        return HookTold(activity=_NOTIFIED.get(said.notification_type), said=said.message, finished_tool=finished)
    return HookTold(finished_tool=finished)


def asked(text: bytes) -> Asked | None:
    """What a held PermissionRequest asks; None if it is not understood."""
    try:
        said = msgspec.json.decode(text, type=_Said)
        given = msgspec.json.decode(said.tool_input, type=dict[str, Any])
    except (msgspec.DecodeError, RecursionError):
        return None
    return Asked(
        tool=said.tool_name[:_LONGEST_NAME],
        input=given,
        says=_wish(said),
        fingerprint=fingerprint(said.tool_name, said.tool_input),
        session_id=said.session_id,
    )


def answer(asked: Asked, *, allow: bool, for_session: bool, reason: str | None) -> str:
    """The decision, as the hook prints it. A denial's reason is shown on the screen and told to the model."""
    decision: dict[str, Any] = {"behavior": "allow"}
    if not allow:
        decision = {"behavior": "deny", "message": reason or _DENIED}
    elif for_session:
        rule = {"toolName": asked.tool}
        if asked.tool == _SHELL:
            rule["ruleContent"] = str(asked.input.get("command"))
        update = {"type": "addRules", "rules": [rule], "behavior": "allow", "destination": "session"}
        decision["updatedPermissions"] = [update]
    return json.dumps({"hookSpecificOutput": {"hookEventName": _DIALOG, "decision": decision}})


def too_wide(tool: str, given: Mapping[str, Any]) -> str | None:
    """Why a rule for such a request would allow more than it; None if it would not.

    A rule names a command by its text, in which `*` is any text. Of every other tool it names the tool alone, which is
    what Claude's own dialog offers as well.
    """
    command = given.get("command")
    if tool != _SHELL:
        return None
    if not isinstance(command, str) or not _PLAIN.fullmatch(command):
        return "no rule can name this very command and no other"
    return None


def fingerprint(tool: str, given: bytes | msgspec.Raw) -> str:
    """The call of a tool, in a word: a call has no id yet while its permission is asked for."""
    return hashlib.sha256(tool.encode(errors="replace") + b"\0" + bytes(given)).hexdigest()


_NOTIFIED = {"permission_prompt": Activity.WAITING_PERMISSION, "idle_prompt": Activity.IDLE}


def _hook(hooks: Hooks, event: str) -> dict[str, Any]:
    """Only a permission request is held: beside it stands Claude's own dialog, and the first answer counts."""
    held = hooks.hold_seconds if event == _DIALOG else 0
    options = (f"hold={held:g}",) if held else ()
    return {"type": "command", "command": hooks.line(event, *options), "timeout": int(held) + _HOOK_SECONDS}


def _read(text: bytes) -> _Said:
    try:
        return msgspec.json.decode(text, type=_Said)
    except (msgspec.DecodeError, RecursionError):
        return _Said()


def _wish(said: _Said) -> str:
    """What it asks for, as one line: the tool, and the command or file, if it has one."""
    try:
        given = msgspec.json.decode(said.tool_input, type=dict[str, Any])
    except (msgspec.DecodeError, RecursionError):
        given = {}
    what = next((given[key] for key in ("command", "file_path", "url") if isinstance(given.get(key), str)), "")
    return f"{said.tool_name}: {what}" if what else said.tool_name


def _limit(said: _Said, at: datetime) -> Limited | None:
    if said.error != "rate_limit":
        return None
    text = said.last_assistant_message or ""
    return Limited(resets_at=resets_at(text, at), said=decoding.title(text) or "rate limit")
