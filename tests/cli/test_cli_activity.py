"""Waiting for what agents do, listing who waits for a person, and answering, from the command line."""

import os
import sqlite3
from pathlib import Path

from tests.cli.conftest import Cli


def told(cli: Cli, statement: str) -> None:
    with sqlite3.connect(cli.paths.database, timeout=10) as database:
        database.execute(statement)


def believe(cli: Cli, name: str, activity: str, since: str, waiting_for: str | None = None) -> None:
    """Have it stored that a runner does this, as the daemon stores it."""
    with sqlite3.connect(cli.paths.database, timeout=10) as database:
        database.execute(
            "INSERT INTO samples (runner_id, seen_at, health, activity, activity_since, activity_source, waiting_for)"
            " SELECT id, ?2, 'ok', ?3, ?2, 'hook', ?4 FROM runners WHERE name = ?1 AND alive = 1"
            " ON CONFLICT (runner_id) DO UPDATE SET activity = ?3, activity_since = ?2, activity_source = 'hook',"
            " waiting_for = ?4",
            (name, since, activity, waiting_for),
        )


def test_who_waits_longest_comes_first(live: Cli, project: str) -> None:
    for name in ("late", "early", "busy"):
        live("launch", project, "--name", name, "--", "sleep", "1000")
    assert live("runners", "--waiting").stdout == "Nobody waits for you.\n"
    believe(live, "late", "waiting_input", "2999-01-01T00:00:00.000Z", "a folder to trust")
    believe(live, "early", "waiting_permission", "2998-01-01T00:00:00.000Z", "Bash: rm \x1b[2J")
    believe(live, "busy", "working", "2997-01-01T00:00:00.000Z")
    assert [runner["name"] for runner in live.json("runners", "--waiting")] == ["early", "late"]
    printed = live("runners", "--waiting").stdout
    assert "permission" in printed
    assert "a folder to trust" in printed
    assert "\x1b" not in printed
    assert "waiting_input" in live("show", "late").stdout


def test_waiting_for_what_an_agent_does(live: Cli, project: str) -> None:
    live("launch", project, "--name", "doer", "--", "sleep", "1000")
    timed_out = live("wait", "doer", "--until", "idle", "--timeout", "0.3s", exits=9)
    assert "not yet idle: doer is running, and nobody tells what it does" in timed_out.stderr
    believe(live, "doer", "working", "2999-01-01T00:00:00.000Z")
    assert "ACTIVITY" in live("wait", "doer", "--until", "working,idle", "--timeout", "10s").stdout
    timed_out = live("wait", "doer", "--until", "waiting", "--timeout", "0.3s", exits=9)
    assert "doer is running, working since" in timed_out.stderr
    believe(live, "doer", "waiting_permission", "2999-01-01T00:00:00.000Z", "Bash: rm \x1b[2J")
    timed_out = live("wait", "doer", "--until", "idle", "--timeout", "0.3s", exits=9)
    assert "doer is running, waiting for permission: Bash: rm [2J" in timed_out.stderr
    live("kill", "doer")
    never = live("wait", "doer", "--until", "idle", exits=4)
    assert "so it will not be idle" in never.stderr
    wrong = live("wait", "doer", "--until", "daydreaming", exits=2)
    assert "waiting" in wrong.stderr


def test_who_was_launched_with_a_prompt_is_not_idle_before_it_was_taken(live: Cli, project: str) -> None:
    live("launch", project, "--name", "prompted", "--", "sleep", "1000")
    told(live, "UPDATE runners SET prompt = 'do it' WHERE name = 'prompted'")
    believe(live, "prompted", "idle", "2999-01-01T00:00:00.000Z")
    timed_out = live("wait", "prompted", "--until", "idle", "--timeout", "0.3s", exits=9)
    assert "prompted is running, idle, and has not taken its prompt yet" in timed_out.stderr
    told(live, "UPDATE runners SET prompt_taken = 1 WHERE name = 'prompted'")
    live("wait", "prompted", "--until", "idle", "--timeout", "10s")


def test_a_restart_can_wait_until_it_is_idle(live: Cli, project: str) -> None:
    live("launch", project, "--name", "idler", "--", "sleep", "1000")
    live("restart", "idler", "--when-idle", "--timeout", "0.5s", exits=9)
    assert live.json("show", "idler")["run"] == 1
    live("restart", "idler", "--when-idle", "--no-wait", exits=2)
    live("kill", "idler")
    [again] = live.json("restart", "idler", "--when-idle")
    assert (again["run"], again["state"]) == (2, "running")


def test_nobody_asks_where_nothing_was_ever_recorded(cli: Cli) -> None:
    assert cli("approvals").stdout == "Nobody asks for a permission.\n"
    assert cli.json("approvals") == []


def test_who_asks_for_nothing_gets_no_answer(live: Cli, project: str) -> None:
    live("launch", project, "--name", "silent", "--", "sleep", "1000")
    for verb in ("approve", "deny"):
        assert "silent asks for no permission" in live(verb, "silent", exits=4).stderr
    assert "no runner is called nobody" in live("approve", "nobody", exits=3).stderr


def test_no_runner_decides_from_inside(live: Cli, project: str, tmp_path: Path) -> None:
    said = tmp_path / "said"
    script = f"{' '.join(live.command('approve', 'inside'))} 2>{said}; echo $? >{said}.code; sleep 1000"
    live("launch", project, "--name", "inside", "--env", f"PYTHONPATH={os.getcwd()}", "--", "sh", "-c", script)
    live("wait", "inside", "--until", "running")
    code = Path(f"{said}.code")
    for _ in range(200):
        if code.exists() and code.read_text().strip():
            break
        live("status")
    assert code.read_text().strip() == "8"
    assert "was asked from inside runner" in said.read_text()
