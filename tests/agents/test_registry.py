"""Which agent a name stands for."""

from pathlib import Path

import pytest

from stratavore import errors
from stratavore.agents import AGENTS, PARENT_MARKERS, Plain, first_on_path, resolve
from stratavore.config import Profile


def test_a_name_stands_for_the_agent_or_for_the_profile() -> None:
    work = Profile(agent="claude", model="opus")
    assert resolve("claude", {}) == (AGENTS["claude"], Plain())
    assert resolve("work", {"work": work}) == (AGENTS["claude"], work)


def test_a_profile_of_an_agents_own_name_is_made_of_that_agent() -> None:
    profile = Profile(model="opus")
    assert resolve("claude", {"claude": profile}) == (AGENTS["claude"], profile)


def test_an_unknown_name_is_answered_with_the_known_ones() -> None:
    with pytest.raises(errors.NotFound, match="claude, codex, gemini, opencode, shell, work"):
        resolve("clod", {"work": Profile(agent="claude")})


def test_a_profile_of_no_agent_is_a_mistake_in_the_configuration() -> None:
    with pytest.raises(errors.Misconfigured, match=r"\[agents.work\]"):
        resolve("work", {"work": Profile(agent="clod")})


def test_the_first_agent_on_the_path_is_taken_else_the_shell(tmp_path: Path) -> None:
    env = {"PATH": str(tmp_path)}
    assert first_on_path(env) == "shell"
    for name in ("opencode", "codex"):
        (tmp_path / name).write_text("#!/bin/sh\n")
        (tmp_path / name).chmod(0o755)
    assert first_on_path(env) == "codex"


def test_the_markers_of_every_agent_are_dropped() -> None:
    assert {
        "CLAUDECODE",
        "CLAUDE_CODE_SESSION_ID",
        "CODEX_THREAD_ID",
        "GEMINI_CLI",
        "OPENCODE",
    } <= PARENT_MARKERS
