"""Projects and the slots of their quota."""

from concurrent.futures import ThreadPoolExecutor
from datetime import UTC
from typing import Any

import apsw
import pytest

from stratavore.errors import Conflict, NotFound, QuotaExceeded
from stratavore.model import OnQuota, Project, ProjectStatus, UsageBy
from stratavore.store import projects, runners, usage_report
from stratavore.store.database import Tx
from tests.books import ACTOR, NOW, Books


def edit(books: Books, project: str, /, **changes: Any) -> Project:
    return books.do(lambda tx: projects.edit(tx, project, changes, actor=ACTOR, now=NOW))


def take(books: Books, count: int, *, partial: bool = False) -> int:
    number = int(projects.get_row(books.rows, "p")["id"])
    return books.do(lambda tx: projects.take_slots(tx, number, count, partial=partial))


def test_every_column_makes_the_round_trip(books: Books) -> None:
    books.project(
        "full",
        agent="claude",
        description="naïve\n☃",
        tags=["a", "b c"],
        max_runners=7,
        max_memory_bytes=1 << 40,
        max_cpu_percent=12.5,
        on_quota=OnQuota.STOP,
    )
    found = projects.get_project(books.rows, "full")
    assert (found.agent, found.description, found.tags) == ("claude", "naïve\n☃", ["a", "b c"])
    assert (found.max_runners, found.max_memory_bytes, found.max_cpu_percent) == (7, 1 << 40, 12.5)
    assert (found.on_quota, found.status, found.created_at) == (OnQuota.STOP, ProjectStatus.IDLE, NOW)
    assert books.told("full") == ["project.created"]


def test_a_name_is_given_once(books: Books) -> None:
    with pytest.raises(Conflict, match="a project called p exists"):
        books.project("p")
    assert books.told("p") == ["project.created"]


def test_what_nobody_made_is_not_found(books: Books) -> None:
    for ask in (projects.get_project, projects.get_row):
        with pytest.raises(NotFound, match="no project is called ghost"):
            ask(books.rows, "ghost")


def test_the_status_tells_of_living_runners_and_of_the_archive(books: Books) -> None:
    books.project("away")
    edit(books, "away", archived_at=NOW)
    assert listed(books) == ["p"]
    assert listed(books, "archived") == ["away"]
    assert listed(books, "idle") == ["p"]
    books.runner()
    assert listed(books, "active") == ["p"]
    assert listed(books, "idle") == []


def test_an_edit_changes_what_it_names_and_is_told(books: Books) -> None:
    edited = edit(books, "p", max_memory_bytes=5, tags=["x"])
    assert (edited.max_memory_bytes, edited.tags, edited.max_runners) == (5, ["x"], 5)
    assert edit(books, "p", max_memory_bytes=None).max_memory_bytes is None
    assert books.told("p") == ["project.created", "project.edited", "project.edited"]
    assert books.events()[1].payload == {"was": "p", "changed": ["max_memory_bytes", "tags"]}


def test_an_edit_of_nothing_is_not_told(books: Books) -> None:
    edit(books, "p")
    assert books.told("p") == ["project.created"]


def test_a_new_name_must_be_free(books: Books) -> None:
    books.project("q")
    with pytest.raises(Conflict):
        edit(books, "p", name="q")
    assert edit(books, "p", name="r").name == "r"
    assert edit(books, "r", name="r").name == "r"
    with pytest.raises(NotFound):
        projects.get_project(books.rows, "p")


def test_a_new_name_is_the_name_for_its_runners(books: Books) -> None:
    row = books.runner()
    edit(books, "p", name="r")
    assert books.supervised(row.id).project == "r"


def test_what_lives_is_neither_archived_nor_deleted(books: Books) -> None:
    books.runner()
    with pytest.raises(Conflict, match="1 living runners"):
        edit(books, "p", archived_at=NOW)
    with pytest.raises(Conflict, match="1 living runners"):
        books.do(lambda tx: projects.delete(tx, "p", actor=ACTOR, now=NOW))
    assert projects.get_project(books.rows, "p").archived_at is None


