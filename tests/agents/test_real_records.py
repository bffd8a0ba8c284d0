"""What the real agents leave behind, read and compared with what the stand-ins billed them for."""

import json
import subprocess
import uuid
from collections.abc import Iterator, Sequence
from datetime import UTC, datetime
from pathlib import Path

import pytest
from msgspec.structs import replace

from stratavore.agents import RECORDS, Traces, account_home
from stratavore.agents.records import Call, Note, RecordDatabase
from stratavore.model import Activity
from tests.agents.bench import KINDS, Bench
from tests.agents.telling import Told, tell, turns
from tests.agents.terminal import Terminal
from tests.programs import needs, once_more
from tests.standins.answers import RESETS_AT
from tests.standins.server import Standin

pytestmark = [once_more(), pytest.mark.timeout(400)]

PERMITTED = {
    "claude": ("--dangerously-skip-permissions",),
    "codex": ("--dangerously-bypass-approvals-and-sandbox",),
    "gemini": ("--approval-mode", "yolo"),
    "opencode": ("--auto",),
}
"""Tools run without a question."""

FORKING = [pytest.param(name, marks=needs(name)) for name in ("claude", "codex", "opencode")]
ALL = [*FORKING, pytest.param("gemini", marks=needs("gemini"))]


class Desk(Bench):
    """An agent that works through prompts, one run for each, all in one conversation."""

    def __init__(self, name: str, tmp_path: Path, standin: Standin) -> None:
        super().__init__(name, tmp_path, standin)
        env = {**self.start.env, "IS_SANDBOX": "1"}  # Claude refuses to skip its permissions for root otherwise
        self.start = replace(self.start, env=env)
        self.session_id = self.start.session_id

    @property
    def home(self) -> Path:
        return account_home(self.agent.name, self.start.env, self.start.profile)

    def work(self, *prompts: str) -> None:
        for prompt in prompts:
            done = self.headless(prompt=prompt, session_id=self.session_id, extra=PERMITTED[self.agent.name])
            traces = Traces(since=self.began, output_tail=done.stdout)
            self.session_id = self.agent.find_session(self.start, traces)

    def fork(self, prompt: str) -> None:
        """Go on in a copy of the conversation."""
        assert self.session_id is not None
        match self.agent.name:
            case "claude":
                extra = ("--resume", self.session_id, "--fork-session", "--session-id", str(uuid.uuid4()))
                self.headless(prompt=prompt, session_id=None, extra=extra)
            case "opencode":
                self.headless(prompt=prompt, session_id=None, extra=("--session", self.session_id, "--fork"))
            case _:
                self._fork_codex(prompt, self.session_id)

    def _fork_codex(self, prompt: str, session_id: str) -> None:
        argv = self.plan(prompt=prompt, session_id=None, tty=False).argv
        at = argv.index("exec") + 1
        argv = (*argv[:at], "fork", *argv[at:-1], session_id, prompt)
        subprocess.run(
            argv, env=self.start.env, cwd=self.start.cwd, stdin=subprocess.DEVNULL, check=True, capture_output=True
        )

    def tell(self) -> Told:
        told = tell(self.agent.name, self.home)
        assert told.bad == []
        return told


@pytest.fixture
def desk(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Desk]:
    with KINDS[request.param].serve() as standin:
        yield Desk(request.param, tmp_path, standin)


def desks(names: Sequence[object]) -> pytest.MarkDecorator:
    return pytest.mark.parametrize("desk", names, indirect=True)


only_claude = desks([pytest.param("claude", marks=needs("claude"))])
only_codex = desks([pytest.param("codex", marks=needs("codex"))])
only_gemini = desks([pytest.param("gemini", marks=needs("gemini"))])
only_opencode = desks([pytest.param("opencode", marks=needs("opencode"))])


def all_was_told(desk: Desk, *hidden: str) -> Told:
    """Every answer is one call with its very tokens, but for those to `hidden` prompts, which no file tells of."""
    told = desk.tell()
    assert told.invented(desk.standin.billed) == {}
    assert [bill.said for bill in told.missing(desk.standin.billed)] == list(hidden)
    assert len(told.calls) == len(desk.standin.billed) - len(hidden)
    return told


@desks(ALL)
def test_new_resumed_tool_sub_agents_and_failed_turns_are_calls_as_they_were_billed(desk: Desk) -> None:
    """OpenCode asks once more for the title of a conversation, and keeps no record of that."""
    desk.work("count to 3", "run echo hi there", "delegate count to 4", "fail with 400", "count to 6")
    told = all_was_told(desk, *(["count to 3"] if desk.agent.name == "opencode" else []))
    assert any(bill.said == "count to 4" for bill in desk.standin.billed), "the sub-agent was asked"
    assert {call.session_id for call in told.of(Call)} == {desk.session_id}
    assert desk.session_id is not None
    assert told.title(desk.session_id) in ("count to 3", "word-1 word-2 word-3")
    said = list(turns(desk.agent.name, desk.home, desk.session_id))
    assert [turn.text for turn in said if turn.role == "user"][:2] == ["count to 3", "run echo hi there"]
    assert "word-1 word-2 word-3" in [turn.text for turn in said if turn.role == "assistant"]
    assert [turn.tool for turn in said if "echo hi there" in turn.text and turn.tool]
    assert [turn for turn in said if turn.role == "tool" and "hi there" in turn.text]


