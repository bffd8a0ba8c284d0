"""Copies of transcripts: made at each end, put back where they have gone, and never over anything."""

import asyncio
import os
import sqlite3
import stat
import subprocess
import sys
import textwrap
import threading
import time
from collections.abc import AsyncIterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from datetime import UTC, datetime, timedelta
from pathlib import Path

import psutil
import pytest
from msgspec import structs

from stratavore import archive, archiving, writers
from stratavore.archive import Subject
from stratavore.archiving import Archiving
from stratavore.context import Context
from stratavore.errors import NotFound, StorageFailed
from stratavore.shim.client import MARKER
from stratavore.store import archives
from tests.house import House, living, quick, until
from tests.test_verbs_sessions import FOREIGN, WAITS, heard_of, launch, launched, say, session, stop

ID = "0f0e1de9-0000-4000-8000-00000000000a"


@pytest.fixture
def subject(tmp_path: Path) -> Subject:
    """A conversation of Claude's, with a sub-agent's file."""
    home = tmp_path / "claude"
    main = home / "projects" / "p" / f"{ID}.jsonl"
    below = home / "projects" / "p" / ID / "subagents" / "agent-1.jsonl"
    for path, text in ((main, "main\n" * 1000), (below, "below\n")):
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
        os.utime(path, (1_900_000_000, 1_900_000_000))
    return Subject("claude", ID, home, "/", {}, ("claude",))


def files(subject: Subject) -> list[Path]:
    return sorted(path for path in subject.home.rglob("*") if path.is_file())


def test_what_was_copied_is_put_back_as_it_was(subject: Subject, tmp_path: Path) -> None:
    before = {path: (path.read_text(), int(path.stat().st_mtime)) for path in files(subject)}
    copied = archive.store(tmp_path / "copies", subject)
    assert copied is not None
    assert (copied.transcript_bytes, stat.S_IMODE(copied.path.stat().st_mode)) == (5000, 0o600)
    assert copied.path.stat().st_size < 1000
    for path in before:
        path.unlink()
    assert sorted(archive.restore(copied.path, copied.sha256, subject)) == sorted(before)
    assert {path: (path.read_text(), int(path.stat().st_mtime)) for path in files(subject)} == before


def test_nothing_that_is_there_is_overwritten(subject: Subject, tmp_path: Path) -> None:
    copied = archive.store(tmp_path / "copies", subject)
    assert copied is not None
    main = subject.home / "projects" / "p" / f"{ID}.jsonl"
    main.write_text("more than before\n")
    assert archive.restore(copied.path, copied.sha256, subject) == []
    assert main.read_text() == "more than before\n"


def test_a_copy_that_holds_more_is_kept(subject: Subject, tmp_path: Path) -> None:
    first = archive.store(tmp_path / "copies", subject)
    (subject.home / "projects" / "p" / f"{ID}.jsonl").write_text("less\n")
    assert first is not None
    assert archive.store(tmp_path / "copies", subject, at_least=first.transcript_bytes) is None
    with archive.opened_transcript(first.path, first.sha256, ID) as content:
        assert content.read() == b"main\n" * 1000


def test_a_link_in_place_of_a_file_is_not_copied(subject: Subject, tmp_path: Path) -> None:
    secret = tmp_path / "secret"
    secret.write_text("secret")
    below = subject.home / "projects" / "p" / ID / "subagents" / "agent-2.jsonl"
    below.symlink_to(secret)
    copied = archive.store(tmp_path / "copies", subject)
    assert copied is not None
    below.unlink()
    for path in files(subject):
        path.unlink()
    archive.restore(copied.path, copied.sha256, subject)
    assert not below.exists()


