"""`sessions`: the conversations of agents, wherever they were begun."""

import os
import shutil
import sys
from collections.abc import Iterator
from contextlib import AbstractContextManager, ExitStack, contextmanager
from pathlib import Path
from typing import IO, Any

import click

from stratavore.cli import NO_ROOM, humane
from stratavore.cli.asking import change, read
from stratavore.cli.options import MOMENT, UserPath, agent_option, json_option, project_option, session_argument
from stratavore.cli.output import note, say, show_facts, show_json, show_table
from stratavore.cli.sanitise import clean_lines
from stratavore.errors import Invalid

HEADS = ("ID", "AGENT", "PROJECT", "LAST", "MESSAGES", "TOKENS", "COST", "RESUMABLE", "TITLE")
_MOST = 10_000
_SHOWN_ID = 13
"""Letters of an id in a list: those of ids that begin with the time differ only behind the eighth."""


@click.group(invoke_without_command=True)
@project_option("Only sessions of this project.")
@agent_option
@click.option("--resumable", is_flag=True, help="Only those that can be resumed now.")
@click.option("--since", metavar="T", type=MOMENT, help="Only those in which something was said since: 7d, 2026-01-31.")
@click.option("--foreign", is_flag=True, help="Only those that were started elsewhere.")
@json_option
@click.pass_context
def sessions(
    ctx: click.Context,
    project: str | None,
    agent: str | None,
    resumable: bool,
    since: str | None,
    foreign: bool,
    as_json: bool,
) -> None:
    """List the sessions, the newest first; or show one, and what was said in it."""
    if ctx.invoked_subcommand is not None:
        return
    asked: dict[str, Any] = {"project": project, "agent": agent, "since": since}
    asked |= {"resumable": resumable, "foreign": foreign}
    found = read("list_sessions", **asked, limit=_MOST)
    if len(found) == _MOST:
        note(f"only the newest {_MOST} are shown")
    if as_json:
        show_json(found)
    elif found:
        show_table(HEADS, [row(session) for session in found])
    else:
        say("No session" + (" is like that." if any(asked.values()) else " is known; `stratavore import` looks."))


@sessions.command
@session_argument
@click.option("--transcript", "with_transcript", is_flag=True, help="With what was said.")
@json_option
def show(session: str, with_transcript: bool, as_json: bool) -> None:
    """Everything known about a session."""
    found = read("get_session", session=session)
    turns = _turns(found["id"]) if with_transcript else []
    if as_json:
        show_json({**found, "transcript": turns} if with_transcript else found)
        return
    show_facts(_facts(found))
    if found["models"]:
        print()
        show_table(("MODEL", "CALLS", "INPUT", "OUTPUT", "CACHE WRITE", "CACHE READ", "COST"), _models(found))
    _print(turns)


@sessions.command
@session_argument
@json_option
def transcript(session: str, as_json: bool) -> None:
    """What was said in a session, and which tools were used."""
    turns = _turns(session)
    show_json({"turns": turns, "next": None}) if as_json else _print(turns)


@sessions.command
@session_argument
@json_option
def archive(session: str, as_json: bool) -> None:
    """Keep a copy of what is there of a session now; each end of a runner in it does that by itself."""
    found = change("archive_session", session=session)
    show_json(found) if as_json else say(f"{found['id']} is kept in {found['archive_path']}")


@sessions.command
@session_argument
@click.option("--output", "-o", metavar="F", type=UserPath(directories=False), help="Where to, in place of stdout.")
def export(session: str, output: Path | None) -> None:
    """The transcript of a session as its agent writes it, whether the agent still has it or not."""
    if output is not None and os.path.lexists(output):
        raise Invalid(f"{output} is there already", remedy="name a file that is not")
    found = read("get_session", session=session)
    path = found["transcript_path"]
    is_file = path is not None and path.endswith(".jsonl")
    if not is_file and (path is not None or found["archive_path"] is None):
        found = change("archive_session", session=found["id"])
    with ExitStack() as stack:
        source = stack.enter_context(_transcript(found, is_file=is_file))
        out = sys.stdout.buffer if output is None else stack.enter_context(_whole(output))
        shutil.copyfileobj(source, out)
    if output is not None:
        note(f"{output.stat().st_size} bytes written to {output}")


def row(session: dict[str, Any]) -> list[str]:
    """The session in a list."""
    return [
        session["id"][:_SHOWN_ID],
        session["agent"],
        session["project"] or humane.UNKNOWN,
        humane.ago(session["last_message_at"] or session["started_at"]),
        _number(session["messages"]),
        _number(session["tokens"]),
        cost(session),
        "yes" if session["resumable"] else f"no: {session['why_not']}",
        session["title"] or "",
    ]