@pytest.mark.long
@desks(FORKING)
def test_what_a_fork_copied_is_counted_once(desk: Desk) -> None:
    desk.work("count to 3", "count to 4")
    desk.fork("count to 5")
    told = all_was_told(desk, *(["count to 3"] if desk.agent.name == "opencode" else []))
    began = {note.session_id for note in told.notes}
    assert len(began) == 2
    parents = {note.parent_id for note in told.notes if note.parent_id}
    assert parents == (set() if desk.agent.name == "claude" else {desk.session_id})


def interrupted(desk: Desk, terminal: Terminal) -> None:
    desk.say(terminal, "count to 200 slowly")
    terminal.until_shown("word-5")
    terminal.type(desk.agent.typing.interrupt)
    terminal.until(lambda: is_idle(desk), what="the file tells that the turn is over")
    terminal.until_quiet(0.5)


def is_idle(desk: Desk) -> bool:
    activities = [note.activity for note in tell(desk.agent.name, desk.home).notes if note.activity]
    return bool(activities) and activities[-1] == Activity.IDLE


@pytest.mark.long
@desks(FORKING)
def test_an_interrupted_turn_leaves_the_agent_idle_and_what_was_billed_before_and_after_it(desk: Desk) -> None:
    with desk.at_prompt() as terminal:
        desk.say(terminal, "count to 3")
        terminal.until_shown("word-3")
        terminal.until(lambda: is_idle(desk), what="the first turn is over")
        interrupted(desk, terminal)
        desk.say(terminal, "count to 6")
        terminal.until_shown("word-6")
        terminal.until_quiet(1.0, seconds=10)
        desk.stop(terminal)
    told = desk.tell()
    whole = [bill for bill in desk.standin.billed if bill.is_whole]
    hidden = [bill.said for bill in told.missing(whole)]
    if desk.agent.name == "codex":
        assert all("task title" in said for said in hidden), "in a terminal it asks for titles, and keeps no record"
    else:
        assert len(hidden) <= (desk.agent.name == "opencode"), hidden
    assert {"count to 3", "count to 6"} <= {bill.said for bill in whole}
    assert [used for used in told.invented(whole).values() if used[1] != 1] == []


@only_claude
def test_claude_tells_of_no_compaction(desk: Desk) -> None:
    with desk.at_prompt() as terminal:
        desk.say(terminal, "count to 3")
        terminal.until_shown("word-3")
        terminal.until(lambda: is_idle(desk), what="the turn is over")
        desk.say(terminal, "/compact")
        terminal.until(lambda: len(desk.standin.billed) > 1, what="the conversation is compacted")
        terminal.until_quiet(1.0, seconds=10)
        desk.say(terminal, "count to 6")
        terminal.until_shown("word-6")
        terminal.until(lambda: is_idle(desk), what="the turn is over")
        desk.stop(terminal)
    told = desk.tell()
    hidden = told.missing(desk.standin.billed)
    assert [bill.said for bill in desk.standin.billed if bill not in hidden] == ["count to 3", "count to 6"]
    assert hidden
    assert all("summary of the conversation" in bill.said for bill in hidden)
    assert told.invented(desk.standin.billed) == {}


@pytest.mark.long
@only_claude
def test_claude_is_in_a_new_conversation_after_clear(desk: Desk) -> None:
    with desk.at_prompt() as terminal:
        desk.say(terminal, "count to 3")
        terminal.until_shown("word-3")
        terminal.until(lambda: is_idle(desk), what="the turn is over")
        desk.say(terminal, "/clear")
        terminal.until_quiet(1.0, seconds=10)
        desk.say(terminal, "count to 6")
        terminal.until_shown("word-6")
        terminal.until_quiet(1.0, seconds=10)
        desk.stop(terminal)
    told = all_was_told(desk)
    counted = {id for id in {note.session_id for note in told.notes} if told.messages(id)}
    assert [told.messages(id) for id in counted] == [2, 2]


@only_claude
def test_claude_that_may_not_go_on_says_so(desk: Desk) -> None:
    desk.work("fail with 429")
    assert [limit.session_id for limit in desk.tell().limits] == [desk.session_id]


@only_codex
def test_codex_tells_how_much_of_its_windows_is_used_and_when_it_may_go_on(desk: Desk) -> None:
    desk.work("count to 3", "fail with 429")
    told = desk.tell()
    resets_at = datetime.fromtimestamp(RESETS_AT, UTC)
    assert {(window.name, window.used_percent) for window in told.windows} >= {("5h", 1.0), ("7d", 7.5)}
    assert {window.resets_at for window in told.windows} == {resets_at}
    assert [(limit.session_id, limit.resets_at) for limit in told.limits] == [(desk.session_id, resets_at)]


@only_opencode
def test_opencode_is_polled_for_what_is_new(desk: Desk) -> None:
    """What completes later than it was written is found, and nothing is told twice."""
    records = RECORDS["opencode"]
    assert isinstance(records, RecordDatabase)
    desk.work("count to 3")
    first = records.poll(desk.home, "", now=datetime.now(UTC))
    assert not first.is_more
    desk.work("run echo hi there")
    second = records.poll(desk.home, first.cursor, now=datetime.now(UTC))
    again = records.poll(desk.home, second.cursor, now=datetime.now(UTC))
    keys = [[fact.key for fact in found.facts if isinstance(fact, Call)] for found in (first, second, again)]
    assert [len(some) for some in keys] == [1, 2, 0]
    counted = [
        sum(isinstance(fact, Note) and fact.is_message for fact in found.facts) for found in (first, second, again)
    ]
    assert counted == [2, 3, 0]
    assert json.loads(again.cursor) == json.loads(second.cursor)
