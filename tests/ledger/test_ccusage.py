"""Our ledger and ccusage over the same transcripts: equal where ccusage is right, and why not where it is not.

ccusage counts lines of files, and tells calls apart by message id and request id together. So it differs, on purpose of
ours, where
- one answer was written with classes of tokens of which no line has all maxima: it keeps the largest line;
- one answer is repeated under another request id, in a conversation that is no sub-agent's: it counts both;
- a fork sorts before what it was forked from: it books the copied calls to the fork;
- a model has no price: it adds 0 to the cost, and we count an unpriced call.
"""

import json
import subprocess
from collections.abc import AsyncIterator
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest

from stratavore.model import UsageBy, UsageRow
from tests import programs
from tests.agents.bench import KINDS
from tests.agents.test_real_records import Desk
from tests.ledger.keeping import Keeper, keeping
from tests.ledger.transcripts import BEGAN, Counts, answer, append, file_of
from tests.programs import needs, once_more

pytestmark = [needs("ccusage")]

Four = tuple[int, int, int, int]
"""Input, output, written into caches, read from them: ccusage does not tell the caches apart."""


@pytest.fixture
async def keeper(tmp_path: Path) -> AsyncIterator[Keeper]:
    async with keeping(tmp_path) as keeper:
        yield keeper


def ccusage(home: Path, *asked: str) -> dict[str, Any]:
    """What it says of that directory of Claude's."""
    done = subprocess.run(
        [programs.path("ccusage"), "claude", *asked, "--json", "--offline", "--mode", "calculate", "-z", "UTC"],
        env={"PATH": programs.PATH, "HOME": str(home.parent), "CLAUDE_CONFIG_DIR": str(home), "TZ": "UTC"},
        capture_output=True,
        text=True,
        check=True,
        timeout=60,
    )
    return dict(json.loads(done.stdout))


def theirs(row: dict[str, Any]) -> Four:
    names = ("inputTokens", "outputTokens", "cacheCreationTokens", "cacheReadTokens")
    return tuple(row[name] for name in names)


def ours(row: UsageRow) -> Four:
    written = row.cache_write_5m_tokens + row.cache_write_1h_tokens
    return row.input_tokens, row.output_tokens, written, row.cache_read_tokens


def of_models(home: Path) -> dict[str, Four]:
    found: dict[str, Four] = {}
    for day in ccusage(home, "daily")["daily"]:
        for model in day["modelBreakdowns"]:
            known = found.get(model["modelName"], (0, 0, 0, 0))
            found[model["modelName"]] = tuple(a + b for a, b in zip(known, theirs(model), strict=True))  # type: ignore[assignment]
    return found


def by(keeper: Keeper, what: UsageBy) -> dict[str, Four]:
    return {row.key: ours(row) for row in keeper.usage(what).rows}


@needs("claude")
@once_more()
@pytest.mark.timeout(200)
async def test_real_transcripts_of_claude_add_up_to_the_same(tmp_path: Path) -> None:
    with KINDS["claude"].serve() as standin:
        desk = Desk("claude", tmp_path, standin)
        desk.work("count to 3", "run echo hi there", "delegate count to 4", "fail with 400", "count to 6")
        desk.fork("count to 5")
    async with keeping(tmp_path, {"CLAUDE_CONFIG_DIR": str(desk.home)}) as keeper:
        await keeper.caught_up()
        assert by(keeper, UsageBy.MODEL) == of_models(desk.home)
        days = {day["date"]: theirs(day) for day in ccusage(desk.home, "daily")["daily"]}
        assert by(keeper, UsageBy.DAY) == days
        blocks = [block for block in ccusage(desk.home, "blocks")["blocks"] if not block["isGap"]]
        found = {row.key: row.calls for row in keeper.usage(UsageBy.BLOCK).rows}
        assert found == {block["startTime"]: block["entries"] for block in blocks}
        assert len(desk.standin.billed) == keeper.usage(UsageBy.MODEL).total.calls


