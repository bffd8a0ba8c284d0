"""`budget`, as a person types it."""

import pytest

from tests.cli.conftest import Cli


@pytest.fixture(autouse=True)
def _no_budget_is_left(live: Cli) -> None:
    for found in live.json("budget"):
        live("budget", "remove", str(found["id"]), "--yes")


def test_what_is_typed_is_what_is_set(live: Cli, project: str) -> None:
    live("budget", "set", "global", "daily", "--usd", "12.50", "--warn", "50,80%", "--on-exceeded", "warn")
    live("budget", "set", "project", project, "weekly", "--tokens", "1.5M")
    live("launch", project, "--name", "bounded", "--", "sleep", "1000")
    live("budget", "set", "runner", "bounded", "hourly", "--tokens", "500k", "--on-exceeded", "stop")
    money, week, hour = live.json("budget", "list")
    assert (money["limit_usd"], money["warn"], money["on_exceeded"]) == (12.5, [50, 80], "warn")
    assert (week["name"], week["period"], week["limit_tokens"]) == (project, "weekly", 1_500_000)
    assert (hour["scope"], hour["name"], hour["unmetered"]) == ("runner", "bounded", ["bounded"])
    table = live("budget").stdout
    assert "12.50 USD" in table
    assert "1,500,000 tokens" in table
    shown = live("budget", "show", str(hour["id"])).stdout
    assert "runner bounded" in shown
    assert "FROM" in shown
    [period] = live.json("budget", "show", str(hour["id"]))["periods"]
    assert (period["starts_at"], period["used_tokens"]) == (hour["starts_at"], 0)
    extended = live.json("budget", "extend", str(hour["id"]), "--tokens", "10k")
    assert extended["limit_tokens"] == 510_000


def test_a_window_of_an_account_is_bounded_in_percent(live: Cli) -> None:
    live("budget", "set", "global", "--window", "5h", "--percent", "62.5", "--warn", "50", "--on-exceeded", "stop")
    live("budget", "set", "global", "--window", "7d", "--percent", "90")
    five, seven = live.json("budget")
    assert (five["scope"], five["period"], five["limit_percent"]) == ("global", "5h", 62.5)
    assert (five["limit_tokens"], five["limit_usd"], five["used_percent"]) == (None, None, None)
    assert (five["warn"], five["on_exceeded"], five["exceeded"]) == ([50], "stop", False)
    assert (seven["period"], seven["limit_percent"]) == ("7d", 90)
    assert "62.5 %" in live("budget").stdout
    assert live.json("budget", "extend", str(five["id"]), "--percent", "7.5")["limit_percent"] == 70
    live("budget", "extend", str(five["id"]), "--tokens", "1000", exits=2)


def test_what_reads_works_without_a_daemon(fresh: Cli) -> None:
    assert fresh.json("budget") == []
    fresh("budget", "set", "global", "monthly", "--tokens", "1000")
    with_daemon = [fresh.json("budget"), fresh.json("budget", "show", "1")]
    fresh("daemon", "stop")
    assert [fresh.json("budget"), fresh.json("budget", "show", "1")] == with_daemon
    assert "FROM" in fresh("budget", "show", "1").stdout


@pytest.mark.parametrize(
    "words",
    [
        "global",
        "global yearly --usd 1",
        "global daily",
        "global daily --usd 1 --tokens 1",
        "project",
        "project demo --usd 1",
        "nothing daily --usd 1",
        "global daily --usd 1euro",
        "global daily --tokens many",
        "global daily --tokens 1 --warn 0",
        "global daily --tokens 1 --warn x",
        "global --window 5h --usd 1",
        "global daily --window 5h --percent 5",
        "global --percent 5",
    ],
)
def test_what_is_no_budget_is_said_to_be_none(live: Cli, words: str) -> None:
    live("budget", "set", *words.split(), exits=2)
    assert live.json("budget") == []


def test_inside_a_runner_it_is_refused_before_anything_is_asked(live: Cli, project: str) -> None:
    number = str(live.json("budget", "set", "global", "daily", "--usd", "1")["id"])
    env = ["--env", f"STRATAVORE_HOME={live.home}"]
    words = live.command("budget", "remove", number)
    live("launch", project, "--name", "greedy", "--no-wait", *env, "--", *words)
    live("wait", "greedy", "--until", "ended", "--timeout", "20")
    said = live("logs", "greedy").stdout
    assert "was asked from inside runner" in said
    assert "[y/N]" not in said
    assert len(live.json("budget")) == 1


def test_a_removal_asks(live: Cli) -> None:
    number = str(live.json("budget", "set", "global", "daily", "--usd", "1")["id"])
    live("budget", "remove", number, exits=2)
    live("budget", "remove", number, "--yes")
    live("budget", "remove", number, "--yes", exits=3)
    live("budget", "extend", number, "--usd", "1", exits=3)
