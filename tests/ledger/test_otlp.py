"""What an agent exports is booked once, for the runner whose bearer it has, and nothing else gets in."""

import contextlib
import gzip
import io
import json
import os
import socket
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import aiohttp
import pytest
from hypothesis import given
from hypothesis import strategies as st

from stratavore.agents import Telemetry
from stratavore.ledger.bearers import Bearers
from stratavore.ledger.otlp import Receiver
from stratavore.ledger.otlp_calls import calls_in
from tests.ledger.keeping import Keeper, keeping
from tests.ledger.transcripts import answer, append, file_of

RUNNER = "runner0001"


class Desk:
    """A receiver, the ledger that it writes to, and a way to send it something."""

    def __init__(self, keeper: Keeper, receiver: Receiver) -> None:
        self.keeper = keeper
        self.receiver = receiver
        self.charged = 0

    def telemetry(self, runner_id: str = RUNNER) -> Telemetry:
        found = self.receiver.telemetry(runner_id)
        assert found is not None
        return found

    async def send(self, body: object, *, path: str = "/v1/logs", **options: Any) -> int:
        """The status of the answer; `headers` are added to those that the runner was given."""
        data = io.BytesIO(body if isinstance(body, bytes) else json.dumps(body).encode())
        headers = {**self.telemetry().headers, "Content-Type": "application/json", **options.pop("headers", {})}
        async with aiohttp.ClientSession() as session:
            url = self.telemetry().endpoint + path
            async with session.post(url, data=data, headers=headers, **options) as answered:
                return answered.status

    @property
    def port(self) -> int:
        return int(self.telemetry().endpoint.rpartition(":")[2])


@pytest.fixture
async def desk(tmp_path: Path) -> AsyncIterator[Desk]:
    async with keeping(tmp_path) as keeper:
        desk = Desk(keeper, Receiver(keeper.context, on_charged=lambda: None))
        await desk.receiver.start()
        yield desk
        await desk.receiver.close()


def attribute(key: str, value: object) -> dict[str, Any]:
    kind = {str: "stringValue", int: "intValue", float: "doubleValue"}[type(value)]
    return {"key": key, "value": {kind: value}}


def exported(*records: dict[str, Any]) -> dict[str, Any]:
    """An export of these log records, each a table of its attributes."""
    return {
        "resourceLogs": [
            {
                "resource": {"attributes": [attribute("service.name", "claude-code")]},
                "scopeLogs": [
                    {
                        "scope": {"name": "events"},
                        "logRecords": [
                            {
                                "timeUnixNano": "1925089445000000000",
                                "body": {"stringValue": f"claude_code.{record.get('event.name')}"},
                                "attributes": [attribute(key, value) for key, value in record.items()],
                            }
                            for record in records
                        ],
                    }
                ],
            }
        ]
    }


def request(number: int, **fields: object) -> dict[str, Any]:
    """The event of one call, as Claude sends it."""
    return {
        "event.name": "api_request",
        "event.timestamp": "2031-01-02T03:04:05.678Z",
        "session.id": "s1",
        "model": "claude-opus-4-8",
        "input_tokens": 1,
        "output_tokens": "2",
        "cache_creation_tokens": 7,
        "cache_read_tokens": 5.0,
        "cost_usd": 0.25,
        "request_id": f"req_{number}",
        **fields,
    }


async def test_a_call_that_stands_in_no_transcript_is_booked_for_its_runner(desk: Desk) -> None:
    assert await desk.send(exported(request(1), {"event.name": "user_prompt", "prompt_length": 4})) == 200
    [row] = desk.keeper.rows("SELECT * FROM usage")
    assert (row["runner_id"], row["source"], row["model"]) == (RUNNER, "otlp", "claude-opus-4-8")
    assert list(desk.keeper.calls().values()) == [(1, 2, 7, 0, 5)]
    assert (row["at"], row["agent_cost_nano_usd"]) == ("2031-01-02T03:04:05.678Z", 250_000_000)
    assert desk.keeper.scalar("SELECT tokens FROM runner_usage") == 15


