"""Claude Code: what its files say, and the traps of its command line."""

import json
import signal
from collections.abc import Iterator
from pathlib import Path

import pytest
from msgspec.structs import replace

from stratavore.agents import AGENTS, Live, Plain, Start
from stratavore.errors import Invalid
from stratavore.model import Activity
from tests.agents.bench import Bench, tree
from tests.agents.terminal import Terminal
from tests.programs import needs
from tests.standins import messages

claude = AGENTS["claude"]
OURS, THEIRS = "7152777b-c145-4252-b509-e1cb76cb2619", "9b1deb4d-3b7d-4bad-9bdd-2b0d7b3dcb6d"


@pytest.fixture
def start(tmp_path: Path) -> Start:
    return Start(name="x", cwd="/", runner_dir=tmp_path, env={"HOME": str(tmp_path)}, session_id=OURS)


@pytest.fixture
def bench(tmp_path: Path) -> Iterator[Bench]:
    with messages.serve() as standin:
        yield Bench("claude", tmp_path, standin)


def live(bench: Bench, terminal: Terminal) -> Live:
    found = claude.live(tree(terminal.pid), bench.start)
    assert found is not None
    return found


def until(bench: Bench, terminal: Terminal, activity: Activity) -> Live:
    terminal.until(lambda: live(bench, terminal).activity == activity, what=activity)
    return live(bench, terminal)


@needs("claude")
def test_its_state_file_tells_when_a_prompt_was_taken_and_when_the_turn_is_over(bench: Bench) -> None:
    with bench.at_prompt() as terminal:
        found = live(bench, terminal)
        assert found.at is not None
        assert found == Live(activity=Activity.IDLE, session_id=bench.start.session_id, said="idle", at=found.at)
        bench.say(terminal, "count to 200 slowly")
        until(bench, terminal, Activity.WORKING)
        terminal.until_shown("word-5")
        terminal.type(claude.typing.interrupt)
        until(bench, terminal, Activity.IDLE)
        terminal.until_quiet(0.5)
        bench.say(terminal, "count to 3")
        terminal.until(lambda: was_said_alone(bench, "count to 3"), what="the new prompt was sent alone")


def was_said_alone(bench: Bench, prompt: str) -> bool:
    """Not behind what was left in the input box."""
    return any(json.dumps(prompt) in json.dumps(request.body) for request in bench.standin.requests)


@needs("claude")
def test_it_is_stopped_in_the_middle_of_an_answer_with_143(bench: Bench) -> None:
    with bench.at_prompt() as terminal:
        bench.say(terminal, "count to 200 slowly")
        terminal.until_shown("word-5")
        processes = tree(terminal.pid)
        assert bench.stop(terminal) == 128 + signal.SIGTERM
        assert claude.live(processes, bench.start) is None


@needs("claude")
def test_it_waits_for_a_permission(bench: Bench) -> None:
    with bench.at_prompt(profile=Plain(permission_mode="manual")) as terminal:
        bench.say(terminal, "run touch made-by-claude")
        assert until(bench, terminal, Activity.WAITING_PERMISSION).said == "waiting: permission prompt"
        terminal.until_shown("1. Yes")
        terminal.until_quiet(1)  # a dialog is deaf at first, lest it be answered by what was typed for another
        terminal.type(b"\r")
        terminal.until_shown("The command said")
        assert (Path(bench.start.cwd) / "made-by-claude").exists()


@needs("claude")
def test_the_conversation_that_a_clear_begins_is_found(bench: Bench) -> None:
    with bench.at_prompt() as terminal:
        bench.say(terminal, "count to 3")
        terminal.until_shown("word-3")
        until(bench, terminal, Activity.IDLE)
        bench.say(terminal, "/clear")
        terminal.until(lambda: bench.find_session(terminal) not in (None, bench.start.session_id))


@needs("claude")
def test_one_that_was_never_prompted_is_started_again_with_the_same_id(bench: Bench) -> None:
    """It has no transcript, so there is nothing to resume, and its id is not in use."""
    for is_restart in (False, True):
        with bench.at_prompt(is_restart=is_restart) as terminal:
            assert live(bench, terminal).session_id == bench.start.session_id
            assert bench.stop(terminal) == 128 + signal.SIGTERM


@needs("claude")
def test_an_option_with_many_values_does_not_take_the_prompt(bench: Bench) -> None:
    done = bench.headless(prompt="count to 3", extra=("--allowedTools", "Bash", "Edit"))
    assert "word-3" in done.stdout


