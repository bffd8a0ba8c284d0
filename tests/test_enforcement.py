"""The ladder on living runners, and who is let in."""

import asyncio
import os
import signal
from pathlib import Path
from typing import Any

import pytest

from stratavore import verdicts
from stratavore.clock import SystemClock
from stratavore.enforcement import Enforcement
from stratavore.errors import BudgetExceeded, Corrupt, UnpricedModel
from stratavore.hook import VERDICT
from stratavore.model import Budget, Desired, EndReason, Launched, Runner
from stratavore.store import budgets
from stratavore.store.usage import Charge
from tests.house import House, living, quick, until

SLEEPER = ["sh", "-c", "exec sleep 1000", "agent"]
AGENTS = {
    "hooked": {"agent": "claude", "argv": SLEEPER},
    "plain": {"agent": "codex", "argv": SLEEPER},
    "deaf": {"agent": "opencode", "argv": SLEEPER},
    "named": {"agent": "claude", "argv": SLEEPER, "model": "nobody-knows-1"},
}


class AfterTheGrace(SystemClock):
    """The clock by which a grace of five minutes is over."""

    def boottime(self) -> float:
        return super().boottime() + 301


def config(**budgets_section: Any) -> Any:
    return quick(agents=AGENTS, budgets={"timezone": "UTC", "stop_grace": 0.3, **budgets_section})


async def put(house: House, **fields: Any) -> Budget:
    given = {"scope": "global", "period": "daily", "tokens": 1000, **fields}
    budget: Budget = await house.ask("set_budget", **given)
    return budget


async def launch(house: House, agent: str = "hooked", **fields: Any) -> Runner:
    answer = await house.ask("launch", project="p", agent=agent, **fields)
    assert isinstance(answer, Launched)
    return await house.reaches(answer.runners[0].id, "running")


async def use(house: House, runner: Runner, tokens: int, *, priced: bool = True) -> None:
    """What the ledger does when a file tells of a call."""
    now = house.context.clock.now()
    project = house.context.rows.scalar("SELECT project_id FROM runners WHERE id = ?", (runner.id,))
    call = Charge(runner.id, project, "claude", "m\x1b[2J", now, tokens, tokens * 10**6 * priced, priced)
    await house.context.write(lambda tx: budgets.charge(tx, [call], now=now))
    await house.wish(
        "INSERT INTO usage SELECT 'claude', hex(randomblob(8)), NULL, ?, ?, ?, ?, ?, 0, 0, 0, 0, ?, NULL, NULL,"
        " 'transcript', 'f', 0",
        *(runner.id, project, now.isoformat(timespec="milliseconds").replace("+00:00", "Z"), call.model, tokens),
        call.nano_usd if priced else None,
    )
    await house.wish(
        "INSERT INTO runner_usage (runner_id, calls, tokens, unpriced_calls) VALUES (?1, 1, ?2, ?3)"
        " ON CONFLICT DO UPDATE SET unpriced_calls = unpriced_calls + ?3",
        runner.id, tokens, int(not priced),
    )  # fmt: skip
    house.daemon.judge()


async def blocked(house: House, runner: Runner) -> str:
    """The reason that its hooks answer with, once they do."""
    await until(lambda: verdicts.read(house.paths, runner.id) is not None)
    return str(verdicts.read(house.paths, runner.id))


async def free(house: House, runner: Runner) -> None:
    await until(
        lambda: verdicts.read(house.paths, runner.id) is None and not house.context.rows.all("SELECT 1 FROM blocks")
    )


