"""The stand-ins themselves, as far as no agent's own test would notice."""

import json
import subprocess
import sys
import urllib.error
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager

import pytest

from tests.programs import REPOSITORY


@contextmanager
def running(module: str) -> Iterator[str]:
    """The stand-in as a process of its own, and its address."""
    command = [sys.executable, "-m", f"tests.standins.{module}", "--port", "0", "--pause", "0"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True, cwd=REPOSITORY) as process:
        assert process.stdout is not None
        try:
            yield f"http://127.0.0.1:{int(process.stdout.readline())}"
        finally:
            process.terminate()


def post(url: str, body: object) -> str:
    request = urllib.request.Request(url, json.dumps(body).encode(), {"Content-Type": "application/json"})
    with urllib.request.urlopen(request, timeout=10) as reply:
        return str(reply.read().decode())


@pytest.mark.parametrize("module", ["messages", "responses", "gemini", "chat"])
def test_a_stand_in_runs_by_hand_and_prints_its_port(module: str) -> None:
    with running(module) as url, urllib.request.urlopen(url, timeout=10) as reply:
        assert reply.status == 200


def test_the_messages_stand_in_answers_the_same_each_time() -> None:
    asked = {"model": "m", "stream": True, "messages": [{"role": "user", "content": "count to 3 slowly"}]}
    answers = []
    for _ in range(2):
        with running("messages") as url:
            answers.append(post(f"{url}/v1/messages", asked))
    assert answers[0] == answers[1]
    events = [line.removeprefix("event: ") for line in answers[0].splitlines() if line.startswith("event")]
    deltas = ["content_block_delta"] * 3
    head, tail = ["message_start", "content_block_start", "ping"], ["content_block_stop", "message_delta"]
    assert events == [*head, *deltas, *tail, "message_stop"]
    assert '"usage": {"output_tokens": 4}' in answers[0]


def test_the_messages_stand_in_fails_when_it_is_asked_to() -> None:
    with running("messages") as url, pytest.raises(urllib.error.HTTPError, match="529") as failure:
        post(f"{url}/v1/messages", {"messages": [{"role": "user", "content": "fail with 529"}]})
    failure.value.close()
