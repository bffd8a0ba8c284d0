"""The label of a run: what a shim is told of its runner, keeps unread, and tells again.

Rule 1: it is enough to take the runner in again where the database does not know it, and holds no secret.
"""

from collections.abc import Sequence
from datetime import datetime
from typing import Any, NamedTuple

import msgspec

from stratavore.clock import from_unix_ms
from stratavore.model import ShimId
from stratavore.process import Identity
from stratavore.shim.client import ExitRecord
from stratavore.shims import Holding
from stratavore.store import supervision


class Label(msgspec.Struct, frozen=True):
    """What a shim keeps of a runner, so that a database that does not know it can take it in again."""

    id: str
    name: str
    project: str
    project_path: str
    run: int
    shim: str
    columns: dict[str, Any]
    argv: list[str] = []
    """What the run was started with; empty where an older daemon started it."""

    @classmethod
    def read(cls, text: str) -> "Label":
        """What `write` wrote."""
        return msgspec.json.decode(text, type=cls)

    @classmethod
    def find(cls, text: str) -> "Label | None":
        """The same; None if it cannot be read."""
        try:
            return cls.read(text)
        except (msgspec.DecodeError, RecursionError):
            return None

    def write(self) -> str:
        """The label as a shim keeps it."""
        return msgspec.json.encode(self).decode()

    @classmethod
    def of(cls, recipe: supervision.Recipe, shim: ShimId, argv: Sequence[str]) -> "Label":
        kept = (
            "agent restart_policy max_restarts tty terminal_rows terminal_columns extra_argv cwd umask prompt"
            " session_id fork_of stop_grace_seconds max_seconds max_turns on_exceeded allow_unpriced"
        ).split()
        columns = {name: getattr(recipe, name) for name in kept}
        whose = (recipe.id, recipe.name, recipe.project, recipe.project_path)
        return cls(*whose, recipe.run, shim, columns, list(argv))


class Process(NamedTuple):
    """The process of a run."""

    who: Identity
    started_at: datetime
    argv: list[str]
    is_paused: bool = False

    @classmethod
    def of(cls, told: Holding | ExitRecord) -> "Process":
        """As its shim tells of it, with the label."""
        who = Identity(told.boot_id, told.pid, told.start_time)
        assert told.label is not None
        is_paused = isinstance(told, Holding) and told.state == "paused"
        label = Label.find(told.label)
        return cls(who, from_unix_ms(told.started_at), label.argv if label is not None else [], is_paused)
