"""The verbs that type: into a real terminal, as a person would."""

import asyncio
import os
import signal
from pathlib import Path

import pytest

from stratavore.activity import Source
from stratavore.errors import Conflict, Invalid, NotFound
from stratavore.model import Activity, Sent
from tests.house import ME, House, living, quick, together, until

ECHO = "stty raw -echo; echo ready; exec od -An -v -tx1 -w1"
"""Prints each byte that it gets, in hexadecimal, a line each."""


async def typed(house: House, *expected: int, text: str | None = None, **fields: object) -> None:
    """Send it to a program that prints what it gets, and see these bytes there."""
    runner = await house.running("p", ECHO)
    await house.says(runner, "ready")
    sent = await house.ask("send_input", runner.id, text=text, **fields)
    assert isinstance(sent, Sent)
    assert sent.taken is None, "a shell does not tell whether it took it"
    printed = "".join(f" {byte:02x}\n" for byte in expected)
    await house.says(runner, printed)


@together
async def test_a_text_is_typed_and_submitted_by_a_key_of_its_own(shared: House) -> None:
    await typed(shared, 0x68, 0x69, 0x0D, text="hi")


@together
async def test_or_only_typed(shared: House) -> None:
    await typed(shared, 0x68, 0x69, 0x1B, text="hi", submit=False, keys=["esc"])


@together
async def test_keys_have_names(shared: House) -> None:
    await typed(shared, 0x03, 0x0D, 0x1B, 0x5B, 0x41, keys=["ctrl-c", "enter", "up"])


@together
async def test_a_text_presses_no_key(shared: House) -> None:
    await typed(shared, 0x61, 0x62, 0x0D, text="a\x03\x1b\x7fb")


@together
async def test_where_the_program_asked_for_brackets_it_is_pasted(shared: House) -> None:
    runner = await shared.running("p", f"printf '\\033[?2004h'; {ECHO}")
    await shared.says(runner, "ready")
    await shared.ask("send_input", runner.id, text="x\ny")
    await shared.says(runner, " 1b\n 5b\n 32\n 30\n 30\n 7e\n 78\n 0a\n 79\n 1b\n 5b\n 32\n 30\n 31\n 7e\n 0d\n")


@together
async def test_to_interrupt_is_to_press_the_key_and_no_signal(shared: House) -> None:
    runner = await shared.running("p", ECHO)
    await shared.says(runner, "ready")
    await shared.ask("interrupt_runner", runner.id)
    await shared.says(runner, " 03\n")
    assert (await shared.get(runner.id)).state == "running"


@together
async def test_who_interrupted_a_run_that_ended_of_it_is_told(shared: House) -> None:
    for script, reason, how in (
        ("echo ready; exec sleep 1000", "signaled", "signal 2"),
        ("trap 'exit 130' INT; echo ready; sleep 1000", "exited", "exit code 130"),
    ):
        runner = await shared.running("p", script)
        await shared.says(runner, "ready")
        await shared.ask("interrupt_runner", runner.id)
        ended = await shared.ended(runner.id)
        assert (ended.end_reason, ended.end_detail) == (reason, f"{how}, interrupted by {ME}")
    of_a_stranger = await shared.running("p")
    assert of_a_stranger.pid is not None
    os.kill(of_a_stranger.pid, signal.SIGINT)
    assert (await shared.ended(of_a_stranger.id)).end_detail == "signal 2, sent by nobody we know"


@together
async def test_what_was_typed_is_told_by_its_size_and_not_by_its_words(shared: House) -> None:
    runner = await shared.running("p", "cat > /dev/null")
    await shared.ask("send_input", runner.id, text="my secret")
    event = shared.events_of(runner.id)[-1]
    assert event.type == "runner.input_sent"
    assert event.payload["bytes"] == len("my secret\r")
    assert "secret" not in str(event.payload)


