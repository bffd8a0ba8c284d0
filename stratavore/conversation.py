"""What an agent's own files say of a run: in which conversation it is.

Rule 1: nothing is concluded from silence: what the files do not say is None.
Rule 2: a conversation that is known to be another runner's is never taken for this one's.
"""

from collections.abc import Collection, Sequence
from datetime import datetime
from typing import NamedTuple

from stratavore.agents import Traces, resolve
from stratavore.context import Context
from stratavore.errors import StratavoreError
from stratavore.spawning import start_of
from stratavore.store import supervision

_NOTHING_BEFORE_SECONDS = 1.0
"""An agent's files may be dated a little before the moment at which we noted its start."""


class Said(NamedTuple):
    """What the files say, each None if they do not."""

    session_id: str | None = None


def look(
    context: Context,
    runner_id: str,
    agent_name: str,
    started_at: datetime | None,
    members: Sequence[tuple[int, int]],
    taken: Collection[str],
    output_tail: str = "",
) -> Said:
    """Look at the files of a runner's agent; its living processes are `members`; `taken` are others' conversations.

    Reads files: call it beside the loop when there are many.
    """
    try:
        agent, _ = resolve(agent_name, context.config.agents)
        if agent.name == "shell" or started_at is None:
            return Said()
        start = start_of(context, supervision.get_recipe(context.rows, runner_id))
    except StratavoreError:
        return Said()
    since = started_at.timestamp() - _NOTHING_BEFORE_SECONDS
    traces = Traces(since=since, processes=members, output_tail=output_tail, taken=frozenset(taken))
    return Said(agent.find_session(start, traces))
