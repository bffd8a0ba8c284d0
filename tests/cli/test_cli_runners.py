"""The verbs on runners: seen, stopped, killed, paused, restarted, renamed, removed, waited for."""

import os
import signal
import subprocess

import pytest

from tests.chaos.house import until
from tests.cli.conftest import Cli

SLEEP = ("--", "sleep", "1000")
KEYS = (
    "id name project agent state activity pid exit_code exit_signal end_reason restarts desired restart_policy argv cwd"
    " started_at ended_at cpu_percent rss_bytes session_id output_bytes last_line"
).split()


def test_a_runner_has_the_promised_keys(live: Cli, project: str) -> None:
    live("launch", project, "--name", "keys", *SLEEP)
    assert set(KEYS) <= live.json("show", "keys").keys()
    assert set(KEYS) <= live.json("ps")[0].keys()


def test_a_list_is_an_array_even_when_it_is_empty(live: Cli, project: str) -> None:
    assert live.json("runners", "--project", project) == []
    assert live.json("runners", "--state", "lost") == []


def test_show_tells_the_runs_and_how_each_ended(live: Cli, project: str) -> None:
    live("launch", project, "--name", "shown", "--no-wait", "--", "sh", "-c", "exit 3")
    live("wait", "shown", "--until", "ended", "--timeout", "20")
    printed = live("show", "shown").stdout
    assert "exit 3" in printed
    assert "RUN " in printed
    assert live.json("show", "shown")["exit_code"] == 3


def test_a_prefix_is_enough_and_an_ambiguous_one_lists_who_it_may_be(live: Cli, project: str) -> None:
    live("launch", project, "--count", "2", "--name", "prefixed", *SLEEP)
    assert live.json("show", "prefixed-1")["name"] == "prefixed-1"
    done = live("show", "prefixe", exits=4)
    assert "prefixed-1" in done.stderr
    assert "prefixed-2" in done.stderr


def test_stop_returns_when_all_have_ended(live: Cli, project: str) -> None:
    live("launch", project, "--count", "3", "--name", "stopped", *SLEEP)
    stopped = live.json("stop", "--project", project)
    assert {runner["state"] for runner in stopped} == {"terminated"}
    assert {runner["desired"] for runner in stopped} == {"stopped"}
    assert len(stopped) == 3


def test_a_stop_that_takes_too_long_is_exit_9_and_goes_on(live: Cli, project: str) -> None:
    live(
        "launch",
        project,
        "--name",
        "stubborn",
        "--",
        "sh",
        "-c",
        "trap '' TERM HUP INT; while :; do sleep 0.1; done",
    )
    done = live("stop", "stubborn", "--grace", "2", "--timeout", "0.2", exits=9)
    assert "stubborn is stopping" in done.stderr
    ended = live.json("wait", "stubborn", "--until", "ended", "--timeout", "20")
    assert ended[0]["exit_signal"] == signal.SIGKILL


def test_kill_is_now(live: Cli, project: str) -> None:
    live("launch", project, "--name", "killed", *SLEEP)
    assert live.json("kill", "killed")[0]["exit_signal"] == signal.SIGKILL


def test_pause_halts_and_unpause_lets_go_on(live: Cli, project: str) -> None:
    live("launch", project, "--name", "paused", *SLEEP)
    assert live.json("pause", "paused")[0]["state"] == "paused"
    assert live.json("unpause", "paused")[0]["state"] == "running"


def test_restart_returns_when_the_next_run_runs(live: Cli, project: str) -> None:
    live("launch", project, "--name", "again", *SLEEP)
    before = live.json("show", "again")
    after = live.json("restart", "again")[0]
    assert after["state"] == "running"
    assert after["pid"] != before["pid"]
    assert after["run"] == before["run"] + 1


def test_a_restart_that_somebody_calls_off_ends_with_exit_4(live: Cli, project: str) -> None:
    deaf = "trap '' TERM; echo deaf; while :; do sleep 0.1; done"
    live("launch", project, "--name", "called-off", "--stop-grace", "60s", "--", "sh", "-c", deaf)
    until(lambda: "deaf" in live("logs", "called-off").stdout)
    restart = subprocess.Popen(
        live.command("restart", "called-off"), env=live.environment, stderr=subprocess.PIPE, text=True
    )
    until(lambda: live.json("show", "called-off")["state"] == "stopping")
    live("kill", "called-off")
    _, stderr = restart.communicate(timeout=30)
    assert restart.returncode == 4
    assert "called-off was stopped meanwhile" in stderr