async def test_what_was_served_fast_says_so_behind_its_model(desk: Desk) -> None:
    await desk.send(exported(request(1, speed="fast")))
    [row] = desk.keeper.rows("SELECT * FROM usage")
    assert row["model"] == "claude-opus-4-8[fast]"


async def test_cache_writes_are_told_apart_where_the_agent_does(desk: Desk) -> None:
    told = {"cache_creation_tokens": 7, "cache_creation_5m_tokens": 3, "cache_creation_1h_tokens": 4}
    await desk.send(exported(request(1, **told)))
    assert list(desk.keeper.calls().values()) == [(1, 2, 3, 4, 5)]


@pytest.mark.parametrize("first", ["transcript", "export"])
async def test_one_call_told_by_both_is_one_call_and_the_transcript_counts(desk: Desk, first: str) -> None:
    steps = ["transcript", "export"] if first == "transcript" else ["export", "transcript"]
    for step in steps:
        if step == "export":
            await desk.send(exported(request(1, output_tokens=99)))
        else:
            append(file_of(desk.keeper.home, "s1"), answer(1))
            await desk.keeper.caught_up()
    assert desk.keeper.calls() == {"msg_1": (1, 2, 3, 4, 5)}


async def test_the_same_export_again_adds_nothing(desk: Desk) -> None:
    for _ in range(3):
        await desk.send(exported(request(1), request(2)))
    assert len(desk.keeper.calls()) == 2
    assert desk.keeper.scalar("SELECT calls FROM runner_usage") == 2


async def test_a_runner_can_add_to_its_own_usage_only(desk: Desk) -> None:
    await desk.send(exported(request(1)))
    others = Receiver.telemetry(desk.receiver, "runner0002")
    assert others is not None
    await desk.send(exported(request(1, output_tokens=500)), headers=others.headers)
    found = desk.keeper.rows("SELECT runner_id, tokens FROM runner_usage ORDER BY runner_id")
    assert found == [{"runner_id": RUNNER, "tokens": 15}, {"runner_id": "runner0002", "tokens": 513}]


async def test_a_conversation_that_another_runner_is_in_is_not_added_to(desk: Desk) -> None:
    for sql in (
        "INSERT INTO sessions (number, agent, id, home, is_foreign) VALUES (7, 'claude', 's1', '/h', 0)",
        "INSERT INTO session_runs (session, run_key, runner_id, from_at) VALUES (7, 'r.1', 'r', '2000')",
    ):
        await desk.keeper.do(sql)
    assert await desk.send(exported(request(1))) == 200
    assert desk.keeper.scalar("SELECT session FROM usage") is None


@pytest.mark.parametrize(
    "authorization",
    ["", "Bearer", "Bearer ", "Bearer runner0001", "Bearer runner0001.", "Bearer runner0001.0" * 2, "Basic x"],
)
async def test_nobody_gets_in_without_a_bearer(desk: Desk, authorization: str) -> None:
    assert await desk.send(exported(request(1)), headers={"Authorization": authorization}) == 401
    mine = desk.telemetry().headers["Authorization"]
    forged = mine.replace(RUNNER, "runner0002")
    assert await desk.send(exported(request(1)), headers={"Authorization": forged}) == 401
    assert desk.keeper.calls() == {}


@pytest.mark.parametrize(
    "host", ["localhost:{}", "127.0.0.1", "evil.example:{}", "127.0.0.1.evil.example:{}", "[::1]:{}"]
)
async def test_another_host_is_refused(desk: Desk, host: str) -> None:
    headers = {"Host": host.format(desk.port)}
    assert await desk.send(exported(request(1)), headers=headers) == 421


async def test_it_listens_on_the_loopback_only(desk: Desk) -> None:
    tcp = [line.split() for line in Path("/proc/net/tcp").read_text().splitlines()[1:]]
    places = [line[1] for line in tcp if line[3] == "0A" and line[1].endswith(f":{desk.port:04X}")]
    assert places == [f"0100007F:{desk.port:04X}"]
    assert f":{desk.port:04X} " not in Path("/proc/net/tcp6").read_text()


