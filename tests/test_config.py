"""The configuration: layers, guarded keys, what is said of a wrong file, and the example."""

import os
import re
from collections.abc import Callable, Mapping
from pathlib import Path

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from stratavore.config import Config, Kind, Loaded, ModelPrice, Profile, example, load, render_all, units
from stratavore.config.keys import KEYS, PROFILE_KEYS, Key, convert, from_text, render
from stratavore.config.positions import key_lines
from stratavore.errors import Misconfigured
from stratavore.model import RestartPolicy
from stratavore.paths import Paths

Load = Callable[..., Loaded]

ALL_KEYS = [key for keys in KEYS.values() for key in keys.values()]
GUARDED_KEYS = [key for key in [*ALL_KEYS, *PROFILE_KEYS.values()] if key.guarded]


@pytest.fixture
def read(tmp_path: Path) -> Load:
    """`load` with each layer given as text."""

    def read(
        user: str = "",
        *,
        system: str = "",
        extra: str | None = None,
        environ: Mapping[str, str] | None = None,
        mode: int = 0o600,
    ) -> Loaded:
        files = {"user.toml": user, "system.toml": system, "extra.toml": extra}
        for name, text in files.items():
            if text is not None:
                (tmp_path / name).write_text(text)
                (tmp_path / name).chmod(mode)
        return load(
            Paths(tmp_path, tmp_path / "user.toml"),
            None if extra is None else tmp_path / "extra.toml",
            environ or {},
            system=tmp_path / "system.toml",
        )

    return read


def refusal(read: Load, *args: str, **layers: object) -> Misconfigured:
    with pytest.raises(Misconfigured) as caught:
        read(*args, **layers)
    assert "\n" not in caught.value.message
    return caught.value


def test_without_any_file_everything_is_the_default(tmp_path: Path) -> None:
    loaded = load(Paths(tmp_path, tmp_path / "none.toml"), None, {}, system=tmp_path / "none.toml")
    assert loaded.config == Config()
    assert {source.kind for source in loaded.sources.values()} == {Kind.DEFAULT}


def test_each_layer_wins_over_the_one_before(read: Load) -> None:
    layers = {
        "system": "[shim]\nrunners_per_shim = 2",
        "user": "[shim]\nrunners_per_shim = 3",
        "extra": "[shim]\nrunners_per_shim = 4",
        "environ": {"STRATAVORE_SHIM_RUNNERS_PER_SHIM": "5"},
    }
    for count, kind in enumerate([Kind.SYSTEM, Kind.USER, Kind.FILE, Kind.ENVIRONMENT], start=1):
        loaded = read(**dict(list(layers.items())[:count]))
        assert loaded.config.shim.runners_per_shim == count + 1
        assert loaded.sources["shim.runners_per_shim"].kind is kind


def test_a_file_that_sets_one_key_leaves_the_others(read: Load) -> None:
    loaded = read("[daemon]\nautostart = false\n", system='[daemon]\nlog_level = "debug"\n')
    assert (loaded.config.daemon.autostart, loaded.config.daemon.log_level) == (False, "debug")
    assert loaded.config.daemon.shutdown_timeout == 10.0


def test_the_source_of_a_key_is_its_file_and_line(read: Load, tmp_path: Path) -> None:
    source = read("# hello\n\n[daemon]\n\nlog_level = 'error'\n").sources["daemon.log_level"]
    assert str(source) == f"{tmp_path / 'user.toml'}:5"


