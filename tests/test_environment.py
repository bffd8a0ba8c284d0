"""What a runner's environment holds, and what it never holds."""

from collections.abc import Mapping

import pytest
from hypothesis import given
from hypothesis import strategies as st

from stratavore.agents import PARENT_MARKERS, Telemetry, claude_telemetry
from stratavore.agents.keys import KEYS
from stratavore.config import Environment
from stratavore.environment import ALLOWED, Account, for_agent, masked, runner_environment
from stratavore.errors import Invalid

ANNA = Account("anna", "/home/anna", "/bin/zsh")
USUAL = {
    "HOME": "/home/anna",
    "USER": "anna",
    "LOGNAME": "anna",
    "SHELL": "/bin/zsh",
    "PATH": "/bin",
    "TERM": "xterm",
}


def environment_of(
    caller: Mapping[str, str] | None = None,
    *,
    daemon: Mapping[str, str] | None = None,
    configured: Environment | None = None,
    explicit: Mapping[str, str] | None = None,
) -> dict[str, str]:
    return runner_environment(
        caller=caller,
        daemon=daemon or {},
        config=configured or Environment(),
        explicit=explicit or {},
        account=ANNA,
    )


@pytest.mark.parametrize(
    "name",
    "LANG LC_ALL COLORTERM TZ SSH_AUTH_SOCK https_proxy NO_PROXY XDG_CONFIG_HOME EDITOR NODE_EXTRA_CA_CERTS DISPLAY "
    "VIRTUAL_ENV ANTHROPIC_API_KEY ANTHROPIC_BASE_URL CLAUDE_CODE_OAUTH_TOKEN CLAUDE_CODE_USE_BEDROCK "
    "CLAUDE_CONFIG_DIR CLAUDE_CODE_DISABLE_NONESSENTIAL_TRAFFIC AWS_PROFILE GOOGLE_CLOUD_PROJECT GEMINI_API_KEY "
    "OPENAI_API_KEY CODEX_HOME OPENCODE_DISABLE_AUTOUPDATE".split(),
)
def test_what_people_networks_and_agents_need_passes(name: str) -> None:
    assert environment_of({**USUAL, name: "x"}) == {**USUAL, name: "x"}


@pytest.mark.parametrize(
    "name", ["GH_TOKEN", "LD_PRELOAD", "NODE_OPTIONS", "PYTHONPATH", "GIT_DIR", "TMUX", "PS1", "path"]
)
def test_nothing_else_passes(name: str) -> None:
    assert name not in environment_of({**USUAL, name: "x"})


@pytest.mark.parametrize(
    ("kind", "keys"),
    [
        ("claude", {"ANTHROPIC_API_KEY"}),
        ("codex", {"OPENAI_API_KEY", "XAI_API_KEY"}),
        ("gemini", {"GEMINI_API_KEY"}),
        ("opencode", {"ANTHROPIC_API_KEY", "OPENAI_API_KEY", "GEMINI_API_KEY", "XAI_API_KEY"}),
        ("shell", {"ANTHROPIC_API_KEY", "OPENAI_API_KEY", "GEMINI_API_KEY", "XAI_API_KEY"}),
    ],
)
def test_the_keys_of_others_do_not_pass(kind: str, keys: set[str]) -> None:
    everybodys = dict.fromkeys(("ANTHROPIC_API_KEY", "OPENAI_API_KEY", "GEMINI_API_KEY", "XAI_API_KEY"), "k")
    given = for_agent({**USUAL, **everybodys}, kind, config=Environment(), explicit=())
    assert given.keys() == USUAL.keys() | keys


@pytest.mark.parametrize(
    ("configured", "explicit"),
    [
        (Environment(allow=("GEMINI_*",)), ()),
        (Environment(set={"GEMINI_API_KEY": "k"}), ()),
        (Environment(), ("GEMINI_API_KEY",)),
    ],
    ids=["allowed", "set", "named"],
)
def test_the_key_of_another_passes_to_whom_somebody_names_it(
    configured: Environment, explicit: tuple[str, ...]
) -> None:
    environment = {**USUAL, "GEMINI_API_KEY": "k"}
    assert for_agent(environment, "claude", config=configured, explicit=explicit) == environment


def test_every_key_is_one_that_may_pass() -> None:
    assert environment_of({**USUAL, **dict.fromkeys(KEYS, "k")}).keys() >= KEYS


def test_the_configuration_lets_more_pass_by_name_and_by_prefix() -> None:
    caller = {**USUAL, "GH_TOKEN": "1", "MY_A": "2", "MYX": "3"}
    allowed = environment_of(caller, configured=Environment(allow=("GH_TOKEN", "MY_*")))
    assert allowed == {**USUAL, "GH_TOKEN": "1", "MY_A": "2"}


