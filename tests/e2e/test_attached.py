"""A person in a Claude session: through a terminal of their own, and through tmux."""

from collections.abc import Iterator

import pytest

from tests.e2e.house import House, counted, until
from tests.e2e.terminals import Tmux, terminal
from tests.programs import needs, once_more

pytestmark = [needs("claude"), once_more(), pytest.mark.timeout(150)]


def test_a_person_talks_to_claude_and_leaves_it_working(house: House) -> None:
    runner = house.at_prompt("worker")
    with terminal(house, "attach", "worker") as person:
        person.until_seen("❯")
        # On the screen Claude may have painted over it meanwhile.
        assert b"[stratavore: attached to worker; detach with Ctrl-\\ d]" in person.printed
        person.ask("count to 7")
        person.until_seen("● word-1 word-2 word-3 word-4 word-5 word-6 word-7")
        house.until_status(runner, "idle")
        person.ask("count to 100 slowly")
        person.until_seen("word-9 ")
        person.leave()
    house.until_logged("worker", "word-100")
    assert house.show("worker")["pid"] == runner["pid"]


def test_who_is_attached_notices_nothing_when_the_daemon_is_killed(house: House) -> None:
    runner = house.at_prompt("worker")
    with terminal(house, "attach", "worker") as person:
        person.until_seen("❯")
        dead = house.kill_daemon()
        person.ask("count to 150 slowly")
        person.until_seen("word-30")
        assert house.until_daemon() != dead
        person.until_seen("word-150")
        assert counted(person.screen()) == [*range(1, 151)]
        house.until_status(runner, "idle")
        person.ask("say still-here")
        person.until_seen("● still-here")
        person.leave()


def test_a_second_terminal_watches_or_takes_over(house: House) -> None:
    runner = house.at_prompt("worker")
    with terminal(house, "attach", "worker") as first:
        first.until_seen("❯")
        with terminal(house, "attach", "worker") as refused:
            refused.until_seen("watch with `--read-only`")
            refused.until_closed(exits=4)
        with terminal(house, "attach", "--read-only", "worker") as watcher:
            watcher.until_seen("❯")
            watcher.type("a watcher types this\r")
            first.ask("count to 7")
            watcher.until_seen("● word-1 word-2 word-3 word-4 word-5 word-6 word-7")
            watcher.leave()
        house.until_status(runner, "idle")
        with terminal(house, "attach", "--takeover", "worker") as second:
            second.until_seen("word-7")
            first.until_seen("another terminal took over")
            first.until_closed(exits=4)
            second.ask("say mine-now")
            second.until_seen("● mine-now")
            second.leave()
    assert not house.heard_together("a watcher types this")


def test_through_a_restart_the_person_stays_in_the_conversation(house: House) -> None:
    house.at_prompt("worker")
    with terminal(house, "attach", "worker") as person:
        person.until_seen("❯")
        person.ask("count to 7")
        person.until_seen("● word-1")
        house.cli("restart", "worker")
        person.until_seen("started again")
        person.until_seen("● word-1")
        house.until_prompt(house.show("worker"))
        person.ask("say still-here")
        person.until_seen("● still-here")
        person.leave()
    assert house.heard_together("count to 7", "say still-here")


def test_up_leads_from_a_new_folder_into_claude_and_back(house: House) -> None:
    """The quick start of the README: the folder is no project yet, and no daemon runs."""
    house.cli("projects", "delete", "demo", "--yes")
    house.cli("daemon", "stop")
    with terminal(house, "up", cwd=house.folder) as person:
        person.until_seen("is now the project project")
        person.until_seen("❯")
        [runner] = house.cli.json("ps")
        assert (runner["project"], runner["agent"]) == ("project", "claude")
        house.until_prompt(runner)
        person.ask("count to 7")
        person.until_seen("● word-1")
        person.leave()
    with terminal(house, "up", cwd=house.folder) as person:
        person.until_seen("● word-1")
        person.leave()
    assert [each["pid"] for each in house.cli.json("ps")] == [runner["pid"]]


@pytest.fixture
def tmux(house: House) -> Iterator[Tmux]:
    tmux = Tmux(house)
    yield tmux
    tmux("kill-server")


@needs("tmux")
def test_in_tmux_the_screen_is_claudes_until_the_shell_is_back_as_it_was(house: House, tmux: Tmux) -> None:
    house.at_prompt("worker")
    tmux.run("echo", "before")
    tmux.until_seen("\nbefore\n")
    modes = tmux.modes()
    tmux.run(*house.cli.command("attach", "worker"))
    tmux.until_seen("❯")
    tmux("send-keys", "count to 7")
    tmux.until_seen("count to 7")
    tmux("send-keys", "Enter")
    tmux.until_seen("● word-1 word-2 word-3 word-4 word-5 word-6 word-7")
    tmux("send-keys", "C-\\", "d")
    tmux.until_seen("[stratavore: detached]")
    until(lambda: tmux.modes() == modes, "the window is set as before", look=0.1, more=tmux.modes)
    tmux.run("sh", "-c", "echo shell-$((1+1)); stty -a | grep -ow '.*icanon'")
    tmux.until_seen("shell-2\n")
    assert "-icanon" not in tmux.screen()
    assert house.show("worker")["state"] == "running"
