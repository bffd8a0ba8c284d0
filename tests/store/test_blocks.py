"""Who may not go on, by what is booked."""

from stratavore.lifecycle import State
from stratavore.store import blocks
from stratavore.store.usage import Source
from tests.books import NOW, Books
from tests.store.test_usage import CALL, like, session, told


def test_a_turn_is_a_call_that_the_transcript_tells_of(books: Books) -> None:
    row = books.runner_in(State.RUNNING, agent="claude", max_turns=1)
    session(books, CALL.session_id)
    told(books, like(key="req_1"), source=Source.OTLP, runner_id=row.id)
    assert blocks.list_excesses(books.rows, now=NOW) == [], "a title, say: the user has had no turn"
    told(books, CALL, runner_id=row.id)
    assert [each.kind for each in blocks.list_excesses(books.rows, now=NOW)] == ["turns"]
