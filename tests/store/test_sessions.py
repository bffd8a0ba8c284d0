"""Conversations: what is known of each, and who is in it."""

from datetime import datetime, timedelta
from typing import Any

import pytest

from stratavore.agents.records import Note
from stratavore.clock import iso
from stratavore.errors import Conflict
from stratavore.lifecycle import State
from stratavore.store import session_views, sessions
from stratavore.store.supervision import Supervised
from tests.books import NOW, Books

HOME = "/home/me/.claude"
FILE = f"{HOME}/projects/p/one.jsonl"


def at(seconds: float) -> datetime:
    return NOW + timedelta(seconds=seconds)


def note(session_id: str = "one", **said: Any) -> Note:
    return Note(session_id=session_id, **said)


def book(books: Books, *notes: Note, path: str | None = FILE) -> dict[str, int]:
    return books.do(lambda tx: sessions.note_all(tx, "claude", HOME, path, notes, now=NOW))


def enter(books: Books, row: Supervised, session_id: str = "one", *, seconds: float = 0) -> int:
    return books.do(
        lambda tx: sessions.enter(
            tx,
            "claude",
            HOME,
            session_id,
            run_key=row.key,
            runner_id=row.id,
            project_id=row.project_id,
            cwd="/p",
            now=at(seconds),
        )
    )


def leave(books: Books, row: Supervised, *, seconds: float) -> None:
    books.do(lambda tx: sessions.leave(tx, row.key, now=at(seconds)))


def kept(books: Books, session_id: str = "one") -> dict[str, Any]:
    return books.rows.one("SELECT * FROM sessions WHERE id = ?", (session_id,))


def test_a_conversation_has_one_number_for_ever(books: Books) -> None:
    assert sessions.find(books.rows, "claude", "one") is None
    first = books.do(lambda tx: sessions.ensure(tx, "claude", HOME, "one", now=NOW))
    again = books.do(lambda tx: sessions.ensure(tx, "claude", HOME, "one", now=NOW))
    other = books.do(lambda tx: sessions.ensure(tx, "codex", HOME, "one", now=NOW))
    assert first == again == sessions.find(books.rows, "claude", "one")
    assert other != first


def test_what_files_say_is_gathered(books: Books) -> None:
    said = [
        note(at=at(2), cwd="/p/deep", is_message=True),
        note(at=at(1), title="first", parent_id="old"),
        note(at=at(9), title="second"),
        note(at=at(3), cwd="/elsewhere", is_message=True),
        note("two", at=at(4), is_message=True),
    ]
    numbers = book(books, *said)
    row = kept(books)
    assert numbers == {"one": row["number"], "two": kept(books, "two")["number"]}
    assert (row["started_at"], row["last_message_at"], row["messages"]) == (iso(at(1)), iso(at(3)), 2)
    assert (row["cwd"], row["title"], row["parent_id"]) == ("/p/deep", "second", "old")
    assert (row["transcript_path"], row["home"], row["is_foreign"]) == (FILE, HOME, 1)


def test_silence_unlearns_nothing(books: Books) -> None:
    book(books, note(at=at(2), cwd="/p", title="t", parent_id="old", is_message=True))
    before = kept(books)
    book(books, note(), path=None)
    assert kept(books) == before


def test_a_conversation_belongs_to_the_innermost_project_around_it(books: Books) -> None:
    inner = books.project("inner", path="/p/inner")
    book(books, note(cwd="/p/inner/deep"), note("two", cwd="/p/innermost"), note("three", cwd="/q"))
    assert kept(books)["project_id"] == inner
    assert kept(books, "two")["project_id"] == books.rows.scalar("SELECT id FROM projects WHERE name = 'p'")
    assert kept(books, "three")["project_id"] is None


def test_a_project_at_the_root_has_every_conversation_that_is_nobody_elses_whichever_came_first(books: Books) -> None:
    book(books, note("before", cwd="/q"))
    root = books.project("root", path="/")
    book(books, note("after", cwd="/q"), note("of-p", cwd="/p/deep"))
    assert [kept(books, name)["project_id"] for name in ("before", "after")] == [root, root]
    assert kept(books, "of-p")["project_id"] != root


def test_messages_outside_the_transcript_are_not_counted(books: Books) -> None:
    book(books, note(at=NOW, is_message=True), path=None)
    assert kept(books)["messages"] is None


def test_a_file_that_is_read_again_is_counted_once(books: Books) -> None:
    said = [note(at=NOW, is_message=True)] * 3
    book(books, *said)
    books.do(lambda tx: sessions.read_again(tx, FILE))
    book(books, *said[:2])
    assert kept(books)["messages"] == 2


