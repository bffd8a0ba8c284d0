"""What agents write is booked as they write it, once, and nothing of it is lost whatever happens to the daemon."""

import asyncio
import json
import os
import shutil
from collections.abc import AsyncIterator
from datetime import timedelta
from pathlib import Path

import pytest

from stratavore import resumable
from stratavore.clock import iso
from stratavore.ledger.homes import Home
from stratavore.ledger.watching import Watch
from stratavore.model import ImportProgress, UsageBy
from stratavore.store import session_views
from tests.agents.test_opencode_records import Store
from tests.ledger.keeping import Keeper, keeping
from tests.ledger.transcripts import BEGAN, answer, append, counted, file_of


@pytest.fixture
async def keeper(tmp_path: Path) -> AsyncIterator[Keeper]:
    async with keeping(tmp_path) as keeper:
        yield keeper


async def test_what_is_written_is_booked(keeper: Keeper) -> None:
    path = file_of(keeper.home, "s1")
    append(path, answer(1), answer(2, counts=(10, 20, 30, 40, 50)))
    await keeper.caught_up()
    assert keeper.calls() == {"msg_1": (1, 2, 3, 4, 5), "msg_2": (10, 20, 30, 40, 50)}
    assert keeper.charged == 1
    assert {note.session_id for note in keeper.notes} == {"s1"}
    assert keeper.rows("SELECT id, messages, transcript_path FROM sessions") == [
        {"id": "s1", "messages": 2, "transcript_path": str(path)}
    ]


async def test_what_grows_is_found_without_asking(keeper: Keeper) -> None:
    path = file_of(keeper.home, "s1")
    append(path, answer(1))
    await keeper.caught_up()
    began = asyncio.get_running_loop().time()
    append(path, answer(2))
    while len(keeper.calls()) < 2:
        await asyncio.sleep(0.01)
        assert asyncio.get_running_loop().time() - began < 5
    assert asyncio.get_running_loop().time() - began < 2


async def test_half_a_line_is_nothing_yet(keeper: Keeper) -> None:
    path, line = file_of(keeper.home, "s1"), answer(2)
    append(path, answer(1), line[:40])
    await keeper.caught_up()
    assert list(keeper.calls()) == ["msg_1"]
    append(path, line[40:])
    await keeper.caught_up()
    assert list(keeper.calls()) == ["msg_1", "msg_2"]


async def test_a_last_line_without_an_end_counts_once_nothing_comes_behind_it(keeper: Keeper) -> None:
    path = file_of(keeper.home, "s1")
    append(path, answer(1), answer(2).rstrip(b"\n"))
    for _ in range(100):
        await keeper.caught_up()
        if len(keeper.calls()) == 2:
            break
        await asyncio.sleep(0.1)
    assert list(keeper.calls()) == ["msg_1", "msg_2"]
    append(path, b"\n", answer(3))
    await keeper.caught_up()
    assert len(keeper.calls()) == 3
    assert keeper.scalar("SELECT bad_lines FROM tails") == 0


async def test_reading_everything_again_changes_nothing(keeper: Keeper) -> None:
    path = file_of(keeper.home, "s1")
    append(path, answer(1), answer(1, counts=(1, 9, 3, 4, 5)), answer(2))
    await keeper.caught_up()
    ledger, sessions = keeper.rows("SELECT * FROM usage"), keeper.rows("SELECT * FROM sessions")
    shutil.copy(path, path.with_suffix(".new"))
    os.replace(path.with_suffix(".new"), path)
    await keeper.caught_up()
    assert keeper.scalar("SELECT generation FROM tails") == 1
    assert keeper.rows("SELECT * FROM usage") == ledger
    assert keeper.rows("SELECT * FROM sessions") == sessions
    await keeper.database.write(lambda tx: tx.execute("DELETE FROM tails"))
    await keeper.restart()
    await keeper.caught_up()
    assert keeper.rows("SELECT * FROM usage") == ledger


async def test_a_restart_goes_on_where_it_was(keeper: Keeper) -> None:
    path = file_of(keeper.home, "s1")
    append(path, answer(1))
    await keeper.caught_up()
    await keeper.stop()
    append(path, answer(2))
    await keeper.start()
    await keeper.caught_up()
    assert keeper.calls() == counted([path])
    assert keeper.scalar("SELECT messages FROM sessions") == 2


