"""A stand-in of the OpenAI Responses API, for Codex (`wire_api = "responses"`, `base_url = "…/v1"`)."""

import json
from contextlib import AbstractContextManager

from tests.standins import server
from tests.standins.answers import RESETS_AT, Answer, Bill, Usage, answer_to, answer_to_tool, usage_of
from tests.standins.server import JSON, Exchange, Standin


def serve(*, port: int = 0, pause_seconds: float = 0.05) -> AbstractContextManager[Standin]:
    """Run it in this process for as long as the block lasts."""
    return server.serve(answer, port=port, pause_seconds=pause_seconds)


def answer(exchange: Exchange, body: JSON) -> None:
    """Answer one POST, always as a stream of events."""
    number = exchange.server.number()
    said, is_tool_result = _last_said(body)
    reply = answer_to_tool(said) if is_tool_result else answer_to(said)
    if reply.error_status is not None:
        kind = "usage_limit_reached" if reply.error_status == 429 else "invalid_request_error"
        error = {"message": f"asked to {said}", "type": kind, "plan_type": "plus", "resets_at": RESETS_AT}
        exchange.send_json({"error": error}, reply.error_status, _allowance(100))
        return
    usage = usage_of(number, said, reply)._replace(cache_write_5m=0, cache_write_1h=0)
    with exchange.billing(Bill(number, said, usage)):
        exchange.begin_events(_allowance(number))
        _stream(exchange, number, reply, body, usage)
        exchange.end_events()


def _allowance(percent: int) -> dict[str, str]:
    """How much of the account's windows is used, as the real API says it."""
    primary = {"used-percent": str(percent), "window-minutes": "300", "reset-at": str(RESETS_AT)}
    secondary = {"used-percent": "7.5", "window-minutes": "10080", "reset-at": str(RESETS_AT)}
    return {f"x-codex-primary-{name}": value for name, value in primary.items()} | {
        f"x-codex-secondary-{name}": value for name, value in secondary.items()
    }


def _stream(exchange: Exchange, number: int, reply: Answer, body: JSON, used: Usage) -> None:
    def event(name: str, **fields: object) -> None:
        exchange.send_event({"type": name, **fields}, name)

    response: JSON = {"id": f"resp_{number:08d}", "object": "response", "status": "in_progress", "output": []}
    item = _item(number, reply, body)
    event("response.created", response=response)
    if reply.is_said:
        begun = item | {"content": [], "status": "in_progress"}
        event("response.output_item.added", output_index=0, item=begun)
    for piece in exchange.stream(reply):
        event("response.output_text.delta", item_id=item["id"], output_index=0, content_index=0, delta=piece)
    event("response.output_item.done", output_index=0, item=item)
    input_tokens = used.input + used.cache_read
    usage = {
        "input_tokens": input_tokens,
        "input_tokens_details": {"cached_tokens": used.cache_read},
        "output_tokens": used.output,
        "output_tokens_details": {"reasoning_tokens": used.thoughts},
        "total_tokens": input_tokens + used.output,
    }
    done = {"status": "completed", "output": [item], "usage": usage}
    event("response.completed", response=response | done)


def _item(number: int, reply: Answer, body: JSON) -> JSON:
    head = {"id": f"item_{number:08d}", "status": "completed"}
    if reply.is_said:
        content = [{"type": "output_text", "text": reply.text, "annotations": []}]
        return head | {"type": "message", "role": "assistant", "content": content}
    if reply.task is not None:
        wish: JSON = {"namespace": "multi_agent_v1", "name": "spawn_agent"}
        arguments: JSON = {"message": reply.task}
    else:
        name, arguments = _shell_tool(reply.command or "", body)
        wish = {"name": name}
    call = {"call_id": f"call_{number:08d}", "arguments": json.dumps(arguments)}
    return head | {"type": "function_call"} | wish | call


def _shell_tool(command: str, body: JSON) -> tuple[str, JSON]:
    """The shell tool under the name that this version of Codex offers it by."""
    offered = {tool.get("name") for tool in body.get("tools", [])}
    if "exec_command" in offered:
        return "exec_command", {"cmd": command}
    if "shell_command" in offered:
        return "shell_command", {"command": command}
    return "shell", {"command": ["sh", "-c", command]}


def _last_said(body: JSON) -> tuple[str, bool]:
    """What the user, or a tool, said last; True for a tool."""
    for item in reversed(body.get("input", [])):
        if item.get("type") == "function_call_output":
            output = item["output"]
            return output if isinstance(output, str) else json.dumps(output), True
        if item.get("role") == "user":
            content = item["content"]
            return (content if isinstance(content, str) else content[-1].get("text", "")), False
    return "", False


if __name__ == "__main__":
    server.main(answer)
