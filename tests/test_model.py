"""What leaves the daemon: the keys that were promised, and what they may hold."""

from datetime import UTC, datetime
from typing import Any, get_args, get_type_hints

import msgspec
import pytest

from stratavore import model
from stratavore.model import DaemonStatus, Public, Runner

PROMISED = (
    "id name project agent state activity pid exit_code exit_signal end_reason restarts desired restart_policy argv cwd"
    " started_at ended_at cpu_percent rss_bytes session_id output_bytes last_line"
).split()
MAY_BE_UNKNOWN = (
    "pid exit_code exit_signal end_reason started_at ended_at cpu_percent rss_bytes session_id output_bytes last_line"
).split()

STRUCTS = [value for value in vars(model).values() if isinstance(value, type) and issubclass(value, Public)]
_SAMPLES: dict[Any, Any] = {
    str: "x",
    int: 1,
    float: 1.5,
    bool: True,
    datetime: datetime(2031, 1, 2, 3, 4, 5, 678000, UTC),
}


def test_a_runner_has_every_key_that_was_promised() -> None:
    assert set(PROMISED) <= set(Runner.__struct_fields__)


def test_the_status_of_the_daemon_has_every_key_that_was_promised() -> None:
    promised = "pid version started_at runners shims database healthy".split()
    assert set(promised) <= set(DaemonStatus.__struct_fields__)


def test_what_can_be_unknown_may_be_null() -> None:
    hints = get_type_hints(Runner)
    assert [name for name in MAY_BE_UNKNOWN if type(None) not in get_args(hints[name])] == []


@pytest.mark.parametrize("struct", STRUCTS, ids=lambda struct: struct.__name__)
def test_what_is_sent_is_read_as_the_same(struct: type[Public]) -> None:
    sent = sample(struct)
    assert msgspec.json.decode(msgspec.json.encode(sent), type=struct) == sent


@pytest.mark.parametrize("struct", STRUCTS, ids=lambda struct: struct.__name__)
def test_a_reader_passes_over_keys_that_it_does_not_know(struct: type[Public]) -> None:
    """An older program reads what a newer daemon sends."""
    raw = msgspec.to_builtins(sample(struct)) | {"a_key_of_tomorrow": 1}
    assert msgspec.convert(raw, struct) == sample(struct)


def test_times_are_iso_8601_in_utc() -> None:
    assert msgspec.to_builtins(sample(DaemonStatus))["started_at"] == "2031-01-02T03:04:05.678000Z"


def sample(struct: type[Public]) -> Public:
    return struct(**{field.name: _sample(field.type) for field in msgspec.structs.fields(struct)})


def _sample(wanted: Any) -> Any:
    if wanted in _SAMPLES:
        return _SAMPLES[wanted]
    kind = getattr(wanted, "__origin__", None)
    if kind is list:
        return [_sample(get_args(wanted)[0])]
    if kind is dict:
        return {}
    if get_args(wanted):
        return _sample(next(option for option in get_args(wanted) if option is not type(None)))
    return sample(wanted) if issubclass(wanted, Public) else next(iter(wanted))
