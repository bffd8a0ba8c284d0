"""Conversations: what is known of each, and which run is in it.

Rule 1: an open row of `session_runs` is the lease: one run at a time is in a conversation, and in one conversation.
Rule 2: what agents' files say is taken as it came but bounded; what was known is never unlearned by silence.
Rule 3: a conversation is foreign until a runner of ours enters it.
Rule 4: files that tell of the same conversation are copies of each other: its messages are those of the file that has
most. A copy below another account directory adds only what was not known.
Rule 5: its name is what a person called it; that of a runner of ours is none.
"""

import re
from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import NamedTuple

from stratavore.agents.records import Note
from stratavore.clock import iso
from stratavore.errors import Conflict
from stratavore.store import events
from stratavore.store.database import Row, Rows, Tx
from stratavore.store.directories import lies_in
from stratavore.store.rows import column

_ID = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_.:-]{0,199}", re.ASCII)
"""What may be an id: it becomes an argument of its agent, and the name of a file."""
_LONGEST_TITLE = 300
_LONGEST_PATH = 4096


class Conversation(NamedTuple):
    """Which one: the kind of agent, its account directory, and the agent's own id of it."""

    agent: str
    home: str
    id: str


class Holder(NamedTuple):
    """The run that is in a conversation now; `name` is its runner's, or its id if the runner is forgotten."""

    run_key: str
    runner_id: str
    name: str


def is_id(text: str) -> bool:
    """Whether that can be the id of a conversation."""
    return _ID.fullmatch(text) is not None


def find(rows: Rows, agent: str, session_id: str) -> int | None:
    """The number of that conversation, if it is known."""
    row = rows.one_or_none("SELECT number FROM sessions WHERE agent = ? AND id = ?", (agent, session_id))
    return None if row is None else int(row["number"])


def ensure(tx: Tx, agent: str, home: str, session_id: str, *, now: datetime) -> int:
    """The number of that conversation, which is made known if it was not: as a foreign one of which nothing is told."""
    found = find(tx, agent, session_id)
    if found is not None:
        return found
    row = tx.one(
        "INSERT INTO sessions (agent, id, home, is_foreign) VALUES (?, ?, ?, 1) RETURNING number",
        (agent, session_id, home),
    )
    return int(row["number"])


def note_all(
    tx: Tx, agent: str, home: str, path: str | None, notes: Sequence[Note], *, now: datetime
) -> dict[str, int]:
    """Book what an agent's file says of its conversations, and make known those that were not; returns their numbers.

    `path` is the transcript itself. None: the notes stand elsewhere (in a sub-agent's file, say), and their messages
    are not counted.
    """
    by_id: dict[str, list[Note]] = {}
    for note in notes:
        by_id.setdefault(note.session_id, []).append(note)
    return {
        session_id: _book(tx, _Gathered.of(tx, agent, session_id, told), agent, home, path)
        for session_id, told in by_id.items()
        if is_id(session_id)
    }


def read_again(tx: Tx, path: str) -> None:
    """The file will be read from its beginning: what was counted of it counts no longer."""
    counted = tx.all("DELETE FROM session_files WHERE path = ? RETURNING session", (path,))
    for row in counted:
        _add_up(tx, row["session"])


def newest(rows: Rows) -> int:
    """The highest number of a conversation: those that are made known later have higher ones."""
    return int(rows.scalar("SELECT COALESCE(MAX(number), 0) FROM sessions"))


def runner_at(rows: Rows, number: int, at: str) -> str | None:
    """The id of the runner that was in the conversation at that moment (as `clock.iso` writes it)."""
    row = rows.one_or_none(
        "SELECT runner_id FROM session_runs WHERE session = :number AND from_at <= :at"
        " AND (until_at IS NULL OR until_at >= :at) ORDER BY from_at DESC LIMIT 1",
        {"number": number, "at": at},
    )
    return None if row is None else str(row["runner_id"])


def holder(rows: Rows, number: int) -> Holder | None:
    """The run that has the lease, if one has."""
    row = rows.one_or_none(
        "SELECT h.run_key, h.runner_id, COALESCE(r.name, h.runner_id) AS name"
        "  FROM session_runs AS h LEFT JOIN runners AS r ON r.id = h.runner_id"
        " WHERE h.session = ? AND h.until_at IS NULL",
        (number,),
    )
    return None if row is None else Holder(row["run_key"], row["runner_id"], row["name"])


