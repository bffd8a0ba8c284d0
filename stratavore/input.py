"""The verbs that type into a runner: `send` and `interrupt`.

Rule 1: a text is pasted and submitted by a key of its own, in one frame that nobody can type between.
Rule 2: whether the program took it is what the agent itself says; if it says nothing, that is unknown. That it was not
taken is said only of what a budget is known to refuse.
Rule 3: nothing is typed into a dialog by accident: a text is refused while the agent waits for a decision, be that of a
permission or of what stands before its prompt. Keys are meant. A program of no known dialogs takes every text.
"""

import asyncio
import logging
from collections.abc import Sequence

from stratavore import process
from stratavore.activity import WAITING, Source
from stratavore.agents import Agent, Live, Start, resolve
from stratavore.context import Asker, Context
from stratavore.ending import read_tail
from stratavore.errors import Conflict, Degraded, Invalid, StorageFailed
from stratavore.glimpses import on_screen, screen_lines
from stratavore.lifecycle import State
from stratavore.model import Activity, Sent
from stratavore.protocol import Input, Nothing
from stratavore.shim.client import Refused
from stratavore.shims import Part, ShimGone
from stratavore.spawning import start_of
from stratavore.store import events, runners, supervision
from stratavore.store.supervision import Supervised
from stratavore.terminal import paste
from stratavore.terminal.modes import Modes, modes_of

log = logging.getLogger(__name__)

_CTRL_C = b"\x03"
"""What a terminal makes a signal of, which may end the program."""
_MODES_TAIL_BYTES = 1 << 20
_TAKEN_SECONDS = 5.0
_RETRY_ENTER_SECONDS = 2.0
_LOOK_SECONDS = 0.02


async def send_input(context: Context, asker: Asker, request: Input, runner: str) -> Sent:
    """Paste and submit a text, or press keys.

    A text that a budget will have refused is typed only at a prompt, where the agent tells why.

    Raises:
        Conflict: the runner does not run, or has no terminal, or waits for a decision and was sent a text.
    """
    row = _typable(context, runner)
    agent, start = _agent_of(context, row)
    before = _live(agent, row, start)
    held = _held_back(context, row, agent) if request.text is not None and request.submit else None
    if held is not None and (before is None or before.activity in WAITING):
        return held
    if request.text is not None:
        _refuse_at_a_dialog(row, agent, before)
        if before is None:
            await _refuse_at_a_shown_dialog(context, row, agent)
    parts = _parts(request, agent, _modes(context, row))
    if not parts or (request.text is not None and not request.text.strip() and not request.keys):
        raise Invalid("there is nothing to send", remedy="give a text, or `--key enter`")
    await _type(context, asker, row, parts)
    if request.text is None or not request.submit or before is None:
        return Sent(taken=None, detail="sent; this program does not tell whether it took it")
    return held or await _taken(context, agent, row, start, before)


def _held_back(context: Context, row: Supervised, agent: Agent) -> Sent | None:
    """What is answered where a budget keeps the agent from taking a prompt; None if none does."""
    reason = runners.get_runner(context.rows, row.id).blocked if agent.takes_verdicts else None
    return None if reason is None else Sent(taken=False, detail=f"{row.name} is held back: {reason}")


def _refuse_at_a_dialog(row: Supervised, agent: Agent, live: Live | None) -> None:
    """An Enter behind a text would answer it: a request for permission, or whether a folder is to be trusted."""
    if live is not None and live.activity is Activity.WAITING_PERMISSION:
        remedy = f"`stratavore approve {row.name}` or `deny`, or `stratavore attach {row.name}`"
        raise Conflict(f"{row.name} waits for a decision ({live.said})", remedy=remedy)
    if live is None and agent.tells_activity:
        raise Conflict(
            f"{row.name} has not come to its prompt: it is still starting, or asks something (to trust the folder, to"
            " sign in)",
            remedy=f"`stratavore attach {row.name}` and answer, or send it again in a moment",
        )


async def _refuse_at_a_shown_dialog(context: Context, row: Supervised, agent: Agent) -> None:
    """Of those that tell of no dialog in a file the screen is looked at anew: what is believed may be a second old."""
    belief = context.activity.of(row.id)
    if belief.activity is Activity.WAITING_PERMISSION and belief.source is not Source.SCREEN:
        raise _asks(row, belief.waiting_for or "a permission")
    if agent.dialogs:
        recipe, log_file = supervision.get_recipe(context.rows, row.id), context.paths.run_log(row.shim, row.key)
        size = recipe.terminal_rows, recipe.terminal_columns
        shown = on_screen(agent, await asyncio.to_thread(screen_lines, log_file, *size))
        if shown is not None and shown.activity in WAITING:
            raise _asks(row, shown.said)


