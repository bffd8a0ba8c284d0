"""A stand-in of the Anthropic Messages API, for Claude Code.

ANTHROPIC_BASE_URL=http://127.0.0.1:PORT ANTHROPIC_API_KEY=anything claude
"""

import json
import time
from contextlib import AbstractContextManager

from tests.standins import server
from tests.standins.answers import RESETS_AT, Answer, Bill, Usage, answer_to, answer_to_tool, usage_of
from tests.standins.server import JSON, Exchange, Standin


def serve(*, port: int = 0, pause_seconds: float = 0.05) -> AbstractContextManager[Standin]:
    """Run it in this process for as long as the block lasts."""
    return server.serve(answer, port=port, pause_seconds=pause_seconds)


def answer(exchange: Exchange, body: JSON) -> None:
    """Answer one POST."""
    said, is_tool_result = _last_said(body)
    if "/count_tokens" in exchange.path:
        exchange.send_json({"input_tokens": len(said.split())})
        return
    number = exchange.server.number()
    headers = {"request-id": f"req_{number:08d}", **_windows(exchange.server.used_percent)}
    reply = answer_to_tool(said) if is_tool_result else answer_to(said)
    if reply.error_status is not None:
        _fail(exchange, said, reply.error_status, headers)
        return
    usage = usage_of(number, said, reply)
    bill = Bill(number, said, usage)
    message = _message(number, body, usage, "fast" if said.endswith(" fast") else "standard")
    if not body.get("stream"):
        message |= {"content": [_block(number, reply)], "stop_reason": _stop_reason(reply)}
        message["usage"]["output_tokens"] = usage.output
        with exchange.billing(bill):
            exchange.send_json(message, headers=headers)
        return
    with exchange.billing(bill, told=Bill(number, said, usage._replace(output=1))):
        exchange.begin_events(headers)
        _stream(exchange, number, message, reply, usage)
        exchange.end_events()


def _windows(used_percent: float | None) -> dict[str, str]:
    """What subscribers are told of their windows. Claude believes no reset that lies more than a year ahead."""
    if used_percent is None:
        return {}
    told = {"status": "allowed", "5h-utilization": used_percent / 100, "5h-reset": int(time.time()) + 3600}
    return {f"anthropic-ratelimit-unified-{name}": str(value) for name, value in told.items()}


def _fail(exchange: Exchange, said: str, status: int, headers: dict[str, str]) -> None:
    kind = "rate_limit_error" if status == 429 else "invalid_request_error"
    if status == 429:
        limit = {"status": "rejected", "reset": str(RESETS_AT), "representative-claim": "five_hour"}
        headers = {
            **headers,
            "x-should-retry": "false",
            **{f"anthropic-ratelimit-unified-{name}": value for name, value in limit.items()},
        }
    error = {"type": kind, "message": f"asked to {said.strip()}"}
    exchange.send_json({"type": "error", "error": error}, status, headers)


def _stream(exchange: Exchange, number: int, message: JSON, reply: Answer, usage: Usage) -> None:
    def event(name: str, **fields: object) -> None:
        exchange.send_event({"type": name, **fields}, name)

    nothing: JSON = {"text": ""} if reply.is_said else {"input": {}}
    event("message_start", message=message)
    event("content_block_start", index=0, content_block=_block(number, reply) | nothing)
    event("ping")
    if not reply.is_said:
        piece = json.dumps(_block(number, reply)["input"])
        event("content_block_delta", index=0, delta={"type": "input_json_delta", "partial_json": piece})
    for piece in exchange.stream(reply):
        event("content_block_delta", index=0, delta={"type": "text_delta", "text": piece})
    event("content_block_stop", index=0)
    end = {"stop_reason": _stop_reason(reply), "stop_sequence": None}
    event("message_delta", delta=end, usage={"output_tokens": usage.output})
    event("message_stop")


def _message(number: int, body: JSON, used: Usage, speed: str) -> JSON:
    usage = {
        "input_tokens": used.input,
        "cache_creation_input_tokens": used.cache_write_5m + used.cache_write_1h,
        "cache_read_input_tokens": used.cache_read,
        "cache_creation": {
            "ephemeral_5m_input_tokens": used.cache_write_5m,
            "ephemeral_1h_input_tokens": used.cache_write_1h,
        },
        # The real API begins with 1 as well; only `message_delta` has the final number.
        "output_tokens": 1,
        "service_tier": "standard",
        "speed": speed,
    }
    return {
        "id": f"msg_{number:08d}",
        "type": "message",
        "role": "assistant",
        "model": body.get("model", "stand-in"),
        "content": [],
        "stop_reason": None,
        "stop_sequence": None,
        "usage": usage,
    }


def _block(number: int, reply: Answer) -> JSON:
    head = {"type": "tool_use", "id": f"toolu_{number:08d}"}
    description = "What the prompt asked for"
    if reply.command is not None:
        return head | {"name": "Bash", "input": {"command": reply.command, "description": description}}
    if reply.task is not None:
        task = {"prompt": reply.task, "description": description, "subagent_type": "general-purpose"}
        return head | {"name": "Agent", "input": task | {"run_in_background": False}}
    return {"type": "text", "text": reply.text}


def _stop_reason(reply: Answer) -> str:
    return "end_turn" if reply.is_said else "tool_use"


def _last_said(body: JSON) -> tuple[str, bool]:
    """What the user, or a tool, said last; True for a tool. Reminders that the CLI adds to a prompt are left out."""
    for message in reversed(body.get("messages", [])):
        if message["role"] != "user":
            continue
        blocks = message["content"]
        if isinstance(blocks, str):
            blocks = [{"type": "text", "text": blocks}]
        for block in reversed(blocks):
            if block["type"] == "tool_result":
                return _text(block.get("content", "")), True
            if block["type"] == "text" and not block["text"].lstrip().startswith("<system-reminder>"):
                return block["text"], False
    return "", False


def _text(content: str | list[JSON]) -> str:
    return content if isinstance(content, str) else " ".join(part.get("text", "") for part in content)


if __name__ == "__main__":
    server.main(answer)
