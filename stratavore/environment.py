"""The environment of a runner: what passes from the caller's, what is added, and what may be shown of it.

Rule 1: nothing passes by default. The lists below and `environment.allow` say what does; `NAME*` is all that begin so.
Rule 2: what a parent agent, a bundler or Stratavore itself set for its own children never passes, whoever lists it.
Rule 3: what a person gives by name (`--env`, `environment.set`) is given as it is, after the filter, and wins over it.
Rule 4: the key to a provider of models passes only to agents that may need it, unless `environment.allow` has it.
Rule 5: HOME, USER, LOGNAME, SHELL, PATH and TERM are always there, as cron and systemd leave some of them out.

Nothing here reads the process's own environment or writes anything: all comes in as parameters.
"""

import os
import pwd
import re
from collections.abc import Callable, Collection, Iterable, Mapping
from typing import NamedTuple, Protocol

from stratavore.agents import PARENT_MARKERS, foreign_keys
from stratavore.agents.claude_telemetry import without_a_runners
from stratavore.errors import Invalid
from stratavore.shim.client import MARKER

OF_PEOPLE = (
    *("HOME", "USER", "LOGNAME", "SHELL", "PATH", "TZ", "TMPDIR", "XDG_*"),
    *("LANG", "LANGUAGE", "LC_*"),
    *("TERM", "COLORTERM", "TERM_PROGRAM", "NO_COLOR", "CLICOLOR", "LS_COLORS"),
    *("EDITOR", "VISUAL", "PAGER", "LESS", "BROWSER"),
    *("DISPLAY", "WAYLAND_DISPLAY", "XAUTHORITY", "DBUS_SESSION_BUS_ADDRESS"),
    *("SSH_AUTH_SOCK", "SSH_AGENT_PID", "SSH_ASKPASS", "GNUPGHOME"),
    *("GIT_AUTHOR_*", "GIT_COMMITTER_*", "GIT_SSH", "GIT_SSH_COMMAND", "GIT_CONFIG_GLOBAL"),
)
"""Who you are, where your things are, and how you like them. Not GIT_DIR and its like, which a git hook sets."""

OF_NETWORKS = (
    *("HTTP_PROXY", "HTTPS_PROXY", "ALL_PROXY", "FTP_PROXY", "NO_PROXY"),
    *("http_proxy", "https_proxy", "all_proxy", "ftp_proxy", "no_proxy"),
    *("SSL_CERT_FILE", "SSL_CERT_DIR", "NODE_EXTRA_CA_CERTS", "REQUESTS_CA_BUNDLE", "CURL_CA_BUNDLE"),
    "GIT_SSL_CAINFO",
)
"""How to get out, and whose certificates to trust."""

OF_TOOLCHAINS = (
    *("VIRTUAL_ENV", "CONDA_PREFIX", "CONDA_DEFAULT_ENV", "PYENV_ROOT", "PYENV_VERSION"),
    *(
        "NVM_DIR",
        "NVM_BIN",
        "VOLTA_HOME",
        "PNPM_HOME",
        "BUN_INSTALL",
        "DENO_DIR",
        "FNM_*",
        "ASDF_*",
        "MISE_*",
    ),
    *("CARGO_HOME", "RUSTUP_HOME", "RUSTUP_TOOLCHAIN", "GOPATH", "GOROOT", "GOPROXY", "JAVA_HOME"),
)
"""Where languages live. None of these makes a program load code that PATH would not."""

OF_AGENTS = (
    *("ANTHROPIC_*", "CLAUDE_CONFIG_DIR", "CLAUDE_CODE_OAUTH_TOKEN", "CLAUDE_CODE_SUBAGENT_MODEL"),
    *("CLAUDE_CODE_API_*", "CLAUDE_CODE_CLIENT_*", "CLAUDE_CODE_DISABLE_*", "CLAUDE_CODE_EFFORT_LEVEL"),
    *("CLAUDE_CODE_ENABLE_*", "CLAUDE_CODE_EXTRA_BODY", "CLAUDE_CODE_MAX_*", "CLAUDE_CODE_OTEL_*"),
    *("CLAUDE_CODE_SKIP_*", "CLAUDE_CODE_USE_*", "CLAUDE_CODE_TMPDIR", "VERTEX_REGION_*", "CLOUD_ML_REGION"),
    *("DISABLE_AUTOUPDATER", "DISABLE_TELEMETRY", "DISABLE_ERROR_REPORTING", "DISABLE_PROMPT_CACHING*"),
    *("DISABLE_COST_WARNINGS", "DO_NOT_TRACK", "MAX_THINKING_TOKENS", "MAX_MCP_OUTPUT_TOKENS"),
    *("MCP_TIMEOUT", "MCP_TOOL_TIMEOUT", "BASH_DEFAULT_TIMEOUT_MS", "BASH_MAX_TIMEOUT_MS"),
    *("BASH_MAX_OUTPUT_LENGTH", "OTEL_*", "AWS_*", "AZURE_*"),
    *("OPENAI_*", "CODEX_HOME", "CODEX_API_KEY"),
    *("GEMINI_*", "GOOGLE_*", "GCLOUD_PROJECT"),
    *(
        "OPENCODE_API_KEY",
        "OPENCODE_CONFIG*",
        "OPENCODE_DISABLE_*",
        "OPENCODE_ENABLE_*",
        "OPENCODE_PERMISSION",
    ),
    *(
        "OPENCODE_EXPERIMENTAL*",
        "OPENCODE_MODELS_URL",
        "OPENROUTER_API_KEY",
        "GROQ_API_KEY",
        "MISTRAL_API_KEY",
    ),
    *("DEEPSEEK_API_KEY", "XAI_API_KEY"),
)
"""The agents' own settings and keys. CLAUDE_CODE_* is not taken whole: half of it are marks for child processes."""

