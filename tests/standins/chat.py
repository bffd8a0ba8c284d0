"""A stand-in of the OpenAI chat completions API, for OpenCode's `@ai-sdk/openai-compatible` provider."""

import json
from contextlib import AbstractContextManager

from tests.standins import server
from tests.standins.answers import Answer, Bill, answer_to, answer_to_tool, usage_of
from tests.standins.server import JSON, Exchange, Standin


def serve(*, port: int = 0, pause_seconds: float = 0.05) -> AbstractContextManager[Standin]:
    """Run it in this process for as long as the block lasts."""
    return server.serve(answer, port=port, pause_seconds=pause_seconds)


def answer(exchange: Exchange, body: JSON) -> None:
    """Answer one POST, streamed if it was asked so."""
    number = exchange.server.number()
    said, is_tool_result = _last_said(body)
    reply = answer_to_tool(said) if is_tool_result else answer_to(said)
    if reply.error_status is not None:
        error = {"message": f"asked to {said}", "type": "invalid_request_error"}
        exchange.send_json({"error": error}, reply.error_status)
        return
    used = usage_of(number, said, reply)._replace(cache_write_5m=0, cache_write_1h=0)
    usage: JSON = {"prompt_tokens": used.input + used.cache_read, "completion_tokens": used.output}
    usage["total_tokens"] = sum(usage.values())
    usage["prompt_tokens_details"] = {"cached_tokens": used.cache_read}
    usage["completion_tokens_details"] = {"reasoning_tokens": used.thoughts}
    bill = Bill(number, said, used)
    head = {"id": f"chatcmpl-{number:08d}", "created": 0, "model": body.get("model", "stand-in")}
    finish = "stop" if reply.is_said else "tool_calls"
    if not body.get("stream"):
        message = {"role": "assistant", "content": reply.text, **_calls(number, reply)}
        choice = {"index": 0, "message": message, "finish_reason": finish}
        with exchange.billing(bill):
            exchange.send_json({**head, "object": "chat.completion", "choices": [choice], "usage": usage})
        return

    def chunk(delta: JSON, finish_reason: str | None = None) -> None:
        choice = {"index": 0, "delta": delta, "finish_reason": finish_reason}
        exchange.send_event({**head, "object": "chat.completion.chunk", "choices": [choice]})

    with exchange.billing(bill):
        exchange.begin_events()
        chunk({"role": "assistant", "content": "", **_calls(number, reply)})
        for piece in exchange.stream(reply):
            chunk({"content": piece})
        chunk({}, finish)
        exchange.send_event({**head, "object": "chat.completion.chunk", "choices": [], "usage": usage})
        exchange.send_event("[DONE]")
        exchange.end_events()


def _calls(number: int, reply: Answer) -> JSON:
    if reply.is_said:
        return {}
    description = "What the prompt asked for"
    arguments = {"command": reply.command, "description": description}
    if reply.task is not None:
        arguments = {"prompt": reply.task, "description": description, "subagent_type": "general"}
    name = "bash" if reply.task is None else "task"
    function = {"name": name, "arguments": json.dumps(arguments)}
    call = {"index": 0, "id": f"call_{number:08d}", "type": "function", "function": function}
    return {"tool_calls": [call]}


def _last_said(body: JSON) -> tuple[str, bool]:
    """What the user, or a tool, said last; True for a tool."""
    for message in reversed(body.get("messages", [])):
        if message["role"] in ("user", "tool"):
            content = message["content"]
            said = content if isinstance(content, str) else content[-1].get("text", "")
            return said, message["role"] == "tool"
    return "", False


if __name__ == "__main__":
    server.main(answer)