def account_of(rows: Rows, runner_id: str) -> tuple[str, str] | None:
    """The kind of agent and the account directory of the conversation that the runner was in last, if it was in any."""
    found = rows.tuples(
        "SELECT s.agent, s.home FROM session_runs AS e JOIN sessions AS s ON s.number = e.session"
        " WHERE e.runner_id = ? ORDER BY e.from_at DESC LIMIT 1",
        (runner_id,),
    )
    return (str(found[0][0]), str(found[0][1])) if found else None


def enter(
    tx: Tx,
    agent: str,
    home: str,
    session_id: str,
    *,
    run_key: str,
    runner_id: str,
    project_id: int | None,
    cwd: str | None,
    now: datetime,
) -> int:
    """The run is in that conversation from now on, and in no other; returns the conversation's number.

    Where nobody was in it since the run began, it counts as entered then: what is found out late was so before.

    Raises:
        Conflict: another run of ours is in it.
    """
    number = ensure(tx, agent, home, session_id, now=now)
    held = holder(tx, number)
    if held is not None and held.run_key == run_key:
        return number
    if held is not None:
        raise _conflict(session_id, held)
    leave(tx, run_key, now=now)
    tx.execute(
        "INSERT INTO session_runs (session, run_key, runner_id, from_at) VALUES (:session, :key, :runner, MAX("
        " COALESCE((SELECT created_at FROM runs WHERE key = :key), :now),"
        " COALESCE((SELECT MAX(until_at) FROM session_runs WHERE session = :session), '')))"
        " ON CONFLICT (session, run_key, from_at) DO UPDATE SET until_at = NULL",
        {"session": number, "key": run_key, "runner": runner_id, "now": iso(now)},
    )
    tx.execute(
        "UPDATE sessions SET is_foreign = 0, ended_at = NULL, home = :home, cwd = COALESCE(cwd, :cwd),"
        " project_id = COALESCE(:project, project_id), started_at = COALESCE(started_at, :now) WHERE number = :number",
        {"home": home, "project": project_id, "cwd": cwd, "now": iso(now), "number": number},
    )
    return number


def leave(tx: Tx, run_key: str, *, now: datetime) -> None:
    """The run is in no conversation any more since `now`."""
    left = tx.all(
        "UPDATE session_runs SET until_at = MAX(from_at, :now) WHERE run_key = :key AND until_at IS NULL"
        " RETURNING session",
        {"now": iso(now), "key": run_key},
    )
    for row in left:
        tx.execute("UPDATE sessions SET ended_at = ? WHERE number = ?", (iso(now), row["session"]))


def leave_all(tx: Tx, ends: Mapping[str, datetime]) -> None:
    """These runs are in no conversation any more, each since its end."""
    found = tx.all(
        "SELECT DISTINCT run_key FROM session_runs WHERE until_at IS NULL"
        " AND run_key IN (SELECT value FROM json_each(?))",
        (column(list(ends)),),
    )
    for row in found:
        leave(tx, row["run_key"], now=ends[row["run_key"]])


def follow(tx: Tx, run_key: str, found: Conversation | str, *, now: datetime) -> None:
    """The run turned out to be in that conversation; or it is not known in which, and why.

    If another run of ours is in it, the runner is not taken for being there: it may not resume it. A run that has
    ended was there to its end; one after which another began is told of too late.
    """
    runner = tx.one_or_none(
        "SELECT r.id, r.name, r.project_id, r.cwd, r.session_id, r.session_detail, r.fork_of, n.ended_at"
        "  FROM runs AS n JOIN runners AS r ON r.id = n.runner_id AND r.run = n.number WHERE n.key = ?",
        (run_key,),
    )
    if runner is None or (isinstance(found, Conversation) and not is_id(found.id)):
        return
    if isinstance(found, str):
        _set_session(tx, runner["id"], runner["session_id"], found)
        return
    number = ensure(tx, found.agent, found.home, found.id, now=now)
    held = holder(tx, number)
    if held is not None and held.run_key != run_key:
        why = f"{held.name} is in session {found.id} too"
        if runner["session_detail"] != why:
            told = {"name": runner["name"], "session_id": found.id, "other": held.name}
            events.append(tx, "runner.session_contested", runner["id"], told, actor="supervisor", now=now)
        _set_session(tx, runner["id"], None, why)
        return
    whose = {"runner_id": runner["id"], "project_id": runner["project_id"], "cwd": runner["cwd"]}
    enter(tx, *found, run_key=run_key, now=now, **whose)
    if runner["ended_at"] is not None:
        leave(tx, run_key, now=datetime.fromisoformat(runner["ended_at"]))
    if runner["session_id"] is None and runner["fork_of"] is not None:
        set_parent(tx, number, runner["fork_of"])
    if runner["session_id"] != found.id:
        told = {"name": runner["name"], "session_id": found.id, "was": runner["session_id"]}
        events.append(tx, "runner.session_entered", runner["id"], told, actor="supervisor", now=now)
    _set_session(tx, runner["id"], found.id, None)


