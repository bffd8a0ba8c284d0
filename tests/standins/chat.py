"""A stand-in of the OpenAI chat completions API, for OpenCode's `@ai-sdk/openai-compatible` provider."""

import json
from contextlib import AbstractContextManager

from tests.standins import server
from tests.standins.answers import Answer, answer_to, answer_to_tool
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
    input_tokens = len(said.split())
    usage = {"prompt_tokens": input_tokens, "completion_tokens": reply.output_tokens}
    usage["total_tokens"] = sum(usage.values())
    head = {"id": f"chatcmpl-{number:08d}", "created": 0, "model": body.get("model", "stand-in")}
    finish = "stop" if reply.command is None else "tool_calls"
    if not body.get("stream"):
        message = {"role": "assistant", "content": reply.text, **_calls(number, reply)}
        choice = {"index": 0, "message": message, "finish_reason": finish}
        exchange.send_json({**head, "object": "chat.completion", "choices": [choice], "usage": usage})
        return

    def chunk(delta: JSON, finish_reason: str | None = None) -> None:
        choice = {"index": 0, "delta": delta, "finish_reason": finish_reason}
        exchange.send_event({**head, "object": "chat.completion.chunk", "choices": [choice]})

    exchange.begin_events()
    chunk({"role": "assistant", "content": "", **_calls(number, reply)})
    for piece in exchange.stream(reply):
        chunk({"content": piece})
    chunk({}, finish)
    exchange.send_event({**head, "object": "chat.completion.chunk", "choices": [], "usage": usage})
    exchange.send_event("[DONE]")
    exchange.end_events()


def _calls(number: int, reply: Answer) -> JSON:
    if reply.command is None:
        return {}
    arguments = json.dumps({"command": reply.command, "description": "What the prompt asked for"})
    function = {"name": "bash", "arguments": arguments}
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
