"""Who asks, by the word of the kernel, and what a process inside a runner may do."""

import os
import secrets
import socket
import subprocess
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

import pytest

from stratavore.auth import credentials, identify, permit
from stratavore.context import Asker
from stratavore.errors import Forbidden
from stratavore.protocol import BY_NAME, ROUTES

INSIDE = Asker("cli", os.getuid(), 4242, "k3m9x2abcd")
OUTSIDE = Asker("cli", os.getuid(), 4242, None)
READING = {
    "list_approvals",
    "usage",
    "list_sessions",
    "get_session",
    "read_transcript",
    "list_budgets",
    "get_budget",
    "list_budget_history",
    "status", "daemon_status", "list_projects", "get_project", "list_runners", "get_runner", "list_runs",
    "explain_runner", "list_events", "disk_use", "watch_import",
}  # fmt: skip
"""Written by hand: a new route is changing until somebody has thought about it."""
OWN = {"ask_approval"}
"""What a runner may report of itself; the verb looks of whom it does."""


CONNECT = "s = socket.socket(socket.AF_UNIX); s.connect(chr(0) + sys.argv[1])"


@pytest.fixture
def door() -> Iterator[socket.socket]:
    """A listener in the abstract namespace: whoever may, by the rights of files, is no question here."""
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind("\0stratavore-" + secrets.token_hex(8))
        listener.listen()
        listener.settimeout(20)
        yield listener


@contextmanager
def knock(
    door: socket.socket,
    *,
    first: str = "pass",
    then: str = "s.recv(1)",
    env: dict[str, str] | None = None,
    below: Sequence[str] = (),
) -> Iterator[socket.socket]:
    """The connection of a child process, which lives until the connection is closed; `below` is what starts it."""
    code = f"import os, socket, sys; {first}; {CONNECT}; {then}"
    name = door.getsockname()[1:].decode()
    with subprocess.Popen([*below, sys.executable, "-c", code, name], env=env) as child:
        connection, _ = door.accept()
        if then == "pass":
            child.wait(20)
        with connection:
            yield connection


def test_the_kernel_says_who_is_at_the_other_end(door: socket.socket) -> None:
    with knock(door) as connection:
        pid, uid = credentials(connection)
        assert uid == os.getuid()
        assert Path(f"/proc/{pid}/cmdline").read_bytes().startswith(sys.executable.encode())


def test_whoever_lives_outside_of_all_runners_has_full_rights(door: socket.socket) -> None:
    with knock(door) as connection:
        pid, uid = credentials(connection)
        assert identify(connection, "cli", {1 << 30}) == Asker("cli", uid, pid, None)


@pytest.mark.parametrize("depth", [1, 3])
def test_whoever_lives_below_a_shim_is_its_runner(door: socket.socket, depth: int) -> None:
    """This process stands for the shim; each fork is a generation."""
    forks = f"[os.fork() and os._exit(os.wait()[1] >> 8) for _ in range({depth - 1})]"
    with knock(door, first=forks, env={"STRATAVORE_RUNNER": "k3m9x2abcd"}) as connection:
        asker = identify(connection, "cli", {os.getpid()})
        assert asker.runner == "k3m9x2abcd"


def test_whoever_lives_below_a_shim_without_a_mark_is_some_runner(door: socket.socket) -> None:
    """`env -i stratavore stop --all` does not help."""
    with knock(door, env={}) as connection:
        assert identify(connection, "cli", {os.getpid()}).runner == "unknown"


@pytest.mark.parametrize("below", [[], ["sh", "-c", 'env -i "$@"; :', "sh"]], ids=["itself", "its parent"])
def test_a_runner_s_mark_counts_although_its_shim_is_not_known(door: socket.socket, below: list[str]) -> None:
    """As after the start of a daemon whose shims have not answered yet."""
    mark = {"STRATAVORE_RUNNER": "k3m9x2abcd", "PATH": os.environ["PATH"]}
    with knock(door, env=mark, below=below) as connection:
        assert identify(connection, "cli", {1 << 30}).runner == "k3m9x2abcd"


def test_whoever_has_gone_already_cannot_be_told_from_a_runner(door: socket.socket) -> None:
    """It sends its request and ends; whose child it was, nobody can tell any more."""
    with knock(door, then="pass") as connection:
        asker = identify(connection, "cli", {os.getpid()})
        assert asker.runner == "unknown"
        with pytest.raises(Forbidden):
            permit(asker, BY_NAME["stop_runners"], runners_may_control=False)


@pytest.mark.skipif(os.getuid() != 0, reason="only root can become somebody else")
def test_another_user_is_refused(door: socket.socket) -> None:
    with (
        knock(door, first="os.setresuid(65534,65534,65534)") as connection,
        pytest.raises(Forbidden, match="uid 0, not 65534"),
    ):
        identify(connection, "cli", set())


def test_the_reading_routes_are_these() -> None:
    assert {route.name for route in ROUTES if route.reads} == READING
    assert {route.name for route in ROUTES if route.method == "GET"} == READING


@pytest.mark.parametrize("route", ROUTES, ids=lambda route: route.name)
def test_inside_a_runner_one_may_read_and_no_more(route: object) -> None:
    found = BY_NAME[route.name]  # type: ignore[attr-defined]
    permit(OUTSIDE, found, runners_may_control=False)
    if found.verb.split()[0] != "budget":  # what it may spend nobody inside decides: see tests/test_verbs_budgets.py
        permit(INSIDE, found, runners_may_control=True)
    if found.name in READING | OWN:
        permit(INSIDE, found, runners_may_control=False)
        return
    with pytest.raises(Forbidden, match=f"`stratavore {found.verb}` was asked from inside runner k3m9x2abcd"):
        permit(INSIDE, found, runners_may_control=False)


def test_an_actor_reads_well_in_the_log() -> None:
    assert str(OUTSIDE) == f"cli uid={os.getuid()} pid=4242"
    assert str(INSIDE) == f"cli uid={os.getuid()} pid=4242 runner=k3m9x2abcd"
