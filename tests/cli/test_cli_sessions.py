"""Sessions on the command line: brought in, listed, read, resumed, chosen, forked, adopted, exported."""

import json
import re
import shutil
import signal
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pexpect
import pytest

from stratavore.agents.agent import start_ticks
from tests.chaos.house import until
from tests.cli.conftest import SECONDS, Cli, clean_environment, end_everything
from tests.test_verbs_importing import A, B, left_by_claude

CLAUDE = "#!/bin/sh\nexec sleep 1000\n"


@pytest.fixture
def here(tmp_path: Path) -> Iterator[Cli]:
    """A person with a `claude` that only waits, who used it before in `work`, and has no daemon yet."""
    environment = clean_environment(tmp_path)
    programs = tmp_path / "bin"
    programs.mkdir()
    (programs / "claude").write_text(CLAUDE)
    (programs / "claude").chmod(0o755)
    environment["PATH"] = f"{programs}:{environment['PATH']}"
    (tmp_path / "work").mkdir()
    for session_id in (A, B):
        left_by_claude(tmp_path / "user" / ".claude", session_id, tmp_path / "work")
    cli = Cli(tmp_path / "home", environment)
    try:
        yield cli
    finally:
        end_everything(cli)


@pytest.fixture
def known(here: Cli, tmp_path: Path) -> Cli:
    """The same, once all was imported, and `work` is a project."""
    here("import")
    here("new", "work", "--path", str(tmp_path / "work"))
    return here


@contextmanager
def terminal(cli: Cli, *argv: str) -> Iterator["pexpect.spawn[str]"]:
    program, *words = cli.command(*argv)
    child = pexpect.spawn(program, words, env=cli.environment, encoding="utf-8", timeout=SECONDS, dimensions=(40, 200))
    try:
        yield child
    finally:
        child.close(force=True)


def one(launched: dict[str, Any]) -> dict[str, Any]:
    [runner] = launched["runners"]
    return dict(runner)


def test_an_import_says_what_it_brought_in_and_does_not_count_it_twice(here: Cli) -> None:
    first = here("import", "--agent", "claude")
    assert first.stdout.startswith("2 sessions and 4 calls brought in from 2 files")
    again = here.json("import")
    assert (again["failed"], again["calls"], again["new_sessions"], again["known_sessions"]) == (None, 0, 0, 2)
    told = here("import", "--agent", "claude").stdout
    assert told.startswith("0 sessions and 0 calls brought in (2 sessions known already) from 2 files")
    listed = here.json("sessions", "--foreign")
    assert {(each["id"], each["is_foreign"], each["messages"], each["tokens"]) for each in listed} == {
        (A, True, 4, 30),
        (B, True, 4, 30),
    }
    path = here.home.parent / "user" / ".claude"
    assert "0 calls" in here("import", str(path)).stdout
    shutil.copytree(path, here.home.parent / "copy")
    copied = here("import", str(here.home.parent / "copy")).stdout
    assert copied.startswith("0 sessions and 0 calls brought in (2 sessions known already) from 2 files")
    assert here.json("sessions", "--foreign") == listed
    assert "codex has left nothing here" in here("import", "--agent", "codex", exits=3).stderr


def test_an_import_on_a_terminal_shows_a_bar(here: Cli) -> None:
    with terminal(here, "import") as child:
        child.expect("Reading")
        child.expect("100%")
        child.expect("2 sessions")
        child.expect(pexpect.EOF)


def test_an_interrupted_import_is_stopped_and_says_so(here: Cli, tmp_path: Path) -> None:
    for number in range(60):
        left_by_claude(tmp_path / "user" / ".claude", f"{A[:-2]}{number:02}", tmp_path / "work", turns=200)
    here("daemon", "start")
    child = subprocess.Popen(here.command("import"), env=here.environment, stderr=subprocess.PIPE, text=True)
    until(lambda: here.json("sessions"))
    child.send_signal(signal.SIGINT)
    _, told = child.communicate(timeout=SECONDS)
    assert child.returncode == 130
    assert "the import is stopped" in told or "the import had ended" in told
    here("import")
    assert sum(each["messages"] for each in here.json("sessions")) == 60 * 400