async def test_who_has_used_it_up_is_blocked_and_goes_on_once_it_is_more(tmp_path: Path) -> None:
    async with living(tmp_path / "state", config()) as house:
        await house.project("p")
        one, other = await launch(house), await launch(house, "plain")
        budget = await put(house)
        await use(house, one, 999)
        assert (await house.get(one.id)).blocked is None
        await use(house, one, 1)
        reason = await blocked(house, one)
        assert "the daily budget of everything, 1,000 tokens, is used up. It resets at 20" in reason
        assert f"`stratavore budget extend {budget.id} --tokens 500k`" in reason
        assert reason == f"Stratavore: {(await house.get(one.id)).blocked}"
        assert (await house.get(one.id)).state == "running", "block never ends it"
        assert (await house.get(other.id)).blocked is None, "nothing can hold it"
        shown = await house.ask("get_budget", str(budget.id))
        assert (shown.blocked, shown.exceeded) == ([one.name], True)
        assert (await house.ask("extend_budget", str(budget.id), tokens=1)).blocked == []
        assert verdicts.read(house.paths, one.id) is None, "what is answered is so already"
        await use(house, one, 1)
        await blocked(house, one)
        await house.ask("remove_budget", str(budget.id))
        assert verdicts.read(house.paths, one.id) is None
        assert (await house.get(one.id)).blocked is None
        assert (await put(house, tokens=1)).blocked == [one.name]
        told = [name for name in house.told(one.id) if "block" in name]
        assert told == ["runner.blocked", "runner.unblocked", "runner.blocked", "runner.unblocked", "runner.blocked"]
        assert house.told(other.id).count("runner.cannot_be_blocked") == 3
        event = next(event for event in house.events_of(one.id) if event.type == "runner.blocked")
        assert (event.payload["budget"], f"Stratavore: {event.payload['why']}") == (budget.id, reason)


async def test_a_run_begins_free_of_what_held_the_one_before(tmp_path: Path) -> None:
    async with living(tmp_path / "state", config()) as house:
        await house.project("p")
        budget = await put(house)
        runner = await launch(house)
        await use(house, runner, 1000)
        await blocked(house, runner)
        await house.ask("stop_runners", runner.id)
        await house.over(runner.id)
        await house.ask("remove_budget", str(budget.id))
        await house.ask("restart_runners", runner.id)
        await house.reaches(runner.id, "running", run=2)
        await free(house, runner)


@pytest.mark.parametrize("agent", ["hooked", "plain"])
async def test_where_stop_was_said_a_run_is_ended_a_grace_later(tmp_path: Path, agent: str) -> None:
    async with living(tmp_path / "state", config()) as house:
        await house.project("p")
        runner = await launch(house, agent, restart_policy="always")
        await put(house, scope="runner", name=runner.name, on_exceeded="stop")
        await use(house, runner, 5000)
        ended = await house.over(runner.id)
        assert (ended.end_reason, ended.desired, ended.run) == (EndReason.BUDGET, Desired.STOPPED, 1)
        told = [name for name in house.told(runner.id) if name not in ("runner.launched", "runner.started")]
        rungs = ["runner.blocked"] if agent == "hooked" else []
        assert told == [*rungs, "runner.stop_asked", "runner.held_to_budget", "runner.stopped"]


async def test_an_extension_in_the_grace_saves_it(tmp_path: Path) -> None:
    async with living(tmp_path / "state", config(stop_grace=300.0)) as house:
        await house.project("p")
        saved, other = await launch(house), await launch(house)
        budget, _ = [await put(house, scope="runner", name=each.name, on_exceeded="stop") for each in (saved, other)]
        for each in (saved, other):
            await use(house, each, 1000)
            await blocked(house, each)
        await house.ask("extend_budget", str(budget.id), tokens=500)
        await until(lambda: verdicts.read(house.paths, saved.id) is None)
        await Enforcement(house.context._replace(clock=AfterTheGrace())).judge()
        assert "runner.held_to_budget" in house.told(other.id)
        assert (await house.get(saved.id)).desired is Desired.RUNNING


async def test_a_warning_holds_nobody(tmp_path: Path) -> None:
    async with living(tmp_path / "state", config()) as house:
        await house.project("p")
        runner = await launch(house)
        budget = await put(house, on_exceeded="warn")
        await use(house, runner, 5000)
        assert house.daemon.enforcement is not None
        await house.daemon.enforcement.judge()
        assert (await house.get(runner.id)).blocked is None
        assert [event.type for event in house.events_of(str(budget.id))][-1] == "budget.exceeded"


