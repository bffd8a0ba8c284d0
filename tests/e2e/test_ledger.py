"""What real agents used in runners is what the stand-in billed, the calls that stand in no transcript included."""

import json
from pathlib import Path

import pytest

from tests.e2e.house import House, until
from tests.programs import needs, once_more

pytestmark = [once_more(), pytest.mark.timeout(150)]


def used(house: House, by: str = "agent") -> tuple[int, int, int, int]:
    """Calls, input, output, and what was written into or read from caches, as the ledger has them."""
    total = house.cli.json("usage", "--by", by)["total"]
    cached = sum(total[f"{name}_tokens"] for name in ("cache_write_5m", "cache_write_1h", "cache_read"))
    return total["calls"], total["input_tokens"], total["output_tokens"], cached


def billed(house: House) -> tuple[int, int, int, int]:
    usages = [bill.usage for bill in house.standin.billed]
    cached = sum(usage.cache_write_5m + usage.cache_write_1h + usage.cache_read for usage in usages)
    return len(usages), sum(usage.input for usage in usages), sum(usage.output for usage in usages), cached


@needs("claude")
def test_every_call_of_claude_is_counted_hidden_ones_too(house: House) -> None:
    runner = house.at_prompt("worker")
    house.cli("send", "worker", "count to 7")
    house.until_logged("worker", "word-7")
    house.until_status(runner, "idle")
    house.cli("send", "worker", "/compact")
    until(lambda: any("summary" in bill.said for bill in house.standin.billed), "it is compacted")
    house.until_status(runner, "idle")
    until(
        lambda: used(house) == billed(house),
        "the ledger has what was billed",
        more=lambda: (used(house), billed(house)),
    )
    hidden = house.cli.json("usage", "--by", "runner")
    assert [row["key"] for row in hidden["rows"]] == ["worker"]
    shown = house.show("worker")
    assert shown["tokens"] == sum(used(house)[1:])


@needs("claude")
def test_who_has_telemetry_of_his_own_keeps_it_and_is_told_what_is_missing(house: House) -> None:
    runner = house.at_prompt("worker", "--env", "OTEL_METRICS_EXPORTER=none")
    environment = Path(f"/proc/{runner['pid']}/environ").read_bytes()
    assert b"CLAUDE_CODE_ENABLE_TELEMETRY" not in environment
    said = [piece["says"] for piece in house.cli.json("explain", "worker")["evidence"] if piece["source"] == "ledger"]
    assert [each.partition(",")[0] for each in said] == ["OTEL_METRICS_EXPORTER is set"]


@needs("claude")
def test_a_bearer_is_shown_nowhere(house: House) -> None:
    runner = house.at_prompt("worker")
    environment = Path(f"/proc/{runner['pid']}/environ").read_bytes().split(b"\0")
    [headers] = [each.partition(b"=")[2] for each in environment if each.startswith(b"OTEL_EXPORTER_OTLP_HEADERS=")]
    mac = headers.rpartition(b".")[2].decode()
    assert len(mac) == 32
    state = house.cli.home
    holding = [path for path in state.rglob("*") if path.is_file() and mac.encode() in path.read_bytes()]
    assert holding == []
    assert mac not in json.dumps(house.cli.json("explain", "worker")) + json.dumps(house.show("worker"))


@needs("claude")
def test_without_a_receiver_what_claude_reports_at_its_exit_is_shown_as_unattributed(house: House) -> None:
    house.cli("daemon", "stop")
    settings = house.cli.home / "config.toml"
    settings.write_text("[ledger]\notlp = false\n")
    settings.chmod(0o600)
    runner = house.at_prompt("worker")
    house.cli("send", "worker", "count to 7")
    house.until_logged("worker", "word-7")
    house.until_status(runner, "idle")
    house.cli("send", "worker", "/compact")
    until(lambda: any("summary" in bill.said for bill in house.standin.billed), "it is compacted")
    house.until_status(runner, "idle")
    session_id = house.said(runner)["sessionId"]
    house.cli("send", "worker", "/exit")
    house.wait_for("worker", lambda seen: seen["state"] == "terminated")
    until(
        lambda: house.cli.json("sessions", "show", session_id)["unattributed_usd"],
        "the cost that was reported at exit",
        more=lambda: (house.home / ".claude.json").read_text()[-3000:],
    )
    shown = house.cli("sessions", "show", session_id).stdout
    assert "that the agent reported at exit, and no call accounts for" in shown
    assert house.cli.json("usage")["total"]["calls"] < len(house.standin.billed)