async def test_compressed_and_chunked_bodies_are_taken(desk: Desk) -> None:
    body = gzip.compress(json.dumps(exported(request(1))).encode())
    assert await desk.send(body, headers={"Content-Encoding": "gzip"}) == 200
    assert await desk.send(json.dumps(exported(request(2))).encode(), chunked=True) == 200
    assert len(desk.keeper.calls()) == 2


async def test_what_is_too_large_is_refused_whole_or_compressed(desk: Desk) -> None:
    bomb = gzip.compress(b" " * (64 << 20))
    assert len(bomb) < 1 << 20
    assert await desk.send(bomb, headers={"Content-Encoding": "gzip"}) in (400, 413)
    assert await desk.send(b" " * (5 << 20)) == 413
    assert desk.keeper.calls() == {}


@pytest.mark.parametrize(
    "body",
    [b"", b"{", b"[]", b'{"resourceLogs": 3}', b"\xff\xfe", b"[" * 100_000, b'{"resourceLogs": [{"scopeLogs": 1}]}'],
)
async def test_what_is_no_export_is_refused(desk: Desk, body: bytes) -> None:
    assert await desk.send(body) == 400


async def test_other_paths_and_methods_are_not_there(desk: Desk) -> None:
    assert await desk.send(exported(request(1)), path="/v1/metrics") == 404
    async with aiohttp.ClientSession() as session, session.get(f"{desk.telemetry().endpoint}/v1/logs") as answered:
        assert answered.status == 405


async def test_the_port_and_the_bearers_outlive_the_daemon(desk: Desk) -> None:
    before = desk.telemetry()
    await desk.receiver.close()
    desk.receiver = Receiver(desk.keeper.context, on_charged=lambda: None)
    await desk.receiver.start()
    assert desk.telemetry() == before
    assert desk.keeper.context.paths.otlp.stat().st_mode & 0o777 == 0o600


async def test_a_port_that_another_has_now_is_given_up(desk: Desk) -> None:
    port = desk.port
    await desk.receiver.close()
    with socket.socket() as stranger:
        stranger.bind(("127.0.0.1", port))
        stranger.listen()
        desk.receiver = Receiver(desk.keeper.context, on_charged=lambda: None)
        await desk.receiver.start()
        assert desk.port != port
        assert await desk.send(exported(request(1))) == 200


def test_a_secret_that_others_could_read_is_none(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    path = tmp_path / "otlp.json"
    first = Bearers(path)
    first.keep(4242)
    assert Bearers(path).of_runner("r") == first.of_runner("r")
    assert not caplog.records
    os.chmod(path, 0o644)
    assert Bearers(path).of_runner("r") != first.of_runner("r")
    assert "a new secret is made" in caplog.text
    assert first.of_runner("r").partition(".")[2] not in repr(vars(first))


@pytest.mark.parametrize(
    "fields",
    [
        {"input_tokens": -1},
        {"input_tokens": 1.5},
        {"input_tokens": "many"},
        {"input_tokens": 10**10},
        {"input_tokens": "nan"},
        {"input_tokens": "9" * 400},
        {"request_id": ""},
        {"request_id": "x" * 600},
        {"model": ""},
        {"event.name": "tool_result"},
        {"event.timestamp": "yesterday"},
    ],
    ids=str,
)
def test_what_is_not_understood_says_nothing(fields: dict[str, object]) -> None:
    body = json.dumps(exported(request(1, **fields), request(2))).encode()
    assert [call.request_id for call in calls_in(body)] == ["req_2"]


KEYS = ["resourceLogs", "scopeLogs", "logRecords", "attributes", "key", "value", "stringValue"]
NONSENSE = st.recursive(
    st.none() | st.booleans() | st.floats() | st.text(),
    lambda inner: st.lists(inner) | st.dictionaries(st.sampled_from(KEYS), inner),
)


@given(NONSENSE)
def test_nothing_but_a_refusal_comes_of_nonsense(body: object) -> None:
    with contextlib.suppress(ValueError):
        assert calls_in(json.dumps(body).encode()) == []
