"""Sessions of the real agents: followed, resumed, forked, put back, taken over, imported, told apart."""

import json
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from tests.agents.terminal import Terminal
from tests.cli.conftest import Cli, end_everything
from tests.e2e.house import House, until
from tests.programs import needs, once_more, path
from tests.standins.server import JSON

pytestmark = [once_more(), pytest.mark.timeout(300)]


def of(agent: str) -> pytest.MarkDecorator:
    """For tests of that agent."""
    return pytest.mark.parametrize("house", [pytest.param(agent, marks=needs(agent))], indirect=True)


def look_often(house: House) -> None:
    """So that nobody waits ten seconds for the next look at the runners."""
    house.cli.environment["STRATAVORE_SUPERVISION_SAMPLE_INTERVAL"] = "1s"
    house.cli("daemon", "restart")


def session(house: House, session_id: str) -> JSON:
    return dict(house.cli.json("sessions", "show", session_id))


def until_session(house: House, session_id: str, **wanted: object) -> JSON:
    """What is known of it, once that is so: files are read and processes looked at a little later."""

    def look() -> list[JSON]:
        found = session(house, session_id)
        return [found] if all(found[name] == value for name, value in wanted.items()) else []

    return until(look, f"the session is {wanted}", look=0.3, more=lambda: session(house, session_id))[0]


def say(house: House, runner: JSON, prompt: str, answer: str) -> None:
    """A turn of Claude's, to its end."""
    house.cli("send", runner["name"], prompt)
    house.until_logged(runner["name"], answer)
    house.until_status(house.show(runner["name"]), "idle")


def stop(house: House, name: str) -> None:
    house.cli("stop", name)


@of("claude")
def test_claude_is_followed_over_clear_resumed_and_forked(house: House) -> None:
    worker = house.at_prompt("worker")
    first = worker["session_id"]
    say(house, worker, "count to 7", "word-7")
    house.cli("send", "worker", "/clear")
    second = str(until(lambda: {house.said(worker).get("sessionId")} - {first, None}, "another session").pop())
    until(lambda: house.show("worker")["session_id"] == second, "its hook has told of it", seconds=5)
    say(house, worker, "count to 9", "word-9")
    stop(house, "worker")
    for each, title in ((first, "count to 7"), (second, "count to 9")):
        found = until_session(house, each, messages=2, title=title, is_live=False, resumable=True)
        assert (found["runners"], found["agent"], found["project"]) == (["worker"], "claude", "demo")
        assert found["tokens"] > 0

    [again] = house.cli.json("resume", first, "--name", "again", *env_of(house))["runners"]
    house.until_prompt(again)
    assert house.said(again)["sessionId"] == first == again["session_id"]
    say(house, again, "count to 5", "word-5")
    assert house.heard_together("count to 7", "count to 5")
    assert not house.heard_together("count to 9", "count to 5")
    assert "again is in it now" in house.cli("resume", first, exits=4).stderr

    fork = house.launch("fork", "--fork", first)  # while it goes on
    house.until_prompt(fork)
    assert house.said(fork)["sessionId"] == fork["session_id"] != first
    say(house, fork, "count to 3", "word-3")
    assert house.heard_together("count to 7", "count to 3")
    found = session(house, fork["session_id"])
    assert (found["resumed_from"], found["runners"]) == (first, ["fork"])
    assert "count to 3" not in house.cli("sessions", "transcript", first).stdout
    texts = [turn["text"] for turn in house.cli.json("sessions", "transcript", fork["session_id"])["turns"]]
    assert [text for text in texts if text.startswith("count to")] == ["count to 7", "count to 5", "count to 3"]


