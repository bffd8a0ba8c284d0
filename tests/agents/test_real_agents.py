"""The real agent CLIs, launched by our plans, against stand-ins of their model servers."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from stratavore.agents import Traces
from stratavore.agents.agent import CONTINUE
from tests.agents.bench import KINDS, Bench
from tests.programs import needs, once_more

pytestmark = [
    once_more(),
    pytest.mark.parametrize("bench", [pytest.param(name, marks=needs(name)) for name in KINDS], indirect=True),
    pytest.mark.timeout(300),
]


@pytest.fixture
def bench(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Bench]:
    with KINDS[request.param].serve() as standin:
        yield Bench(request.param, tmp_path, standin)


def test_an_agent_is_launched_typed_to_stopped_and_resumed(bench: Bench) -> None:
    """Nothing but the fixed table of terminal queries is answered to it, as if nobody were attached."""
    with bench.at_prompt() as terminal:
        bench.say(terminal, "count to 3")
        terminal.until_shown("word-3")
        terminal.until_quiet(1.0, seconds=10)  # the answer is stored when the turn is over, not when it is shown
        while_alive = bench.find_session(terminal)
        assert bench.stop(terminal) in bench.kind.exits_when_stopped
    session_id = bench.find_session(terminal)
    assert session_id is not None
    assert while_alive in (session_id, None)

    with bench.at_prompt(session_id=session_id, is_restart=True, prompt="never again") as terminal:
        terminal.until_shown("word-3")
        terminal.until_quiet(0.5)  # what is typed while it still draws the old conversation may be lost
        bench.say(terminal, "count to 5")
        terminal.until_shown("word-5")
        assert bench.find_session(terminal) == session_id
        bench.stop(terminal)
    assert bench.heard("count to 3", "count to 5")
    assert not bench.heard("never again")


def test_the_first_prompt_is_submitted_without_a_key(bench: Bench) -> None:
    with bench.at_prompt(prompt="count to 7") as terminal:
        terminal.until_shown("word-7")
        bench.stop(terminal)


def test_an_agent_without_a_terminal_does_its_task_and_ends(bench: Bench) -> None:
    """The prompt arrives letter for letter, options and quotes in it included."""
    prompt = """--say 'it'  "twice" --now"""
    done = bench.headless(prompt=prompt)
    assert bench.agent.succeeded(done.returncode, tty=False, output_tail=done.stdout), done.stdout
    assert bench.heard(prompt)


def test_an_agent_without_a_terminal_that_meets_an_error_has_not_succeeded(bench: Bench) -> None:
    done = bench.headless(prompt="fail with 400")
    assert not bench.agent.succeeded(done.returncode, tty=False, output_tail=done.stdout), done.stdout


def test_an_agent_without_a_terminal_is_told_to_go_on_when_it_is_restarted(bench: Bench) -> None:
    done = bench.headless(prompt="count to 3")
    session_id = bench.agent.find_session(bench.start, Traces(since=bench.began, output_tail=done.stdout))
    assert session_id is not None
    again = bench.headless(session_id=session_id, is_restart=True)
    assert again.returncode == 0, again.stdout
    assert bench.heard("count to 3", CONTINUE)
