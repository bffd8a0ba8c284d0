"""The calls of an agent's API in what it exports by OTLP: Claude Code's log events `api_request`.

Rule 1: what has no request id could not be told from what the transcript says of the same call: it is left out.
Rule 2: cache writes that are not told apart (older versions) count as those for five minutes, the cheaper ones.
Rule 3: whatever is not understood says nothing; what is no JSON of the right shape raises ValueError.

Seen with 2.1.197 and 2.1.330; the shape is that of ExportLogsServiceRequest of OTLP 1, as JSON.
"""

from collections.abc import Iterator, Mapping
from datetime import UTC, datetime
from typing import Any

import msgspec

from stratavore.agents.records import FAST, LARGEST_CALL, Call
from stratavore.clock import from_unix_ms

_EVENT = "api_request"
_NAMES = (_EVENT, f"claude_code.{_EVENT}")
_LONGEST = 500
_CLASSES = ("input", "output", "cache_creation", "cache_creation_5m", "cache_creation_1h", "cache_read")


class _Value(msgspec.Struct, frozen=True, rename="camel"):
    string_value: str | None = None
    int_value: int | str | None = None
    double_value: float | None = None


class _Attribute(msgspec.Struct, frozen=True):
    key: str = ""
    value: _Value = _Value()


class _Record(msgspec.Struct, frozen=True, rename="camel"):
    time_unix_nano: int | str | None = None
    body: _Value | None = None
    attributes: list[_Attribute] = []


class _Scope(msgspec.Struct, frozen=True, rename="camel"):
    log_records: list[_Record] = []


class _Resource(msgspec.Struct, frozen=True, rename="camel"):
    scope_logs: list[_Scope] = []


class _Export(msgspec.Struct, frozen=True, rename="camel"):
    resource_logs: list[_Resource] = []


_decoder = msgspec.json.Decoder(_Export)


def calls_in(body: bytes) -> list[Call]:
    """The calls that an export tells of, each keyed by its request; raises ValueError."""
    try:
        export = _decoder.decode(body)
    except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError) as problem:
        raise ValueError(str(problem)) from None
    return [call for record in _records(export) if (call := _call(record)) is not None]


def _records(export: _Export) -> Iterator[_Record]:
    for resource in export.resource_logs:
        for scope in resource.scope_logs:
            yield from scope.log_records


def _call(record: _Record) -> Call | None:
    said = {attribute.key: _plain(attribute.value) for attribute in record.attributes}
    name = said.get("event.name") or (record.body and record.body.string_value)
    request_id, model = _text(said, "request_id"), _text(said, "model")
    at = _moment(said, record)
    classes = [_count(said, f"{kind}_tokens") for kind in _CLASSES]
    if name not in _NAMES or not request_id or not model or at is None or None in classes:
        return None
    new, answered, written, written_5m, written_1h, read = (each or 0 for each in classes)
    return Call(
        key=f"otlp:{request_id}",
        session_id=_text(said, "session.id") or "",
        at=at,
        model=f"{model}{FAST if said.get('speed') == 'fast' else ''}",
        input_tokens=new,
        output_tokens=answered,
        cache_write_5m_tokens=max(written_5m, written - written_1h),
        cache_write_1h_tokens=written_1h,
        cache_read_tokens=read,
        cost_usd=_cost(said),
        request_id=request_id,
    )


def _plain(value: _Value) -> Any:
    for each in (value.string_value, value.int_value, value.double_value):
        if each is not None:
            return each
    return None


def _text(said: Mapping[str, Any], name: str) -> str | None:
    found = said.get(name)
    return found if isinstance(found, str) and 0 < len(found) <= _LONGEST else None


def _number(value: object) -> float | None:
    """Numbers come as numbers or as their text."""
    if not isinstance(value, int | float | str) or (isinstance(value, str) and len(value) > 30):
        return None
    try:
        return float(value)
    except ValueError:
        return None


def _count(said: Mapping[str, Any], name: str) -> int | None:
    """Tokens of one class: none where nothing is said, None where nonsense is."""
    number = _number(said.get(name, 0))
    is_count = number is not None and 0 <= number <= LARGEST_CALL and number == int(number)
    return int(number) if number is not None and is_count else None


def _cost(said: Mapping[str, Any]) -> float | None:
    number = _number(said.get("cost_usd"))
    return number if number is not None and 0 <= number < 1e6 else None


def _moment(said: Mapping[str, Any], record: _Record) -> datetime | None:
    try:
        if (text := _text(said, "event.timestamp")) is not None:
            moment = datetime.fromisoformat(text)
            return moment if moment.tzinfo is not None else moment.replace(tzinfo=UTC)
        return from_unix_ms(int(record.time_unix_nano or 0) // 1_000_000) if record.time_unix_nano else None
    except (ValueError, OverflowError):
        return None
