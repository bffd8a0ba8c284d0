"""What a user can meet: every class complete, told apart, and the same on both sides of the socket."""

import ast
from pathlib import Path

import pytest

import stratavore
from stratavore import errors
from stratavore.cli import INTERRUPTED, PIPE_CLOSED
from stratavore.errors import StratavoreError, classes, from_dict

EXIT_CODES = {
    "internal": 1,
    "invalid": 2,
    "not_found": 3,
    "conflict": 4,
    "ambiguous": 4,
    "quota": 5,
    "unreachable": 6,
    "runner_failed": 7,
    "forbidden": 8,
    "timeout": 9,
    "budget_exceeded": 10,
    "unpriced_model": 10,
    "storage_failed": 74,
    "degraded": 75,
    "already_running": 75,
    "corrupt": 76,
    "misconfigured": 78,
    "newer_schema": 78,
}
"""Released: a code may come to this table, none may change or go."""

PACKAGE = Path(stratavore.__file__).parent


@pytest.fixture(params=classes(), ids=lambda cls: cls.code)
def cls(request: pytest.FixtureRequest) -> type[StratavoreError]:
    found: type[StratavoreError] = request.param
    return found


def test_the_readme_lists_exactly_the_exit_codes_there_are() -> None:
    readme = (PACKAGE.parent / "README.md").read_text()
    table = readme.partition("## Exit codes")[2].partition("##")[0]
    listed = [int(line.split("|")[1]) for line in table.splitlines() if line[:3].strip("| ").isdigit()]
    assert listed == sorted({0, INTERRUPTED, PIPE_CLOSED, *EXIT_CODES.values()})


def test_an_exit_code_never_changes_its_meaning() -> None:
    assert {cls.code: cls.exit_code for cls in classes()} == EXIT_CODES


def test_codes_are_told_apart() -> None:
    assert len({cls.code for cls in classes()}) == len(classes())


def test_it_is_an_error_in_http_too(cls: type[StratavoreError]) -> None:
    assert 400 <= cls.http_status < 600
    assert (cls.http_status == 500) == (cls.code in ("internal", "misconfigured", "newer_schema"))


def test_it_says_what_it_means_and_what_to_do_in_one_line_each(cls: type[StratavoreError]) -> None:
    assert (cls.__doc__ or "").strip().endswith(".")
    assert cls.remedy
    assert "\n" not in cls.remedy


def test_it_travels_as_what_it_is(cls: type[StratavoreError]) -> None:
    sent = cls("a message", remedy="a remedy")
    received = from_dict(sent.as_dict())
    assert type(received) is cls
    assert received.as_dict() == sent.as_dict() == {"code": cls.code, "message": "a message", "remedy": "a remedy"}
    assert str(received) == "a message"


def test_its_remedy_is_its_own_unless_another_is_given(cls: type[StratavoreError]) -> None:
    assert cls("m").remedy == cls.remedy
    assert cls("m", remedy="r").remedy == "r"
    assert "remedy" not in vars(cls("m"))


def test_the_error_of_a_newer_daemon_is_an_error() -> None:
    received = from_dict({"code": "of_tomorrow", "message": "m", "remedy": "r"})
    assert type(received) is StratavoreError
    assert received.message == "m"
    assert from_dict({}).message == ""


def test_the_one_shot_commands_may_load_it() -> None:
    tree = ast.parse((PACKAGE / "errors.py").read_text())
    assert [node for node in ast.walk(tree) if isinstance(node, ast.Import | ast.ImportFrom)] == []


def test_only_classes_of_this_tree_are_meant_for_users() -> None:
    found = {value for value in vars(errors).values() if isinstance(value, type)}
    assert found == set(classes())