def rival(rows: Rows, runner_id: str) -> str | None:
    """The name of the other runner that is in the conversation of this one, if one is."""
    row = _last_of(rows, runner_id)
    held = None if row is None else holder(rows, row["number"])
    return None if held is None or held.runner_id == runner_id else held.name


def enter_again(tx: Tx, runner_id: str, run_key: str, *, now: datetime) -> None:
    """The next run of a runner goes on with its conversation. Raises Conflict when another run is in it."""
    if (row := _last_of(tx, runner_id)) is not None:
        whose = {"runner_id": runner_id, "project_id": row["project_id"], "cwd": row["cwd"]}
        enter(tx, row["agent"], row["home"], row["id"], run_key=run_key, now=now, **whose)


def set_parent(tx: Tx, number: int, parent_id: str) -> None:
    """The conversation began as a copy of that one."""
    tx.execute("UPDATE sessions SET parent_id = COALESCE(parent_id, ?) WHERE number = ?", (parent_id, number))


def others_since(rows: Rows, since: datetime) -> dict[str, set[str]]:
    """The conversations in which runs of ours were since then, each with the ids of their runners."""
    found: dict[str, set[str]] = {}
    for session_id, runner_id in rows.tuples(
        "SELECT s.id, h.runner_id FROM session_runs AS h JOIN sessions AS s ON s.number = h.session"
        " WHERE h.until_at IS NULL OR h.until_at >= ?",
        (iso(since),),
    ):
        found.setdefault(session_id, set()).add(runner_id)
    return found


def belong_to(tx: Tx, project_id: int, path: str) -> list[int]:
    """Conversations in that directory that are no project's are this one's; returns their numbers."""
    found = tx.all(
        f"UPDATE sessions SET project_id = :project WHERE project_id IS NULL AND {lies_in('cwd', ':path')}"
        " RETURNING number",
        {"project": project_id, "path": path},
    )
    return [row["number"] for row in found]


def _conflict(session_id: str, held: Holder) -> Conflict:
    """The refusal of a second run in a conversation."""
    return Conflict(
        f"{held.name} is in session {session_id} now; two at once would tear it apart",
        remedy=f"`stratavore attach {held.name}`, or stop it first, or fork the session",
    )


def _last_of(rows: Rows, runner_id: str) -> Row | None:
    """The conversation that the runner is said to be in, if it was in it."""
    return rows.one_or_none(
        "SELECT DISTINCT s.number, s.agent, s.home, s.id, r.project_id, r.cwd FROM runners AS r"
        " JOIN session_runs AS h ON h.runner_id = r.id JOIN sessions AS s ON s.number = h.session"
        " AND s.id = r.session_id WHERE r.id = ?",
        (runner_id,),
    )


def _set_session(tx: Tx, runner_id: str, session_id: str | None, why: str | None) -> None:
    tx.execute(
        "UPDATE runners SET session_id = :session, session_detail = :why WHERE id = :id"
        " AND (session_id IS NOT :session OR session_detail IS NOT :why)",
        {"session": session_id, "why": why, "id": runner_id},
    )