def _asks(row: Supervised, what: str) -> Conflict:
    remedy = f"`stratavore attach {row.name}` and answer, or press keys: `stratavore send {row.name} --key KEY`"
    return Conflict(f"{row.name} asks something, and your text would answer it: {what}", remedy=remedy)


async def interrupt_runner(context: Context, asker: Asker, request: Nothing, runner: str) -> Sent:
    """Press the key with which a person interrupts this agent; never a signal."""
    row = _typable(context, runner)
    agent, _ = _agent_of(context, row)
    await _type(context, asker, row, [Part(agent.typing.interrupt)])
    return Sent(taken=None, detail="interrupted")


def _typable(context: Context, reference: str) -> Supervised:
    row = supervision.get_supervised(context.rows, runners.resolve(context.rows, reference))
    if row.state not in (State.RUNNING, State.STOPPING):
        raise Conflict(f"{row.name} is {row.state}", remedy=_how_to_go_on(row))
    if not row.tty:
        raise Conflict(f"{row.name} has no terminal to type into", remedy="launch it without --no-tty")
    return row


def _how_to_go_on(row: Supervised) -> str:
    match row.state:
        case State.PAUSED:
            return f"`stratavore unpause {row.name}` lets it go on"
        case State.STARTING:
            return f"`stratavore wait {row.name} --until running`, and send it again"
        case _:
            return f"`stratavore restart {row.name}` starts it again, `stratavore explain {row.name}` says why"


def _agent_of(context: Context, row: Supervised) -> tuple[Agent, Start]:
    agent, _ = resolve(row.agent, context.config.agents)
    return agent, start_of(context, supervision.get_recipe(context.rows, row.id))


def _live(agent: Agent, row: Supervised, start: Start) -> Live | None:
    return None if row.pid is None else agent.live(process.tree(row.pid), start)


def _modes(context: Context, row: Supervised) -> Modes:
    return modes_of(read_tail(context.paths.run_log(row.shim, row.key), _MODES_TAIL_BYTES))


def _parts(request: Input, agent: Agent, modes: Modes) -> list[Part]:
    typing = agent.typing
    submit = "enter" if request.submit and request.text is not None else ""
    found = paste.parts(request.text, request.keys, modes=modes, submit=submit, pause_seconds=typing.pause_seconds)
    parts = [Part(b"", part.seconds) if isinstance(part, paste.Pause) else Part(part) for part in found]
    return [Part(typing.clear), *parts] if request.text is not None and typing.clear else parts


async def _type(context: Context, asker: Asker, row: Supervised, parts: Sequence[Part]) -> None:
    try:
        await context.shims.send(row.key, parts)
    except (Refused, ShimGone) as refusal:
        raise Conflict(f"{row.name} took no input: {refusal}", remedy=f"`stratavore explain {row.name}`") from None
    now, size = context.clock.now(), sum(len(part.data) for part in parts)
    told = {"name": row.name, "project": row.project, "bytes": size}
    told |= {"interrupts": True} if any(_CTRL_C in part.data for part in parts) else {}
    try:
        await context.write(lambda tx: events.append(tx, "runner.input_sent", row.id, told, actor=str(asker), now=now))
    except (Degraded, StorageFailed) as refusal:  # It is typed already; to say otherwise would be a lie.
        log.warning("input was sent and could not be recorded", extra={"run": row.key, "why": str(refusal)})


async def _taken(context: Context, agent: Agent, row: Supervised, start: Start, before: Live) -> Sent:
    """Watch the agent's own word until it goes to work; Enter is pressed once more, the text never."""
    began = context.clock.boottime()
    pressed_again = False
    while (elapsed := context.clock.boottime() - began) < _TAKEN_SECONDS:
        now = _live(agent, row, start)
        if now is not None and now.activity is Activity.WORKING:
            if before.activity is Activity.WORKING:
                return Sent(taken=None, detail="sent while it was working; it takes it when it is done")
            return Sent(taken=True, detail=f"{agent.name} went to work")
        is_as_before = now is not None and now.activity is before.activity
        if not pressed_again and is_as_before and elapsed > _RETRY_ENTER_SECONDS:
            pressed_again = True
            try:
                await context.shims.send(row.key, [Part(agent.typing.enter)])
            except (Refused, ShimGone) as refusal:
                return Sent(taken=None, detail=f"sent; then {refusal}")
        await asyncio.sleep(_LOOK_SECONDS)
    # Of its own commands, such as /clear, no agent says that it went to work.
    detail = f"sent; {agent.name} did not go to work within {_TAKEN_SECONDS:.0f} s: whether it was taken is unknown"
    return Sent(taken=None, detail=detail)