async def test_repeats_sub_agents_and_forks_add_up_to_the_same_and_cost_the_same(keeper: Keeper) -> None:
    main, fork = file_of(keeper.home, "a-main"), file_of(keeper.home, "b-fork")
    models = ("claude-opus-4-5-20251101", "claude-sonnet-4-5-20250929", "claude-haiku-4-5-20251001")
    for number in range(60):
        whole: Counts = (number, 10 * number + 2, 30 * number, 20 * number, 1000 * number)
        lines = [
            answer(number, session="a-main", model=models[number % 3], counts=counts)
            for counts in ((whole[0], 1, *whole[2:]), whole, whole)
        ]
        append(main, *lines[number % 3 :])
        if number % 4 == 0:
            append(fork, answer(number, session="b-fork", model=models[number % 3], counts=whole))
    side = main.with_suffix("") / "subagents"
    side.mkdir(parents=True)
    append(side / "agent-1.jsonl", answer(99, session="a-main", model=models[0], isSidechain=True, agentId="1"))
    await keeper.caught_up()
    totals = ccusage(keeper.home, "daily")["totals"]
    mine = keeper.usage(UsageBy.MODEL).total
    assert by(keeper, UsageBy.MODEL) == of_models(keeper.home)
    assert mine.cost_usd == pytest.approx(totals["totalCost"], abs=1e-9)
    assert mine.unpriced_calls == 0


async def test_blocks_begin_where_theirs_do(keeper: Keeper) -> None:
    hours = (0.0, 1.5, 4.9, 5.1, 5.2, 10.4, 16.0, 16.0, 21.01, 21.02, 40.0)
    append(file_of(keeper.home, "s1"), *(answer(n, at=BEGAN + timedelta(hours=each)) for n, each in enumerate(hours)))
    await keeper.caught_up()
    blocks = [block for block in ccusage(keeper.home, "blocks")["blocks"] if not block["isGap"]]
    found = {row.key: row.calls for row in keeper.usage(UsageBy.BLOCK).rows}
    assert found == {block["startTime"]: block["entries"] for block in blocks}


async def test_where_no_line_has_all_maxima_we_count_more(keeper: Keeper) -> None:
    append(file_of(keeper.home, "s1"), answer(1, counts=(50, 1, 0, 0, 0)), answer(1, counts=(2, 40, 0, 0, 0)))
    await keeper.caught_up()
    assert by(keeper, UsageBy.DAY) == {"2031-01-02": (50, 40, 0, 0)}
    assert theirs(ccusage(keeper.home, "daily")["totals"]) == (50, 1, 0, 0)


async def test_one_answer_under_two_requests_is_one(keeper: Keeper) -> None:
    append(file_of(keeper.home, "s1"), answer(1), answer(1, requestId="req_other"))
    await keeper.caught_up()
    assert keeper.usage(UsageBy.MODEL).total.calls == 1
    assert theirs(ccusage(keeper.home, "daily")["totals"]) == (2, 4, 14, 10)


async def test_a_fork_that_sorts_first_gets_nothing_of_its_parents(keeper: Keeper) -> None:
    append(file_of(keeper.home, "parent"), answer(1, session="parent"))
    append(file_of(keeper.home, "a-fork"), answer(1, session="a-fork", forkedFrom={"sessionId": "parent"}))
    await keeper.caught_up()
    assert list(by(keeper, UsageBy.SESSION)) == ["parent"]
    assert [row["sessionId"] for row in ccusage(keeper.home, "session")["sessions"]] == ["a-fork"]


async def test_a_model_without_a_price_is_counted_as_such(keeper: Keeper) -> None:
    append(file_of(keeper.home, "s1"), answer(1, model="strange"))
    await keeper.caught_up()
    assert keeper.usage(UsageBy.MODEL).total.unpriced_calls == 1
    assert ccusage(keeper.home, "daily")["totals"]["totalCost"] == 0
