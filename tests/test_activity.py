"""What is believed of a runner, by what its sources say."""

from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from stratavore.activity import DISPUTE_AFTER, Belief, Board, Change, Source
from stratavore.agents.records import Limit, Note
from stratavore.model import Activity

HOME = Path("/home")
NOON = datetime(2031, 5, 6, 12, tzinfo=UTC)
IDLE, WORKING, UNKNOWN = Activity.IDLE, Activity.WORKING, Activity.UNKNOWN
PERMISSION, INPUT = Activity.WAITING_PERMISSION, Activity.WAITING_INPUT


def at(seconds: float) -> datetime:
    return NOON + timedelta(seconds=seconds)


class Room:
    """A board, and its clock."""

    def __init__(self) -> None:
        self.now = NOON
        self.board = Board(lambda: self.now)
        self.board.follow("r", "r.1", "claude", NOON, Belief())
        self.board.enters("r", "s")

    def say(self, source: Source, activity: Activity, seconds: float, said: str = "") -> list[Change]:
        self.now = max(self.now, at(seconds))
        self.board.say("r", source, activity, said, at(seconds))
        return self.board.judge()

    def believed(self) -> Activity:
        self.board.judge()
        return self.board.of("r").activity


@pytest.fixture
def room() -> Room:
    return Room()


def test_of_whom_nobody_says_anything_nothing_is_known(room: Room) -> None:
    assert room.board.judge() == []
    assert room.board.of("r") == room.board.of("stranger") == Belief()


def test_the_state_file_is_believed_before_hooks_though_they_are_newer(room: Room) -> None:
    """Esc fires no hook: without the file it would be at work for ever."""
    room.say(Source.HOOK, WORKING, 1)
    assert room.believed() is WORKING
    room.say(Source.STATE_FILE, IDLE, 2)
    assert room.believed() is IDLE
    room.say(Source.HOOK, WORKING, 3)
    assert room.believed() is IDLE


def test_a_state_file_that_does_not_tell_leaves_it_to_the_others(room: Room) -> None:
    room.say(Source.STATE_FILE, UNKNOWN, 1)
    room.say(Source.HOOK, WORKING, 2)
    assert room.board.of("r").source is Source.HOOK


def test_of_hooks_records_and_screen_the_newest_is_believed(room: Room) -> None:
    room.say(Source.RECORDS, WORKING, 1)
    room.say(Source.SCREEN, PERMISSION, 2)
    assert room.believed() is PERMISSION
    room.board.unsay("r", Source.SCREEN)
    assert room.believed() is WORKING
    room.say(Source.HOOK, IDLE, 3)
    room.say(Source.RECORDS, WORKING, 2.5)
    assert room.believed() is IDLE


def test_since_is_when_it_began_whoever_says_so(room: Room) -> None:
    room.say(Source.HOOK, WORKING, 1)
    room.say(Source.STATE_FILE, WORKING, 2)
    assert (room.board.of("r").since, room.board.of("r").source) == (at(1), Source.STATE_FILE)
    room.say(Source.STATE_FILE, IDLE, 3)
    assert room.board.of("r").since == at(3)


def test_what_it_waits_for_is_told_by_whoever_knows_most(room: Room) -> None:
    room.say(Source.HOOK, PERMISSION, 1, "Bash: rm -r /\x1b[2J")
    room.say(Source.STATE_FILE, PERMISSION, 2, "waiting: permission prompt")
    assert room.board.of("r").waiting_for == "Bash: rm -r /[2J"
    room.say(Source.STATE_FILE, INPUT, 3, "waiting: input needed" + "x" * 1000)
    assert (room.board.of("r").waiting_for or "").startswith("waiting: input needed")
    assert len(room.board.of("r").waiting_for or "") == 200
    room.say(Source.STATE_FILE, IDLE, 4)
    assert room.board.of("r").waiting_for is None


def test_records_are_heard_by_their_conversation_also_before_it_is_known_whose_it_is(room: Room) -> None:
    def heard(session: str, activity: Activity, seconds: float) -> None:
        room.now = at(seconds)
        note = Note(session_id=session, at=at(seconds), activity=activity, said="task")
        room.board.heard("claude", HOME, [Note(session_id=session, title="t"), note])

    heard("s", WORKING, 1)
    assert room.believed() is WORKING
    heard("later", IDLE, 2)
    assert room.believed() is WORKING
    room.board.enters("r", "later")
    assert room.believed() is IDLE
    heard("s", WORKING, 3)
    assert room.believed() is IDLE


def test_the_conversations_that_nobody_claims_do_not_pile_up(room: Room) -> None:
    for number in range(1100):
        room.board.heard("codex", HOME, [Note(session_id=str(number), at=at(0), activity=IDLE)])
    assert len(room.board._unclaimed) == 1000


def test_what_was_before_the_run_or_is_of_the_future_decides_nothing_later(room: Room) -> None:
    room.say(Source.HOOK, WORKING, -1)
    assert room.believed() is UNKNOWN
    room.now = at(1)
    room.board.say("r", Source.RECORDS, WORKING, "", at(10**8))
    assert room.board.judge()[0].now.since == at(1)
    room.say(Source.HOOK, IDLE, 2)
    assert room.believed() is IDLE


