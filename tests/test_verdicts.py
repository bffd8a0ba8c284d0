"""A verdict is a whole file, or none."""

from pathlib import Path

import pytest

from stratavore import verdicts
from stratavore.hook import VERDICT
from stratavore.paths import Paths

HOSTILE = 'over\n"budget" \x1b[31m\ud800 é'


@pytest.fixture
def paths(tmp_path: Path) -> Paths:
    paths = Paths(tmp_path, tmp_path / "config.toml")
    paths.runners.mkdir()
    return paths


def test_nobody_is_blocked_without_a_verdict(paths: Paths) -> None:
    assert verdicts.read(paths, "a") is None


def test_a_verdict_blocks_until_it_is_lifted(paths: Paths) -> None:
    verdicts.write(paths, "a", HOSTILE)
    assert verdicts.read(paths, "a") == HOSTILE
    assert verdicts.read(paths, "b") is None
    verdicts.write(paths, "a", None)
    assert verdicts.read(paths, "a") is None


def test_a_verdict_is_the_owners_alone_and_on_one_line(paths: Paths) -> None:
    verdicts.write(paths, "a", HOSTILE * 1000)
    [file] = paths.runner("a").iterdir()
    assert file.stat().st_mode & 0o777 == 0o600
    assert b"\n" not in file.read_bytes()
    assert len(verdicts.read(paths, "a") or "") == verdicts.LONGEST_REASON


def test_who_is_allowed_has_a_verdict_too(paths: Paths) -> None:
    verdicts.write(paths, "a", None)
    assert (paths.runner("a") / VERDICT).read_text() == "null"


def test_a_damaged_verdict_blocks_nobody(paths: Paths) -> None:
    verdicts.write(paths, "a", "over budget")
    (paths.runner("a") / VERDICT).write_bytes(b'"over')
    assert verdicts.read(paths, "a") is None


def test_many_who_are_blocked_for_the_same_reason_are_let_go_one_by_one(paths: Paths) -> None:
    verdicts.write(paths, "a", "over budget")
    for name in ("b", "c"):
        verdicts.write(paths, name, None)
        verdicts.write(paths, name, "over budget", like="a")
    assert (paths.runner("b") / VERDICT).samefile(paths.runner("a") / VERDICT)
    verdicts.write(paths, "a", None)
    verdicts.write(paths, "b", "another")
    assert [verdicts.read(paths, name) for name in ("a", "b", "c")] == [None, "another", "over budget"]


def test_who_has_no_directory_yet_or_whose_model_has_gone_has_a_verdict_all_the_same(paths: Paths) -> None:
    verdicts.write(paths, "b", "over budget", like="gone")
    verdicts.write(paths, "a", "over budget", like="b")
    assert [verdicts.read(paths, name) for name in ("a", "b")] == ["over budget"] * 2


def test_what_a_crash_left_half_done_changes_nobody_elses(paths: Paths) -> None:
    verdicts.write(paths, "a", "over budget")
    verdicts.write(paths, "b", None)
    beside = paths.runner("b") / f"{VERDICT}.new"
    beside.hardlink_to(paths.runner("a") / VERDICT)
    verdicts.write(paths, "b", "another")
    assert verdicts.read(paths, "a") == "over budget"
    beside.hardlink_to(paths.runner("a") / VERDICT)
    verdicts.write(paths, "b", "over budget", like="a")
    assert [verdicts.read(paths, name) for name in ("a", "b")] == ["over budget"] * 2