def test_a_list_shows_what_can_be_resumed_and_why_the_rest_cannot(known: Cli, tmp_path: Path) -> None:
    printed = known("sessions").stdout
    assert A[:13] in printed
    assert "yes" in printed
    (tmp_path / "user" / ".claude" / "projects" / "any" / f"{A}.jsonl").unlink()
    assert "no: its transcript has gone" in known("sessions").stdout
    assert [each["id"] for each in known.json("sessions", "--resumable")] == [B]
    assert known.json("sessions", "--since", "1h") == []
    assert len(known.json("sessions", "--since", "2020-01-01", "--project", "work", "--agent", "claude")) == 2
    known("sessions", "--project", "nonsense", exits=3)


def test_one_is_shown_with_what_was_said_and_nothing_moves_the_cursor(known: Cli, tmp_path: Path) -> None:
    path = tmp_path / "user" / ".claude" / "projects" / "any" / f"{A}.jsonl"
    path.write_text(path.read_text().replace("answer 1", "answer \\u001b[2J\\u0007one"))
    shown = known("sessions", "show", A[:8] + A[8:], "--transcript").stdout
    assert "claude-opus-4-8" in shown
    assert "── user" in shown
    assert "question 0" in shown
    transcript = known("sessions", "transcript", A).stdout
    assert "\x1b" not in transcript
    assert "\x07" not in transcript
    assert "one" in transcript
    turns = known.json("sessions", "transcript", A)["turns"]
    assert {turn["role"] for turn in turns} == {"user", "assistant"}
    assert known.json("sessions", "show", A)["id"] == A
    assert "fits several sessions" in known("sessions", "show", A[:8], exits=4).stderr


def test_a_session_is_resumed_once_and_by_its_id(known: Cli) -> None:
    known("resume", A, "--no-wait", "--attach", exits=2)
    inside = known("resume", A, exits=8, env={"STRATAVORE_RUNNER": "abcdefghij"}).stderr
    assert "`stratavore resume` was asked from inside runner" in inside
    wrong = known("resume", A, "--project", "elsewhere", exits=2).stderr
    assert f"session {A} is of project work, not of elsewhere → leave --project out" in wrong
    asked = one(known.json("resume", A, "--project", "work", "--name", "again", "--no-wait"))
    assert asked["state"] in ("starting", "running")
    runner = known.json("show", "again")
    assert (runner["session_id"], runner["project"]) == (A, "work")
    known("wait", "again", "--until", "running")
    runner = known.json("show", "again")
    assert runner["argv"][1:3] == ["--resume", A]
    refused = known("resume", A, exits=4)
    assert "again is in it now" in refused.stderr
    found = known.json("sessions", "show", A)
    assert (found["is_live"], found["runners"], found["is_foreign"]) == (True, ["again"], False)


def test_who_is_in_it_elsewhere_is_named(known: Cli, tmp_path: Path) -> None:
    child = subprocess.Popen(["sleep", "1000"])
    try:
        state = tmp_path / "user" / ".claude" / "sessions" / f"{child.pid}.json"
        state.parent.mkdir()
        state.write_text(json.dumps({"sessionId": A, "procStart": str(start_ticks(child.pid))}))
        for verb in ("resume", "adopt"):
            assert f"pid {child.pid}" in known(verb, A, exits=4).stderr
        [live] = [each for each in known.json("sessions", "--foreign") if each["is_live"]]
        assert live["id"] == A
    finally:
        child.kill()
        child.wait()
    adopted = known("adopt", A, "--json")
    assert f"goes on with session {A} “question 0” (claude, " in adopted.stderr
    assert one(json.loads(adopted.stdout))["session_id"] == A
    known("stop", "--all")
    assert "is ours already" in known("adopt", A, exits=4).stderr


def test_without_a_name_it_is_chosen_on_a_terminal_and_asked_for_elsewhere(known: Cli) -> None:
    assert "which session?" in known("resume", exits=2).stderr
    with terminal(known, "resume") as child:
        child.expect_exact("Which one (q: none)")
        child.sendline("q")
        child.expect(pexpect.EOF)
    assert child.wait() == 130
    with terminal(known, "resume") as child:
        child.expect("Which one")
        child.sendline("3")
        child.expect("say a number from 1 to 2")
        child.sendline("2")
        child.expect("running")
        child.expect(pexpect.EOF)
    [runner] = known.json("ps")
    assert runner["session_id"] in (A, B)


