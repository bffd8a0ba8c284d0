"""Conversations and permission requests, as the API tells of them."""

from datetime import datetime
from enum import StrEnum
from typing import Any

from stratavore.model.base import Public
from stratavore.model.spending import UsageTotal


class ModelUsage(UsageTotal, frozen=True):
    """What one model did in a conversation."""

    model: str


class Session(Public, frozen=True):
    """An agent's conversation: its own id, its transcript, what it used."""

    id: str
    agent: str
    project: str | None
    cwd: str | None
    runners: list[str]
    """Names of the runners that were in it, the newest last; empty for one that was started elsewhere."""
    is_foreign: bool
    is_live: bool
    """A process is in it now, ours or not."""
    started_at: datetime | None
    ended_at: datetime | None
    last_message_at: datetime | None
    messages: int | None
    """None, as `tokens` and `cost_usd`: nobody has read it yet."""
    tokens: int | None
    cost_usd: float | None
    """None, too, where all its calls are of models without a price."""
    unpriced_calls: int
    unattributed_usd: float | None
    """What its agent said at exit that it cost, beyond the calls that are known; None if it said nothing."""
    models: list[ModelUsage]
    resumed_from: str | None
    """The conversation that it was forked from."""
    title: str | None
    transcript_path: str | None
    transcript_bytes: int | None
    archived_at: datetime | None
    archive_path: str | None
    archive_sha256: str | None
    """Of what the copy is a compression of."""
    copy_pending: bool
    """A runner has left it, and what is there now is not copied yet."""
    resumable: bool
    why_not: str | None
    """Why it cannot be resumed now; None if it can."""


class TranscriptTurn(Public, frozen=True):
    """One thing that was said: `role` is user, assistant, tool or system."""

    role: str
    at: datetime | None
    text: str
    tool: str | None


class Transcript(Public, frozen=True):
    """A part of a conversation, and where the next one begins; None: this was the last."""

    turns: list[TranscriptTurn]
    next: str | None


class ImportProgress(Public, frozen=True):
    """How far an import is: of `total_bytes` in `total_files`."""

    is_running: bool
    files: int
    total_files: int
    bytes: int
    total_bytes: int
    sessions: int
    """In which something was read that was not read before."""
    new_sessions: int
    """Those of them that were not known."""
    known_sessions: int
    """Those in these files that were, whether there was something new to be read in them or not."""
    calls: int
    bad_lines: int
    failed: str | None


NO_IMPORT = ImportProgress(
    is_running=False,
    files=0,
    total_files=0,
    bytes=0,
    total_bytes=0,
    sessions=0,
    new_sessions=0,
    known_sessions=0,
    calls=0,
    bad_lines=0,
    failed=None,
)
"""Of which nothing is read yet."""


class Decision(StrEnum):
    """How a permission request ended."""

    ALLOW = "allow"
    DENY = "deny"
    EXPIRED = "expired"
    ELSEWHERE = "elsewhere"
    """In the agent's own dialog."""


class Held(Public, frozen=True):
    """What a hook that holds a request is told: what to print, nothing to print, or null: ask again."""

    answer: str | None


class Approval(Public, frozen=True):
    """An agent asks whether it may use a tool."""

    id: str
    runner: str
    project: str
    session_id: str | None
    tool: str
    input: dict[str, Any]
    asked_at: datetime
    expires_at: datetime
    decision: Decision | None
    for_session: bool
    reason: str | None
    decided_at: datetime | None
    decided_by: str | None