async def test_an_agent_that_reads_no_verdict_has_none(tmp_path: Path) -> None:
    async with living(tmp_path / "state", config()) as house:
        await house.project("p")
        hooked, deaf = await launch(house), await launch(house, "deaf", tty=False, prompt="hello")
        assert (house.paths.runner(hooked.id) / VERDICT).exists()
        assert list(house.paths.runner(deaf.id).iterdir()), "it has files of its own"
        assert not (house.paths.runner(deaf.id) / VERDICT).exists()


async def test_after_a_crash_verdicts_agree_with_what_is_booked(tmp_path: Path) -> None:
    async with living(tmp_path / "state", config()) as house:
        await house.project("p")
        one, other = await launch(house), await launch(house)
        await put(house, scope="runner", name=one.name)
        await use(house, one, 1000)
        reason = await blocked(house, one)
        await house.stop()
        verdicts.write(house.paths, one.id, None)
        verdicts.write(house.paths, other.id, "left behind")
        await house.start()
        assert await blocked(house, one) == reason
        await until(lambda: verdicts.read(house.paths, other.id) is None)


async def test_the_next_period_lifts_it_by_itself(tmp_path: Path) -> None:
    async with living(tmp_path / "state", config()) as house:
        await house.project("p")
        runner = await launch(house)
        budget = await put(house, period="hourly")
        await use(house, runner, 1000)
        await blocked(house, runner)
        past = "2001-01-01T00:00:00.000Z"
        soon = "strftime('%Y-%m-%dT%H:%M:%fZ', 'now', '+0.5 seconds')"
        await house.wish(
            f"UPDATE budget_periods SET starts_at = ?, ends_at = {soon} WHERE budget_id = ?", past, budget.id
        )
        house.daemon.judge()
        await free(house, runner)
        assert house.told(runner.id)[-1] == "runner.unblocked"
        assert not (await house.ask("get_budget", str(budget.id))).exceeded


async def test_a_call_of_an_unpriced_model_blocks_under_a_budget_of_money(tmp_path: Path) -> None:
    async with living(tmp_path / "state", config()) as house:
        await house.project("p")
        runner, allowed = await launch(house), await launch(house, allow_unpriced=True)
        await put(house, tokens=None, usd=100.0)
        await use(house, allowed, 5, priced=False)
        await use(house, runner, 5, priced=False)
        reason = await blocked(house, runner)
        assert "cannot bound the model m[2J, which has no price" in reason
        assert (await house.get(allowed.id)).blocked is None


async def test_a_named_model_without_a_price_is_refused_under_a_budget_of_money(tmp_path: Path) -> None:
    async with living(tmp_path / "state", config()) as house:
        await house.project("p")
        await launch(house, "named")
        budget = await put(house, tokens=None, usd=100.0)
        with pytest.raises(UnpricedModel, match="cannot bound nobody-knows-1"):
            await launch(house, "named")
        for argv in (["--model", "nobody-knows-2"], ["--model=nobody-knows-2"]):
            with pytest.raises(UnpricedModel, match="nobody-knows-2"):
                await launch(house, argv=argv)
        await launch(house, argv=["--model", "opus"])
        await launch(house, argv=["--model", "claude-opus-4-5"])
        await launch(house, "named", allow_unpriced=True)
        await house.ask("remove_budget", str(budget.id))
        await launch(house, "named")
        assert "project.launch_refused" in [event.type for event in house.events_of("p")]


async def test_turns_are_calls_of_the_model_in_one_run(tmp_path: Path) -> None:
    async with living(tmp_path / "state", config()) as house:
        await house.project("p")
        runner = await launch(house, max_turns=2)
        await use(house, runner, 1)
        assert (await house.get(runner.id)).blocked is None
        await use(house, runner, 1)
        assert "was given 2 turns" in await blocked(house, runner)
        explained = await house.ask("explain_runner", runner.id)
        assert explained.next == f"it stays held back; `stratavore restart {runner.name}` gives it new turns"
        await house.ask("restart_runners", runner.id)
        await house.reaches(runner.id, "running", run=2)
        await free(house, runner)