ALLOWED = (*OF_PEOPLE, *OF_NETWORKS, *OF_TOOLCHAINS, *OF_AGENTS)

OURS = ("STRATAVORE_*",)
OF_BUNDLERS = ("_MEI*", "_PYI_*", "LD_LIBRARY_PATH_ORIG")

DEFAULT_TERM = "xterm-256color"

_SECRET = re.compile(r"TOKEN|SECRET|PASSW|CREDENTIAL|PRIVATE|(^|_)(KEY|AUTH|PASS|PAT|HEADERS)(_|$)|APIKEY")
_USERINFO = re.compile(r"(?<=://)[^/@\s]+(?=@)")


class Account(NamedTuple):
    """What the system knows of the user that runners run as."""

    name: str
    home: str
    shell: str

    @classmethod
    def of_uid(cls, uid: int) -> "Account":
        """The entry of the user database; in a container there may be none."""
        try:
            entry = pwd.getpwuid(uid)
        except KeyError:
            return cls(str(uid), "/", "/bin/sh")
        return cls(entry.pw_name, entry.pw_dir or "/", entry.pw_shell or "/bin/sh")


class Configured(Protocol):
    """`[environment]` of the configuration."""

    @property
    def allow(self) -> Collection[str]: ...
    @property
    def set(self) -> Mapping[str, str]: ...


def runner_environment(
    *,
    caller: Mapping[str, str] | None,
    daemon: Mapping[str, str],
    config: Configured,
    explicit: Mapping[str, str],
    account: Account | None = None,
) -> dict[str, str]:
    """What a new runner is given, but for what its agent's adapter and the marker add at each start.

    `caller` is the whole environment of whoever asked, or None if it has none to offer (an HTTP request): then the
    daemon's stands for it. `explicit` is what the caller gave by name. `account` is this process's unless it is given.

    Raises:
        Invalid: a name or a value that no process can have.
    """
    offered = _unbundled(daemon if caller is None else caller)
    if inside := offered.get(MARKER):
        offered = without_a_runners(offered, inside)
    allowed = matching([*ALLOWED, *config.allow])
    denied = matching([*OURS, *OF_BUNDLERS, *PARENT_MARKERS])
    passed = {name: value for name, value in offered.items() if allowed(name) and not denied(name)}
    environment = {**passed, **config.set, **explicit}
    for name, value in _guaranteed(environment, account or Account.of_uid(os.getuid())).items():
        environment[name] = environment.get(name) or value
    _check(environment)
    return environment


def for_agent(
    environment: Mapping[str, str], kind: str, *, config: Configured, explicit: Collection[str]
) -> dict[str, str]:
    """The environment of a runner of that kind of agent: without the keys to others' providers that nobody named."""
    foreign, allowed = foreign_keys(kind), matching(config.allow)
    return {
        name: value
        for name, value in environment.items()
        if name not in foreign or name in config.set or name in explicit or allowed(name)
    }


def matching(patterns: Iterable[str]) -> Callable[[str], bool]:
    """Whether a name is one of `patterns`, which may end in `*`."""
    names = frozenset(patterns)
    prefixes = tuple(pattern[:-1] for pattern in names if pattern.endswith("*"))
    return lambda name: name in names or name.startswith(prefixes)


def masked(environment: Mapping[str, str]) -> dict[str, str]:
    """What may be shown: no value of a variable that sounds secret, and no name and password inside a URL."""
    return {
        name: "***" if _SECRET.search(name.upper()) and name != "SSH_AUTH_SOCK" else _USERINFO.sub("***", value)
        for name, value in environment.items()
    }


def _guaranteed(environment: Mapping[str, str], account: Account) -> dict[str, str]:
    home = environment.get("HOME") or account.home
    return {
        "HOME": home,
        "USER": account.name,
        "LOGNAME": account.name,
        "SHELL": account.shell,
        "PATH": f"{home}/.local/bin:/usr/local/bin:/usr/bin:/bin",
        "TERM": DEFAULT_TERM,
    }


def _unbundled(environment: Mapping[str, str]) -> Mapping[str, str]:
    """A bundled program sees its own libraries first; what the user had is in LD_LIBRARY_PATH_ORIG."""
    if not any(map(matching(OF_BUNDLERS), environment)):
        return environment
    own = {name: value for name, value in environment.items() if name != "LD_LIBRARY_PATH"}
    users = environment.get("LD_LIBRARY_PATH_ORIG")
    return {**own, "LD_LIBRARY_PATH": users} if users else own


def _check(environment: Mapping[str, str]) -> None:
    for name, value in environment.items():
        if not name or "=" in name or "\0" in name:
            raise Invalid(f"{name!r} cannot be the name of a variable", remedy="name it with letters, digits and _")
        if "\0" in value:
            raise Invalid(f"the value of {name} contains a NUL character", remedy="give it as plain text")
