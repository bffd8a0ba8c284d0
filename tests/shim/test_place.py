"""The directories of shims and zygotes, as others see them."""

import os
from pathlib import Path

from stratavore.shim import place


def test_who_lives_is_known_by_its_lock_and_its_pid(tmp_path: Path) -> None:
    held = place.settle(str(tmp_path / "a"))
    assert place.living(tmp_path) == {"a": os.getpid()}
    os.close(held)
    (tmp_path / "stray").touch()
    assert place.living(tmp_path) == {}


def test_one_that_has_no_pid_yet_is_passed_over(tmp_path: Path) -> None:
    """Many shims settle at once, and each looks who lives as soon as it is greeted."""
    (tmp_path / "settling").mkdir()
    held = place.lock(tmp_path / "settling" / "lock")
    assert held is not None
    assert place.living(tmp_path) == {}
    os.close(held)