async def test_before_a_budget_ends_a_run_that_is_told_and_no_text_is_typed_into_it(tmp_path: Path) -> None:
    async with living(tmp_path / "state", config(stop_grace=300.0)) as house:
        await house.project("p")
        runner = await launch(house, budget_tokens=500, on_exceeded="stop")
        [own] = await house.ask("list_budgets")
        await use(house, runner, 500)
        await blocked(house, runner)
        told = (await house.ask("explain_runner", runner.id)).next
        assert told.startswith("it is stopped at 20")
        assert f"; `stratavore budget extend {own.id} --tokens 500k` lets it go on, if" in told
        sent = await house.ask("send_input", runner.id, text="go on")  # it has not even come to its prompt
        assert (sent.taken, "is held back: " in sent.detail) == (False, True)
        assert "runner.input_sent" not in house.told(runner.id)


async def test_a_runs_own_budget_is_whole_again_at_each_run(tmp_path: Path) -> None:
    async with living(tmp_path / "state", config(estimate_tokens=10**9)) as house:
        await house.project("p")
        runner = await launch(house, budget_tokens=500)
        [own] = await house.ask("list_budgets")
        assert (own.scope, own.name, own.period, own.reserved_tokens) == ("runner", runner.name, "run", 500)
        await use(house, runner, 500)
        assert "the run budget of runner" in await blocked(house, runner)
        await house.ask("restart_runners", runner.id)
        await house.reaches(runner.id, "running", run=2)
        await free(house, runner)
        [own] = await house.ask("list_budgets")
        assert (own.used_tokens, own.reserved_tokens, own.exceeded) == (0, 500, False)
        assert [each.used_tokens for each in await house.ask("list_budget_history", str(own.id))] == [0, 500]


async def test_a_launch_holds_what_it_will_use_until_it_has_used_it_or_ended(tmp_path: Path) -> None:
    async with living(tmp_path / "state", config(estimate_tokens=400)) as house:
        await house.project("p", max_runners=20)
        budget = await put(house)
        one, two = await launch(house), await launch(house)
        with pytest.raises(BudgetExceeded, match="0 tokens are used, 800 tokens reserved, 400 tokens more"):
            await launch(house)
        assert house.slots("p") == 2
        assert len(list(house.paths.environments.iterdir())) == 2
        await use(house, one, 100)
        shown = await house.ask("get_budget", str(budget.id))
        assert (shown.used_tokens, shown.reserved_tokens) == (100, 700)
        await house.ask("kill_runners", one.id)
        await house.over(one.id)
        shown = await house.ask("get_budget", str(budget.id))
        assert (shown.used_tokens, shown.reserved_tokens) == (100, 400)
        await launch(house)
        assert "project.launch_refused" in [event.type for event in house.events_of("p")]
        await house.ask("kill_runners", two.id)


async def test_partly_as_many_as_there_is_money_for(tmp_path: Path) -> None:
    async with living(tmp_path / "state", config(estimate_tokens=400)) as house:
        await house.project("p", max_runners=20)
        await put(house)
        with pytest.raises(BudgetExceeded, match="of 5 runs"):
            await house.ask("launch", project="p", agent="hooked", count=5)
        answer = await house.ask("launch", project="p", agent="hooked", count=5, partial=True)
        assert (len(answer.runners), answer.refused, house.slots("p")) == (2, 3, 2)
        with pytest.raises(BudgetExceeded):
            await house.ask("launch", project="p", agent="hooked", count=5, partial=True)
        await house.reaches(answer.runners[0].id, "running")
        await house.reaches(answer.runners[1].id, "running")


async def test_what_nobody_can_measure_is_let_in(tmp_path: Path) -> None:
    async with living(tmp_path / "state", config(estimate_tokens=400)) as house:
        await house.project("p")
        budget = await put(house, tokens=1)
        runner = await house.running("p")
        shown = await house.ask("get_budget", str(budget.id))
        assert (shown.unmetered, shown.reserved_tokens) == ([runner.name], 0)
        plan = await house.plan("p", argv=["true"])
        assert (plan.unmetered, plan.refused) == (True, None)
        plan = await house.plan("p", agent="hooked")
        assert (plan.unmetered, plan.estimate_tokens, len(plan.budgets)) == (False, 400, 1)
        assert "budget of everything is 1 tokens" in str(plan.refused)