@pytest.mark.parametrize("damage", ["flipped", "cut", "gone"])
def test_a_damaged_copy_puts_nothing_back(subject: Subject, tmp_path: Path, damage: str) -> None:
    copied = archive.store(tmp_path / "copies", subject)
    assert copied is not None
    content = bytearray(copied.path.read_bytes())
    if damage == "gone":
        copied.path.unlink()
    else:
        content[len(content) // 2] ^= 0xFF
        copied.path.write_bytes(content if damage == "flipped" else content[: len(content) // 2])
    for path in files(subject):
        path.unlink()
    with pytest.raises(StorageFailed):
        archive.restore(copied.path, copied.sha256, subject)
    assert files(subject) == []


def test_a_copy_that_is_cut_short_leaves_the_older_one(subject: Subject, tmp_path: Path) -> None:
    """The disk is full, in the place where a copy is made."""
    first = archive.store(tmp_path / "copies", subject)
    assert first is not None
    code = """
        import os, resource, sys
        from pathlib import Path
        from stratavore import archive
        from stratavore.archive import Subject
        resource.setrlimit(resource.RLIMIT_FSIZE, (10, 10))
        import signal; signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
        archive.store(Path(sys.argv[1]), Subject("claude", sys.argv[2], Path(sys.argv[3]), "/", {}, ("claude",)))
    """
    argv = [sys.executable, "-c", textwrap.dedent(code), str(tmp_path / "copies"), ID, str(subject.home)]
    done = subprocess.run(argv, capture_output=True, text=True, check=False)
    assert "File too large" in done.stderr
    assert [path.name for path in (tmp_path / "copies").iterdir()] == [first.path.name]
    archive.restore(first.path, first.sha256, subject)


def test_two_copies_of_one_session_at_once_are_each_whole(subject: Subject, tmp_path: Path) -> None:
    files(subject)[-1].write_bytes(os.urandom(4 << 20))
    together, copies = threading.Barrier(4), tmp_path / "copies"

    def store() -> archive.Copied | None:
        together.wait()
        return archive.store(copies, subject)

    with ThreadPoolExecutor(4) as threads:
        [one] = {each.result() for each in [threads.submit(store) for _ in range(4)]}
    assert one is not None
    assert list(copies.iterdir()) == [one.path]
    assert archive.restore(one.path, one.sha256, subject) == [], "it is whole, and all is there"


def test_what_a_crash_left_of_a_copy_is_swept(subject: Subject, tmp_path: Path) -> None:
    copied = archive.store(tmp_path, subject)
    assert copied is not None
    cut = tmp_path / f"{copied.path.name}.cut.new"
    cut.write_bytes(b"half of it")
    now = datetime.now(UTC)
    assert archive.sweep(tmp_path, {str(copied.path)}, before=now - timedelta(hours=1)) == 0
    assert archive.sweep(tmp_path, {str(copied.path)}, before=now + timedelta(hours=1)) > 0
    assert not cut.exists()
    assert copied.path.exists()


@pytest.fixture
async def house(tmp_path: Path) -> AsyncIterator[House]:
    profiles = {"claude": {"argv": WAITS, "home": str(tmp_path / "claude")}}
    async with living(tmp_path / "state", quick(agents=profiles, transcripts={"archive": False})) as house:
        await house.project("p", max_runners=20)
        yield house


async def test_each_end_of_a_session_of_ours_is_copied_once(house: House) -> None:
    runner = await launch(house)
    path = say(house, runner.session_id)
    archiving_ = Archiving(house.context)
    assert await archiving_.copy_due() == 0, "it lives"
    await stop(house, runner)
    assert (await archiving_.copy_due(), await archiving_.copy_due()) == (1, 0)
    found = await session(house, runner.session_id)
    assert found.archive_path is not None
    assert found.transcript_bytes == path.stat().st_size
    assert "session.archived" in house.told(runner.session_id or "")

    await house.ask("restart_runners", runner.id)
    await house.reaches(runner.id, "running", run=2)
    path.write_text(path.read_text() * 2)
    await stop(house, runner)
    assert await archiving_.copy_due() == 1
    assert (await session(house, runner.session_id)).transcript_bytes == path.stat().st_size


async def test_one_that_nobody_can_copy_keeps_no_other_from_it(house: House) -> None:
    odd, other = await launch(house), await launch(house)
    for runner in (odd, other):
        say(house, runner.session_id)
        await stop(house, runner)
    await house.wish("UPDATE sessions SET started_at = 'some day' WHERE id = ?", odd.session_id)  # a bug, as it were
    archiving_ = Archiving(house.context)
    assert (await archiving_.copy_due(), await archiving_.copy_due()) == (2, 0)
    assert (await session(house, other.session_id)).archive_path is not None


async def test_an_end_without_a_word_is_looked_at_once(house: House) -> None:
    runner = await launch(house)
    await stop(house, runner)
    archiving_ = Archiving(house.context)
    assert (await archiving_.copy_due(), await archiving_.copy_due()) == (1, 0)
    assert (await session(house, runner.session_id)).archive_path is None


async def test_a_transcript_that_has_gone_is_put_back_before_it_is_resumed(house: House) -> None:
    runner = await launch(house)
    path = say(house, runner.session_id)
    content = path.read_text()
    await stop(house, runner)
    await Archiving(house.context).copy_due()
    path.unlink()
    found = await session(house, runner.session_id)
    assert (found.resumable, found.transcript_path) == (True, None)
    assert [turn.text for turn in (await house.ask("read_transcript", found.id)).turns] == ["hello"]

    again = await launch(house, resume=runner.session_id)
    assert "--resume" in again.argv
    assert path.read_text() == content
    assert "session.restored" in house.told(found.id)


def keeping(house: House) -> Context:
    """As if ends were copied, and nobody had come to it yet: who asks meanwhile sees to it."""
    config = structs.replace(house.config, transcripts=structs.replace(house.config.transcripts, archive=True))
    house.context = house.context._replace(config=config)
    return house.context


async def test_who_goes_on_at_once_has_the_last_end_copied_first(house: House) -> None:
    runner = await launch(house)
    path = say(house, runner.session_id)
    await stop(house, runner)
    assert not (await session(house, runner.session_id)).copy_pending, "nobody keeps copies"
    keeping(house)
    assert (await session(house, runner.session_id)).copy_pending
    again = await launched(house, resume=runner.session_id)
    assert again.warnings == []
    found = await session(house, runner.session_id)
    assert (found.transcript_bytes, found.copy_pending) == (path.stat().st_size, False)
    assert found.archived_at is not None
    assert found.archived_at <= again.runners[0].created_at


async def test_an_end_is_still_to_be_copied_when_the_next_run_has_begun(house: House) -> None:
    runner = await launch(house)
    path = say(house, runner.session_id)
    await house.ask("restart_runners", runner.id)
    await house.reaches(runner.id, "running", run=2)
    told = await archiving.make_ready(keeping(house), "claude", runner.session_id or "", {})
    found = await session(house, runner.session_id)
    assert (told, found.transcript_bytes) == ([], path.stat().st_size)


async def test_a_copy_that_cannot_be_made_holds_nobody_up_but_is_told_of(house: House) -> None:
    runner = await launch(house)
    say(house, runner.session_id)
    await stop(house, runner)
    house.paths.transcripts.write_text("no directory")
    keeping(house)
    [warning] = (await launched(house, resume=runner.session_id)).warnings
    assert "could not be copied before it goes on" in warning


async def test_two_who_copy_at_once_leave_one_whole_copy(house: House) -> None:
    runner = await launch(house)
    path = say(house, runner.session_id)
    await asyncio.gather(*[house.ask("archive_session", runner.session_id or "") for _ in range(5)])
    path.unlink()
    assert (await house.ask("read_transcript", runner.session_id or "")).turns


async def test_a_copy_that_was_made_and_not_booked_spoils_no_older_one(house: House) -> None:
    runner = await launch(house)
    path = say(house, runner.session_id)
    first = await house.ask("archive_session", runner.session_id or "")
    path.write_text(path.read_text() * 2)
    home = house.paths.state.parent / "claude"
    archive.store(house.paths.transcripts, Subject("claude", first.id, home, None, {}, ("claude",)))  # then it died
    path.unlink()
    assert (await house.ask("read_transcript", first.id)).turns
    path.write_text("{}\n" * 200)
    again = await house.ask("archive_session", first.id)
    assert again.archive_path != first.archive_path
    assert not Path(first.archive_path).exists()
    assert archive.sweep(house.paths.transcripts, {again.archive_path}, before=datetime.now(UTC) + timedelta(1)) > 0
    assert [str(left) for left in house.paths.transcripts.iterdir()] == [again.archive_path]


async def test_what_is_written_a_moment_after_the_end_is_copied_too(house: House) -> None:
    runner = await launch(house)
    path = say(house, runner.session_id)
    await stop(house, runner)
    archiving_ = Archiving(house.context)
    await archiving_.copy_due()
    path.write_text(path.read_text() * 2)
    await archiving_.copy_again(before=time.monotonic())
    assert (await session(house, runner.session_id)).transcript_bytes == path.stat().st_size


async def test_an_older_copy_is_put_back_with_a_word_about_it(house: House) -> None:
    runner = await launch(house)
    path = say(house, runner.session_id)
    await stop(house, runner)
    await Archiving(house.context).copy_due()
    size = path.stat().st_size
    path.unlink()
    [warning] = (await launched(house, resume=runner.session_id)).warnings
    assert f"had gone: the copy of it was put back, {size} bytes of 20" in warning
    assert "lost" not in warning
    await house.ask("stop_runners", "*")
    await until(lambda: not house.context.rows.scalar("SELECT COUNT(*) FROM session_runs WHERE until_at IS NULL"))
    path.unlink()
    await house.wish("UPDATE sessions SET last_message_at = '2099-01-01T00:00:00.000Z'")
    [warning] = (await launched(house, resume=runner.session_id)).warnings
    assert warning.endswith("; what was said since is lost")
    found = [event.payload for event in house.events_of(runner.session_id or "") if event.type == "session.restored"]
    assert [(each["bytes"], each["is_older"]) for each in found] == [(size, False), (size, True)]


async def test_a_restart_puts_it_back_too(house: House) -> None:
    runner = await launch(house)
    path = say(house, runner.session_id)
    await stop(house, runner)
    await Archiving(house.context).copy_due()
    path.unlink()
    await house.ask("restart_runners", runner.id)
    again = await house.reaches(runner.id, "running", run=2)
    assert "--resume" in again.argv
    assert path.exists()


async def test_a_dry_run_puts_nothing_back(house: House) -> None:
    runner = await launch(house)
    path = say(house, runner.session_id)
    await stop(house, runner)
    await Archiving(house.context).copy_due()
    path.unlink()
    await house.plan("p", resume=runner.session_id)
    assert not path.exists()


async def test_a_damaged_copy_refuses_the_resume_instead_of_beginning_anew(house: House) -> None:
    runner = await launch(house)
    path = say(house, runner.session_id)
    await stop(house, runner)
    await Archiving(house.context).copy_due()
    path.unlink()
    copy = Path((await session(house, runner.session_id)).archive_path or "")
    copy.write_bytes(b"nonsense")
    with pytest.raises(StorageFailed, match="damaged"):
        await launch(house, resume=runner.session_id)
    await house.ask("restart_runners", runner.id)
    assert "damaged" in ((await house.ended(runner.id)).end_detail or "")


async def test_a_person_has_a_foreign_session_copied(house: House) -> None:
    await heard_of(house, FOREIGN)
    assert await Archiving(house.context).copy_due() == 0, "not by itself"
    found = await house.ask("archive_session", FOREIGN)
    assert found.archive_path is not None
    say(house, FOREIGN).unlink()
    await house.wish("UPDATE sessions SET archive_path = NULL, archive_sha256 = NULL, archived_at = NULL")
    with pytest.raises(NotFound, match="nothing to be copied"):
        await house.ask("archive_session", FOREIGN)


async def test_old_copies_are_pruned_but_not_those_of_the_living(house: House) -> None:
    old, living_one = await launch(house), await launch(house)
    for runner in (old, living_one):
        say(house, runner.session_id)
        await house.ask("archive_session", runner.session_id or "")
    assert (await house.ask("disk_use")).transcript_bytes > 0
    await stop(house, old)
    some_day = house.context.clock.now() + timedelta(days=400)
    assert len(archives.list_old(house.context.rows, before=some_day)) == 1
    assert await archiving.prune(house.context) == 0
    assert house.config.transcripts.keep == timedelta(days=365).total_seconds()
    long_ago = "2001-01-01T00:00:00.000Z"
    await house.wish("UPDATE sessions SET archived_at = ?1, ended_at = ?1 WHERE id = ?2", long_ago, old.session_id)
    path = Path((await session(house, old.session_id)).archive_path or "")
    assert (await house.ask("prune")).bytes > 0
    assert not path.exists()
    assert (await session(house, old.session_id)).archive_path is None
    assert (await session(house, living_one.session_id)).archive_path is not None


OPENCODE = """#!{python}
import json, sqlite3, sys
database = sqlite3.connect({database!r})
if sys.argv[1] == "export":
    [(title,)] = database.execute("SELECT title FROM session WHERE id = ?", (sys.argv[2],))
    print(json.dumps({{"info": {{"id": sys.argv[2], "title": title}}}}))
else:
    told = json.load(open(sys.argv[2]))["info"]
    database.execute("INSERT INTO session VALUES (?, ?)", (told["id"], told["title"]))
    database.commit()
"""


STILL = "#!/bin/sh\nwhile ! test -e {gate}; do sleep 0.02; done; echo '{{}}'\n"


async def test_what_we_run_to_copy_a_session_is_nobody_in_it(tmp_path: Path) -> None:
    program, gate, home = tmp_path / "opencode", tmp_path / "gate", tmp_path / "home"
    home.mkdir()
    with closing(sqlite3.connect(home / "opencode.db")) as database:
        database.execute("CREATE TABLE session (id)")
        database.execute("INSERT INTO session VALUES ('ses_1')")
        database.commit()
    program.write_text(STILL.format(gate=gate))
    program.chmod(0o755)
    subject = Subject("opencode", "ses_1", home, str(tmp_path), dict(os.environ), (str(program),))
    copying = asyncio.ensure_future(asyncio.to_thread(archive.store, tmp_path / "copies", subject))
    try:
        await until(lambda: any("ses_1" in child.cmdline() for child in psutil.Process().children()))
        assert writers.inside(str(tmp_path)) == []
        assert writers.scan({("opencode", str(home))}, {"ses_1"}) == {}
    finally:
        gate.touch()
    assert await copying is not None


async def test_what_a_runner_started_is_its_own_whatever_it_was_given(tmp_path: Path) -> None:
    program = tmp_path / "claude"
    program.write_text("#!/bin/sh\nread line\n")
    program.chmod(0o755)
    script = f"env -i PATH=$PATH {program} --resume=one; true"
    environment = {**os.environ, MARKER: "abcdefghij"}
    child = subprocess.Popen(["sh", "-c", script], stdin=subprocess.PIPE, env=environment)
    try:
        await until(lambda: writers.scan((), {"one"}))
        [[pid]] = writers.scan((), {"one"}).values()
        assert writers.who(pid) == "abcdefghij"
    finally:
        child.communicate(b"\n")


def test_what_opencode_exports_is_kept_and_imported_again(tmp_path: Path) -> None:
    home, program = tmp_path / "opencode", tmp_path / "program"
    home.mkdir()
    program.write_text(OPENCODE.format(python=sys.executable, database=str(home / "opencode.db")))
    program.chmod(0o755)
    with closing(sqlite3.connect(home / "opencode.db")) as database:
        database.execute("CREATE TABLE session (id, title)")
        database.execute("INSERT INTO session VALUES ('ses_1', 'a title')")
        database.commit()
        subject = Subject("opencode", "ses_1", home, None, dict(os.environ), (str(program),))
        copied = archive.store(tmp_path / "copies", subject)
        assert copied is not None
        assert archive.restore(copied.path, copied.sha256, subject) == []
        database.execute("DELETE FROM session")
        database.commit()
        assert archive.restore(copied.path, copied.sha256, subject) == [home / "opencode.db"]
        assert database.execute("SELECT id, title FROM session").fetchall() == [("ses_1", "a title")]