async def test_a_fork_in_another_file_adds_nothing(keeper: Keeper) -> None:
    first, second = file_of(keeper.home, "parent"), file_of(keeper.home, "a-fork")
    append(first, answer(1, session="parent"), answer(2, session="parent"))
    await keeper.caught_up()
    copied = [answer(n, session="a-fork", forkedFrom={"sessionId": "parent"}) for n in (1, 2)]
    append(second, *copied, answer(3, session="a-fork"))
    await keeper.caught_up()
    found = keeper.usage(UsageBy.SESSION)
    assert {row.key: row.calls for row in found.rows} == {"parent": 2, "a-fork": 1}
    assert found.total.calls == 3


async def test_a_sub_agents_calls_are_its_parents(keeper: Keeper) -> None:
    main = file_of(keeper.home, "s1")
    folder = main.with_suffix("") / "subagents"
    folder.mkdir(parents=True)
    append(main, answer(1))
    append(folder / "agent-7.jsonl", answer(2, isSidechain=True, agentId="7"))
    await keeper.caught_up()
    assert keeper.rows("SELECT is_subagent FROM usage ORDER BY key") == [{"is_subagent": 0}, {"is_subagent": 1}]
    assert {row.key: row.calls for row in keeper.usage(UsageBy.SESSION).rows} == {"s1": 2}
    assert keeper.scalar("SELECT messages FROM sessions") == 1


async def test_a_broken_line_is_counted_told_once_and_harms_no_other(
    keeper: Keeper, caplog: pytest.LogCaptureFixture
) -> None:
    path = file_of(keeper.home, "s1")
    append(path, answer(1), b'{"type": "assistant", \n', b"[[[[\n", b"\xff\xfe\n", answer(2))
    await keeper.caught_up()
    assert sorted(keeper.calls()) == ["msg_1", "msg_2"]
    assert keeper.scalar("SELECT bad_lines FROM tails") == 3
    assert [record.message for record in caplog.records].count("a line of an agent's file is broken") == 1


async def test_a_line_that_is_too_long_leaves_a_lower_bound(keeper: Keeper) -> None:
    path = file_of(keeper.home, "s1")
    append(path, answer(1), b'{"x": "' + b"x" * (17 << 20) + b'"}\n', answer(2))
    await keeper.caught_up()
    assert sorted(keeper.calls()) == ["msg_1", "msg_2"]
    assert keeper.scalar("SELECT skipped_bytes FROM tails") > 17 << 20
    [event] = keeper.rows("SELECT aggregate_id, payload FROM events WHERE type = 'session.undercounted'")
    assert event["aggregate_id"] == "s1"
    assert "lower bound" in event["payload"]


async def test_a_link_is_not_followed(keeper: Keeper, tmp_path: Path) -> None:
    elsewhere = tmp_path / "elsewhere.jsonl"
    append(elsewhere, answer(1))
    file_of(keeper.home, "s1").symlink_to(elsewhere)
    append(file_of(keeper.home, "s2"), answer(2))
    await keeper.caught_up()
    assert list(keeper.calls()) == ["msg_2"]


async def test_the_runner_in_the_conversation_is_charged(keeper: Keeper) -> None:
    await keeper.database.write(
        lambda tx: tx.execute(
            "INSERT INTO sessions (number, agent, id, home, is_foreign) VALUES (7, 'claude', 's1', '/h', 0)"
        )
    )
    await keeper.database.write(
        lambda tx: tx.execute(
            "INSERT INTO session_runs (session, run_key, runner_id, from_at) VALUES (7, 'r.1', 'r', ?)", (iso(BEGAN),)
        )
    )
    append(file_of(keeper.home, "s1"), answer(1, at=BEGAN - timedelta(seconds=1)), answer(2))
    await keeper.caught_up()
    assert keeper.rows("SELECT runner_id, calls, tokens FROM runner_usage") == [
        {"runner_id": "r", "calls": 1, "tokens": 15}
    ]


async def test_what_was_there_before_the_installation_is_left_to_import(keeper: Keeper) -> None:
    path = file_of(keeper.home, "old")
    append(path, answer(1))
    os.utime(path, (1.5e9, 1.5e9))
    append(file_of(keeper.home, "new"), answer(2))
    await keeper.caught_up()
    assert list(keeper.calls()) == ["msg_2"]