def test_of_copies_of_a_file_the_longest_counts_and_one_elsewhere_changes_nothing_that_is_known(books: Books) -> None:
    said = [note(at=NOW, is_message=True)] * 3
    book(books, *said, note(title="new"))
    before = kept(books)
    copy = [*said[:2], note(title="old", name="Old")]
    books.do(lambda tx: sessions.note_all(tx, "claude", "/copy", "/copy/projects/p/one.jsonl", copy, now=NOW))
    assert kept(books) == before | {"name": "Old"}
    book(books, *said, path=f"{HOME}/projects/renamed/one.jsonl")
    assert kept(books)["messages"] == 3
    book(books, *said[:1])
    assert kept(books)["messages"] == 4


def test_what_nobody_has_read_has_no_number_of_messages(books: Books) -> None:
    enter(books, books.runner())
    assert kept(books)["messages"] is None
    book(books, note(title="t"))
    assert kept(books)["messages"] == 0


def test_a_name_is_what_a_person_gave_and_not_what_we_call_the_runner(books: Books) -> None:
    row = books.runner()
    enter(books, row)
    books.sql("UPDATE runs SET argv = ? WHERE key = ?", '["claude", "-n", "before"]', row.key)
    book(books, note(name=row.name), note(title="About it"), note(name="before"))
    assert (kept(books)["name"], kept(books)["title"]) == (None, "About it")
    book(books, note(name="Mine"), note(name=row.name))
    assert session_views.resolve(books.rows, "one").title == "Mine"


def test_hostile_lengths_are_cut_or_passed_over(books: Books) -> None:
    numbers = book(
        books, note("x" * 201), note(""), note("-x"), note("a/b"), note(title="t" * 10_000, cwd="/" + "c" * 10_000)
    )
    assert list(numbers) == ["one"]
    assert len(kept(books)["title"]) == 300
    assert kept(books)["cwd"] is None


def test_who_enters_makes_it_ours_and_leaves_it_ended(books: Books) -> None:
    book(books, note(at=at(-60)))
    row = books.runner()
    number = enter(books, row)
    assert sessions.holder(books.rows, number) == (row.key, row.id, row.name)
    assert (kept(books)["is_foreign"], kept(books)["project_id"], kept(books)["ended_at"]) == (0, row.project_id, None)
    leave(books, row, seconds=5)
    assert sessions.holder(books.rows, number) is None
    assert kept(books)["ended_at"] == iso(at(5))


def test_two_runs_are_never_in_one_conversation(books: Books) -> None:
    one, two = books.runner(), books.runner()
    enter(books, one)
    with pytest.raises(Conflict, match=f"{one.name} is in session one"):
        enter(books, two)
    leave(books, one, seconds=1)
    enter(books, two, seconds=2)


def test_a_run_that_enters_another_leaves_the_one_it_was_in(books: Books) -> None:
    row = books.runner()
    first = enter(books, row)
    second = enter(books, row, "two", seconds=3)
    assert sessions.holder(books.rows, first) is None
    assert sessions.holder(books.rows, second) is not None
    assert enter(books, row, "two", seconds=4) == second
    assert enter(books, row, seconds=5) == first


def test_a_call_is_of_the_runner_that_was_in_it_then(books: Books) -> None:
    one, two = books.runner(), books.runner()
    number = enter(books, one, seconds=7)  # Found out late: it was in it since it began.
    leave(books, one, seconds=10)
    books.sql("UPDATE runs SET created_at = ? WHERE key = ?", iso(at(20)), two.key)
    enter(books, two, seconds=25)
    asked = {seconds: sessions.runner_at(books.rows, number, iso(at(seconds))) for seconds in (-1, 0, 10, 15, 20, 99)}
    assert asked == {-1: None, 0: one.id, 10: one.id, 15: None, 20: two.id, 99: two.id}


def test_a_run_that_has_ended_was_there_to_its_end_and_keeps_nobody_out(books: Books) -> None:
    row = books.runner_in(State.TERMINATED)
    found = sessions.Conversation("claude", HOME, "one")
    books.do(lambda tx: sessions.follow(tx, row.key, found, now=at(9)))
    number = sessions.find(books.rows, "claude", "one") or 0
    assert sessions.holder(books.rows, number) is None
    assert sessions.runner_at(books.rows, number, iso(NOW)) == row.id
    books.sql("UPDATE runners SET run = 2 WHERE id = ?", row.id)
    books.do(lambda tx: sessions.follow(tx, row.key, found._replace(id="two"), now=at(9)))
    assert sessions.find(books.rows, "claude", "two") is None, "its next run has begun"


def test_what_a_forgotten_runner_was_in_is_still_told(books: Books) -> None:
    row = books.runner()
    number = enter(books, row)
    leave(books, row, seconds=9)
    books.sql("DELETE FROM runners WHERE id = ?", row.id)
    assert sessions.runner_at(books.rows, number, iso(at(5))) == row.id