def test_the_users_own_choice_of_a_conversation_wins(start: Start) -> None:
    for extra in (("--continue",), ("--resume", THEIRS), (f"--resume={THEIRS}",)):
        launch = claude.launch(replace(start, extra=extra))
        assert "--session-id" not in launch.argv
        assert launch.session_id is None


def test_it_is_resumed_once_its_transcript_exists(start: Start, tmp_path: Path) -> None:
    assert "--session-id" in claude.launch(start).argv
    transcript = tmp_path / ".claude" / "projects" / "-some-where" / f"{OURS}.jsonl"
    transcript.parent.mkdir(parents=True)
    transcript.touch()
    argv = claude.launch(start).argv
    assert argv[argv.index("--resume") + 1] == OURS
    assert "--session-id" not in argv
    assert not claude.can_resume(replace(start, profile=Plain(home="~/other")))


def test_its_settings_are_a_file_of_ours(start: Start) -> None:
    launch = claude.launch(start)
    named = Path(launch.argv[launch.argv.index("--settings") + 1])
    assert named.parent == start.runner_dir
    assert json.loads(launch.files[named.name]) == {"teammateMode": "in-process"}


@pytest.mark.parametrize(
    ("state", "activity"),
    [
        ({"status": "busy"}, Activity.WORKING),
        ({"status": "idle"}, Activity.IDLE),
        ({"status": "shell"}, Activity.IDLE),
        ({"status": "waiting", "waitingFor": "permission prompt"}, Activity.WAITING_PERMISSION),
        ({"status": "waiting", "waitingFor": "input needed"}, Activity.WAITING_INPUT),
        ({"status": "daydreaming"}, Activity.UNKNOWN),
        ({}, Activity.UNKNOWN),
    ],
)
def test_what_it_says_is_put_into_our_words(
    start: Start, tmp_path: Path, state: dict[str, str], activity: Activity
) -> None:
    write_state(tmp_path, state | {"procStart": "4711"})
    found = claude.live([(7, 1), (42, 4711)], start)
    assert found is not None
    assert found.activity == activity


NESTED = "[" * 100_000


@pytest.mark.parametrize("content", [{"status": "busy", "procStart": "1"}, {"status": "busy"}, [], "{half", NESTED])
def test_a_file_that_another_process_left_or_that_is_damaged_says_nothing(
    start: Start, tmp_path: Path, content: object
) -> None:
    write_state(tmp_path, content)
    assert claude.live([(42, 4711)], start) is None


def write_state(home: Path, content: object) -> None:
    path = home / ".claude" / "sessions" / "42.json"
    path.parent.mkdir(parents=True)
    path.write_text(content if isinstance(content, str) else json.dumps(content))


def test_an_interrupted_task_has_not_succeeded_though_it_exits_with_zero() -> None:
    """The last result counts; what else looks like one does not."""
    good, bad = json.dumps({"type": "result"}), json.dumps({"type": "result", "is_error": True})
    assert not claude.succeeded(0, tty=False, output_tail=f"{good}\n{bad}\nnoise")
    assert claude.succeeded(0, tty=False, output_tail=f"cut off {bad}\n{good}")
    assert claude.succeeded(0, tty=True, output_tail=bad)
    assert not claude.succeeded(0, tty=False, output_tail=f"{bad}\n{NESTED}")


@pytest.mark.parametrize(
    ("was_taken", "is_resumable", "is_given"),
    [(False, False, True), (True, False, False), (False, True, False), (True, True, False)],
)
def test_the_first_prompt_is_given_again_only_to_who_never_took_it(
    start: Start, tmp_path: Path, was_taken: bool, is_resumable: bool, is_given: bool
) -> None:
    if is_resumable:
        transcript = tmp_path / ".claude" / "projects" / "-some-where" / f"{OURS}.jsonl"
        transcript.parent.mkdir(parents=True)
        transcript.touch()
    launch = claude.launch(replace(start, prompt="only once", is_restart=True, prompt_taken=was_taken))
    assert ("only once" in launch.argv) is is_given


def test_a_headless_task_whose_conversation_has_gone_is_not_begun_again(start: Start) -> None:
    asked = replace(start, prompt="only once", is_restart=True, tty=False)
    assert "only once" in claude.launch(asked).argv
    with pytest.raises(Invalid, match="was submitted"):
        claude.launch(replace(asked, prompt_taken=True))