class _Gathered(NamedTuple):
    """What several notes say of one conversation together."""

    session_id: str
    messages: int
    first_at: str | None
    last_message_at: str | None
    cwd: str | None
    title: str | None
    name: str | None
    parent_id: str | None

    @classmethod
    def of(cls, rows: Rows, agent: str, session_id: str, notes: Sequence[Note]) -> "_Gathered":
        moments = [note.at for note in notes if note.at is not None]
        spoken = [note.at for note in notes if note.is_message and note.at is not None]
        parents = [note.parent_id for note in notes if note.parent_id and is_id(note.parent_id)]
        return cls(
            session_id,
            sum(note.is_message for note in notes),
            iso(min(moments)) if moments else None,
            iso(max(spoken)) if spoken else None,
            next((note.cwd for note in notes if note.cwd and len(note.cwd) <= _LONGEST_PATH), None),
            next((note.title[:_LONGEST_TITLE] for note in reversed(notes) if note.title), None),
            _name_of(rows, agent, session_id, [note.name for note in notes if note.name]),
            parents[0] if parents else None,
        )


def _name_of(rows: Rows, agent: str, session_id: str, names: Sequence[str]) -> str | None:
    """The last of them that a person gave: what we called a runner at its start stands there just so."""
    for name in reversed(list(dict.fromkeys(names))):
        is_ours = rows.scalar(
            "SELECT EXISTS (SELECT 1 FROM runners WHERE name = :name) OR EXISTS (SELECT 1 FROM sessions AS s"
            " JOIN session_runs AS h ON h.session = s.number JOIN runs AS n ON n.key = h.run_key"
            " JOIN json_each(n.argv) AS word ON word.value = :name WHERE s.agent = :agent AND s.id = :id)",
            {"name": name, "agent": agent, "id": session_id},
        )
        if not is_ours:
            return name[:_LONGEST_TITLE]
    return None


def _book(tx: Tx, told: _Gathered, agent: str, home: str, path: str | None) -> int:
    row = tx.one(
        "INSERT INTO sessions (agent, id, home, is_foreign, cwd, started_at, last_message_at, parent_id, title,"
        " name, transcript_path) VALUES (:agent, :id, :home, 1, :cwd, :first, :last, :parent, :title, :name, :path)"
        " ON CONFLICT (agent, id) DO UPDATE SET cwd = COALESCE(cwd, :cwd),"
        " title = CASE WHEN home = :home THEN COALESCE(:title, title) ELSE COALESCE(title, :title) END,"
        " name = CASE WHEN home = :home THEN COALESCE(:name, name) ELSE COALESCE(name, :name) END,"
        " started_at = COALESCE(MIN(started_at, :first), started_at, :first),"
        " last_message_at = COALESCE(MAX(last_message_at, :last), last_message_at, :last),"
        " parent_id = COALESCE(parent_id, :parent),"
        " transcript_path = CASE WHEN home = :home THEN COALESCE(:path, transcript_path) ELSE transcript_path END"
        " RETURNING number, cwd, project_id",
        {
            "agent": agent,
            "id": told.session_id,
            "home": home,
            "cwd": told.cwd,
            "first": told.first_at,
            "last": told.last_message_at,
            "parent": told.parent_id,
            "title": told.title,
            "name": told.name,
            "path": path,
        },
    )
    _belong_to_project(tx, row)
    if path is not None:
        _count(tx, row["number"], path, told.messages)
    return int(row["number"])


def _belong_to_project(tx: Tx, row: Row) -> None:
    """A conversation in a project's directory, or below it, is the project's; the innermost one's."""
    if row["project_id"] is None and row["cwd"] is not None:
        tx.execute(
            "UPDATE sessions SET project_id = (SELECT id FROM projects WHERE archived_at IS NULL"
            f" AND {lies_in(':cwd', 'path')} ORDER BY length(path) DESC, name LIMIT 1) WHERE number = :number",
            {"cwd": row["cwd"], "number": row["number"]},
        )


def _count(tx: Tx, number: int, path: str, messages: int) -> None:
    tx.execute(
        "INSERT INTO session_files (session, path, messages) VALUES (:session, :path, :n)"
        " ON CONFLICT (session, path) DO UPDATE SET messages = messages + :n",
        {"session": number, "path": path, "n": messages},
    )
    _add_up(tx, number)


def _add_up(tx: Tx, number: int) -> None:
    tx.execute(
        "UPDATE sessions SET messages = (SELECT MAX(messages) FROM session_files WHERE session = :number)"
        " WHERE number = :number",
        {"number": number},
    )
