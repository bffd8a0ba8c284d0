"""What an agent's own files say of a run: in which conversation it is.

Rule 1: nothing is concluded from silence: what the files do not say is None.
Rule 2: a conversation that is known to be another runner's is never taken for this one's.
"""

from collections.abc import Collection, Sequence
from datetime import datetime

from stratavore import spool
from stratavore.agents import Agent, Traces, account_home, resolve
from stratavore.context import Context
from stratavore.errors import StratavoreError
from stratavore.spawning import start_of
from stratavore.store import activity, supervision
from stratavore.store.sessions import Conversation
from stratavore.writers import Neighbours

_NOTHING_BEFORE_SECONDS = 1.0
"""An agent's files may be dated a little before the moment at which we noted its start."""


def look(
    context: Context,
    runner_id: str,
    agent_name: str,
    started_at: datetime | None,
    members: Sequence[tuple[int, int]],
    taken: Collection[str],
    output_tail: str = "",
    neighbours: Neighbours | None = None,
) -> Conversation | str | None:
    """The conversation, or why it is not known; None: its agent keeps none, or cannot be asked.

    The runner's living processes are `members`, none once it has ended; `taken` are others' conversations.

    Reads files: call it beside the loop when there are many.
    """
    try:
        agent, profile = resolve(agent_name, context.config.agents)
        if agent.name == "shell" or started_at is None:
            return None
        start = start_of(context, supervision.get_recipe(context.rows, runner_id))
    except StratavoreError:
        return None
    traces = Traces(
        since=started_at.timestamp() - _NOTHING_BEFORE_SECONDS,
        processes=members,
        output_tail=output_tail,
        taken=frozenset(taken),
        rivals=0 if agent.tells_session else _rivals(agent.name, start.cwd, members, neighbours or Neighbours()),
    )
    found = _hooked(context, runner_id, agent, started_at) if not members else None
    found = found or agent.find_session(start, traces)
    if found is None:
        return agent.why_unknown(start, traces)
    return Conversation(agent.name, str(account_home(agent.name, start.env, profile)), found)


def _hooked(context: Context, runner_id: str, agent: Agent, since: datetime) -> str | None:
    """The conversation that the hooks of a run named last, of what they left that nobody has read yet."""
    offset, entered = activity.get_offset(context.rows, runner_id) or 0, None
    while True:
        piece = spool.read(context.paths.runner(runner_id), offset)
        for heard in piece.heard:
            if heard.at >= since:
                entered = (
                    agent.hooked(heard.event, heard.said, heard.at, is_blocked=heard.is_blocked).entered or entered
                )
        if not piece.is_more:
            return entered
        offset = piece.offset


def _rivals(kind: str, directory: str, members: Sequence[tuple[int, int]], neighbours: Neighbours) -> int:
    return neighbours.at_work(kind, directory, but=[pid for pid, _ in members])
