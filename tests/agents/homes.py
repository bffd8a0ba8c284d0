"""A scratch HOME for each agent, in which it starts straight at its prompt and talks to a stand-in.

A person answers the agents' first questions once (which theme, which account, is this folder trusted); the tests write
down the answers beforehand, in the places where each agent keeps them.
"""

import json
from collections.abc import Callable, Mapping
from pathlib import Path

from tests import programs

KEY = "sk-stand-in-0123456789-0123456789"


def seeded_home(agent: str, home: Path, cwd: Path, url: str) -> dict[str, str]:
    """Prepare `home` for the agent to run in `cwd` against the stand-in at `url`; the environment to run it with."""
    home.mkdir(parents=True, exist_ok=True)
    env = {"HOME": str(home), "PATH": programs.PATH, "LANG": "C.UTF-8", "SHELL": "/bin/sh"}
    return env | _SEEDS[agent](home, cwd.resolve(), url)


def _claude(home: Path, cwd: Path, url: str) -> dict[str, str]:
    answers = {
        "hasCompletedOnboarding": True,
        "customApiKeyResponses": {"approved": [KEY[-20:]], "rejected": []},
        "projects": {str(cwd): {"hasTrustDialogAccepted": True}},
    }
    _write(home / ".claude.json", json.dumps(answers))
    return {
        "ANTHROPIC_BASE_URL": url,
        "ANTHROPIC_API_KEY": KEY,
        "CLAUDE_CODE_DISABLE_NONESSENTIAL_TRAFFIC": "1",
        "DISABLE_AUTOUPDATER": "1",
        "DISABLE_ERROR_REPORTING": "1",
        "DISABLE_TELEMETRY": "1",
    }


def _codex(home: Path, cwd: Path, url: str) -> dict[str, str]:
    config = f"""
        model = "stand-in"
        model_provider = "stand-in"
        check_for_update_on_startup = false
        [analytics]
        enabled = false
        [model_providers.stand-in]
        name = "stand-in"
        base_url = "{url}/v1"
        env_key = "STANDIN_KEY"
        wire_api = "responses"
        [projects."{cwd}"]
        trust_level = "trusted"
    """
    _write(home / ".codex" / "config.toml", config)
    return {"STANDIN_KEY": KEY}


def _gemini(home: Path, cwd: Path, url: str) -> dict[str, str]:
    settings = {
        "security": {"auth": {"selectedType": "gemini-api-key"}},
        "privacy": {"usageStatisticsEnabled": False},
        "general": {"enableAutoUpdate": False},
        "model": {"name": "gemini-2.5-flash"},
    }
    _write(home / ".gemini" / "settings.json", json.dumps(settings))
    _write(home / ".gemini" / "trustedFolders.json", json.dumps({str(cwd): "TRUST_FOLDER"}))
    # It leaves a report of each failed request in the temporary directory.
    return {"GEMINI_API_KEY": KEY, "GOOGLE_GEMINI_BASE_URL": url, "TMPDIR": str(home)}


def _opencode(home: Path, cwd: Path, url: str) -> dict[str, str]:
    provider = {
        "npm": "@ai-sdk/openai-compatible",
        "options": {"baseURL": f"{url}/v1", "apiKey": KEY},
        "models": {"m": {"limit": {"context": 100_000, "output": 1000}}},
    }
    config = {"provider": {"stand-in": provider}, "model": "stand-in/m", "small_model": "stand-in/m"}
    _write(home / ".config" / "opencode" / "opencode.json", json.dumps(config))
    # It would fetch its plug-ins from npm; a port that nothing listens on answers at once.
    offline = {"npm_config_registry": "http://127.0.0.1:9/", "npm_config_fetch_retries": "0"}
    return {"OPENCODE_DISABLE_AUTOUPDATE": "1", "OPENCODE_DISABLE_MODELS_FETCH": "1", **offline}


def _write(path: Path, text: str) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text)


_SEEDS: Mapping[str, Callable[[Path, Path, str], dict[str, str]]] = {
    "claude": _claude,
    "codex": _codex,
    "gemini": _gemini,
    "opencode": _opencode,
}