@together
async def test_only_what_runs_can_be_typed_to(shared: House) -> None:
    ended = await shared.launch("p", "exit 0")
    await shared.over(ended.id)
    paused = await shared.running("p")
    await shared.ask("pause_runners", paused.id)
    await shared.reaches(paused.id, "paused")
    for runner, state in ((ended, "terminated"), (paused, "paused")):
        for verb, fields in (("send_input", {"text": "x"}), ("interrupt_runner", {})):
            with pytest.raises(Conflict, match=f"{runner.name} is {state}"):
                await shared.ask(verb, runner.id, **fields)
    with pytest.raises(NotFound):
        await shared.ask("send_input", "ghost", text="x")


@together
async def test_only_what_has_a_terminal_can_be_typed_to(shared: House) -> None:
    runner = await shared.running("p", tty=False)
    with pytest.raises(Conflict, match="no terminal"):
        await shared.ask("send_input", runner.id, text="x")
    with pytest.raises(Conflict, match="no terminal"):
        await shared.ask("interrupt_runner", runner.id)


@together
@pytest.mark.parametrize(
    ("fields", "complaint"),
    [
        ({}, "nothing to send"),
        ({"text": "", "submit": False}, "nothing to send"),
        ({"keys": ["hyperspace"]}, "there is no key 'hyperspace'"),
    ],
)
async def test_what_means_nothing_is_refused(shared: House, fields: dict[str, object], complaint: str) -> None:
    runner = await shared.running("p")
    with pytest.raises(Invalid, match=complaint):
        await shared.ask("send_input", runner.id, **fields)


@pytest.mark.parametrize(
    ("agent", "asks"),
    [
        ("gemini", "Do you trust the files in this folder?"),
        ("gemini", "Allow execution of: rm"),
        ("codex", "Choose how you want to use Codex. Press enter"),
    ],
)
async def test_no_text_answers_a_dialog_but_a_key_may(tmp_path: Path, agent: str, asks: str) -> None:
    """An Enter behind the text would choose what stands first there: to trust, to allow."""
    profile = {"agent": agent, "argv": ("sh", "-c", f"printf '%s\\n' '{asks}'; {ECHO}")}
    async with living(tmp_path / "state", quick(agents={"asking": profile})) as house:
        await house.project("p", agent="asking")
        runner = await house.running("p", argv=[])
        await house.says(runner, "ready")
        with pytest.raises(Conflict, match=rf"your text would answer it: {asks[:20]}") as refusal:
            await house.ask("send_input", runner.id, text="hello")
        assert f"stratavore attach {runner.name}" in refusal.value.remedy
        await house.ask("send_input", runner.id, keys=["enter"])
        await house.says(runner, " 0d\n")
        assert b" 68\n" not in house.output(runner)


async def test_after_a_failed_turn_a_text_is_taken_and_none_while_a_permission_is_asked_for(tmp_path: Path) -> None:
    profile = {"agent": "opencode", "argv": ("sh", "-c", ECHO)}
    async with living(tmp_path / "state", quick(agents={"failing": profile})) as house:
        await house.project("p", agent="failing")
        runner, board = await house.running("p", argv=[]), house.context.activity
        await house.says(runner, "ready")
        await until(lambda: runner.id in board.runs())
        for source, activity in (
            (Source.RECORDS, Activity.WAITING_INPUT),
            (Source.HOOK, Activity.WAITING_PERMISSION),
        ):
            board.say(runner.id, source, activity, "its words", house.context.clock.now())
            await until(lambda activity=activity: board.of(runner.id).activity is activity)  # type: ignore[misc]
            if activity is Activity.WAITING_INPUT:
                await house.ask("send_input", runner.id, text="h")
                await house.says(runner, " 68\n")
            else:
                with pytest.raises(Conflict, match="its words"):
                    await house.ask("send_input", runner.id, text="h")


@together
async def test_a_program_that_reads_nothing_says_so_in_the_end(shared: House) -> None:
    """A full terminal refuses; nobody waits for it for ever, and the runner is as it was."""
    runner = await shared.running("p", "stty raw -echo; echo ready; exec sleep 1000")
    await shared.says(runner, "ready")
    asked = [shared.ask("send_input", runner.id, text="x" * 800_000) for _ in range(2)]
    answers = asyncio.gather(*asked)
    with pytest.raises(Conflict, match="took no input"):
        await asyncio.wait_for(answers, 20)
    assert (await shared.get(runner.id)).state == "running"
