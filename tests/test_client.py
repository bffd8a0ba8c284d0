"""The control socket from the asking side, and the typed client over it."""

import inspect
import os
import socket
import threading
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, urlsplit

import msgspec
import pytest

from stratavore import __version__, control, errors, protocol, routes
from stratavore.client import Client
from stratavore.control import ask, call
from stratavore.paths import Paths
from tests.fake_daemon import Asked, Raw, Refusal, fake_daemon

STATUS = {"runners": 0, "by_state": {}, "projects": 0, "cpu_percent": None, "rss_bytes": None, "warnings": []}


@pytest.fixture
def paths(tmp_path: Path) -> Paths:
    return Paths(tmp_path / "state", tmp_path / "config.toml")


def test_every_place_has_a_shape_and_every_shape_a_place() -> None:
    assert set(routes.PLACES) == set(protocol.SHAPES)


@pytest.mark.parametrize("route", protocol.ROUTES, ids=lambda route: route.name)
def test_every_route_has_a_client_method_with_its_fields(route: protocol.Route) -> None:
    method = getattr(Client, route.name)
    named = [part[1:-1] for part in route.path.split("/") if part.startswith("{")]
    parameters = inspect.signature(method).parameters
    assert list(parameters)[1:] == [*named, *route.request.__struct_fields__]


@pytest.mark.parametrize("route", protocol.ROUTES, ids=lambda route: route.name)
def test_a_method_has_the_defaults_of_its_request(route: protocol.Route) -> None:
    parameters = inspect.signature(getattr(Client, route.name)).parameters
    for field in msgspec.structs.fields(route.request):
        given = parameters[field.name].default
        if field.required:
            assert given is inspect.Parameter.empty
        elif field.default is msgspec.UNSET:
            assert given is ...
        elif field.default is msgspec.NODEFAULT:
            assert len(given) == 0
        else:
            assert given == field.default


def test_an_answer_becomes_a_struct(paths: Paths) -> None:
    with fake_daemon(paths.state, lambda _: STATUS):
        assert Client(paths).status().runners == 0


def test_what_is_left_out_of_an_edit_is_not_sent_and_none_is(paths: Paths) -> None:
    with fake_daemon(paths.state, lambda _: _project()) as asked:
        Client(paths).edit_project("demo", max_memory_bytes=None, name="other")
    assert asked[0].body == {"max_memory_bytes": None, "name": "other"}


def test_a_dry_run_answers_with_a_plan(paths: Paths) -> None:
    plan: dict[str, Any] = {
        "argv": ["sh"],
        "cwd": "/",
        "environment": {},
        "session_id": None,
        "goes_on_with": None,
        "slots_left": 3,
        "budgets": [],
        "estimate_tokens": 0,
        "estimate_usd": 0.0,
        "budget_tokens": None,
        "budget_usd": None,
        "max_turns": None,
        "refused": None,
        "refused_code": None,
        "refused_remedy": None,
        "unmetered": True,
    }
    with fake_daemon(paths.state, lambda _: plan):
        assert msgspec.to_builtins(Client(paths).launch("demo", dry_run=True)) == plan


def test_get_carries_its_fields_in_the_query_and_leaves_out_unknown(paths: Paths) -> None:
    with fake_daemon(paths.state, lambda _: []) as asked:
        ask(paths, "list_runners", project="a b&c", state=None, all=True, wait_seconds=1.5)
    assert parse_qs(urlsplit(asked[0].target).query) == {
        "project": ["a b&c"],
        "all": ["true"],
        "wait_seconds": ["1.5"],
    }


@pytest.mark.parametrize(
    ("reference", "written"), [("a,b", "a,b"), ("*", "*"), ("a/../b", "a%2F..%2Fb"), ("ä b", "%C3%A4%20b")]
)
def test_a_reference_is_one_segment_of_the_path(paths: Paths, reference: str, written: str) -> None:
    with fake_daemon(paths.state, lambda _: []) as asked:
        ask(paths, "stop_runners", runner=reference, project=None)
    assert asked[0].target == f"/api/v1/runners/{written}/stop"
    assert asked[0].body == {"project": None}