@of("claude")
def test_a_transcript_that_claude_removed_is_put_back_for_its_resume(house: House) -> None:
    worker = house.at_prompt("worker")
    say(house, worker, "count to 7", "word-7")
    stop(house, "worker")
    found = until_copied(house, worker["session_id"])
    transcript = Path(found["transcript_path"])
    content = transcript.read_bytes()
    transcript.unlink()
    assert session(house, worker["session_id"])["resumable"]
    [again] = house.cli.json("resume", worker["session_id"], *env_of(house))["runners"]
    house.until_prompt(again)
    assert transcript.read_bytes().startswith(content)
    say(house, again, "count to 9", "word-9")
    assert house.heard_together("count to 7", "count to 9")


@of("claude")
def test_a_claude_of_nobodys_keeps_everybody_out_while_it_lives(house: House) -> None:
    with foreign(house, "count to 7", "word-7") as terminal:
        [found] = until(lambda: house.cli.json("sessions", "--foreign"), "it is read", look=0.3)
        assert (found["is_live"], found["project"], found["runners"]) == (True, "demo", [])
        refused = house.cli("adopt", found["id"], exits=4)
        assert f"pid {terminal.pid}" in refused.stderr
        launched = house.cli("launch", "demo", "--name", "beside", "--agent", "claude", *env_of(house))
        assert f"pid {terminal.pid}" in launched.stderr, "it is warned of"
        assert f"pid {terminal.pid}" in house.cli("projects", "delete", "demo", "-y", exits=4).stderr
    [adopted] = house.cli.json("adopt", found["id"], "--name", "taken", *env_of(house))["runners"]
    house.until_prompt(adopted)
    say(house, adopted, "count to 9", "word-9")
    assert house.heard_together("count to 7", "count to 9")
    assert not session(house, found["id"])["is_foreign"]


@of("claude")
def test_what_a_real_claude_left_is_imported_once(house: House, tmp_path: Path) -> None:
    worker = house.at_prompt("worker")
    say(house, worker, "count to 7", "word-7")
    stop(house, "worker")
    elsewhere = Cli(tmp_path / "elsewhere", house.cli.environment)
    try:
        first = elsewhere.json("import", "--agent", "claude")
        assert (first["failed"], first["sessions"], first["bad_lines"]) == (None, 1, 0)
        [found] = elsewhere.json("sessions")
        again = elsewhere.json("import", str(house.home / ".claude"))
        assert (again["failed"], again["calls"]) == (None, 0)
        assert elsewhere.json("sessions") == [found]
        ours = until_session(house, worker["session_id"], messages=found["messages"])
        assert (found["id"], found["tokens"]) == (ours["id"], ours["tokens"])
        assert found["is_foreign"]
    finally:
        end_everything(elsewhere)


@of("codex")
def test_two_codex_in_one_directory_are_told_apart(house: House) -> None:
    look_often(house)
    for name, prompt, answer in (("one", "count to 7", "word-7"), ("two", "count to 9", "word-9")):
        house.at_prompt(name)
        house.ask(name, prompt, answer)
    known = {name: house.wait_for(name, lambda runner: runner["session_id"])["session_id"] for name in ("one", "two")}
    assert len({*known.values()}) == 2
    for name, prompt in (("one", "count to 7"), ("two", "count to 9")):
        until_session(house, known[name], runners=[name], is_live=True)
        assert prompt in house.cli("sessions", "transcript", known[name]).stdout
    assert "one is in it now" in house.cli("resume", known["one"], exits=4).stderr
    house.cli("stop", "--all")
    [fork] = house.cli.json("launch", "demo", "--fork", known["one"], "--name", "fork", *env_of(house))["runners"]
    house.until_prompt(fork)
    house.ask("fork", "count to 3", "word-3")
    assert house.heard_together("count to 7", "count to 3")
    forked = house.wait_for("fork", lambda runner: runner["session_id"] not in (None, known["one"]))
    assert session(house, forked["session_id"])["resumed_from"] == known["one"]


