"""What was launched with `--restart on-limit-reset` goes on when the provider of its model does.

Rule 1: one that has ended is started again at that moment, as any other is (`restart`); here are those that live: their
agents are told to continue, once.
Rule 2: that it is told is committed before it is typed. Whoever dies in between types nothing twice.
Rule 3: what stands at a dialog, or works already, is not typed into: it is looked at again a while later.
"""

import logging
import os
from datetime import datetime, timedelta

from stratavore.agents.agent import CONTINUE
from stratavore.context import Asker, Context
from stratavore.errors import StratavoreError
from stratavore.input import send_input
from stratavore.protocol import Input
from stratavore.store import activity, events
from stratavore.store.activity import Limited
from stratavore.store.database import Tx

log = logging.getLogger(__name__)

_AGAIN_SECONDS = 30.0
ACTOR = "supervisor"


class Continuing:
    """The loop that looks whose limit is over."""

    def __init__(self, context: Context) -> None:
        self._context = context
        self._told: dict[str, datetime] = {}
        """The limit after which each run was told last."""

    async def look(self) -> None:
        """Have all continue that may."""
        now = self._context.clock.now()
        for row in activity.list_limit_over(self._context.rows, now=now):
            await self._go_on(row)

    async def _go_on(self, row: Limited) -> None:
        if self._told.get(row.key) == row.limit_resets_at:
            return  # that it was told is not stored yet
        now = self._context.clock.now()
        told = {"name": row.name, "project": row.project, "agent": row.agent}

        def book(tx: Tx) -> None:
            activity.set_limit(tx, row.id, None)
            events.append(tx, "runner.continued", row.id, told, actor=ACTOR, now=now)

        self._context.activity.unlimited(
            row.id
        )  # first: who stores meanwhile what is believed shall not store the limit
        try:
            await self._context.write(book)
        except BaseException:
            self._context.activity.limit_again(row.id, row.limit_resets_at)
            raise
        self._told[row.key] = row.limit_resets_at
        try:
            await send_input(self._context, _OURSELVES, Input(text=CONTINUE), row.id)
        except StratavoreError as refusal:
            log.warning("it was not told to continue", extra={"run": row.key, "why": refusal.message})
            await self._put_off(row)

    async def _put_off(self, row: Limited) -> None:
        later = self._context.clock.now() + timedelta(seconds=_AGAIN_SECONDS)
        self._context.activity.limit_again(row.id, later)
        await self._context.write(lambda tx: activity.set_limit(tx, row.id, later))


_OURSELVES = Asker(ACTOR, os.getuid(), os.getpid(), None)