async def test_a_runner_that_is_found_late_is_charged_for_what_it_did_before(keeper: Keeper) -> None:
    append(file_of(keeper.home, "s1"), answer(1, at=BEGAN - timedelta(seconds=1)), answer(2), answer(3))
    await keeper.caught_up()
    assert keeper.rows("SELECT * FROM runner_usage") == []
    await keeper.database.write(
        lambda tx: tx.execute(
            "INSERT INTO session_runs (session, run_key, runner_id, from_at)"
            " SELECT number, 'r.1', 'r', ? FROM sessions",
            (iso(BEGAN),),
        )
    )
    await keeper.caught_up()
    assert keeper.rows("SELECT runner_id, calls, tokens FROM runner_usage") == [
        {"runner_id": "r", "calls": 2, "tokens": 30}
    ]
    assert {row.key: row.calls for row in keeper.usage(UsageBy.RUNNER).rows} == {"": 1, "r": 2}


async def test_an_import_brings_in_what_is_old_and_tells_how_far_it_is(keeper: Keeper, tmp_path: Path) -> None:
    home = tmp_path / "elsewhere"
    files = [file_of(home, f"s{n}") for n in range(30)]
    for n, path in enumerate(files):
        append(path, *(answer(100 * n + m, session=path.stem) for m in range(20)), b"broken\n")
        os.utime(path, (1.5e9, 1.5e9))
    told: list[ImportProgress] = []
    end = await asyncio.wait_for(keeper.ingest.bring_in([("claude", home)], told.append), 30)
    size = sum(path.stat().st_size for path in files)
    assert (end.is_running, end.files, end.total_files, end.bytes, end.total_bytes) == (False, 30, 30, size, size)
    assert (end.sessions, end.calls, end.bad_lines) == (30, 600, 30)
    assert keeper.calls() == counted(files)
    assert told[0].is_running
    assert [each.bytes for each in told] == sorted(each.bytes for each in told)
    again = await asyncio.wait_for(keeper.ingest.bring_in([("claude", home)], told.append), 30)
    assert (again.files, again.bytes, again.calls) == (30, size, 0)


async def test_an_import_of_nothing_ends(keeper: Keeper, tmp_path: Path) -> None:
    end = await asyncio.wait_for(keeper.ingest.bring_in([("claude", tmp_path / "no")], lambda progress: None), 30)
    assert (end.is_running, end.total_files) == (False, 0)


async def test_an_interrupted_import_goes_on_where_it_was(keeper: Keeper, tmp_path: Path) -> None:
    path = file_of(tmp_path / "elsewhere", "s1")
    append(path, *(answer(n, text="x" * 1000) for n in range(3000)))
    os.utime(path, (1.5e9, 1.5e9))
    homes = [("claude", tmp_path / "elsewhere")]
    work = asyncio.create_task(keeper.ingest.bring_in(homes, lambda progress: None))
    while not keeper.calls():
        await asyncio.sleep(0.001)
    work.cancel()
    await asyncio.gather(work, return_exceptions=True)
    await keeper.restart()
    await asyncio.wait_for(keeper.ingest.bring_in(homes, lambda progress: None), 30)
    assert keeper.calls() == counted([path])
    assert keeper.scalar("SELECT messages FROM sessions") == 3000


async def test_what_could_not_be_booked_is_read_again(keeper: Keeper, caplog: pytest.LogCaptureFixture) -> None:
    path = file_of(keeper.home, "s1")
    append(path, answer(1))
    await keeper.caught_up()
    await keeper.database.write(
        lambda tx: tx.execute(
            "CREATE TEMP TRIGGER refuse BEFORE INSERT ON main.usage BEGIN SELECT RAISE(ABORT, 'no'); END"
        )
    )
    append(path, *(answer(n, text="x" * 2000) for n in range(2, 700)))
    while "a turn of the ledger failed" not in caplog.messages:
        await asyncio.sleep(0.01)
    assert list(keeper.calls()) == ["msg_1"]
    await keeper.database.write(lambda tx: tx.execute("DROP TRIGGER refuse"))
    await keeper.caught_up()
    assert keeper.calls() == counted([path])