@pytest.mark.parametrize(
    ("toml", "line", "says", "remedy"),
    [
        ("[daemon]\nautostrat = true", 2, "no key daemon.autostrat", "did you mean daemon.autostart?"),
        ("[deamon]\nautostart = true", 1, "no key deamon", "did you mean daemon?"),
        ("osc52 = true", 1, "no key osc52", "did you mean output.osc52?"),
        ("[daemon]\nxyz = 1", 2, "no key daemon.xyz", "config.example.toml lists every key"),
        ("daemon = 3", 1, "daemon is a table", "write `[daemon]`"),
        ("[agents]\nclaude = 'x'", 2, "agents.claude is a table", "[agents.claude]"),
        ("[agents.'a b']\nmodel = 'x'", 1, "'a b' is no name", ""),
        ("[agents.mine]\nmodle = 'x'", 2, "no key agents.mine.modle", "did you mean agents.mine.model?"),
        ("[daemon]\nautostart = 1", 2, "daemon.autostart must be true or false, not 1", ""),
        ("[daemon]\nlog_level = 'loud'", 2, "one of debug, info, warning, error, not 'loud'", ""),
        ("[daemon]\nshutdown_timeout = 'soon'", 2, 'a span such as "10s", "5m" or "2h" of at least 0s', ""),
        ("[daemon]\nshutdown_timeout = true", 2, "a span such as", ""),
        ("[daemon]\nshutdown_timeout = -1", 2, "not -1", ""),
        ("[daemon]\nshutdown_timeout = inf", 2, "not inf", ""),
        ("[output]\ncap_total = '1.5KB and more'", 2, 'a size such as "64MiB"', ""),
        ("[output]\ncap_per_runner = 10", 2, "of at least 64KiB, not 10", ""),
        ("[shim]\nrunners_per_shim = 65", 2, "a whole number of at least 1 and at most 64, not 65", ""),
        ("[environment]\nallow = 'A'", 2, "must be a list of texts, not 'A'", ""),
        ("[environment]\nset = 'A=token'", 2, "not what stands there", ""),
        ("[daemon]\n\nlog_level info", 3, "not TOML", ""),
        ("[daemon]\nlog_level = '''", 2, "not TOML", ""),
        ("[prices.m]\ninput = 3", 2, "[prices.m] output must be given where input is", ""),
        ("[prices.m]\noutput = 5", 2, "[prices.m] input must be given where output is", ""),
        ("[runners]\nbackoff_first = '10m'", 2, "[runners] backoff_first must not be longer", ""),
        ("[supervision]\nheartbeat_ttl = 5", 2, "must not be shorter than sample_interval", ""),
    ],
)
def test_a_wrong_file_is_named_with_its_line_and_what_would_be_right(
    read: Load, tmp_path: Path, toml: str, line: int, says: str, remedy: str
) -> None:
    wrong = refusal(read, toml)
    assert wrong.message.startswith(f"{tmp_path / 'user.toml'}:{line}: ")
    assert says in wrong.message
    assert remedy in wrong.remedy


def test_what_a_secret_table_holds_is_not_told_in_the_refusal(read: Load) -> None:
    assert "token" not in refusal(read, "[environment]\nset = 'A=token'").message


def test_a_named_file_must_be_there(tmp_path: Path) -> None:
    with pytest.raises(Misconfigured, match="no such file"):
        load(Paths(tmp_path, tmp_path / "none"), tmp_path / "gone.toml", {}, system=tmp_path / "none")


@pytest.mark.parametrize("content", [b"\xff\xfe", None])
def test_a_file_that_cannot_be_read_is_refused_not_skipped(tmp_path: Path, content: bytes | None) -> None:
    user = tmp_path / "config.toml"
    user.mkdir() if content is None else user.write_bytes(content)
    with pytest.raises(Misconfigured, match=re.escape(str(user))):
        load(Paths(tmp_path, user), None, {}, system=tmp_path / "none")


def toml_that_sets(key: Key) -> str:
    section = "agents.mine" if key.section not in KEYS else key.section
    return f"[{section}]\n{key.name} = {render(key, key.default)}\n"


@pytest.mark.parametrize("key", GUARDED_KEYS, ids=lambda key: key.path)
def test_a_guarded_key_counts_only_in_a_file_of_ones_own_that_nobody_else_may_open(
    read: Load, tmp_path: Path, key: Key
) -> None:
    assert read(toml_that_sets(key), mode=0o600)
    for mode in (0o640, 0o604, 0o620, 0o666):
        wrong = refusal(read, toml_that_sets(key), mode=mode)
        assert f"{tmp_path / 'user.toml'}:2: " in wrong.message
        assert key.name in wrong.message
        assert f"{mode:04o}" in wrong.message
        assert f"`chmod 600 {tmp_path / 'user.toml'}`" in wrong.remedy