def test_launch_goes_on_with_the_newest_or_with_a_copy(known: Cli) -> None:
    fork = one(known.json("launch", "work", "--fork", B, "--agent", "claude"))
    assert fork["argv"][1:4] == ["--resume", B, "--fork-session"]
    assert fork["session_id"] not in (A, B)
    [unread] = [line for line in known("sessions").stdout.splitlines() if fork["session_id"][:13] in line]
    assert re.search(r" -  +-  +-  +no", unread), "no 0 where nobody has looked"
    launched = known.json("launch", "work", "--continue")
    newest, taken = one(launched), launched["goes_on_with"]
    assert newest["session_id"] == taken["id"] == B
    assert (taken["agent"], taken["is_fork"], taken["last_message_at"][:10]) == ("claude", False, "2026-03-01")
    assert "--continue" not in newest["argv"]
    copied = known("launch", "work", "--fork", B, "--agent", "claude").stderr
    assert f"begins with a copy of session {B} “question 0” (claude, " in copied
    second = known("launch", "work", "--continue")
    assert f"goes on with session {A} “question 0” (claude, " in second.stderr
    assert "too" in second.stderr, "others work in the same directory"
    none = known("launch", "work", "--continue", exits=3)
    assert "has no session that can be resumed" in none.stderr
    assert "one session" in known("launch", "work", "--continue", "--fork", A, exits=2).stderr


def test_who_asks_for_one_that_is_too_new_to_be_known_is_told_how_it_becomes_known(here: Cli) -> None:
    here("daemon", "start")
    assert "`stratavore import` reads at once" in here("sessions", "show", "5555", exits=3).stderr
    assert "`stratavore import` reads at once" in here("resume", "5555", exits=3).stderr


def test_a_session_of_no_project_makes_its_directory_one(here: Cli) -> None:
    here("import")
    done = here("resume", A[:-1] + "1", "--no-wait")
    assert "is now the project work" in done.stderr
    assert f"goes on with session {A} “question 0” (claude, " in done.stderr
    assert here.json("sessions", "show", A)["project"] == "work"


def test_a_copy_outlives_the_transcript(known: Cli, tmp_path: Path) -> None:
    path = tmp_path / "user" / ".claude" / "projects" / "any" / f"{A}.jsonl"
    content = path.read_text()
    assert known("sessions", "export", A).stdout == content
    out = tmp_path / "no room for this"
    export = known.command("sessions", "export", A, "--output", str(out))
    argv = ["sh", "-c", 'ulimit -f 0; exec "$@"', "sh", *export]
    done = subprocess.run(argv, env=known.environment, capture_output=True, text=True, timeout=SECONDS)
    assert "File too large" in done.stderr
    assert [left for left in tmp_path.iterdir() if out.name in left.name] == [], "not even half of it"
    assert A in known("sessions", "archive", A).stdout
    path.unlink()
    assert known("sessions", "export", A).stdout == content
    target = tmp_path / "out.jsonl"
    known("sessions", "export", A, "--output", str(target))
    assert target.read_text() == content
    known("sessions", "export", A, "--output", str(target), exits=2)
    for nowhere in (tmp_path / "nonexistent", Path("/proc"), target):
        refused = known("sessions", "export", A, "--output", str(nowhere / "f"), exits=2).stderr
        assert f"the file {nowhere}/f cannot be made → name one in a directory" in refused
    assert "question 0" in known("sessions", "transcript", A).stdout
    known("resume", A)
    assert path.read_text() == content


def test_reading_goes_without_a_daemon(known: Cli) -> None:
    known("daemon", "stop")
    off = {"STRATAVORE_DAEMON_AUTOSTART": "false"}
    done = known("sessions", "--json", env=off)
    assert {each["id"] for each in json.loads(done.stdout)} == {A, B}
    assert "showing what the database knew" in done.stderr
    assert "question 0" in known("sessions", "transcript", A, env=off).stdout


def test_the_shell_completes_sessions(known: Cli) -> None:
    words = {"COMP_WORDS": f"stratavore resume {A[:5]}", "COMP_CWORD": "2", "_STRATAVORE_COMPLETE": "bash_complete"}
    completed = known(env=words).stdout
    assert A in completed
    assert B in completed
    known("resume", A)
    completed = known(env={**words, "COMP_WORDS": f"stratavore adopt {A[:5]}"}).stdout
    assert A not in completed, "it is ours now"
    assert B in completed