async def test_what_an_agent_says_at_its_exit_and_no_call_accounts_for_is_unattributed(keeper: Keeper) -> None:
    """The run was in another conversation before, which the agent's figure includes."""
    moments = [keeper.context.clock.now() - timedelta(seconds=each) for each in (9, 6, 3)]
    for number, id, since, until in ((1, "before", *moments[:2]), (2, "s1", *moments[1:])):
        await keeper.do(
            "INSERT INTO sessions (number, agent, id, home, is_foreign, cwd) VALUES (?, 'claude', ?, ?, 0, ?)",
            *(number, id, str(keeper.home), str(keeper.home)),
        )
        await keeper.do(
            "INSERT INTO session_runs (session, run_key, runner_id, from_at, until_at) VALUES (?, 'r.1', 'r', ?, ?)",
            *(number, iso(since), iso(until)),
        )
    told = {"projects": {os.path.realpath(keeper.home): {"lastCost": 0.5, "lastSessionId": "s1"}}}
    (keeper.home / ".claude.json").write_text(json.dumps(told))
    tokens = (0, 4000, 0, 0, 0)  # a tenth of a dollar
    append(file_of(keeper.home, "before"), answer(1, session="before", counts=tokens, at=moments[0]))
    append(file_of(keeper.home, "s1"), answer(2, counts=tokens, at=moments[1]))
    await keeper.caught_up()
    while keeper.scalar("SELECT reported_nano_usd FROM sessions WHERE id = 's1'") is None:
        await keeper.caught_up()
    assert keeper.rows("SELECT id, reported_nano_usd FROM sessions ORDER BY number") == [
        {"id": "before", "reported_nano_usd": None},
        {"id": "s1", "reported_nano_usd": 400_000_000},
    ]
    found = session_views.resolve(keeper.database.reader(), "s1")
    used = session_views.usage_of(keeper.database.reader(), [found.number])[found.number]
    assert used[0].cost_usd == 0.1
    assert resumable.unattributed(found, used) == pytest.approx(0.3)


async def test_the_messages_of_a_database_are_counted_once_though_a_copy_of_it_is_read(
    keeper: Keeper, tmp_path: Path
) -> None:
    (tmp_path / "opencode").mkdir()
    store = Store(tmp_path / "opencode")
    store.session("ses_1")
    store.session("ses_2", at=1)
    store.prompt("msg_1", "ses_1", at=100)
    store.answer("msg_2", "ses_1", at=200, done=900)
    store.database.close()
    shutil.copytree(tmp_path / "opencode", tmp_path / "copy")
    told: list[ImportProgress] = []
    for home in ("opencode", "copy"):
        told.append(await keeper.ingest.bring_in([("opencode", tmp_path / home)], lambda progress: None))
    assert keeper.rows("SELECT id, messages FROM sessions") == [
        {"id": "ses_1", "messages": 2},
        {"id": "ses_2", "messages": 0},
    ]
    assert [(each.sessions, each.new_sessions, each.calls) for each in told] == [(2, 2, 1), (2, 0, 0)]
    again = await keeper.ingest.bring_in([("opencode", tmp_path / "copy")], lambda progress: None)
    assert (again.new_sessions, again.known_sessions) == (0, 2)


async def test_a_file_that_is_not_to_be_read_is_told_of_once_and_harms_no_other(
    keeper: Keeper, caplog: pytest.LogCaptureFixture
) -> None:
    good = file_of(keeper.home, "good")
    append(good, answer(1))
    (good.parent / "led-elsewhere.jsonl").symlink_to(good)
    for number in range(2, 5):
        await keeper.caught_up()
        append(good, answer(number))
    await keeper.caught_up()
    assert len(keeper.calls()) == 4
    assert [record.message for record in caplog.records].count("a file of an agent is not read") == 1


async def test_what_another_version_remembered_of_a_file_stops_nobody(keeper: Keeper) -> None:
    odd, other = file_of(keeper.home, "odd"), file_of(keeper.home, "other")
    append(odd, answer(1, session="odd"))
    append(other, answer(2, session="other"))
    await keeper.caught_up()
    await keeper.database.write(lambda tx: tx.execute("UPDATE tails SET memory = 'of another version'"))
    append(odd, answer(3, session="odd"))
    append(other, answer(4, session="other"))
    await keeper.caught_up()
    assert set(keeper.calls()) == {f"msg_{number}" for number in range(1, 5)}


def test_an_import_leaves_what_grows_to_who_follows_it(tmp_path: Path) -> None:
    path, home = file_of(tmp_path, "s1"), Home("claude", tmp_path)
    append(path, answer(1))
    watch = Watch(began_at=0, known=())
    [file] = watch.look(0, [home], (), ())
    append(path, answer(2))
    assert watch.follow_all(home) == [(file, path.stat().st_size)]
    assert watch.look(1, [home], (), (), everywhere=True) == [file]
