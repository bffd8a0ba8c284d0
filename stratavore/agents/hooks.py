"""Our hooks in an agent: how they call us, and what they tell."""

import shlex
from datetime import datetime
from typing import Any

import msgspec

from stratavore.agents.records import Window
from stratavore.model import Activity


class Hooks(msgspec.Struct, frozen=True, kw_only=True):
    """How the hooks of one runner call us (hook.py): `command`, the event in the agent's own word, `options`.

    A permission request may be held for `hold_seconds`; 0: the agent's own dialog alone decides. `status_line` is the
    beginning of what its status line shall run (status_line.py); empty: the user's own alone.
    """

    command: tuple[str, ...]
    options: tuple[str, ...] = ()
    hold_seconds: float = 0
    status_line: tuple[str, ...] = ()

    def line(self, event: str, *options: str) -> str:
        """What the agent gives to its shell, which makes way for it: a signal for the one then reaches the other."""
        return "exec " + shlex.join((*self.command, event, *self.options, *options))


class Limited(msgspec.Struct, frozen=True, kw_only=True):
    """The provider refuses to go on before `resets_at` (None: it does not say when)."""

    resets_at: datetime | None
    said: str


class Asked(msgspec.Struct, frozen=True, kw_only=True):
    """A request for permission: the tool, what it would do (`says` in a line), and the call as `HookTold` names it."""

    tool: str
    input: dict[str, Any]
    says: str
    fingerprint: str
    session_id: str | None


class HookTold(msgspec.Struct, frozen=True, kw_only=True):
    """What one call of a hook tells; None where it tells nothing.

    `finished_tool` names a call of a tool that needs no permission any more, as `fingerprint` does it.
    """

    activity: Activity | None = None
    said: str = ""
    entered: str | None = None
    """The conversation in which the agent is from now on."""
    limit: Limited | None = None
    finished_tool: str | None = None
    windows: tuple[Window, ...] = ()
    """How much of its account's allowance is used."""