@pytest.mark.parametrize("name", sorted(PARENT_MARKERS | {"STRATAVORE_RUNNER", "STRATAVORE_HOME", "_PYI_ARCHIVE_FILE"}))
def test_marks_for_child_processes_never_pass_even_if_everything_is_allowed(name: str) -> None:
    assert name not in environment_of({**USUAL, name: "x"}, configured=Environment(allow=("*",)))


def test_what_is_launched_from_inside_a_runner_does_not_get_that_runners_bearer() -> None:
    own = claude_telemetry.variables(Telemetry("http://127.0.0.1:4", {"Authorization": "Bearer abcdefghij.00ff"}))
    inside = environment_of({**own, "STRATAVORE_RUNNER": "abcdefghij"})
    assert not own.keys() & inside.keys()
    another = environment_of({**own, "STRATAVORE_RUNNER": "somebody22"})
    assert own.keys() <= another.keys()


def test_a_bundled_callers_library_path_is_replaced_by_the_users_own() -> None:
    everything = Environment(allow=("*",))
    bundled = {**USUAL, "_MEIPASS2": "/tmp/x", "LD_LIBRARY_PATH": "/tmp/x"}
    assert environment_of(bundled, configured=everything) == USUAL
    kept = environment_of({**bundled, "LD_LIBRARY_PATH_ORIG": "/opt/lib"}, configured=everything)
    assert kept == {**USUAL, "LD_LIBRARY_PATH": "/opt/lib"}
    plain = {**USUAL, "LD_LIBRARY_PATH": "/opt/lib"}
    assert environment_of(plain, configured=everything) == plain


def test_what_is_given_by_name_is_given_as_it_is_and_the_nearest_wins() -> None:
    configured = Environment(set={"A": "configured", "B": "configured"}, allow=("A",))
    environment = environment_of(
        {**USUAL, "A": "caller"}, configured=configured, explicit={"B": "explicit", "PS1": "$"}
    )
    assert environment == {**USUAL, "A": "configured", "B": "explicit", "PS1": "$"}


def test_a_caller_without_an_environment_gets_what_the_daemon_may_give() -> None:
    daemon = {**USUAL, "LANG": "C.UTF-8", "INVOCATION_ID": "of systemd"}
    assert environment_of(None, daemon=daemon) == {**USUAL, "LANG": "C.UTF-8"}


def test_the_daemons_environment_never_mixes_with_a_callers() -> None:
    assert "LANG" not in environment_of(USUAL, daemon={"LANG": "C"})


@pytest.mark.parametrize("caller", [{}, {"PATH": "", "HOME": "", "SHELL": ""}])
def test_the_least_that_programs_expect_is_always_there(caller: dict[str, str]) -> None:
    assert environment_of(caller) == {
        **USUAL,
        "PATH": "/home/anna/.local/bin:/usr/local/bin:/usr/bin:/bin",
        "TERM": "xterm-256color",
    }


def test_the_default_path_follows_the_home_that_was_given() -> None:
    assert environment_of({"HOME": "/srv/x"})["PATH"].startswith("/srv/x/.local/bin:")


def test_a_uid_without_an_entry_has_an_account_all_the_same() -> None:
    assert Account.of_uid(2**31 - 7) == Account("2147483641", "/", "/bin/sh")


@pytest.mark.parametrize(("name", "value"), [("", "x"), ("A=B", "x"), ("A\0", "x"), ("A", "x\0y")])
def test_what_no_process_can_have_is_refused_by_name(name: str, value: str) -> None:
    with pytest.raises(Invalid) as caught:
        environment_of(USUAL, explicit={name: value})
    assert "x\0y" not in caught.value.message


def test_no_marker_is_among_the_allowed() -> None:
    """The filter drops a marker whatever is allowed; this only keeps the lists from contradicting each other."""
    assert not PARENT_MARKERS & set(ALLOWED)


@pytest.mark.parametrize(
    ("name", "value", "shown"),
    [
        ("ANTHROPIC_API_KEY", "sk-1", "***"),
        ("CLAUDE_CODE_OAUTH_TOKEN", "t", "***"),
        ("AWS_SECRET_ACCESS_KEY", "s", "***"),
        ("OTEL_EXPORTER_OTLP_HEADERS", "authorization=x", "***"),
        ("pgpassword", "p", "***"),
        ("https_proxy", "http://anna:pw@proxy:3128", "http://***@proxy:3128"),
        ("SSH_AUTH_SOCK", "/run/agent", "/run/agent"),
        ("KEYBOARD", "us", "us"),
        ("PATH", "/bin", "/bin"),
    ],
)
def test_secrets_are_masked_for_showing(name: str, value: str, shown: str) -> None:
    assert masked({name: value}) == {name: shown}


@given(st.dictionaries(st.from_regex(r"[A-Z_]{1,30}", fullmatch=True), st.just("x"), max_size=20))
def test_filtering_what_passed_changes_nothing(caller: dict[str, str]) -> None:
    once = environment_of(caller)
    assert environment_of(once) == once