@pytest.mark.parametrize("cls", errors.classes(), ids=lambda cls: cls.code)
def test_a_refusal_arrives_as_its_own_class(paths: Paths, cls: type[errors.StratavoreError]) -> None:
    refusal = cls("no ☃", remedy="do otherwise")
    with (
        fake_daemon(paths.state, lambda _: Refusal(cls.http_status, refusal.as_dict())),
        pytest.raises(cls) as caught,
    ):
        call(paths, "GET", "/api/v1/status")
    assert type(caught.value) is cls
    assert (caught.value.message, caught.value.remedy) == ("no ☃", "do otherwise")


def test_no_directory_no_socket_and_no_listener_are_all_unreachable(paths: Paths) -> None:
    _assert_not_running(paths)
    paths.state.mkdir()
    _assert_not_running(paths)
    _abandon_a_socket(paths)
    _assert_not_running(paths)


def test_a_daemon_that_is_silent_is_unreachable(paths: Paths) -> None:
    def never(_: Asked) -> Any:
        waiting.acquire(timeout=10)
        return {}

    waiting = threading.Semaphore(0)
    with fake_daemon(paths.state, never):
        with pytest.raises(errors.DaemonUnreachable, match="did not answer within"):
            ask(paths, "status", timeout=0.05)
        waiting.release()


@pytest.mark.parametrize(
    "data",
    [
        b"",
        b"HTTP/1.1 200 OK\r\nContent-Le",
        b"HTTP/1.1 200 OK\r\nContent-Length: 100\r\n\r\n[1,2",
    ],
)
def test_an_answer_cut_short_is_no_answer(paths: Paths, data: bytes) -> None:
    with (
        fake_daemon(paths.state, lambda _: Raw(data)),
        pytest.raises(errors.DaemonUnreachable, match="went away"),
    ):
        ask(paths, "status")


def test_an_error_that_is_no_json_is_told_with_its_status(paths: Paths) -> None:
    raw = b"HTTP/1.1 500 Oops\r\nContent-Length: 4\r\n\r\nOops"
    with (
        fake_daemon(paths.state, lambda _: Raw(raw)),
        pytest.raises(errors.StratavoreError, match="HTTP 500"),
    ):
        ask(paths, "status")


def test_a_socket_path_longer_than_the_system_allows_is_reached(tmp_path: Path) -> None:
    state = tmp_path.joinpath(*["deep" * 20] * 5)
    assert len(os.fsencode(state)) > 400
    with fake_daemon(state, lambda _: STATUS):
        assert ask(Paths(state, state / "config.toml"), "status") == STATUS


def test_both_sides_tell_their_version(paths: Paths) -> None:
    with fake_daemon(paths.state, lambda _: STATUS, version="0.0.9") as asked:
        assert control.daemon_version(paths) == "0.0.9"
    assert asked[0].headers["stratavore-version"] == __version__


def test_a_newer_daemon_refuses_this_program(paths: Paths) -> None:
    with (
        fake_daemon(paths.state, lambda _: STATUS, version="99.0"),
        pytest.raises(errors.Conflict, match=r"daemon is 99\.0") as caught,
    ):
        ask(paths, "status")
    assert caught.value.remedy == "upgrade this program"


@pytest.mark.parametrize(
    ("older", "newer"),
    [("0.1.0", "0.1.1"), ("0.9", "0.10"), ("1.2.3", "1.3"), ("0", "0.0.1"), ("1.0.dev5", "1.1")],
)
def test_versions_compare_by_their_numbers(older: str, newer: str) -> None:
    assert control.as_numbers(older) < control.as_numbers(newer)


def _assert_not_running(paths: Paths) -> None:
    with pytest.raises(errors.DaemonUnreachable, match="not running"):
        ask(paths, "status")


def _abandon_a_socket(paths: Paths) -> None:
    """A socket file that nobody listens on, as a killed daemon leaves it."""
    with socket.socket(socket.AF_UNIX) as listener:
        directory = os.open(paths.state, os.O_PATH)
        listener.bind(f"/proc/self/fd/{directory}/control.sock")
        os.close(directory)


def _project() -> dict[str, Any]:
    return {
        "name": "demo",
        "path": "/x",
        "agent": None,
        "description": "",
        "tags": [],
        "status": "idle",
        "runners": 0,
        "max_runners": 5,
        "max_memory_bytes": None,
        "max_cpu_percent": None,
        "on_quota": "warn",
        "created_at": "2026-01-01T00:00:00Z",
        "archived_at": None,
    }
