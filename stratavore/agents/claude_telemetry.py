"""What Claude Code is told so that it exports its calls: the title of a conversation and its compaction are in no
transcript.

Rule 1: who sends its telemetry elsewhere, or set it up in any way, is left alone.
"""

from collections.abc import Mapping

from stratavore.agents.telemetry import Telemetry

_INTERVAL_MS = 500
_ENABLE = "CLAUDE_CODE_ENABLE_TELEMETRY"
_HEADERS = "OTEL_EXPORTER_OTLP_HEADERS"


_NAMES = (
    _ENABLE,
    "OTEL_LOGS_EXPORTER",
    "OTEL_EXPORTER_OTLP_PROTOCOL",
    "OTEL_EXPORTER_OTLP_ENDPOINT",
    _HEADERS,
    "OTEL_LOGS_EXPORT_INTERVAL",
)


def variables(telemetry: Telemetry) -> dict[str, str]:
    """What its environment needs. Values of headers are not percent-encoded: 2.1.330 would send them as they are."""
    headers = ",".join(f"{name}={value}" for name, value in telemetry.headers.items())
    return dict(zip(_NAMES, ("1", "otlp", "http/json", telemetry.endpoint, headers, str(_INTERVAL_MS)), strict=True))


def without_a_runners(env: Mapping[str, str], runner_id: str) -> Mapping[str, str]:
    """The environment of a process inside that runner, without what was meant for that runner alone: its bearer."""
    if f"Bearer {runner_id}." not in env.get(_HEADERS, ""):
        return env
    return {name: value for name, value in env.items() if name not in _NAMES}


def of_others(env: Mapping[str, str], ours: Telemetry) -> str | None:
    """The first variable that says that this environment has its own telemetry; None if none does, or if it is that of
    the runner from inside which this one was launched."""
    if env.get("OTEL_EXPORTER_OTLP_ENDPOINT") == ours.endpoint:
        return None
    return next((name for name in sorted(env) if name.startswith("OTEL_") or name == _ENABLE), None)
