"""Transcripts of Claude Code, as the tests need them; and a slow, plain count of what they hold."""

import json
from collections.abc import Iterable
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

BEGAN = datetime(2031, 1, 2, 3, 4, 5, tzinfo=UTC)
MODEL = "claude-opus-4-8"
Counts = tuple[int, int, int, int, int]
"""Input, output, written for five minutes and for an hour, read from the cache."""


def answer(
    number: int,
    *,
    session: str = "s1",
    counts: Counts = (1, 2, 3, 4, 5),
    model: str = MODEL,
    at: datetime | None = None,
    cwd: str = "/somewhere",
    text: str = "",
    **more: Any,
) -> bytes:
    """One line: one block of the answer `msg_NUMBER`."""
    new, out, written_5m, written_1h, read = counts
    line = {
        "type": "assistant",
        "sessionId": session,
        "requestId": f"req_{number}",
        "timestamp": (at or BEGAN + timedelta(seconds=number)).isoformat().replace("+00:00", "Z"),
        "cwd": cwd,
        "message": {
            "id": f"msg_{number}",
            "role": "assistant",
            "model": model,
            "content": [{"type": "text", "text": text}],
            "stop_reason": None,
            "usage": {
                "input_tokens": new,
                "output_tokens": out,
                "cache_creation_input_tokens": written_5m + written_1h,
                "cache_read_input_tokens": read,
                "cache_creation": {
                    "ephemeral_5m_input_tokens": written_5m,
                    "ephemeral_1h_input_tokens": written_1h,
                },
            },
        },
        **more,
    }
    return json.dumps(line, separators=(",", ":")).encode() + b"\n"


def file_of(home: Path, session: str, folder: str = "-somewhere") -> Path:
    """Where Claude keeps that conversation; the directory is there."""
    path = home / "projects" / folder / f"{session}.jsonl"
    path.parent.mkdir(parents=True, exist_ok=True)
    return path


def append(path: Path, *lines: bytes) -> None:
    with path.open("ab") as file:
        file.write(b"".join(lines))


def counted(files: Iterable[Path]) -> dict[str, Counts]:
    """What the ledger must hold: of each call the most that any line says of each class."""
    calls: dict[str, Counts] = {}
    for path in files:
        for line in path.read_bytes().split(b"\n")[:-1]:
            try:
                message = json.loads(line)["message"]
                usage = message["usage"]
                kept = usage["cache_creation"]
            except (ValueError, KeyError, TypeError):
                continue
            told = (
                usage["input_tokens"],
                usage["output_tokens"],
                kept["ephemeral_5m_input_tokens"],
                kept["ephemeral_1h_input_tokens"],
                usage["cache_read_input_tokens"],
            )
            known = calls.get(message["id"], (0, 0, 0, 0, 0))
            calls[message["id"]] = tuple(map(max, known, told))
    return calls
