"""Which conversation a launch goes on with: the one that was named, or the newest that can be resumed.

Rule 1: what cannot be resumed is refused here, and told why; an agent is never left to choose, nor to begin anew.
Rule 2: whoever goes on with a conversation does so where it was: in its directory, with its account, and with what the
runner that was in it last might do unasked.
"""

import asyncio
from collections.abc import Callable, Mapping, Sequence
from datetime import datetime
from typing import NamedTuple, Self

from stratavore.agents import (
    AGENTS,
    RECORDS,
    Agent,
    NamedProfile,
    Profile,
    Start,
    account_home,
    home_setting,
    kept_permissions,
    resolve,
)
from stratavore.agents import Launch as Plan
from stratavore.context import Context
from stratavore.errors import Conflict, Invalid, NotFound
from stratavore.model import GoesOnWith, Project
from stratavore.protocol import Launch
from stratavore.resumable import Standing, examine, was_begun
from stratavore.store import session_views, sessions, supervision
from stratavore.store.database import Tx
from stratavore.store.runs import Intent
from stratavore.store.session_views import SessionRow
from stratavore.store.sessions import Conversation

_NEWEST = 100
"""How many of a project's conversations are looked at for the newest that can be resumed."""


class Source(NamedTuple):
    """What a launch goes on with: the conversation, as it is or as a copy."""

    row: SessionRow
    standing: Standing
    is_fork: bool
    agent_name: str
    kept_argv: list[str]
    env: dict[str, str]
    """What makes its account directory the agent's."""

    def told(self) -> GoesOnWith:
        """The same, for people."""
        row = self.row
        return GoesOnWith(
            id=row.id,
            agent=row.agent,
            title=row.title,
            last_message_at=row.last_message_at or row.started_at,
            is_fork=self.is_fork,
        )


class Conversations:
    """Those that new runners will be in, as far as that is known before they run."""

    def __init__(self, first: Conversation | None, fork_of: str | None, new_id: Callable[[], str | None]) -> None:
        self.fork_of = fork_of
        self._known = first
        self._next = first
        self._new_id = new_id

    @classmethod
    def of(cls, start: Start, plan: Plan, agent: Agent, source: Source | None) -> Self:
        """Of what is launched by this plan, and of its like."""
        fork_of = source.row.id if source is not None and source.is_fork else None
        if plan.session_id is None or agent.name not in RECORDS:
            return cls(None, fork_of, lambda: None)
        home = str(account_home(agent.name, start.env, start.profile))
        return cls(Conversation(agent.name, home, plan.session_id), fork_of, agent.new_session_id)

    def next(self) -> Conversation | None:
        """That of the next of them; None if its agent tells it later."""
        found, self._next = self._next, None
        if found is not None or self._known is None:
            return found
        session_id = self._new_id()
        return None if session_id is None else self._known._replace(id=session_id)

    def enter(
        self,
        tx: Tx,
        intents: Sequence[Intent],
        conversations: Sequence[Conversation | None],
        *,
        project_id: int,
        cwd: str,
        now: datetime,
    ) -> None:
        """Each of these runs is in its conversation. Raises Conflict: another run is."""
        for intent, found in zip(intents, conversations, strict=False):
            if found is not None:
                key, runner_id = intent.key, intent.runner_id
                number = sessions.enter(
                    tx, *found, run_key=key, runner_id=runner_id, project_id=project_id, cwd=cwd, now=now
                )
                if self.fork_of is not None:
                    sessions.set_parent(tx, number, self.fork_of)


