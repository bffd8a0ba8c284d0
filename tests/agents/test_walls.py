"""What stands before an agent's prompt, or in the way of a tool, on its real screen, is known by its words."""

import json
from collections.abc import Callable
from pathlib import Path

import pytest

from stratavore.agents import Plain
from stratavore.model import Activity
from tests.agents.bench import KINDS, Bench
from tests.agents.terminal import Terminal
from tests.programs import needs, once_more

pytestmark = once_more()


def untrusted_claude(home: Path) -> None:
    settings = json.loads((home / ".claude.json").read_text())
    (home / ".claude.json").write_text(json.dumps(settings | {"projects": {}}))


def unapproved_key(home: Path) -> None:
    settings = json.loads((home / ".claude.json").read_text())
    (home / ".claude.json").write_text(json.dumps(settings | {"customApiKeyResponses": {}}))


def signed_out_codex(home: Path) -> None:
    (home / ".codex" / "config.toml").write_text("check_for_update_on_startup = false\n")


def codex_with_a_hook(home: Path) -> None:
    hook = {"hooks": [{"type": "command", "command": "true"}]}
    (home / ".codex" / "hooks.json").write_text(json.dumps({"hooks": {"UserPromptSubmit": [hook]}}))


def untrusted_gemini(home: Path) -> None:
    (home / ".gemini" / "trustedFolders.json").unlink()


def signed_out_gemini(home: Path) -> None:
    settings = json.loads((home / ".gemini" / "settings.json").read_text())
    del settings["security"]
    (home / ".gemini" / "settings.json").write_text(json.dumps(settings))


WALLS = [
    pytest.param(agent, change, marks=needs(agent), id=change.__name__)
    for agent, change in (
        ("claude", untrusted_claude),
        ("claude", unapproved_key),
        ("codex", signed_out_codex),
        ("codex", codex_with_a_hook),
        ("gemini", untrusted_gemini),
        ("gemini", signed_out_gemini),
    )
]


def shown(bench: Bench, terminal: Terminal) -> Activity | None:
    """What its dialogs make of the screen."""
    return next((activity for words, activity in bench.agent.dialogs if words in terminal.text()), None)


@pytest.mark.parametrize(("agent", "change"), WALLS)
def test_a_wall_is_a_question_to_a_person(agent: str, change: Callable[[Path], None], tmp_path: Path) -> None:
    with KINDS[agent].serve() as standin:
        bench = Bench(agent, tmp_path, standin)
        change(Path(bench.start.env["HOME"]))
        if change is signed_out_gemini:
            bench.start.env.pop("GEMINI_API_KEY")  # type: ignore[attr-defined]
        launch = bench.plan()
        with Terminal(launch.argv, {**bench.start.env, **launch.env}, Path(bench.start.cwd)) as terminal:
            terminal.until(lambda: shown(bench, terminal) is Activity.WAITING_INPUT, what="its wall is known")


@needs("gemini")
def test_gemini_begins_anew_by_itself_once_its_folder_is_trusted_and_has_its_prompt(tmp_path: Path) -> None:
    """Its inner process ends with 199; with us it would be a failed run."""
    with KINDS["gemini"].serve() as standin:
        bench = Bench("gemini", tmp_path, standin)
        untrusted_gemini(Path(bench.start.env["HOME"]))
        launch = bench.plan(prompt="count to 3")
        with Terminal(launch.argv, {**bench.start.env, **launch.env}, Path(bench.start.cwd)) as terminal:
            terminal.until_shown("Do you trust the files")
            terminal.until_quiet(0.3)
            terminal.type(b"\r")
            terminal.until_shown("word-3")
            assert bench.find_session(terminal) == bench.start.session_id
            assert bench.stop(terminal) == 0


@pytest.mark.parametrize("agent", [pytest.param("gemini", marks=needs("gemini"))])
def test_a_request_for_permission_is_known_by_its_dialog(agent: str, tmp_path: Path) -> None:
    mode = "default"
    with KINDS[agent].serve() as standin:
        bench = Bench(agent, tmp_path, standin)
        with bench.at_prompt(profile=Plain(permission_mode=mode)) as terminal:
            assert shown(bench, terminal) in (None, Activity.IDLE)
            bench.say(terminal, "run touch made-by-it")
            terminal.until(lambda: shown(bench, terminal) is Activity.WAITING_PERMISSION, what="its dialog is known")