@pytest.mark.long
@of("opencode")
def test_two_opencode_in_one_directory_are_of_nobody_until_each_says_its_own(house: House) -> None:
    look_often(house)
    for name, prompt, answer in (("one", "count to 7", "word-7"), ("two", "count to 9", "word-9")):
        house.at_prompt(name)
        house.ask(name, prompt, answer)
    for name in ("one", "two"):
        shown = house.wait_for(name, lambda runner: runner["session_detail"] or runner["session_id"])
        if name == "two":
            assert shown["session_id"] is None
            assert "another of its kind works in the same directory" in house.cli("explain", name).stdout
    stop(house, "one")
    stop(house, "two")
    ended = {name: house.show(name)["session_id"] for name in ("one", "two")}
    assert None not in ended.values()
    assert len({*ended.values()}) == 2
    for name, prompt in (("one", "count to 7"), ("two", "count to 9")):
        assert session(house, ended[name])["runners"] == [name]
        assert prompt in house.cli("sessions", "transcript", ended[name]).stdout


@pytest.mark.long
@of("opencode")
def test_what_opencode_exports_is_imported_into_it_again(house: House) -> None:
    house.at_prompt("worker")
    house.ask("worker", "count to 7", "word-7")
    stop(house, "worker")
    session_id = house.show("worker")["session_id"]
    until_copied(house, session_id)
    assert json.loads(house.cli("sessions", "export", session_id).stdout)["info"]["id"] == session_id
    removed = Terminal([path("opencode"), "session", "delete", session_id], {**os.environ, **house.seeds}, house.folder)
    with removed:
        removed.wait()
    assert session(house, session_id)["transcript_path"] is None
    [again] = house.cli.json("resume", session_id, "--name", "again", *env_of(house))["runners"]
    house.until_prompt(again)
    house.ask("again", "count to 9", "word-9")
    assert house.heard_together("count to 7", "count to 9")


@of("gemini")
def test_gemini_is_followed_over_clear_and_cannot_be_forked(house: House) -> None:
    look_often(house)
    worker = house.at_prompt("worker")
    first = worker["session_id"]
    house.ask("worker", "count to 7", "word-7")
    house.cli("send", "worker", "/clear")
    house.until_prompt(worker)
    house.ask("worker", "count to 9", "word-9")
    second = house.wait_for("worker", lambda runner: runner["session_id"] not in (None, first))["session_id"]
    stop(house, "worker")
    for each, prompt in ((first, "count to 7"), (second, "count to 9")):
        until_session(house, each, runners=["worker"], resumable=True)
        assert prompt in house.cli("sessions", "transcript", each).stdout
    assert "gemini cannot fork" in house.cli("launch", "demo", "--fork", first, exits=2).stderr
    [again] = house.cli.json("resume", first, "--name", "again", *env_of(house))["runners"]
    house.until_prompt(again)
    house.ask("again", "count to 5", "word-5")
    assert house.heard_together("count to 7", "count to 5")


def env_of(house: House) -> list[str]:
    """The variables that no runner is given by itself, as options."""
    return [word for key in house.seeds for word in ("--env", key)]


def until_copied(house: House, session_id: str) -> JSON:
    """What is known of it, once its end was copied."""
    found = until(lambda: copies(house, session_id), "it is copied", look=0.5)
    return found[0]


def copies(house: House, session_id: str) -> list[JSON]:
    found = session(house, session_id)
    return [found] if found["archived_at"] is not None else []


@contextmanager
def foreign(house: House, prompt: str, answer: str) -> Iterator[Terminal]:
    """A Claude that the person started in a terminal of their own, after its first turn."""
    environment = {**house.seeds, "TERM": "xterm-256color"}
    with Terminal([path("claude"), prompt], environment, house.folder) as terminal:
        terminal.until_shown(answer)
        state = house.home / ".claude" / "sessions" / f"{terminal.pid}.json"
        until(lambda: json.loads(state.read_text())["status"] == "idle", "its turn is over")
        yield terminal