def cost(used: dict[str, Any]) -> str:
    """What it cost; what has no price is said to cost more than what has."""
    if used["cost_usd"] is None:
        return "unpriced" if used["unpriced_calls"] else humane.UNKNOWN
    return f"{'> ' if used['unpriced_calls'] else ''}${humane.usd(used['cost_usd'])}"


def _number(count: int | None) -> str:
    return humane.UNKNOWN if count is None else f"{count:,}"


@contextmanager
def _whole(path: Path) -> Iterator[IO[bytes]]:
    """A file to write into, which has its name once all of it is written. Raises Invalid: there can be none there."""
    beside = path.with_name(f".{path.name[:200]}.{os.getpid()}.part")
    try:
        file = open(beside, "xb")  # noqa: SIM115 - closed below
    except OSError as problem:
        if problem.errno in NO_ROOM:
            raise
        remedy = f"name one in a directory that you may write to; {path.parent}: {problem.strerror}"
        raise Invalid(f"the file {path} cannot be made", remedy=remedy) from None
    try:
        with file:
            yield file
        beside.rename(path)
    finally:
        beside.unlink(missing_ok=True)


def _transcript(session: dict[str, Any], *, is_file: bool) -> AbstractContextManager[IO[bytes]]:
    """The agent's own file, or else the copy of it."""
    if is_file:
        return open(session["transcript_path"], "rb")
    from stratavore.archive import opened_transcript

    return opened_transcript(Path(session["archive_path"]), session["archive_sha256"], session["id"])


def _unattributed(session: dict[str, Any]) -> str:
    """What the agent says it cost beyond the calls that are known; less than a hundredth of a cent is rounding."""
    amount = session["unattributed_usd"] or 0.0
    return f"${humane.usd(amount)} that the agent reported at exit, and no call accounts for" if amount >= 1e-4 else ""


def _facts(session: dict[str, Any]) -> list[tuple[str, str]]:
    where = "elsewhere" if session["is_foreign"] else ", ".join(session["runners"])
    return [
        ("id", session["id"]),
        ("title", session["title"] or ""),
        ("agent", session["agent"]),
        ("project", session["project"] or humane.UNKNOWN),
        ("directory", session["cwd"] or humane.UNKNOWN),
        ("runners", where),
        ("live", "yes" if session["is_live"] else "no"),
        ("resumable", "yes" if session["resumable"] else f"no: {session['why_not']}"),
        ("forked from", session["resumed_from"] or ""),
        ("started", humane.ago(session["started_at"])),
        ("last message", humane.ago(session["last_message_at"])),
        ("ended", "" if session["ended_at"] is None else humane.ago(session["ended_at"])),
        ("messages", _number(session["messages"])),
        ("tokens", _number(session["tokens"])),
        ("cost", cost(session)),
        ("unattributed", _unattributed(session)),
        ("transcript", session["transcript_path"] or "gone"),
        ("size", humane.size(session["transcript_bytes"])),
        ("copy", session["archive_path"] or ""),
        ("copied", _copied(session)),
    ]


def _copied(session: dict[str, Any]) -> str:
    at = "" if session["archived_at"] is None else humane.ago(session["archived_at"])
    if session["copy_pending"]:
        pending = "a copy of its last end is pending; `stratavore sessions archive` makes it now"
        return f"{at}; {pending}" if at else pending
    return at


def _models(session: dict[str, Any]) -> list[list[str]]:
    return [
        [
            model["model"],
            _number(model["calls"]),
            _number(model["input_tokens"]),
            _number(model["output_tokens"]),
            _number(model["cache_write_5m_tokens"] + model["cache_write_1h_tokens"]),
            _number(model["cache_read_tokens"]),
            cost(model),
        ]
        for model in session["models"]
    ]


def _turns(session: str) -> list[dict[str, Any]]:
    """All of them, part by part."""
    turns, after = list[dict[str, Any]](), ""
    while True:
        part = read("read_transcript", quiet=bool(after), session=session, after=after)
        turns += part["turns"]
        if part["next"] is None:
            return turns
        after = part["next"]


def _print(turns: list[dict[str, Any]]) -> None:
    for turn in turns:
        tool = f" {turn['tool']}" if turn["tool"] else ""
        at = f"  {humane.local_time(turn['at'])}" if turn["at"] else ""
        print()
        say(f"── {turn['role']}{tool}{at}")
        print(clean_lines(turn["text"]).rstrip("\n"))
