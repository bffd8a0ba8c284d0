"""What each runner is doing, made of what its sources say: evidence in, belief out.

Rule 1: silence says nothing. A source counts until it says something else, or until its run ends.
Rule 2: what an agent keeps up to date about itself (`state file`) is believed before all; of the others the newest is:
Esc fires no hook, and a record is written when a thing is over.
Rule 3: whoever contradicts what is believed, and is newer, is told about: once, and after some seconds, for files are
written one after the other.
Rule 4: who says that it is idle does not say how its turn ended. A turn that failed (`waiting_input`, of hooks and
records: what waits on a screen they do not know) is believed until it works again, or is in another conversation.
Rule 5: no I/O; times come in.
"""

from collections import OrderedDict
from collections.abc import Callable, Collection, Iterator, Sequence
from datetime import datetime, timedelta
from enum import StrEnum
from pathlib import Path
from typing import NamedTuple

from stratavore.agents.records import Limit, Note
from stratavore.model import Activity
from stratavore.terminal.printable import printable

LONGEST_WORDS = 200
DISPUTE_AFTER = timedelta(seconds=5)
_MOST_UNKNOWN = 1000
"""Conversations that belong to no runner yet, of which the newest word is kept."""
WAITING = frozenset({Activity.WAITING_PERMISSION, Activity.WAITING_INPUT})


class Source(StrEnum):
    """Who says what a runner is doing."""

    STATE_FILE = "state file"
    HOOK = "hook"
    RECORDS = "records"
    SCREEN = "screen"


_TELL_FAILURES = frozenset({Source.HOOK, Source.RECORDS})


class Evidence(NamedTuple):
    """What a source says, in its own words, and since when."""

    activity: Activity
    said: str
    at: datetime


class Belief(NamedTuple):
    """What is believed of a runner; `waiting_for` is None unless it waits."""

    activity: Activity = Activity.UNKNOWN
    since: datetime | None = None
    source: Source | None = None
    waiting_for: str | None = None
    limit_resets_at: datetime | None = None

    @property
    def is_at_rest(self) -> bool:
        """It does nothing, and stands at its prompt: it is idle, or its turn has failed."""
        return self.activity is Activity.IDLE or _is_failure(self.source, self.activity)


class Dispute(NamedTuple):
    """A source that says for seconds another thing than is believed."""

    source: Source
    evidence: Evidence


class Change(NamedTuple):
    """A runner of which now something else is believed than was, and perhaps a new dispute about it."""

    runner_id: str
    run_key: str
    was: Belief
    now: Belief
    dispute: Dispute | None


class _Case:
    """All that is known of one run."""

    def __init__(self, run_key: str, agent: str, since: datetime, belief: Belief) -> None:
        self.run_key, self.agent, self.since = run_key, agent, since
        self.session_id: str | None = None
        self.evidence: dict[Source, Evidence] = {}
        self.belief = belief
        self.limit_resets_at = belief.limit_resets_at
        self.limited_at: datetime | None = None
        self.disputed: tuple[Activity, Source, Activity] | None = None
        self.has_worked = False
        self.worked_at = since
        self.failure: tuple[Source, Evidence] | None = None


