"""`new` and `projects`."""

from pathlib import Path

import pytest

from tests.cli.conftest import Cli


def test_new_takes_this_folder_and_every_setting(live: Cli, tmp_path: Path) -> None:
    live(
        *("new", "whole", "--agent", "shell", "--description", "what it is", "--tag", "a", "--tag", "b"),
        *("--max-runners", "7", "--max-memory", "2G", "--max-cpu", "150%", "--on-quota", "pause"),
        cwd=tmp_path,
    )
    found = live.json("projects", "show", "whole")
    assert found["path"] == str(tmp_path)
    assert (found["agent"], found["description"], found["tags"]) == ("shell", "what it is", ["a", "b"])
    assert (found["max_runners"], found["max_memory_bytes"], found["max_cpu_percent"]) == (7, 2 << 30, 150.0)
    assert found["on_quota"] == "pause"


def test_set_changes_what_is_given_and_clears_what_is_told(live: Cli, tmp_path: Path) -> None:
    live("new", "edited", "--path", str(tmp_path), "--max-memory", "1G", "--description", "stays")
    changed = live.json("projects", "set", "edited", "--max-runners", "9", "--no-max-memory")
    assert (changed["max_runners"], changed["max_memory_bytes"], changed["description"]) == (9, None, "stays")
    live("projects", "set", "edited", exits=2)


def test_archived_projects_are_listed_apart(live: Cli, tmp_path: Path) -> None:
    live("new", "put-away", "--path", str(tmp_path))
    live("projects", "archive", "put-away")
    assert "put-away" not in [project["name"] for project in live.json("projects")]
    assert "put-away" in [project["name"] for project in live.json("projects", "list", "--status", "archived")]
    assert "archived" in live("launch", "put-away", exits=4).stderr
    live("projects", "unarchive", "put-away")
    assert live.json("projects", "show", "put-away")["status"] == "idle"


def test_rename_and_delete_leave_the_directory_alone(live: Cli, tmp_path: Path) -> None:
    folder = tmp_path / "folder"
    folder.mkdir()
    live("new", "first", "--path", str(folder))
    live("projects", "rename", "first", "second")
    live("projects", "show", "first", exits=3)
    live("projects", "delete", "second", "--yes")
    live("projects", "show", "second", exits=3)
    assert folder.is_dir()


def test_a_taken_name_is_a_conflict(live: Cli, tmp_path: Path) -> None:
    live("new", "taken", "--path", str(tmp_path))
    live("new", "taken", "--path", str(tmp_path), exits=4)


@pytest.mark.parametrize("name", ["a/b", "-x", "", "a\x1b[2J", "a b", "x" * 65])
def test_a_bad_name_is_refused_and_nothing_of_it_reaches_the_terminal(live: Cli, tmp_path: Path, name: str) -> None:
    done = live("new", "--path", str(tmp_path), "--", name, exits=2)
    assert "\x1b" not in done.stderr


def test_a_directory_that_is_not_there_is_refused(live: Cli, tmp_path: Path) -> None:
    live("new", "nowhere", "--path", str(tmp_path / "nowhere"), exits=2)


def test_the_table_names_each_project_with_its_room(live: Cli, tmp_path: Path) -> None:
    live("new", "in-the-table", "--path", str(tmp_path), "--max-runners", "3")
    lines = live("projects").stdout.splitlines()
    assert lines[0].split() == ["NAME", "STATUS", "RUNNERS", "AGENT", "TAGS", "PATH"]
    assert any(line.split()[:3] == ["in-the-table", "idle", "0/3"] for line in lines)


def test_deleting_one_without_a_terminal_needs_a_yes(live: Cli, project: str) -> None:
    done = live("projects", "delete", project, exits=2)
    assert "nothing was done" in done.stderr
    assert done.stderr.endswith("→ agree beforehand with `--yes`\n")
    assert live.json("projects", "show", project)["name"] == project


def test_one_that_is_called_like_a_command_is_entered_with_open(live: Cli, tmp_path: Path) -> None:
    made = live("new", "launch", "--path", str(tmp_path))
    assert made.stdout == f"launch is {tmp_path}; `stratavore open launch` begins.\n"
    assert "launch is a command, too" in made.stderr
    renamed = live("projects", "rename", "launch", "stop")
    assert "entered with `stratavore open stop`" in renamed.stderr
    live("projects", "delete", "stop", "-y")


def test_a_tilde_that_no_shell_expanded_is_the_home(live: Cli) -> None:
    home = Path(live.environment["HOME"])
    made = live.json("new", "tilde", "--path=~")
    assert made["path"] == str(home)
    (home / "variables").write_text("TILDE=was-expanded\n")
    plan = live.json("launch", "tilde", "--agent", "shell", "--env-file=~/variables", "--dry-run", "--", "true")
    assert plan["environment"]["TILDE"] == "was-expanded"
