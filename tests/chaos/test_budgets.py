"""Budgets under concurrency, and under SIGKILL: an agent that writes down what it uses, as Claude Code does."""

import json
import os
import subprocess
import sys
import textwrap
from collections.abc import Iterator
from pathlib import Path

import pytest

from stratavore import verdicts
from stratavore.model import BudgetPeriod, BudgetScope, Runner
from stratavore.store import budgets
from stratavore.store.database import open_readonly
from tests.chaos.house import MARK, House, until

SPENDER = """
import datetime, json, os, pathlib, sys, time
argv = sys.argv
session = argv[argv.index("--session-id" if "--session-id" in argv else "--resume") + 1]
file = pathlib.Path(os.environ["HOME"], ".claude", "projects", "folder", session + ".jsonl")
wish = pathlib.Path(os.environ["HOME"], "spend")
file.parent.mkdir(parents=True, exist_ok=True)
print("ready", flush=True)
while True:
    time.sleep(0.01)
    if not wish.exists():
        continue
    tokens = int(wish.read_text())
    wish.unlink()
    message = {"id": f"msg_{os.urandom(8).hex()}", "model": "claude-sonnet-4-5", "role": "assistant", "content": [],
               "usage": {"input_tokens": tokens, "output_tokens": 0}}
    at = datetime.datetime.utcnow().isoformat(timespec="milliseconds") + "Z"
    said = {"type": "assistant", "sessionId": session, "timestamp": at, "message": message}
    with file.open("a") as out:
        out.write(json.dumps(said) + chr(10))
    print("spent", flush=True)
"""


@pytest.fixture
def spending(tmp_path: Path) -> Iterator[House]:
    """A house with an agent `spender` that uses as many tokens as it is told; one run is expected to use 100."""
    with House(tmp_path, STRATAVORE_BUDGETS_TIMEZONE="UTC", STRATAVORE_BUDGETS_ESTIMATE_TOKENS="100") as house:
        house.home.mkdir(mode=0o700)
        program = tmp_path / "spender.py"
        program.write_text(textwrap.dedent(SPENDER))
        argv = json.dumps([sys.executable, str(program)])
        config = house.paths.user_config
        config.write_text(f'[agents.spender]\nagent = "claude"\nargv = {argv}\n')
        config.chmod(0o600)
        yield house


def bound(house: House, tokens: int = 1000) -> int:
    return house.client.set_budget(BudgetScope.GLOBAL, BudgetPeriod.MONTHLY, tokens=tokens).id


def launch(house: House) -> Runner:
    answer = house.client.launch("p", agent="spender", env={MARK: str(house.home)})
    runner = house.becomes(answer.runners[0].id, "running")  # type: ignore[union-attr]
    until(lambda: b"ready" in house.output(runner.id), why="the agent to take input")
    return runner


def spend(house: House, tokens: int) -> None:
    """Let the only runner use so much."""
    wish = Path(house.environment["HOME"], "spend")
    wish.with_suffix(".new").write_text(str(tokens))
    wish.with_suffix(".new").rename(wish)


def check_reservations(house: House, number: int) -> None:
    """What is reserved is what is held for the living, and each of them holds at most what was expected."""
    with open_readonly(house.paths.database) as rows:
        held = rows.scalar("SELECT COALESCE(SUM(tokens), 0) FROM reservations")
        ended = rows.scalar(
            "SELECT COUNT(*) FROM reservations AS v JOIN runs AS n ON n.key = v.run_key WHERE n.ended_at IS NOT NULL"
        )
        row = rows.one("SELECT SUM(reserved_tokens) AS reserved FROM budget_periods WHERE budget_id = ?", (number,))
    assert (row["reserved"], ended) == (held, 0)


def test_fifty_commands_at_once_get_exactly_what_a_budget_has_room_for(spending: House) -> None:
    spending.start()
    spending.project(max_runners=100)
    number = bound(spending)
    command = [sys.executable, "-m", "stratavore", "launch", "p", "--agent", "spender"]
    command += ["--env", f"{MARK}={spending.home}"]
    asking = [
        subprocess.Popen(command, env=spending.environment, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE)
        for _ in range(50)
    ]
    said = [process.communicate(timeout=90)[1] for process in asking]
    codes = [process.returncode for process in asking]
    assert (codes.count(0), codes.count(10)) == (10, 40), said
    assert sum(b"the monthly budget of everything is 1,000 tokens" in text for text in said) == 40
    spending.agrees()
    assert spending.client.get_budget(number).reserved_tokens == 1000
    spending.client.kill_runners("*")
    until(lambda: spending.client.get_budget(number).reserved_tokens == 0, why="what was held to be free")


@pytest.mark.parametrize("place", ["launch.before_commit", "store.commit", "store.after_commit", "launch.after_commit"])
def test_a_daemon_killed_in_a_launch_holds_exactly_what_it_let_in(spending: House, place: str) -> None:
    spending.start()
    spending.project()
    number = bound(spending)
    spending.kill_daemon()
    nth = "" if place.startswith("launch") else "@4"  # the first ones are the daemon's own beginning
    spending.start(STRATAVORE_FAILPOINTS=f"{place}=kill{nth}")
    ask = [sys.executable, "-m", "stratavore", "launch", "p", "--agent", "spender", "--no-wait"]
    environment = {**spending.environment, "STRATAVORE_DAEMON_AUTOSTART": "false"}
    subprocess.run([*ask, "--env", f"{MARK}={spending.home}"], env=environment, capture_output=True, timeout=60)
    until(lambda: not spending.daemon_pid(), why="the daemon to die")
    spending.kill_daemon()
    if not spending.answers():
        spending.start()
    spending.agrees()
    check_reservations(spending, number)
    living = len(spending.client.list_runners())
    assert spending.client.get_budget(number).reserved_tokens == 100 * living


@pytest.mark.parametrize("place", ["budget.before_step", "budget.after_step"])
def test_a_daemon_killed_while_it_blocks_blocks_when_it_is_back(spending: House, place: str) -> None:
    spending.start(STRATAVORE_FAILPOINTS=f"{place}=kill")
    spending.project()
    number = bound(spending)
    runner = launch(spending)
    spend(spending, 1500)
    until(lambda: not spending.daemon_pid(), why="the daemon to die")
    assert verdicts.read(spending.paths, runner.id) is None
    spending.kill_daemon()
    if not spending.answers():
        spending.start()
    until(lambda: verdicts.read(spending.paths, runner.id) is not None, why="the verdict")
    assert spending.client.get_budget(number).blocked == [runner.name]
    with open_readonly(spending.paths.database) as rows:
        told = rows.scalar("SELECT COUNT(*) FROM events WHERE type = 'runner.blocked'")
        assert told == 1
        found = budgets.get_shown(rows, number, now=runner.created_at)
    assert (found.used_tokens, found.reserved_tokens) == (1500, 0)
    spending.client.extend_budget(number, tokens=1000)
    until(lambda: verdicts.read(spending.paths, runner.id) is None, why="it to go on")
    assert os.path.exists(f"/proc/{runner.pid}")
