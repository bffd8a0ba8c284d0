"""Our hooks in Claude Code 2.1.330: the settings that ask for them, and what each tells (docs/permissions.md).

Rule 1: that a person pressed Esc fires no hook: what they tell last may be long past.
Rule 2: a sub-agent's hooks tell nothing of what the conversation does, but that it waits for a permission.
"""

import hashlib
from collections.abc import Mapping
from datetime import datetime
from typing import Any

import msgspec

from stratavore.agents import decoding
from stratavore.agents.hooks import Hooks, HookTold, Limited
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


class Asked(msgspec.Struct, frozen=True):
    """A request for permission: the tool, what it would do, and the same as `fingerprint` names it."""

    tool: str
    input: dict[str, Any]
    fingerprint: str
    session_id: str | None


def settings(hooks: Hooks | None) -> dict[str, Any]:
    """What asks for them. The user's own hooks run besides ours: they are merged, event by event."""
    if hooks is None:
        return {}
    return {"hooks": {event: [{"matcher": "*", "hooks": [_hook(hooks, event)]}] for event in EVENTS}}


def told(event: str, text: bytes, at: datetime, *, is_blocked: bool) -> HookTold:
    """What one call of a hook tells."""
    said = _read(text)
    finished = fingerprint(said.tool_name, said.tool_input) if event in _FINISHED else None
    common: Mapping[str, Any] = {"session_id": said.session_id, "finished_tool": finished}
    if event == _DIALOG:
        return HookTold(activity=Activity.WAITING_PERMISSION, said=_wish(said), **common)
    if said.agent_id:
        return HookTold(**common)
    if is_blocked:
        return HookTold(activity=Activity.IDLE, said=f"{event}, blocked", **common)
    if event in _WORKING:
        word = f"{event} {said.tool_name}".rstrip()
        return HookTold(activity=Activity.WORKING, said=word, took_prompt=event == "UserPromptSubmit", **common)
    if event in ("Stop", "StopFailure"):
        return HookTold(activity=Activity.IDLE, said=f"{event} {said.error}".rstrip(), limit=_limit(said, at), **common)
    if event == "Notification":
        return HookTold(activity=_NOTIFIED.get(said.notification_type), said=said.message, **common)
    return HookTold(**common)


def asked(text: bytes) -> Asked:
    """What a held PermissionRequest asks. Raises ValueError."""
    try:
        said = msgspec.json.decode(text, type=_Said)
        given = msgspec.json.decode(said.tool_input, type=dict[str, Any])
    except (msgspec.DecodeError, RecursionError) as problem:
        raise ValueError(str(problem)) from None
    return Asked(said.tool_name, given, fingerprint(said.tool_name, said.tool_input), said.session_id)


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
