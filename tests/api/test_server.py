"""The control socket as it is: what is asked well is answered, what is not is refused with its own code, in JSON."""

import asyncio
import json
import os
import stat
import sys
from pathlib import Path
from typing import Any, NamedTuple

import pytest

from stratavore import __version__
from stratavore.api.routes import VERBS
from stratavore.client import Client
from stratavore.control import ask
from stratavore.errors import Conflict, Misconfigured, NotFound
from stratavore.model import Runner
from stratavore.protocol import ROUTES
from stratavore.sockets import bind
from stratavore.store import sessions
from tests.house import House, living, quick, together

EXIT_FORBIDDEN = 8


class Answer(NamedTuple):
    """One answer: the status, the headers in lower case, the body as JSON."""

    status: int
    headers: dict[str, str]
    body: Any


async def exchange(house: House, raw: bytes) -> Answer:
    """Send these bytes; what comes back until the daemon closes."""
    reader, writer = await asyncio.open_unix_connection(house.paths.socket)
    writer.write(raw)
    answer = await asyncio.wait_for(reader.read(), 20)
    writer.close()
    await writer.wait_closed()
    head, _, body = answer.partition(b"\r\n\r\n")
    first, *lines = head.decode().split("\r\n")
    headers = dict(line.lower().split(": ", 1) for line in lines)
    return Answer(int(first.split()[1]), headers, json.loads(body))


async def request(house: House, method: str, target: str, body: bytes = b"") -> Answer:
    head = f"{method} {target} HTTP/1.1\r\nHost: x\r\nConnection: close\r\nContent-Length: {len(body)}\r\n\r\n"
    return await exchange(house, head.encode() + body)


async def post(house: House, target: str, fields: Any) -> Answer:
    return await request(house, "POST", f"/api/v1{target}", json.dumps(fields).encode())


async def get(house: House, target: str) -> Answer:
    return await request(house, "GET", f"/api/v1{target}")


async def a_session(house: House) -> str:
    """The id of one that has a transcript, in which nothing can be read."""
    session_id, home = "0f0e1de9-0000-4000-8000-000000000001", house.paths.state.parent / "claude"
    (home / "projects" / "p").mkdir(parents=True, exist_ok=True)
    (home / "projects" / "p" / f"{session_id}.jsonl").write_text("{}\n")
    now = house.context.clock.now()
    await house.context.write(lambda tx: sessions.ensure(tx, "claude", str(home), session_id, now=now))
    return session_id


def test_every_route_has_its_verb_and_every_verb_its_route() -> None:
    assert set(VERBS) == {route.name for route in ROUTES}


@together
async def test_an_answer_is_json_and_tells_the_version(shared: House) -> None:
    answer = await get(shared, "/status")
    assert answer.status == 200
    assert answer.headers["content-type"].startswith("application/json")
    assert answer.headers["stratavore-version"] == __version__
    assert isinstance(answer.body["runners"], int)


@together
async def test_every_reading_route_answers_with_what_it_promises(shared: House) -> None:
    runner = await shared.running("p")
    session_id = await a_session(shared)
    budget = await shared.ask("set_budget", scope="global", period="daily", tokens=10**12)
    names = {"{runner}": runner.id, "{project}": "p", "{session}": session_id, "{budget}": str(budget.id)}
    for route in ROUTES:
        if route.reads:
            words = [names.get(word, word) for word in route.path.split("/")]
            answer = await request(shared, "GET", "/".join(words))
            assert answer.status == 200, route.name


@together
@pytest.mark.parametrize(
    ("method", "target"),
    [
        ("GET", "/"),
        ("GET", "/api/v1"),
        ("GET", "/api/v1/nonsense"),
        ("GET", "/api/v2/status"),
        ("POST", "/api/v1/status"),
        ("PUT", "/api/v1/runners"),
        ("DELETE", "/api/v1/status"),
        ("GET", "/api/v1/runners/a/b/c"),
        ("OPTIONS", "/api/v1/status"),
    ],
)
async def test_what_there_is_not_is_not_found(shared: House, method: str, target: str) -> None:
    answer = await request(shared, method, target)
    assert (answer.status, answer.body["code"]) == (404, "not_found")
    assert answer.headers["stratavore-version"] == __version__