def test_a_deleted_project_takes_its_ended_runners_along(books: Books) -> None:
    row = books.runner()
    books.do(lambda tx: runners.settle(tx, row.id))
    assert books.do(lambda tx: projects.delete(tx, "p", actor=ACTOR, now=NOW)) == [row.id]
    assert books.rows.all("SELECT 1 FROM runs") == []
    assert books.told("p")[-1] == "project.deleted"


def test_what_a_deleted_project_used_is_not_of_the_next_that_is_made(books: Books) -> None:
    number = books.project("gone")
    books.sql(
        "INSERT INTO usage SELECT 'claude', 'k', NULL, NULL, ?, '2031-01-01T00:00:00.000Z', 'm', 1, 0, 0, 0, 0, 5,"
        " NULL, NULL, 'transcript', 'f', 0",
        number,
    )
    books.do(lambda tx: projects.delete(tx, "gone", actor=ACTOR, now=NOW))
    books.project("next")
    [used] = usage_report.report(books.rows, UsageBy.PROJECT, zone=UTC).rows
    assert (used.key, used.calls) == ("", 1)


def test_slots_are_granted_up_to_the_quota_and_no_further(books: Books) -> None:
    assert take(books, 3) == 3
    assert take(books, 2) == 2
    with pytest.raises(QuotaExceeded, match="p may have 5 runners and has 5; 1 more do not fit"):
        take(books, 1)
    assert books.slots() == 5


def test_all_or_none(books: Books) -> None:
    take(books, 3)
    with pytest.raises(QuotaExceeded) as caught:
        take(books, 3)
    assert "--partial" in caught.value.remedy
    assert books.slots() == 3


def test_partly_is_as_many_as_fit_but_not_none(books: Books) -> None:
    assert take(books, 3, partial=True) == 3
    assert take(books, 100, partial=True) == 2
    with pytest.raises(QuotaExceeded):
        take(books, 100, partial=True)
    assert books.slots() == 5


def test_an_archived_project_grants_nothing(books: Books) -> None:
    edit(books, "p", archived_at=NOW)
    with pytest.raises(Conflict, match="archived") as caught:
        take(books, 1)
    assert "unarchive" in caught.value.remedy


def test_what_lives_already_is_counted_over_quota_too(books: Books) -> None:
    """Adoption, and a limit that was lowered: reality is booked, the next launch is refused."""
    number = int(projects.get_row(books.rows, "p")["id"])
    take(books, 5)
    books.do(lambda tx: projects.book_slot(tx, number))
    assert books.slots() == 6
    assert edit(books, "p", max_runners=2).runners == 6
    for partial in (False, True):
        with pytest.raises(QuotaExceeded):
            take(books, 1, partial=partial)


def test_a_slot_cannot_be_given_back_twice(books: Books) -> None:
    number = int(projects.get_row(books.rows, "p")["id"])
    with pytest.raises(apsw.ConstraintError):
        books.do(lambda tx: projects.free_slots(tx, number, 1))


def test_many_takers_at_once_get_exactly_the_quota(books: Books) -> None:
    edit(books, "p", max_runners=10)
    with ThreadPoolExecutor(20) as pool:
        granted = [future.result() for future in [pool.submit(_try, books) for _ in range(50)]]
    assert sum(granted) == books.slots() == 10


def test_a_directory_finds_its_project(books: Books) -> None:
    found = projects.find_by_path(books.rows, "/p")
    assert found is not None
    assert found.name == "p"
    assert projects.find_by_path(books.rows, "/nowhere") is None
    edit(books, "p", archived_at=NOW)
    assert projects.find_by_path(books.rows, "/p") is None


def test_a_refused_change_leaves_nothing(books: Books) -> None:
    def change(tx: Tx) -> None:
        projects.edit(tx, "p", {"description": "new"}, actor=ACTOR, now=NOW)
        projects.edit(tx, "p", {"name": "p2"}, actor=ACTOR, now=NOW)
        projects.delete(tx, "ghost", actor=ACTOR, now=NOW)

    with pytest.raises(NotFound):
        books.do(change)
    assert projects.get_project(books.rows, "p").description == ""
    assert books.told("p") == ["project.created"]


def listed(books: Books, status: str | None = None) -> list[str]:
    return [project.name for project in projects.list_projects(books.rows, status)]


def _try(books: Books) -> int:
    try:
        return take(books, 1)
    except QuotaExceeded:
        return 0
