"""A stand-in of the Gemini API, for Gemini CLI (`GOOGLE_GEMINI_BASE_URL`)."""

import json
from contextlib import AbstractContextManager

from tests.standins import server
from tests.standins.answers import Answer, Bill, Usage, answer_to, answer_to_tool, usage_of
from tests.standins.server import JSON, Exchange, Standin


def serve(*, port: int = 0, pause_seconds: float = 0.05) -> AbstractContextManager[Standin]:
    """Run it in this process for as long as the block lasts."""
    return server.serve(answer, port=port, pause_seconds=pause_seconds)


def answer(exchange: Exchange, body: JSON) -> None:
    """Answer one POST: `:streamGenerateContent` with events, `:generateContent` in one piece, `:countTokens`."""
    said, is_tool_result = _last_said(body)
    if ":countTokens" in exchange.path:
        exchange.send_json({"totalTokens": len(said.split())})
        return
    number = exchange.server.number()
    reply = answer_to_tool(said) if is_tool_result else answer_to(said)
    if reply.error_status is not None:
        exchange.send_json({"error": _error(said, reply.error_status)}, reply.error_status)
        return
    used = usage_of(number, said, reply)._replace(cache_write_5m=0, cache_write_1h=0)
    with exchange.billing(Bill(number, said, used)):
        if ":streamGenerateContent" in exchange.path:
            exchange.begin_events()
            for piece in exchange.stream(reply):
                exchange.send_event(_chunk(number, [{"text": piece}]))
            exchange.send_event(_end(number, _call(reply), used))
            exchange.end_events()
        elif _wants_json(body):
            # With no model named, the CLI first asks how hard the prompt is.
            verdict = json.dumps({"complexity_reasoning": "a stand-in", "complexity_score": 1})
            exchange.send_json(_end(number, [{"text": verdict}], used))
        else:
            exchange.send_json(_end(number, _call(reply) or [{"text": reply.text}], used))


def _error(said: str, status: int) -> JSON:
    if status != 429:
        return {"code": status, "message": f"asked to {said}", "status": "INVALID_ARGUMENT"}
    violation = {"quotaId": "GenerateRequestsPerDayPerProjectPerModel", "quotaMetric": "requests"}
    details = [{"@type": "type.googleapis.com/google.rpc.QuotaFailure", "violations": [violation]}]
    message = "You have exhausted your capacity on this model. Your quota will reset after 3h12m5s."
    return {"code": status, "message": message, "status": "RESOURCE_EXHAUSTED", "details": details}


def _chunk(number: int, parts: list[JSON]) -> JSON:
    candidate: JSON = {"content": {"role": "model", "parts": parts}, "index": 0}
    return {"candidates": [candidate], "responseId": f"resp_{number:08d}", "modelVersion": "stand-in"}


def _end(number: int, parts: list[JSON], used: Usage) -> JSON:
    chunk = _chunk(number, parts)
    chunk["candidates"][0]["finishReason"] = "STOP"
    counts = {
        "promptTokenCount": used.input + used.cache_read,
        "cachedContentTokenCount": used.cache_read,
        "candidatesTokenCount": used.output - used.thoughts,
        "thoughtsTokenCount": used.thoughts,
        "totalTokenCount": used.input + used.cache_read + used.output,
    }
    return chunk | {"usageMetadata": counts}


def _call(reply: Answer) -> list[JSON]:
    if reply.task is not None:
        task = {"agent_name": "generalist", "prompt": reply.task}
        return [{"functionCall": {"name": "invoke_agent", "args": task}}]
    if reply.command is None:
        return []
    return [{"functionCall": {"name": "run_shell_command", "args": {"command": reply.command}}}]


def _wants_json(body: JSON) -> bool:
    wanted = body.get("generationConfig", {}).get("responseMimeType")
    return bool(wanted == "application/json")


def _last_said(body: JSON) -> tuple[str, bool]:
    """What the user, or a tool, said last; True for a tool."""
    for content in reversed(body.get("contents", [])):
        for part in reversed(content.get("parts", [])):
            if "functionResponse" in part:
                return json.dumps(part["functionResponse"].get("response", {})), True
            if content.get("role") == "user" and "text" in part:
                return str(part["text"]), False
    return "", False


if __name__ == "__main__":
    server.main(answer)
