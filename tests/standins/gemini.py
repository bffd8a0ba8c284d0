"""A stand-in of the Gemini API, for Gemini CLI (`GOOGLE_GEMINI_BASE_URL`)."""

import json
from contextlib import AbstractContextManager

from tests.standins import server
from tests.standins.answers import Answer, answer_to, answer_to_tool
from tests.standins.server import JSON, Exchange, Standin


def serve(*, port: int = 0, pause_seconds: float = 0.05) -> AbstractContextManager[Standin]:
    """Run it in this process for as long as the block lasts."""
    return server.serve(answer, port=port, pause_seconds=pause_seconds)


def answer(exchange: Exchange, body: JSON) -> None:
    """Answer one POST: `:streamGenerateContent` with events, `:generateContent` in one piece, `:countTokens`."""
    said, is_tool_result = _last_said(body)
    input_tokens = len(said.split())
    if ":countTokens" in exchange.path:
        exchange.send_json({"totalTokens": input_tokens})
        return
    number = exchange.server.number()
    reply = answer_to_tool(said) if is_tool_result else answer_to(said)
    if reply.error_status is not None:
        error = {"code": reply.error_status, "message": f"asked to {said}", "status": "INVALID_ARGUMENT"}
        exchange.send_json({"error": error}, reply.error_status)
    elif ":streamGenerateContent" in exchange.path:
        exchange.begin_events()
        for piece in exchange.stream(reply):
            exchange.send_event(_chunk(number, [{"text": piece}]))
        exchange.send_event(_end(number, _call(reply), reply, input_tokens))
        exchange.end_events()
    elif _wants_json(body):
        # With no model named, the CLI first asks how hard the prompt is.
        verdict = json.dumps({"complexity_reasoning": "a stand-in", "complexity_score": 1})
        exchange.send_json(_end(number, [{"text": verdict}], reply, input_tokens))
    else:
        exchange.send_json(_end(number, _call(reply) or [{"text": reply.text}], reply, input_tokens))


def _chunk(number: int, parts: list[JSON]) -> JSON:
    candidate: JSON = {"content": {"role": "model", "parts": parts}, "index": 0}
    return {"candidates": [candidate], "responseId": f"resp_{number:08d}", "modelVersion": "stand-in"}


def _end(number: int, parts: list[JSON], reply: Answer, input_tokens: int) -> JSON:
    chunk = _chunk(number, parts)
    chunk["candidates"][0]["finishReason"] = "STOP"
    counts = {
        "promptTokenCount": input_tokens,
        "candidatesTokenCount": reply.output_tokens,
        "totalTokenCount": input_tokens + reply.output_tokens,
    }
    return chunk | {"usageMetadata": counts}


def _call(reply: Answer) -> list[JSON]:
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