def test_a_newer_contradiction_is_told_once_after_some_seconds(room: Room) -> None:
    room.say(Source.STATE_FILE, WORKING, 1)
    [] = room.say(Source.HOOK, IDLE, 2)
    room.now = at(2) + DISPUTE_AFTER
    [change] = room.board.judge()
    assert change.dispute is not None
    assert (change.dispute.source, change.dispute.evidence.activity) == (Source.HOOK, IDLE)
    assert (change.now.activity, room.board.disputes) == (WORKING, 1)
    assert room.board.judge() == []
    assert room.say(Source.HOOK, IDLE, 20) == []
    room.now = at(40)
    assert room.board.judge() == []
    assert room.board.disputes == 1


def test_who_agrees_again_may_disagree_again(room: Room) -> None:
    room.say(Source.STATE_FILE, WORKING, 1)
    for seconds in (2, 42):
        room.say(Source.HOOK, IDLE, seconds)
        room.now = at(seconds + 10)
        assert [change.dispute is not None for change in room.board.judge()] == [True]
        room.say(Source.STATE_FILE, IDLE, seconds + 11)
        room.say(Source.STATE_FILE, WORKING, seconds + 12)
    assert room.board.disputes == 2


def test_an_older_contradiction_and_kinds_of_waiting_are_no_dispute(room: Room) -> None:
    room.say(Source.HOOK, WORKING, 1)
    room.say(Source.STATE_FILE, INPUT, 2)
    room.say(Source.RECORDS, PERMISSION, 3)
    room.now = at(60)
    assert room.board.judge() == []
    assert room.board.disputes == 0


def test_a_limit_stands_until_it_works_again(room: Room) -> None:
    room.say(Source.STATE_FILE, WORKING, 1)
    room.now = at(2)
    room.board.heard("claude", HOME, [Limit(session_id="s", at=at(2), resets_at=at(3600), said="limit")])
    assert room.board.judge()[0].now.limit_resets_at == at(3600)
    room.say(Source.STATE_FILE, IDLE, 3)
    room.board.limited("r", Limit(session_id="s", at=at(3), resets_at=None, said="limit"))
    assert room.board.of("r").limit_resets_at == at(3600)
    room.say(Source.STATE_FILE, WORKING, 4)
    assert room.board.of("r").limit_resets_at is None


def test_a_limit_that_was_known_before_the_daemon_began_is_lifted_likewise(room: Room) -> None:
    room.now = at(10)
    room.board.follow("r", "r.1", "claude", NOON, Belief(IDLE, NOON, Source.HOOK, None, at(3600)))
    room.say(Source.STATE_FILE, WORKING, 5)
    assert room.board.of("r").limit_resets_at == at(3600)
    room.say(Source.STATE_FILE, WORKING, 11)
    assert room.board.of("r").limit_resets_at is None


def test_what_was_believed_holds_until_somebody_speaks(room: Room) -> None:
    known = Belief(PERMISSION, NOON, Source.HOOK, "Bash")
    room.board.follow("r", "r.1", "claude", NOON, known)
    assert room.board.judge() == []
    assert room.board.of("r") == known
    room.say(Source.HOOK, PERMISSION, 5, "Bash")
    assert room.board.of("r").since == NOON


def test_a_run_that_is_over_is_forgotten_with_all_that_was_said(room: Room) -> None:
    room.say(Source.HOOK, WORKING, 1)
    room.board.forget(["r", "stranger"])
    assert room.board.of("r") == Belief()
    room.board.heard("claude", HOME, [Note(session_id="s", at=at(2), activity=IDLE)])
    assert room.board.judge() == []


def test_a_turn_that_failed_is_believed_though_its_agent_says_that_it_is_idle_until_it_works_again(room: Room) -> None:
    room.say(Source.STATE_FILE, WORKING, 1)
    room.say(Source.RECORDS, INPUT, 2, "API Error: 401")
    assert room.believed() is WORKING  # it may try again
    room.say(Source.STATE_FILE, IDLE, 3)
    room.say(Source.RECORDS, IDLE, 4, "turn_duration")
    room.say(Source.HOOK, IDLE, 63, "idle_prompt")
    failed = room.board.of("r")
    assert (failed.activity, failed.source, failed.waiting_for) == (INPUT, Source.RECORDS, "API Error: 401")
    assert failed.is_at_rest
    room.say(Source.STATE_FILE, WORKING, 70)
    room.say(Source.STATE_FILE, IDLE, 71)
    room.say(Source.HOOK, INPUT, 65, "of the turn before")
    assert room.believed() is IDLE


def test_a_turn_that_failed_is_remembered_with_the_run_and_forgotten_with_its_conversation(room: Room) -> None:
    failed = Belief(INPUT, at(5), Source.HOOK, "no key")
    room.board.follow("r", "r.1", "claude", NOON, failed)
    room.board.enters("r", "s")
    room.say(Source.STATE_FILE, IDLE, 5)
    assert room.board.of("r") == failed
    room.board.enters("r", "another, after /clear")
    room.say(Source.STATE_FILE, IDLE, 6)
    assert room.believed() is IDLE


def test_a_question_on_the_screen_is_no_failure(room: Room) -> None:
    room.say(Source.SCREEN, INPUT, 1, "Do you trust the files in this folder?")
    assert not room.board.of("r").is_at_rest
    room.say(Source.SCREEN, IDLE, 2)
    assert room.believed() is IDLE