class Board:
    """What is believed of every living run, and why. `disputes` counts them since the daemon began."""

    def __init__(self, now: Callable[[], datetime]) -> None:
        self._now = now
        self._cases: dict[str, _Case] = {}
        self._by_session: dict[tuple[str, str], str] = {}
        self._unclaimed: OrderedDict[tuple[str, str], Note] = OrderedDict()
        self._open: set[str] = set()
        self.disputes = 0

    def follow(self, runner_id: str, run_key: str, agent: str, since: datetime, belief: Belief) -> None:
        """Begin with a run, of which this was believed when somebody looked last."""
        self.forget([runner_id])
        case = self._cases[runner_id] = _Case(run_key, agent, since, belief)
        if belief.limit_resets_at is not None:
            case.limited_at = self._now()
        if belief.source is not None and belief.since is not None and _is_failure(belief.source, belief.activity):
            case.failure = belief.source, Evidence(belief.activity, belief.waiting_for or "", belief.since)

    def enters(self, runner_id: str, session_id: str | None) -> None:
        """It is in this conversation now: what its records say is said of the runner."""
        case = self._cases[runner_id]
        if session_id == case.session_id:
            return
        self._by_session.pop((case.agent, case.session_id or ""), None)
        if case.session_id is not None:
            case.failure = None
        case.session_id = session_id
        if session_id is not None:
            self._by_session[case.agent, session_id] = runner_id
            if note := self._unclaimed.pop((case.agent, session_id), None):
                self._note(runner_id, note)

    def forget(self, runner_ids: Collection[str]) -> None:
        """Their runs have ended."""
        for runner_id in runner_ids:
            if case := self._cases.pop(runner_id, None):
                self._by_session.pop((case.agent, case.session_id or ""), None)
                self._open.discard(runner_id)

    def runs(self) -> dict[str, str]:
        """The run of each runner that is followed."""
        return {runner_id: case.run_key for runner_id, case in self._cases.items()}

    def heard(self, agent: str, home: Path, notes: Sequence[Note | Limit]) -> None:
        """What an agent's records say, as the ingest reads them: oldest first."""
        for note in notes:
            runner_id = self._by_session.get((agent, note.session_id))
            if runner_id is not None:
                self._note(runner_id, note)
            elif isinstance(note, Note) and note.activity is not None:
                self._unclaimed[agent, note.session_id] = note
                self._unclaimed.move_to_end((agent, note.session_id))
                if len(self._unclaimed) > _MOST_UNKNOWN:
                    self._unclaimed.popitem(last=False)

    def say(self, runner_id: str, source: Source, activity: Activity, said: str, at: datetime) -> None:
        """A source says so from `at` on; what it said before counts no more.

        What is older than the run is not of it, and what is said to be of the future is of now.
        """
        case, at = self._cases.get(runner_id), min(at, self._now())
        if case is None or at < case.since:
            return
        known = case.evidence.get(source)
        if known is not None and known.at > at:
            return
        evidence = case.evidence[source] = Evidence(activity, printable(said[:LONGEST_WORDS]), at)
        if activity is Activity.WORKING and source is not Source.SCREEN:
            case.has_worked, case.worked_at = True, max(case.worked_at, at)
        elif _is_failure(source, activity):
            case.failure = max(case.failure or (source, evidence), (source, evidence), key=lambda each: each[1].at)
        self._open.add(runner_id)

    def unsay(self, runner_id: str, source: Source) -> None:
        """The source says nothing any more."""
        case = self._cases.get(runner_id)
        if case is not None and case.evidence.pop(source, None) is not None:
            self._open.add(runner_id)

    def limited(self, runner_id: str, limit: Limit) -> None:
        """The provider of its model refused to go on."""
        case = self._cases.get(runner_id)
        if case is None or limit.at < case.since or (case.limited_at is not None and limit.at < case.limited_at):
            return
        case.limited_at, case.limit_resets_at = min(limit.at, self._now()), limit.resets_at or case.limit_resets_at
        self._open.add(runner_id)

    def is_limited_for_unknown(self, runner_id: str) -> bool:
        """Its provider refused to go on, and nobody said until when."""
        case = self._cases.get(runner_id)
        return case is not None and case.limited_at is not None and case.limit_resets_at is None

    def limit_again(self, runner_id: str, resets_at: datetime) -> None:
        """It was not told to go on: that is tried again then, unless it works."""
        if case := self._cases.get(runner_id):
            case.limited_at, case.limit_resets_at = self._now(), resets_at
            self._open.add(runner_id)

    def unlimited(self, runner_id: str) -> None:
        """What the limit was waited for has been done."""
        if case := self._cases.get(runner_id):
            case.limited_at = case.limit_resets_at = None
            self._open.add(runner_id)

    def of(self, runner_id: str) -> Belief:
        """What is believed of a runner, as far as it was judged."""
        case = self._cases.get(runner_id)
        return case.belief if case else Belief()

    def evidence(self, runner_id: str) -> Sequence[tuple[Source, Evidence]]:
        """What each source says of it; the one that is believed first."""
        case = self._cases.get(runner_id)
        if case is None:
            return []
        return sorted(case.evidence.items(), key=lambda each: (each[0] is not case.belief.source, each[0]))

    def has_worked(self, runner_id: str) -> bool:
        """Whether the present run was seen at work, so that it has taken its prompt."""
        case = self._cases.get(runner_id)
        return case is not None and case.has_worked

    def judge(self) -> list[Change]:
        """What has changed since this was called last."""
        now, still_open, changes = self._now(), set(), []
        for runner_id in self._open:
            case = self._cases[runner_id]
            was, case.belief = case.belief, self._believe(case, now)
            dispute, is_coming = self._dispute(case, now)
            if is_coming:
                still_open.add(runner_id)
            if dispute is not None or case.belief != was:
                changes.append(Change(runner_id, case.run_key, was, case.belief, dispute))
        self._open = still_open
        return changes

    def _note(self, runner_id: str, note: Note | Limit) -> None:
        if isinstance(note, Limit):
            self.limited(runner_id, note)
        elif note.activity is not None and note.at is not None:
            self.say(runner_id, Source.RECORDS, note.activity, note.said, note.at)

    def _believe(self, case: _Case, now: datetime) -> Belief:
        found = _failed(case, _best(case.evidence))
        self._lift_limit(case, found)
        if found is None:
            return Belief(limit_resets_at=case.limit_resets_at)
        source, evidence = found
        same = case.belief.activity is evidence.activity and case.belief.since is not None
        return Belief(
            activity=evidence.activity,
            since=case.belief.since if same else min(evidence.at, now),
            source=source,
            waiting_for=_wish(case, evidence) if evidence.activity in WAITING else None,
            limit_resets_at=case.limit_resets_at,
        )

    def _lift_limit(self, case: _Case, found: tuple[Source, Evidence] | None) -> None:
        """Who works again has left it behind."""
        if case.limited_at is None or found is None:
            return
        if found[1].activity is Activity.WORKING and found[1].at > case.limited_at:
            case.limited_at = case.limit_resets_at = None

    def _dispute(self, case: _Case, now: datetime) -> tuple[Dispute | None, bool]:
        """A new dispute about it, and whether one may come of what stands there now."""
        is_coming = False
        for source, evidence in _against(case):
            if now - evidence.at < DISPUTE_AFTER:
                is_coming = True
                continue
            parties = (case.belief.activity, source, evidence.activity)
            if parties == case.disputed:
                return None, is_coming
            case.disputed = parties
            self.disputes += 1
            return Dispute(source, evidence), is_coming
        case.disputed = case.disputed if is_coming else None
        return None, is_coming