@pytest.mark.skipif(os.geteuid() != 0, reason="only root may give a file away")
def test_a_guarded_key_of_another_users_file_is_refused(read: Load, tmp_path: Path) -> None:
    read("[runners]\nrunners_may_control = true\n")
    os.chown(tmp_path / "user.toml", 65534, 65534)
    with pytest.raises(Misconfigured, match="belongs to another user"):
        load(Paths(tmp_path, tmp_path / "user.toml"), None, {}, system=tmp_path / "none")


def test_an_ordinary_key_counts_whoever_may_read_the_file(read: Load) -> None:
    assert not read("[daemon]\nautostart = false\n", mode=0o644).config.daemon.autostart


@pytest.mark.parametrize(
    "variable",
    [key.variable for key in ALL_KEYS if key.guarded] + ["STRATAVORE_AGENTS_CLAUDE_ARGV"],
)
def test_a_guarded_key_is_refused_from_the_environment(read: Load, variable: str) -> None:
    assert "not taken from the environment" in refusal(read, environ={variable: "true"}).message


def test_every_key_that_executes_listens_or_authenticates_is_guarded() -> None:
    """A new guarded key is added here on purpose, and none ever drops out by accident."""
    assert {key.path for key in GUARDED_KEYS} == {
        "runners.runners_may_control",
        "ledger.otlp",
        "environment.set",
        *(f"agents.NAME.{name}" for name in ("agent", "argv", "model", "permission_mode", "home", "env")),
        "agents.NAME.status_line_tee",
    }


@pytest.mark.parametrize(
    ("variable", "text", "path", "value"),
    [
        ("STRATAVORE_DAEMON_AUTOSTART", "No", "daemon.autostart", False),
        ("STRATAVORE_RUNNERS_STOP_GRACE", "1m30s", "runners.stop_grace", 90.0),
        ("STRATAVORE_RUNNERS_BACKOFF_JITTER", "0.5", "runners.backoff_jitter", 0.5),
        ("STRATAVORE_RUNNERS_RESTART", "on-failure", "runners.restart", RestartPolicy.ON_FAILURE),
        ("STRATAVORE_OUTPUT_CAP_TOTAL", "2G", "output.cap_total", 2 << 30),
        ("STRATAVORE_ENVIRONMENT_ALLOW", "A, B_*", "environment.allow", ("A", "B_*")),
        ("STRATAVORE_DAEMON_AUTOSTART", "", "daemon.autostart", True),
    ],
)
def test_a_variable_sets_a_key(read: Load, variable: str, text: str, path: str, value: object) -> None:
    loaded = read(environ={variable: text})
    section, name = path.split(".")
    assert getattr(getattr(loaded.config, section), name) == value
    assert str(loaded.sources[path]) == (variable if text else "default")


def test_a_wrong_variable_is_named(read: Load) -> None:
    wrong = refusal(read, environ={"STRATAVORE_DAEMON_AUTOSTRAT": "1"})
    assert "STRATAVORE_DAEMON_AUTOSTRAT" in wrong.message
    assert "STRATAVORE_DAEMON_AUTOSTART" in wrong.remedy
    assert (
        "STRATAVORE_SHIM_RUNNERS_PER_SHIM"
        in refusal(read, environ={"STRATAVORE_SHIM_RUNNERS_PER_SHIM": "many"}).message
    )


def test_variables_that_are_no_keys_are_left_alone(read: Load) -> None:
    assert read(environ={"STRATAVORE_HOME": "/x", "STRATAVORE_RUNNER": "abc", "PATH": "/bin"}).config == Config()


def test_a_profile_is_read_by_name(read: Load, tmp_path: Path) -> None:
    loaded = read('[agents.claude-work]\nagent = "claude"\nargv = ["claude", "--x"]\nenv = { A = "1" }\n')
    assert loaded.config.agents == {"claude-work": Profile(agent="claude", argv=("claude", "--x"), env={"A": "1"})}
    assert str(loaded.sources["agents.claude-work.argv"]) == f"{tmp_path / 'user.toml'}:3"