@together
@pytest.mark.parametrize(
    "body",
    [
        b"{",
        b"nonsense",
        b"[]",
        b'"x"',
        b"null",
        b"\xff\xfe",
        b'{"project": "\xed\xa0\x80"}',
        b"{}{}",
        b"1" * 5000,
    ],
)
async def test_what_is_no_request_is_invalid(shared: House, body: bytes) -> None:
    answer = await request(shared, "POST", "/api/v1/runners", body)
    assert (answer.status, answer.body["code"]) == (400, "invalid")
    assert answer.body["message"]


@together
@pytest.mark.parametrize(
    ("fields", "complaint"),
    [
        ({}, "project"),
        ({"project": 7}, "project: expected text, got a whole number"),
        ({"project": "p", "count": "2"}, "count: expected a whole number, got text"),
        ({"project": "p", "count": 0}, ">= 1"),
        ({"project": "p", "count": 4097}, "<= 4096"),
        ({"project": "p", "nonsense": 1}, "nonsense"),
        ({"project": "p", "restart_policy": "sometimes"}, "sometimes"),
        ({"project": "p", "argv": "sh"}, "argv: expected a list, got text"),
        ({"project": "p", "env": {"A": 1}}, "expected text, got a whole number"),
        ({"project": "p", "name": "a/b"}, "a name has 1 to 64 letters"),
        ({"project": "p", "rows": 0}, ">= 1"),
        ({"project": "p", "umask": 512}, "<= 511"),
        ({"project": "p", "stop_grace_seconds": -1}, ">= 0"),
        ({"project": "p", "max_seconds": 1e300}, "<="),
        ({"project": "p", "max_restarts": -1}, ">= 0"),
    ],
)
async def test_a_field_of_the_wrong_shape_is_named(shared: House, fields: Any, complaint: str) -> None:
    answer = await post(shared, "/runners", fields)
    assert (answer.status, answer.body["code"]) == (400, "invalid")
    assert complaint in answer.body["message"]


BAD_NAMES = [
    "",
    "-x",
    "a b",
    "a/b",
    "..",
    ".",
    "a\n",
    "a\x1b[31m",
    "ä",
    "a,b",
    "*",
    "x" * 65,
    "a\u202eb",
    "a\0b",
]


@together
@pytest.mark.parametrize("name", BAD_NAMES)
async def test_a_name_that_could_be_mistaken_is_refused(shared: House, name: str) -> None:
    runner = await shared.launch("p")
    for method, target, fields in (
        ("POST", "/projects", {"name": name, "path": "/"}),
        ("POST", "/runners", {"project": "p", "name": name}),
        ("PATCH", "/projects/p", {"name": name}),
        ("PATCH", f"/runners/{runner.id}", {"name": name}),
    ):
        answer = await request(shared, method, f"/api/v1{target}", json.dumps(fields).encode())
        assert (answer.status, answer.body["code"]) == (400, "invalid"), target


@together
@pytest.mark.parametrize("name", ["a", "A-z_0.9", ".hidden", "_x", "x" * 64, "0", "...", "a..b"])
async def test_a_good_name_is_kept_and_answers(shared: House, name: str) -> None:
    made = await post(shared, "/projects", {"name": name, "path": "/", "agent": "shell"})
    assert made.status == 200
    assert (await get(shared, f"/projects/{name}")).body["name"] == name


@together
@pytest.mark.parametrize(
    ("query", "complaint"),
    [
        ("nonsense=1", "nonsense"),
        ("state=flying", "flying"),
        ("limit=0", ">= 1"),
        ("limit=many", "a whole number"),
        ("wait_seconds=26", "<= 25"),
        ("all=perhaps", "true or false"),
        ("runner=RUNNER&until=flying", "flying"),
        ("runner=RUNNER&until=", "is no state"),
    ],
)
async def test_a_query_of_the_wrong_shape_is_refused(shared: House, query: str, complaint: str) -> None:
    runner = await shared.launch("p")
    answer = await get(shared, f"/runners?{query.replace('RUNNER', runner.id)}")
    assert (answer.status, answer.body["code"]) == (400, "invalid")
    assert complaint in answer.body["message"]