async def choose(context: Context, request: Launch, project: Project, environment: Mapping[str, str]) -> Source | None:
    """What the launch goes on with; None: it begins a conversation of its own.

    Raises:
        NotFound, Ambiguous: no such session, or several; none that can be resumed.
        Conflict: it cannot be resumed, or not forked.
        Invalid: it is another project's or another agent's.
    """
    reference = request.fork if request.resume is None else request.resume
    path = environment.get("PATH")
    if reference is None:
        return await _newest(context, request, project, environment) if request.continue_newest else None
    row = session_views.resolve(context.rows, reference)
    if row.project not in (None, project.name):
        raise Invalid(f"session {row.id} is of project {row.project}", remedy=f"`stratavore resume {row.id}`")
    standing = (await asyncio.to_thread(examine, [row], context.config, path))[row.number]
    is_fork = request.resume is None
    if (why := standing.broken if is_fork else standing.why_not) is not None:
        verb = "forked" if is_fork else "resumed"
        is_in_use = standing.busy is not None and not is_fork
        remedy = "stop it there, or `stratavore launch --fork`" if is_in_use else "`stratavore sessions --resumable`"
        raise Conflict(f"session {row.id} cannot be {verb}: {why}", remedy=remedy)
    if is_fork and not AGENTS[row.agent].can_fork:
        raise Invalid(f"{row.agent} cannot fork a session", remedy="resume it, or begin a new one")
    return _source(context, request, row, standing, is_fork, environment)


async def _newest(context: Context, request: Launch, project: Project, environment: Mapping[str, str]) -> Source:
    name = request.agent or project.agent or context.config.runners.default_agent
    kind = resolve(name, context.config.agents)[0].name if name else None
    found = session_views.list_rows(context.rows, project=project.name, agent=kind, limit=_NEWEST)
    path = environment.get("PATH")
    standings = await asyncio.to_thread(examine, found, context.config, path)
    for row in found:
        if standings[row.number].why_not is None:
            return _source(context, request, row, standings[row.number], False, environment)
    begun = [row for row in found if was_begun(row, standings[row.number])]
    why = f"; of the newest: {standings[begun[0].number].why_not}" if begun else ""
    raise NotFound(
        f"{project.name} has no session{f' of {kind}' if kind else ''} that can be resumed{why}",
        remedy=f"`stratavore launch {project.name}` begins one",
    )


def _source(
    context: Context,
    request: Launch,
    row: SessionRow,
    standing: Standing,
    is_fork: bool,
    environment: Mapping[str, str],
) -> Source:
    name, agent, profile = _profile(context, request, row, environment)
    env = {} if str(account_home(row.agent, environment, profile)) == row.home else home_setting(agent, row.home)
    if env and profile.home:
        raise Invalid(f"session {row.id} is of another account than agent {name}: {row.home}")
    return Source(row, standing, is_fork, name, _kept(context, request, row, agent), env)


def _profile(
    context: Context, request: Launch, row: SessionRow, environment: Mapping[str, str]
) -> tuple[str, Agent, Profile]:
    """The profile that was asked for, else that of its last runner, else one of its account, else the plain agent."""
    profiles = context.config.agents
    if request.agent is not None:
        agent, profile = resolve(request.agent, profiles)
        if agent.name != row.agent:
            raise Invalid(f"session {row.id} is {row.agent}'s, not {agent.name}'s", remedy="leave --agent out")
        return request.agent, agent, profile
    own = [row.profile] if row.profile else []
    for name in (*own, row.agent, *profiles):
        if _kind(name, profiles) == row.agent:
            agent, profile = resolve(name, profiles)
            if name in own or str(account_home(row.agent, environment, profile)) == row.home:
                return name, agent, profile
    return row.agent, *resolve(row.agent, profiles)


def _kind(name: str, profiles: Mapping[str, NamedProfile]) -> str:
    profile = profiles.get(name)
    return (profile and profile.agent) or name


def _kept(context: Context, request: Launch, row: SessionRow, agent: Agent) -> list[str]:
    """What its last runner might do unasked, unless the launch says something of that itself."""
    if row.last_runner is None or kept_permissions(agent, request.argv):
        return []
    try:
        return kept_permissions(agent, supervision.get_recipe(context.rows, row.last_runner).extra_argv)
    except NotFound:
        return []