def test_an_ended_runner_is_restarted_under_its_name(live: Cli, project: str) -> None:
    live("launch", project, "--name", "revived", *SLEEP)
    live("stop", "revived")
    assert live.json("restart", "revived")[0]["state"] == "running"


def test_a_restart_that_fails_is_exit_7(live: Cli, project: str, tmp_path_factory: pytest.TempPathFactory) -> None:
    program = tmp_path_factory.mktemp("bin") / "program"
    program.write_text("#!/bin/sh\nexec sleep 1000\n")
    program.chmod(0o700)
    live("launch", project, "--name", "gone", "--", str(program))
    program.unlink()
    live("restart", "gone", exits=7)


def test_of_several_ended_ones_of_a_name_the_newest_is_shown_and_none_is_removed(live: Cli, project: str) -> None:
    ids = []
    for word in ("precious", "second"):
        launched = live.json("launch", project, "--name", "dup", "--no-wait", "--", "sh", "-c", f"echo {word}")
        ids.append(launched["runners"][0]["id"])
        live("wait", ids[-1], "--until", "ended")
    first, second = ids
    assert live.json("show", "dup")["id"] == second
    for argv in (["rm", "dup"], ["rm", "-fy", "dup"], ["restart", "dup"], ["restart", "--when-idle", "dup"]):
        refused = live(*argv, exits=4).stderr
        assert f"{first} (of {project}, launched 2" in refused
        assert f"{second} (of {project}, launched 2" in refused
    assert "give the id" in live("rename", "dup", "other", exits=4).stderr
    live("rename", first, "precious-1")
    assert live("rm", "dup").stdout == "dup\n"
    assert live("logs", "precious-1").stdout == "precious\n"
    live("launch", project, "--name", "lives", *SLEEP)
    assert "a runner called lives lives" in live("rename", "precious-1", "lives", exits=4).stderr


def test_rename_and_rm(live: Cli, project: str) -> None:
    live("launch", project, "--name", "old-name", *SLEEP)
    assert live.json("rename", "old-name", "new-name")["name"] == "new-name"
    assert "alive" in live("rm", "new-name", exits=4).stderr
    assert live("rm", "--force", "--yes", "new-name").stdout == "new-name\n"
    live("show", "new-name", exits=3)


def test_explain_tells_state_evidence_and_what_comes_next(live: Cli, project: str) -> None:
    live("launch", project, "--name", "explained", *SLEEP)
    printed = live("explain", "explained").stdout
    assert printed.startswith("explained is running: ")
    assert "Next: " in printed
    assert {"runner", "summary", "evidence", "next"} == live.json("explain", "explained").keys()


def test_wait_gives_up_with_exit_9(live: Cli, project: str) -> None:
    live("launch", project, "--name", "patient", *SLEEP)
    assert "patient is running" in live("wait", "patient", "--until", "ended", "--timeout", "0.2", exits=9).stderr


def test_wait_sees_an_end_that_nobody_asked_for(live: Cli, project: str) -> None:
    live("launch", project, "--name", "victim", *SLEEP)
    os.kill(live.json("show", "victim")["pid"], signal.SIGUSR1)
    ended = live.json("wait", "victim", "--until", "ended", "--timeout", "20")[0]
    assert (ended["state"], ended["exit_signal"]) == ("failed", signal.SIGUSR1)


def test_send_types_into_a_runner_and_logs_show_the_answer(live: Cli, project: str) -> None:
    live("launch", project, "--name", "talker", "--", "sh", "-c", 'read line; echo "got: $line"')
    live("send", "talker", "hello there")
    live("wait", "talker", "--until", "ended", "--timeout", "20")
    assert "got: hello there" in live("logs", "talker").stdout


def test_interrupt_is_a_key(live: Cli, project: str) -> None:
    live(
        "launch",
        project,
        "--name",
        "busy",
        "--",
        "sh",
        "-c",
        "trap 'echo interrupted; exit 0' INT; echo up; sleep 1000",
    )
    live("interrupt", "busy")
    assert live.json("wait", "busy", "--until", "ended", "--timeout", "20")[0]["exit_code"] == 0