def _best(evidence: dict[Source, Evidence]) -> tuple[Source, Evidence] | None:
    """Rule 2."""
    own = evidence.get(Source.STATE_FILE)
    if own is not None and own.activity is not Activity.UNKNOWN:
        return Source.STATE_FILE, own
    others = [each for each in evidence.items() if each[0] is not Source.STATE_FILE]
    return max(others, key=lambda each: each[1].at, default=None)


def _failed(case: _Case, best: tuple[Source, Evidence] | None) -> tuple[Source, Evidence] | None:
    """Rule 4."""
    if case.failure is None or case.failure[1].at < case.worked_at:
        return best
    return case.failure if best is None or best[1].activity is Activity.IDLE else best


def _is_failure(source: Source | None, activity: Activity) -> bool:
    return activity is Activity.WAITING_INPUT and source in _TELL_FAILURES


def _wish(case: _Case, believed: Evidence) -> str:
    """What it waits for: a hook tells more of that than a state does."""
    hook = case.evidence.get(Source.HOOK)
    if hook is not None and hook.activity is believed.activity and hook.said:
        return hook.said
    return believed.said


def _against(case: _Case) -> Iterator[tuple[Source, Evidence]]:
    """Who contradicts what is believed, and is newer."""
    if case.belief.source is not Source.STATE_FILE:
        return  # the newest is believed
    believed = case.evidence[Source.STATE_FILE]
    for source, evidence in case.evidence.items():
        if evidence.at > believed.at and _class(evidence.activity) not in (None, _class(believed.activity)):
            yield source, evidence


def _class(activity: Activity) -> str | None:
    """Kinds of waiting are one: a source may not know for what."""
    return None if activity is Activity.UNKNOWN else "waiting" if activity in WAITING else activity.value
