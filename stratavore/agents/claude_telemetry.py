"""What Claude Code is told so that it exports its calls: the title of a conversation and its compaction are in no
transcript.

Rule 1: who sends its telemetry elsewhere, or set it up in any way, is left alone.
"""

from collections.abc import Mapping

from stratavore.agents.telemetry import Telemetry

_INTERVAL_MS = 500
_ENABLE = "CLAUDE_CODE_ENABLE_TELEMETRY"


def variables(telemetry: Telemetry) -> dict[str, str]:
    """What its environment needs. Values of headers are not percent-encoded: 2.1.330 would send them as they are."""
    return {
        _ENABLE: "1",
        "OTEL_LOGS_EXPORTER": "otlp",
        "OTEL_EXPORTER_OTLP_PROTOCOL": "http/json",
        "OTEL_EXPORTER_OTLP_ENDPOINT": telemetry.endpoint,
        "OTEL_EXPORTER_OTLP_HEADERS": ",".join(f"{name}={value}" for name, value in telemetry.headers.items()),
        "OTEL_LOGS_EXPORT_INTERVAL": str(_INTERVAL_MS),
    }


def of_others(env: Mapping[str, str], ours: Telemetry) -> str | None:
    """The first variable that says that this environment has its own telemetry; None if none does, or if it is that of
    the runner from inside which this one was launched."""
    if env.get("OTEL_EXPORTER_OTLP_ENDPOINT") == ours.endpoint:
        return None
    return next((name for name in sorted(env) if name.startswith("OTEL_") or name == _ENABLE), None)
