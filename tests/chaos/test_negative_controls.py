"""With a seeded bug in the daemon, the check that guards against it must fail.

Not here: shims that are forked from a shim which holds terminals (nothing in the daemon can bring that about).
"""

import os
import signal
import subprocess
from pathlib import Path

import pytest

from tests.chaos import sabotage
from tests.chaos.house import FINAL_STATES, House
from tests.chaos.test_fault_02_failpoints import kill_in_a_launch, kill_in_a_stop
from tests.chaos.test_faults_04_10_stopped_and_killed import bystander, outlive_a_shim, reuse_a_pid
from tests.chaos.test_ledger import check_ledger, run_ledger_chaos
from tests.chaos.test_quotas import check_quota

__all__ = ["bystander"]


def with_bug(name: str) -> tuple[str, ...]:
    assert name in sabotage.BUGS
    return (str(Path(sabotage.__file__)), name)


def test_a_spawn_before_the_intent_would_be_noticed(house: House, tmp_path: Path) -> None:
    with pytest.raises(AssertionError, match="what was accepted, and what runs"):
        kill_in_a_launch(house, tmp_path, "launch.before_commit", with_bug("spawn_before_the_intent_is_committed"))


def test_an_ack_before_the_commit_would_be_noticed(house: House, tmp_path: Path) -> None:
    with pytest.raises(AssertionError, match="its end, as it was"):
        kill_in_a_stop(house, tmp_path, "end.before_commit", with_bug("ack_before_the_commit"))


def test_a_belief_in_bare_pids_would_be_noticed(inhabited: House, bystander: "subprocess.Popen[bytes]") -> None:
    with pytest.raises(AssertionError, match="a stranger was signalled"):
        reuse_a_pid(inhabited, bystander, with_bug("believe_a_bare_pid"))


def test_an_unknown_end_called_success_would_be_noticed(house: House) -> None:
    house.start(entry=with_bug("call_an_unknown_end_a_success"))
    house.project()
    runner = house.launch("sleep", "600")
    house.becomes(runner.id, "running")
    os.kill(house.shim_pids()[house.shim_of(runner.id)], signal.SIGKILL)
    ended = house.becomes(runner.id, *FINAL_STATES)
    assert (ended.state, ended.exit_code) != ("lost", None)


def test_a_second_copy_beside_a_living_one_would_be_noticed(house: House) -> None:
    house.start(entry=with_bug("leave_a_survivor_beside_the_next_copy"))
    house.project()
    with pytest.raises(AssertionError, match="two copies live"):
        outlive_a_shim(house)


def test_silence_taken_for_a_loss_would_be_noticed(house: House) -> None:
    house.start(entry=with_bug("call_silence_a_loss"))
    house.project()
    runner = house.launch("sleep", "600")
    house.becomes(runner.id, "running")
    [shim] = house.shim_pids().values()
    os.kill(shim, signal.SIGSTOP)
    try:
        assert house.becomes(runner.id, "lost", seconds=20).state == "lost"
    finally:
        os.kill(shim, signal.SIGCONT)


def test_a_quota_that_is_read_first_would_be_noticed(house: House) -> None:
    house.start(entry=with_bug("read_the_quota_before_it_is_taken"))
    with pytest.raises(AssertionError, match="granted"):
        check_quota(house, askers=30, limit=10)


@pytest.mark.parametrize(
    ("bug", "what"),
    [
        ("keep_the_first_telling", "the totals of the ledger"),
        ("count_every_line", "the totals of the ledger"),
        ("give_a_call_to_whoever_told_first", "branch"),
    ],
)
def test_a_ledger_that_counts_otherwise_would_be_noticed(house: House, bug: str, what: str) -> None:
    house.entry = with_bug(bug)
    house.start(entry=house.entry)
    with pytest.raises(AssertionError, match=what):
        check_ledger(house, run_ledger_chaos(house, lines=2000, kills=1, seconds=1))
