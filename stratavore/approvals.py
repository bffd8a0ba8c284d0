"""The verbs on permission requests, and the watch over those that are open.

Rule 1: a request is answered through the hook that holds it, never by typing keys; the agent's own dialog stands beside
it, and whoever answers first decides.
Rule 2: what is decided is committed before the hook learns it. A hook that comes back under its id learns the same.
Rule 3: no runner decides on what it asks for itself, whatever the configuration lets it do.
Rule 4: who was answered in its own dialog, or has ended, asks no longer: that is `elsewhere`. Who was not answered in
time asks in its own dialog alone: that is `expired`.
"""

import logging
from datetime import timedelta

from stratavore.activity import WAITING, Source
from stratavore.agents import Agent, Asked, HookTold, resolve
from stratavore.context import Asker, Context
from stratavore.errors import Conflict, Forbidden, Invalid
from stratavore.lifecycle import FINAL
from stratavore.model import Activity, Approval, Decision, Held
from stratavore.protocol import AskApproval, DecideApproval, ListApprovals
from stratavore.store import approvals, supervision
from stratavore.store.approvals import Open, Wish
from stratavore.store.database import Tx
from stratavore.store.supervision import Supervised

log = logging.getLogger(__name__)

_COMES_BACK_SECONDS = 5.0
_LONGEST_LINE = 200
ACTOR = "supervisor"


async def list_approvals(context: Context, asker: Asker, request: ListApprovals) -> list[Approval]:
    """What agents ask for."""
    return approvals.list_approvals(context.rows, all=request.all)


async def ask_approval(context: Context, asker: Asker, request: AskApproval, runner: str) -> Held:
    """An agent's hook asks; answered when it is decided, or with nothing when the time of this question is over.

    Raises:
        Forbidden: who asks is not of that runner.
        Conflict: it runs no longer.
        Invalid: nobody understands the request.
    """
    if asker.runner not in (None, runner):
        raise Forbidden(f"{asker.runner} asks in the name of {runner}")
    row = supervision.get_supervised(context.rows, runner)
    agent, asked = _understood(context, row, bytes(request.said))
    now = context.clock.now()
    wish = Wish(
        id=request.id,
        runner_id=row.id,
        run_key=row.key,
        session_id=asked.session_id,
        tool=asked.tool,
        input=asked.input,
        input_sha256=asked.fingerprint,
        asked_at=now,
        expires_at=now + timedelta(seconds=request.expires_seconds),
    )
    says = asked.says[:_LONGEST_LINE]
    found = await context.write(lambda tx: approvals.insert(tx, wish, says, actor=str(asker)))
    with context.held.holding(request.id):
        found = await _until_decided(context, found, request.wait_seconds)
    if found.decision is None:
        return Held(answer=None)
    if found.decision in (Decision.EXPIRED, Decision.ELSEWHERE):
        return Held(answer="")
    is_allowed = found.decision is Decision.ALLOW
    return Held(answer=agent.answer(asked, allow=is_allowed, for_session=found.for_session, reason=found.reason))


async def decide_approval(context: Context, asker: Asker, request: DecideApproval, runner: str) -> Approval:
    """Answer a request of a runner, which may be named by the request's own id.

    Raises:
        Conflict: it asks for nothing now, or the hook that would learn it has gone.
        Forbidden: the runner itself would decide.
        Invalid: `for_session` would allow more than this.
    """
    request_id = approvals.resolve(context.rows, runner)
    found = approvals.get(context.rows, request_id)
    row = supervision.get_supervised(context.rows, approvals.runner_of(context.rows, request_id))
    if asker.runner is not None and asker.runner in (row.id, "unknown"):
        raise Forbidden(f"{row.name} may not decide on its own request", remedy="ask from outside the runner")
    if request.for_session:
        agent, _ = resolve(row.agent, context.config.agents)
        _refuse_too_wide(agent, found)
    if found.decision is None and not await context.held.comes(request_id, _COMES_BACK_SECONDS):
        raise Conflict(
            f"the hook of {row.name} that would learn it has gone; its own dialog asks still",
            remedy=f"`stratavore attach {row.name}`",
        )
    decision, now = Decision.ALLOW if request.allow else Decision.DENY, context.clock.now()
    return await context.write(
        lambda tx: approvals.decide(
            tx,
            request_id,
            decision,
            actor=str(asker),
            now=now,
            for_session=request.for_session,
            reason=request.reason,
        )
    )


class Requests:
    """Closes the requests that nobody needs to decide any more."""

    def __init__(self, context: Context) -> None:
        self._context = context
        self._finished: set[tuple[str, str]] = set()

    def told(self, runner_id: str, told: HookTold) -> None:
        """A hook tells that a tool has run: nobody asks for it any more."""
        if told.finished_tool is not None:
            self._finished.add((runner_id, told.finished_tool))

    async def look(self) -> None:
        """Close what is over."""
        finished, self._finished = self._finished, set()
        try:
            await self._close(finished)
        except BaseException:
            self._finished |= finished  # nobody tells it again
            raise

    async def _close(self, finished: set[tuple[str, str]]) -> None:
        over = {each.id: why for each in approvals.list_open(self._context.rows) if (why := self._why(each, finished))}
        if not over:
            return
        now = self._context.clock.now()

        def close(tx: Tx) -> None:
            still_open = {each.id for each in approvals.list_open(tx)}
            for request_id in over.keys() & still_open:
                approvals.decide(tx, request_id, over[request_id], actor=ACTOR, now=now)

        await self._context.write(close)

    def _why(self, asked: Open, finished: set[tuple[str, str]]) -> Decision | None:
        if asked.is_over or (asked.runner_id, asked.input_sha256) in finished or self._has_gone_on(asked):
            return Decision.ELSEWHERE
        return Decision.EXPIRED if asked.expires_at <= self._context.clock.now() else None

    def _has_gone_on(self, asked: Open) -> bool:
        """Whether its agent says that since then it did something else than wait; Esc is told by nothing else."""
        said = dict(self._context.activity.evidence(asked.runner_id))
        state = said.get(Source.STATE_FILE) or said.get(Source.HOOK)
        if state is None or state.at <= asked.asked_at:
            return False
        if Source.STATE_FILE in said:
            return state.activity not in (*WAITING, Activity.UNKNOWN)
        return state.activity in (Activity.IDLE, Activity.WAITING_INPUT)


def _understood(context: Context, row: Supervised, said: bytes) -> tuple[Agent, Asked]:
    if row.state in FINAL:
        raise Conflict(f"{row.name} has ended")
    agent, _ = resolve(row.agent, context.config.agents)
    asked = agent.asked(said)
    if asked is None:
        raise Invalid(f"{agent.name} asks for something that is not understood")
    return agent, asked


async def _until_decided(context: Context, found: Approval, seconds: float) -> Approval:
    deadline = context.clock.boottime() + seconds
    while found.decision is None and (left := deadline - context.clock.boottime()) > 0:
        await context.news.wait(left)
        found = approvals.get(context.rows, found.id)
    return found


def _refuse_too_wide(agent: Agent, found: Approval) -> None:
    if (why := agent.too_wide_for_session(found.tool, found.input)) is not None:
        raise Invalid(why, remedy="approve it without --for-session")