@together
async def test_a_request_may_be_large_but_not_endless(shared: House) -> None:
    large = {"project": "p", "argv": ["true", "x" * 900_000]}
    assert (await post(shared, "/runners", large)).status == 200
    answer = await post(shared, "/runners", {"project": "p", "argv": ["true", "x" * (1 << 20)]})
    assert answer.body["code"] == "invalid"
    assert 400 <= answer.status < 500
    assert "1 MiB" in answer.body["message"]


@together
@pytest.mark.parametrize(
    ("method", "target", "status", "code"),
    [
        ("GET", "/runners/ghost", 404, "not_found"),
        ("GET", "/runners/web", 409, "ambiguous"),
        ("GET", "/projects/ghost", 404, "not_found"),
        ("DELETE", "/projects/p", 409, "conflict"),
        ("POST", "/runners/ghost/stop", 404, "not_found"),
        ("DELETE", "/runners/web-1", 409, "conflict"),
        ("GET", "/runners/a%2F..%2Fb", 404, "not_found"),
        ("GET", "/runners/%00", 404, "not_found"),
    ],
)
async def test_a_refusal_of_a_verb_has_its_own_status(
    shared: House, method: str, target: str, status: int, code: str
) -> None:
    if not shared.living_names("web"):
        await shared.launch_all("p", count=2, name="web")
    answer = await request(shared, method, f"/api/v1{target}", b"{}" if method == "POST" else b"")
    assert (answer.status, answer.body["code"]) == (status, code)
    assert answer.body["message"]
    assert answer.body["remedy"]


@together
async def test_over_quota_is_429_and_a_missing_program_422(shared: House) -> None:
    await shared.project("small", max_runners=1)
    answer = await post(shared, "/runners", {"project": "small", "count": 2, "argv": ["true"]})
    assert (answer.status, answer.body["code"]) == (429, "quota")
    answer = await post(shared, "/runners", {"project": "p", "argv": ["no-such-program"]})
    assert (answer.status, answer.body["code"]) == (422, "runner_failed")


async def test_a_bug_is_told_as_one_without_its_details(house: House, caplog: pytest.LogCaptureFixture) -> None:
    await house.wish("DROP VIEW public_projects")
    answer = await get(house, "/projects")
    assert (answer.status, answer.body["code"]) == (500, "internal")
    assert answer.body["message"] == "internal error"
    assert "public_projects" in caplog.text
    caplog.clear()


@together
async def test_the_client_gets_its_structs_and_its_errors(shared: House) -> None:
    client = Client(shared.paths)
    await asyncio.to_thread(client.new_project, "from-the-client", "/", agent="shell")
    launched = await asyncio.to_thread(client.launch, "from-the-client", argv=["sleep", "1000"], name="client-s")
    [runner] = launched.runners  # type: ignore[union-attr]
    assert isinstance(runner, Runner)
    with pytest.raises(Conflict, match="a runner called client-s lives"):
        await asyncio.to_thread(client.launch, "from-the-client", argv=["sleep", "1000"], name="client-s")
    with pytest.raises(NotFound):
        await asyncio.to_thread(client.get_runner, "ghost")


@together
async def test_only_the_owner_may_open_the_socket(shared: House) -> None:
    assert stat.S_IMODE(os.stat(shared.paths.socket).st_mode) == 0o600
    assert stat.S_IMODE(os.stat(shared.paths.state).st_mode) == 0o700


async def test_the_socket_goes_with_the_daemon(house: House) -> None:
    await house.stop()
    assert not house.paths.socket.exists()
    await house.start()


async def test_a_path_longer_than_the_system_allows_is_served(tmp_path: Path) -> None:
    state = tmp_path.joinpath(*["deep" * 20] * 3)
    assert len(os.fsencode(state)) > 200
    async with living(state) as house:
        assert (await asyncio.to_thread(ask, house.paths, "status"))["runners"] == 0