def test_a_price_is_read_by_the_name_of_its_model(read: Load) -> None:
    text = '[prices."gpt-4.1:free"]\ninput = 2\noutput = 0.5\n'
    loaded = read(text, mode=0o644)
    assert loaded.config.prices == {"gpt-4.1:free": ModelPrice(input=2.0, output=0.5)}
    assert read(render_all(loaded)).config == loaded.config
    assert "at least 0" in refusal(read, text.replace("0.5", "-0.5")).message


def test_the_checked_in_example_is_the_generated_one() -> None:
    checked_in = Path(__file__).parent.parent / "config.example.toml"
    assert checked_in.read_text() == example(), "run `python -m stratavore.config > config.example.toml`"


def test_the_example_holds_every_key_with_its_default(read: Load) -> None:
    loaded = read(re.sub(r"^#(?=\S)", "", example(), flags=re.MULTILINE))
    assert loaded.config == msgspec.structs.replace(
        Config(), agents={"claude-work": Profile()}, prices={"some-model": ModelPrice()}
    )
    assert Kind.DEFAULT not in {source.kind for source in loaded.sources.values()}


def test_the_example_can_be_copied_as_it_is(read: Load) -> None:
    assert read(example(), mode=0o644).config == Config()


def test_what_config_show_prints_can_be_read_back(read: Load) -> None:
    loaded = read("[daemon]\nautostart = false\n[attach]\ndetach_key = \"ctrl-] q\"\n[agents.x]\nmodel = 'm'\n")
    assert read(render_all(loaded)).config == loaded.config
    assert f"{'autostart = false':<40}  # " in render_all(loaded, sources=True)


def test_secrets_are_shown_by_name_only(read: Load) -> None:
    loaded = read("environment.set = { KEY = 'hunter2' }\nagents.x.env = { KEY = 'hunter2' }\n")
    for text in (render_all(loaded, sources=True), repr(loaded), str(loaded.config.environment)):
        assert "hunter2" not in text
        assert "KEY" in text


@pytest.mark.parametrize("key", ALL_KEYS, ids=lambda key: key.path)
def test_every_key_has_a_meaning_and_a_default_that_fits(key: Key) -> None:
    assert key.meaning.endswith((".", ")"))
    assert convert(key, msgspec.to_builtins(key.default)) == key.default
    if key.type in (bool, int, float, str):
        assert from_text(key, render(key, key.default).strip("\"'")) == key.default


@given(st.integers(0, 10**12))
def test_a_size_is_read_back_as_it_was_written(size: int) -> None:
    assert units.parse_bytes(units.render_bytes(size)) == size


@given(st.integers(0, 10**14))
def test_a_span_is_read_back_as_it_was_written(microseconds: int) -> None:
    seconds = microseconds / 1e6
    assert units.parse_seconds(units.render_seconds(seconds)) == pytest.approx(seconds, abs=1e-6)


@pytest.mark.parametrize("text", ["", "s", "10 apples", "-5s", "10s!", "nan", "1e999"])
def test_what_is_no_span_is_refused(text: str) -> None:
    with pytest.raises(ValueError):  # noqa: PT011 – its text is not shown
        units.parse_seconds(text)


@pytest.mark.parametrize("text", ["", "MiB", "-1", "1.5", "1.0001K", "5X"])
def test_what_is_no_size_is_refused(text: str) -> None:
    with pytest.raises(ValueError):  # noqa: PT011 – its text is not shown
        units.parse_bytes(text)


def test_lines_are_found_behind_strings_arrays_and_comments_that_look_like_keys() -> None:
    toml = '''\
# [no] = 1
a = """
b = 1
\\"""
c = 2"""
"d.e" = [  # one
  "f = 1",
  { g = 2 },
]
'h' . i = 'j = [' # k = 1
[ "t u" . v ]

w = { x = 1, y = [2] }
[[z]]
q = 1
[[z]]
q = 2
'''
    assert key_lines(toml) == {
        ("a",): 2,
        ("d.e",): 6,
        ("h", "i"): 10,
        ("t u", "v"): 11,
        ("t u", "v", "w"): 13,
        ("z",): 14,
        ("z", "q"): 15,
    }
