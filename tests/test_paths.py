"""Where everything lives, whatever the environment says."""

from pathlib import Path

import pytest

from stratavore.paths import Paths, locate


@pytest.mark.parametrize(
    ("environment", "state", "config"),
    [
        ({"HOME": "/h"}, "/h/.local/state/stratavore", "/h/.config/stratavore/config.toml"),
        (
            {"HOME": "/h", "XDG_STATE_HOME": "/s", "XDG_CONFIG_HOME": "/c"},
            "/s/stratavore",
            "/c/stratavore/config.toml",
        ),
        ({"HOME": "/h", "XDG_STATE_HOME": "", "XDG_CONFIG_HOME": ""}, "/h/.local/state/stratavore", None),
        ({"HOME": "/h", "STRATAVORE_HOME": "/x"}, "/x", "/x/config.toml"),
        ({"STRATAVORE_HOME": "/x", "XDG_STATE_HOME": "/s", "XDG_CONFIG_HOME": "/c"}, "/x", "/x/config.toml"),
        ({"HOME": "/h", "STRATAVORE_HOME": ""}, "/h/.local/state/stratavore", None),
    ],
)
def test_the_environment_says_where(environment: dict[str, str], state: str, config: str | None) -> None:
    found = locate(environment)
    assert found.state == Path(state)
    if config is not None:
        assert found.user_config == Path(config)


def test_cron_has_no_home_and_the_user_database_knows_it() -> None:
    assert locate({}).state == Path("~/.local/state/stratavore").expanduser()


def test_the_runtime_directory_which_a_logout_deletes_is_not_used() -> None:
    environment = {"HOME": "/h", "XDG_RUNTIME_DIR": "/run/user/7"}
    assert not any("/run/user" in str(path) for path in vars(locate(environment)).values())


def test_a_relative_home_is_made_absolute(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    assert locate({"STRATAVORE_HOME": "here"}).state == tmp_path / "here"


def test_all_but_the_configuration_lies_below_one_directory() -> None:
    paths = Paths(Path("/s"), Path("/c/config.toml"))
    places = [path for name, path in vars(paths).items() if name != "user_config"]
    places += [paths.shim("a"), paths.run_log("a", "r.1"), paths.runner("r"), paths.environment("r")]
    assert [path for path in places if not path.is_relative_to("/s")] == []


def test_no_two_things_share_a_place() -> None:
    paths = Paths(Path("/s"), Path("/c/config.toml"))
    places = [
        *vars(paths).values(),
        paths.shim("a"),
        paths.run_log("a", "r.1"),
        paths.runner("r"),
        paths.environment("r"),
    ]
    assert len(set(places)) == len(places)