def test_rm_all_removes_what_ended_and_names_what_it_keeps(live: Cli, project: str) -> None:
    live("launch", project, "--name", "rm-lives", "--", "sleep", "1000")
    live("launch", project, "--name", "rm-ended", "--", "true")
    live("wait", "rm-ended", "--until", "ended")
    done = live("rm", "--project", project, "--yes")
    assert done.stdout == "rm-ended\n"
    assert "kept, for they live: rm-lives; `--force` kills and removes them" in done.stderr
    assert live("rm", "--project", project, "--force", "--yes").stdout == "rm-lives\n"
    assert live.json("ps", "--all", "--project", project) == []


@pytest.mark.parametrize("argv", [["rm", "--force"], ["rm", "--project"]], ids="".join)
def test_what_destroys_needs_a_yes_where_nobody_can_be_asked(live: Cli, project: str, argv: list[str]) -> None:
    live("launch", project, "--name", "precious", "--", "true")
    live("wait", "precious", "--until", "ended")
    done = live(*argv, project if "--project" in argv else "precious", exits=2)
    assert "nothing was done. This removes 1 runner with all output" in done.stderr
    assert done.stderr.endswith("→ agree beforehand with `--yes`\n")
    live("rm", "precious")


def test_a_table_has_a_column_for_ends_only_where_something_ended(live: Cli, project: str) -> None:
    launched = live("launch", project, "--name", "no-end", "--", "sleep", "1000").stdout
    assert launched.splitlines()[0].split() == ["ID", "NAME", "STATE"]
    stopped = live("stop", "no-end").stdout
    assert stopped.splitlines()[0].split() == ["ID", "NAME", "STATE", "ENDED"]


def test_a_name_that_cannot_be_is_told_in_words(live: Cli, project: str) -> None:
    for argv in (["new", "a/b"], ["launch", project, "--name", "a b", "--", "true"]):
        assert live(*argv, exits=2).stderr == (
            "stratavore: a name has 1 to 64 letters, digits, dots, underscores and hyphens,"
            " and begins with no hyphen → choose another name\n"
        )


def test_an_unknown_project_is_not_an_empty_list(live: Cli, project: str) -> None:
    for argv in (["ps"], ["ps", "--all"], ["watch"], ["stop"], ["wait", "--until", "done"]):
        said = live(*argv, "--project", f"{project}x", exits=3).stderr
        assert f"no project is called {project}x → did you mean {project}?" in said


def test_a_mistyped_runner_is_asked_for(live: Cli, project: str) -> None:
    live("launch", project, "--name", "spelled-right", "--", "sleep", "1000")
    assert "did you mean spelled-right?" in live("show", "speled-right", exits=3).stderr


@pytest.mark.parametrize(
    ("script", "state", "until", "exits"),
    [
        ("true", "terminated", "running", 4),
        ("exit 3", "failed", "paused,running", 7),
        ("true", "terminated", "failed", 4),
    ],
    ids=["well", "badly", "otherwise"],
)
def test_waiting_for_what_can_no_longer_be_ends_at_once(
    live: Cli, project: str, script: str, state: str, until: str, exits: int
) -> None:
    name = f"{state}-{exits}-{until[:4]}"
    live("launch", project, "--name", name, "--no-wait", "--", "sh", "-c", script)
    for word in ("done", "ended", state, "settled"):
        live("wait", name, "--until", word)
    said = live("wait", name, "--until", until, exits=exits).stderr
    assert f"{name} has ended ({state}), so it will not be {until} → `stratavore explain {name}` says why" in said


def test_waiting_for_all_is_waiting_for_those_that_end_meanwhile_too(live: Cli, project: str) -> None:
    live("launch", project, "--name", "ends-soon", "--", "sleep", "1")
    done = live("wait", "--project", project, "--until", "paused", exits=4)
    assert "ends-soon has ended (terminated), so it will not be paused" in done.stderr


def test_typing_into_a_paused_one_names_the_way_on(live: Cli, project: str) -> None:
    live("launch", project, "--name", "still", "--", "sh")
    live("pause", "still")
    assert live("send", "still", "x", exits=4).stderr == (
        "stratavore: still is paused → `stratavore unpause still` lets it go on\n"
    )


def test_explain_says_that_it_was_given_up(live: Cli, project: str) -> None:
    never = ("--restart", "on-failure", "--max-restarts", "0", "--no-wait")
    live("launch", project, "--name", "hopeless", *never, "--", "false")
    live("wait", "hopeless", "--until", "failed")
    first = live("explain", "hopeless").stdout.splitlines()[0]
    assert first == (
        "hopeless is failed: it ended by itself (exit code 1), and that more often in a row"
        " than --max-restarts 0 allows, so it was given up"
    )
