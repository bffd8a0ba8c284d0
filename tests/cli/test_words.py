"""The words that the command line lists without importing the rooms that own them."""

from stratavore.agents import AGENTS
from stratavore.cli import ending, importing, launch, options, runners, wait
from stratavore.model import RestartPolicy, RunnerState
from stratavore.protocol import ENDED, states_of


def test_the_command_line_knows_every_state_and_no_other() -> None:
    assert tuple(RunnerState) == runners.STATES
    assert frozenset(ending.ENDED) == ENDED


def test_what_can_be_waited_for_means_the_same_on_both_sides() -> None:
    assert {word: frozenset(states) for word, states in wait.WORDS.items()} == {
        word: frozenset(map(str, states_of(word))) for word in wait.WORDS
    }


def test_the_command_line_knows_every_policy_and_agent() -> None:
    assert tuple(RestartPolicy) == launch.POLICIES
    assert frozenset(options.AGENTS) == AGENTS.keys()


def test_an_import_is_told_of_every_variable_that_moves_an_account_directory() -> None:
    assert set(importing.WHERE) == {"HOME", *(agent.home_variable for agent in AGENTS.values())} - {""}
