"""The words that the command line lists without importing the rooms that own them."""

from stratavore.agents import AGENTS
from stratavore.cli import ending, humane, importing, launch, options, runners, sessions, wait
from stratavore.model import RestartPolicy, RunnerState
from stratavore.protocol import ENDED, states_of


def test_the_command_line_knows_every_state_and_no_other() -> None:
    assert tuple(RunnerState) == runners.STATES
    assert frozenset(ending.ENDED) == ENDED


def test_numbers_are_written_as_people_read_them() -> None:
    assert (humane.tokens(1), humane.tokens(1_100_000)) == ("1 token", "1,100,000 tokens")
    used = dict.fromkeys(("input_tokens", "output_tokens", "cache_write_5m_tokens", "cache_read_tokens"), 1_100_000)
    model = {**used, "model": "m", "calls": 2, "cache_write_1h_tokens": 0, "cost_usd": 1.0, "unpriced_calls": 0}
    assert sessions._models({"models": [model]}) == [["m", "2", *["1,100,000"] * 4, "$1.00"]]


def test_what_can_be_waited_for_means_the_same_on_both_sides() -> None:
    assert {word: frozenset(states) for word, states in wait.WORDS.items()} == {
        word: frozenset(map(str, states_of(word))) for word in wait.WORDS
    }


def test_the_command_line_knows_every_policy_and_agent() -> None:
    assert tuple(RestartPolicy) == launch.POLICIES
    assert frozenset(options.AGENTS) == AGENTS.keys()


def test_an_import_is_told_of_every_variable_that_moves_an_account_directory() -> None:
    assert set(importing.WHERE) == {"HOME", *(agent.home_variable for agent in AGENTS.values())} - {""}
