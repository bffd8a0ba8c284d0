"""Whether runners came up."""

from stratavore.cli import humane
from stratavore.cli.choosing import Listed, ids
from stratavore.cli.settling import settle
from stratavore.errors import RunnerFailed

FAILED = ("failed", "lost", "backoff")


def started(runners: Listed, timeout: float | None = None) -> Listed:
    """The runners, by their numbers, once each of them runs or has failed to."""
    settled = settle(
        ids(runners),
        "settled",
        lambda runner: runner["state"] != "starting",
        timeout=timeout,
        waiting_for="started",
    )
    return sorted(settled, key=lambda runner: (len(runner["name"]), runner["name"]))


def refuse_failed(runners: Listed) -> None:
    """Raise RunnerFailed if any of them did not come up; the message says how the first one failed."""
    failed = [runner for runner in runners if runner["state"] in FAILED]
    if not failed:
        return
    first = failed[0]
    why = first["end_detail"] or humane.ending(first) or first["last_line"] or "no reason is known"
    others = f", and {len(failed) - 1} more failed" if len(failed) > 1 else ""
    remedy = f"`stratavore explain {first['name']}` says why"
    if first["end_reason"] != "not_started":  # else there is none
        remedy = f"`stratavore logs {first['name']}` shows its output, {remedy}"
    raise RunnerFailed(f"{first['name']} is {first['state']}: {why}{others}", remedy=remedy)