async def test_a_run_that_comes_back_by_itself_waits_for_room(tmp_path: Path) -> None:
    async with living(tmp_path / "state", config()) as house:
        await house.project("p")
        budget = await put(house)
        runner = await launch(house, restart_policy="always", max_restarts=9)
        await use(house, runner, 1000)
        await blocked(house, runner)
        assert runner.pid is not None
        os.kill(runner.pid, signal.SIGKILL)
        await until(lambda: "runner.waits_for_room" in house.told(runner.id))
        waiting = await house.get(runner.id)
        assert (waiting.state, waiting.run) == ("backoff", 1)
        assert "is 1,000 tokens" in str(waiting.blocked)
        assert house.slots("p") == 1
        await house.restart()
        await house.stays(lambda: "runner.relaunched" not in house.told(runner.id))
        await house.ask("extend_budget", str(budget.id), tokens=10)
        await house.stays(lambda: "runner.relaunched" not in house.told(runner.id))  # its last run used a thousand
        await house.ask("extend_budget", str(budget.id), tokens=1000)
        await house.reaches(runner.id, "running", run=2)
        assert (await house.get(runner.id)).blocked is None
        assert house.told(runner.id).count("runner.waits_for_room") == 1


async def test_a_restart_without_room_is_refused_before_anything_ends(tmp_path: Path) -> None:
    async with living(tmp_path / "state", config()) as house:
        await house.project("p")
        runner = await launch(house)
        await put(house)
        await use(house, runner, 1000)
        with pytest.raises(BudgetExceeded):
            await house.ask("restart_runners", runner.id)
        assert (await house.get(runner.id)).state == "running"
        assert house.told(runner.id)[-1] in ("runner.restart_refused", "runner.blocked")
        await house.ask("kill_runners", runner.id)
        await house.over(runner.id)
        with pytest.raises(BudgetExceeded):
            await house.ask("restart_runners", runner.id)
        assert not house.is_living(runner.id)


async def test_where_the_budgets_cannot_be_read_nothing_is_launched(tmp_path: Path) -> None:
    async with living(tmp_path / "state", config()) as house:
        await house.project("p")
        await put(house)
        await house.wish("UPDATE budgets SET warn = CAST(X'ff' AS TEXT)")  # what is damaged cannot be read as text
        with pytest.raises(Corrupt, match="is damaged"):
            await house.ask("launch", project="p", agent="hooked")
        assert house.context.rows.scalar("SELECT COUNT(*) FROM runners") == 0
        assert house.slots("p") == 0


async def test_the_median_of_past_runs_is_expected(tmp_path: Path) -> None:
    async with living(tmp_path / "state", config()) as house:
        await house.project("p", max_runners=20)
        for tokens in (100, 300, 10_000):
            runner = await launch(house)
            await use(house, runner, tokens)
            await house.ask("kill_runners", runner.id)
            await house.over(runner.id)
        plan = await house.plan("p", agent="hooked")
        assert (plan.estimate_tokens, plan.estimate_usd) == (300, 0.3)
        assert (await house.plan("p", agent="plain")).estimate_tokens == 0
        assert (await house.plan("p", agent="hooked", budget_tokens=50)).estimate_tokens == 50


@pytest.mark.parametrize("turns", range(4))
async def test_its_end_is_not_forgotten_over_something_to_judge(tmp_path: Path, turns: int) -> None:
    """Else a daemon that was asked to end goes on waiting for that, if somebody was blocked in the same moment."""
    async with living(tmp_path / "state", config()) as house:
        enforcement = Enforcement(house.context)
        running = asyncio.ensure_future(enforcement.run())
        await asyncio.sleep(0.3)
        enforcement.wake()
        for _ in range(turns):
            await asyncio.sleep(0)
        running.cancel()
        done, _ = await asyncio.wait([running], timeout=2)
        assert done
