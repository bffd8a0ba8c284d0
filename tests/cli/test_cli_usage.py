"""`usage`: what a person and a program see of the ledger."""

import re
import time
from pathlib import Path
from typing import Any

import pytest

from tests.cli.conftest import Cli
from tests.ledger.transcripts import answer, append, file_of


@pytest.fixture(scope="module")
def used(live: Cli) -> Cli:
    """A daemon that has found what Claude left: two calls of a known model, and one of a strange one."""
    live("new", "demo", "--path", live.environment["HOME"])
    live("daemon", "stop")
    home = Path(live.environment["HOME"], ".claude")
    append(
        file_of(home, "s1"),
        answer(1, counts=(1000, 2000, 0, 0, 0), cwd=live.environment["HOME"]),
        answer(2, counts=(0, 0, 0, 0, 1_000_000), cwd=live.environment["HOME"]),
        answer(3, model="strange-model", counts=(5, 5, 0, 0, 0), cwd=live.environment["HOME"]),
    )
    live("daemon", "start")
    deadline = time.monotonic() + 60
    while live.json("usage")["total"]["calls"] < 3:
        assert time.monotonic() < deadline
        time.sleep(0.05)
    return live


def test_json_is_what_was_promised(used: Cli) -> None:
    found = used.json("usage", "--by", "model")
    known, strange = found["rows"]
    assert known == {
        "key": "claude-opus-4-8",
        "calls": 2,
        "input_tokens": 1000,
        "output_tokens": 2000,
        "cache_write_5m_tokens": 0,
        "cache_write_1h_tokens": 0,
        "cache_read_tokens": 1_000_000,
        "cost_usd": 0.555,
        "unpriced_calls": 0,
    }
    assert (strange["key"], strange["cost_usd"], strange["unpriced_calls"]) == ("strange-model", None, 1)
    assert found["total"].keys() == known.keys() - {"key"}


def test_people_see_a_table_with_its_total_and_what_it_leaves_out(used: Cli) -> None:
    printed = used("usage", "--by", "model")
    heads, known, strange, total = printed.stdout.splitlines()
    assert heads.split()[:4] == ["MODEL", "CALLS", "INPUT", "OUTPUT"]
    assert known.split() == ["claude-opus-4-8", "2", "1,000", "2,000", "0", "0", "1,000,000", "0.5550"]
    assert strange.split() == ["strange-model", "1", "5", "5", "0", "0", "0", "-*"]
    assert total.split() == ["TOTAL", "3", "1,005", "2,005", "0", "0", "1,000,000", "0.5550*"]
    assert "without 1 call of models of which no price is known" in printed.stderr


@pytest.mark.parametrize(
    ("by", "key"), [("project", "demo"), ("session", "s1"), ("runner", ""), ("agent", "claude"), ("block", None)]
)
def test_it_is_added_up_by_what_is_asked_for(used: Cli, by: str, key: str | None) -> None:
    [row] = used.json("usage", "--by", by)["rows"]
    assert row["calls"] == 3
    assert key is None or row["key"] == key
    assert len(used("usage", "--by", by).stdout.splitlines()) == 3


def test_hours_are_told_as_times_are_elsewhere(used: Cli) -> None:
    [row] = used.json("usage", "--by", "hour")["rows"]
    assert re.fullmatch(r"\d{4}-\d\d-\d\dT\d\d:00[+-]\d\d:\d\d", row["key"])
    clock = row["key"][:16].replace("T", " ") + ":00"
    assert used("usage", "--by", "hour").stdout.splitlines()[1].startswith(f"{clock}  ")
    elsewhere = used("usage", "--by", "hour", env={"TZ": "Asia/Kathmandu"}).stdout.splitlines()[1]
    assert elsewhere.startswith(f"{clock} {row['key'][-6:]}  "), "the clock of the budgets is not the reader's"


def test_only_since_then_and_only_in_that_project(used: Cli) -> None:
    assert used.json("usage", "--since", "2031-01-03")["total"]["calls"] == 0
    assert used.json("usage", "--since", "2031-01-01")["total"]["calls"] == 3
    assert used.json("usage", "--since", "30d", "--project", "demo")["total"]["calls"] == 3
    day = used.json("usage")["rows"][0]["key"]
    elsewhere = {"TZ": "Pacific/Pago_Pago"}  # where a day begins later
    total = used("usage", "--since", day, env=elsewhere).stdout.splitlines()[-1]
    assert total.split()[:2] == ["TOTAL", "3"], "by the clock of the budgets"
    assert used("usage", "--since", "2031-01-03").stdout == "Nothing was used.\n"


def test_a_wrong_word_is_refused(used: Cli) -> None:
    assert "'tomorrow' is no moment" in used("usage", "--since", "tomorrow", exits=2).stderr
    assert "--by" in used("usage", "--by", "colour", exits=2).stderr
    assert "no project is called nowhere" in used("usage", "--project", "nowhere", exits=3).stderr


def test_a_budget_of_money_says_what_it_leaves_out(used: Cli) -> None:
    number = str(used.json("budget", "set", "global", "daily", "--usd", "5")["id"])
    for words in (("budget",), ("budget", "show", number)):
        printed = used(*words)
        assert "0.5550 USD*" in printed.stdout
        assert "* without 1 call of models of which no price is known" in printed.stderr
    plan = used("launch", "demo", "--agent", "shell", "--dry-run", "--", "true").stdout
    assert "the daily budget of everything leaves out 1 call of models of which no price is known" in plan
    assert used.json("budget")[0]["unpriced_calls"] == 1
    used("budget", "remove", number, "--yes")


def test_the_same_without_a_daemon(used: Cli) -> None:
    asked: list[tuple[str, ...]] = [("usage", "--by", by) for by in ("day", "hour", "session", "model", "block")]
    with_daemon: list[Any] = [used.json(*question) for question in asked]
    used("daemon", "stop")
    assert [used.json(*question) for question in asked] == with_daemon


def test_nothing_is_nothing(cli: Cli) -> None:
    assert cli("usage").stdout == "Nothing was used.\n"