def test_what_is_no_socket_is_not_replaced(tmp_path: Path) -> None:
    (tmp_path / "control.sock").write_text("precious")
    with pytest.raises(Misconfigured, match="in the way"):
        bind(tmp_path / "control.sock")
    assert (tmp_path / "control.sock").read_text() == "precious"


def test_what_a_killed_daemon_left_is_replaced(tmp_path: Path) -> None:
    bind(tmp_path / "control.sock").close()
    again = bind(tmp_path / "control.sock")
    assert stat.S_IMODE(os.stat(tmp_path / "control.sock").st_mode) == 0o600
    again.close()


@together
async def test_a_slow_asker_holds_up_nobody(shared: House) -> None:
    _, writer = await asyncio.open_unix_connection(shared.paths.socket)
    writer.write(b"POST /api/v1/runners HTTP/1.1\r\nHost: x\r\nContent-Length: 100\r\n\r\n{")
    await writer.drain()
    assert (await get(shared, "/status")).status == 200
    writer.close()
    await writer.wait_closed()


def cli_inside(house: House, *argv: str) -> str:
    """A script that runs our CLI against this house, and tells its exit code."""
    command = " ".join([sys.executable, "-m", "stratavore", *argv])
    root = Path(__file__).parents[2]
    return f"cd {root}; STRATAVORE_HOME={house.paths.state} {command}; echo exit $?; exec sleep 1000"


@together
async def test_a_program_inside_a_runner_may_look_but_not_touch(shared: House) -> None:
    other = await shared.running("p", name="other")
    looking = await shared.running("p", cli_inside(shared, "ps"), name="looking")
    for name, argv in {
        "stopping": ("stop", "other"),
        "killing": ("kill", "--all"),
        "launching": ("launch", "p", "--no-wait", "--", "sleep", "1000"),
    }.items():
        runner = await shared.running("p", cli_inside(shared, *argv), name=name)
        await shared.says(runner, "exit ")
        assert f"exit {EXIT_FORBIDDEN}".encode() in shared.output(runner), shared.output(runner)
        assert runner.id.encode() in shared.output(runner)
        await shared.ask("kill_runners", runner.id)
    await shared.says(looking, "exit 0")
    assert b"other" in shared.output(looking)
    assert (await shared.get(other.id)).state == "running"


@together
async def test_nor_may_what_it_left_behind(shared: House) -> None:
    """A child that has its own session and whose parent is gone is still a process of the runner."""
    other = await shared.running("p")
    script = f"setsid sh -c '{cli_inside(shared, 'stop', other.id)}' & exit 0"
    runner = await shared.launch("p", script, tty=False)
    await shared.says(runner, "exit ")
    assert f"exit {EXIT_FORBIDDEN}".encode() in shared.output(runner), shared.output(runner)
    assert (await shared.get(other.id)).state == "running"


async def test_unless_the_configuration_lets_it(tmp_path: Path) -> None:
    async with living(tmp_path / "state", quick(runners={"runners_may_control": True})) as house:
        await house.project("p")
        other = await house.running("p", name="other")
        runner = await house.running("p", cli_inside(house, "stop", "other"))
        await house.says(runner, "exit 0")
        stopped = await house.ended(other.id)
        assert stopped.end_detail is not None
        assert f"runner={runner.id}" in stopped.end_detail


async def test_events_are_awaited(house: House) -> None:
    since = (await get(house, "/events?newest=true&limit=1")).body[-1]["seq"]
    waiting = asyncio.ensure_future(get(house, f"/events?since={since}&wait_seconds=20"))
    done, _ = await asyncio.wait([waiting], timeout=0.1)
    assert not done
    await house.project("p")
    answer = await asyncio.wait_for(waiting, 10)
    assert [event["type"] for event in answer.body] == ["project.created"]


@together
async def test_an_asker_that_leaves_while_it_waits_holds_up_nothing(shared: House) -> None:
    _, writer = await asyncio.open_unix_connection(shared.paths.socket)
    writer.write(b"GET /api/v1/events?since=999999&wait_seconds=25 HTTP/1.1\r\nHost: x\r\n\r\n")
    await writer.drain()
    writer.close()
    await writer.wait_closed()
    assert (await get(shared, "/status")).status == 200
