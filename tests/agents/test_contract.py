"""What every agent must keep to, whichever CLI it is: the welcome of a new row of AGENTS."""

import signal
from pathlib import Path

import pytest
from msgspec.structs import replace

from stratavore import errors
from stratavore.agents import AGENTS, PARENT_MARKERS, Agent, Plain, Start, Traces, find_program
from stratavore.agents.agent import LONGEST_ARGUMENT_BYTES

every_agent = pytest.mark.parametrize("agent", AGENTS.values(), ids=list(AGENTS))
prompted_agent = pytest.mark.parametrize(
    "agent", [pytest.param(agent, id=name) for name, agent in AGENTS.items() if agent.is_prompted]
)


@pytest.fixture
def start(tmp_path: Path) -> Start:
    env = {"HOME": str(tmp_path / "home"), "PATH": str(tmp_path / "bin"), "SHELL": "/bin/sh"}
    return Start(name="fix-the-build", cwd=str(tmp_path), runner_dir=tmp_path / "runner", env=env)


@every_agent
def test_its_row_bears_its_name(agent: Agent) -> None:
    assert AGENTS[agent.name] is agent
    assert agent.remedy


@every_agent
def test_it_is_launched_by_its_own_program_or_the_shell(agent: Agent, start: Start) -> None:
    launch = agent.launch(start)
    assert launch.argv[0] == (agent.program or "/bin/sh")
    assert all(isinstance(argument, str) for argument in launch.argv)


@every_agent
def test_a_profile_replaces_its_program_and_adds_to_its_environment(agent: Agent, start: Start) -> None:
    profile = Plain(argv=("nice", "-n5", "thing"), env={"KEY": "value"})
    launch = agent.launch(replace(start, profile=profile))
    assert launch.argv[:3] == ("nice", "-n5", "thing")
    assert launch.env["KEY"] == "value"


@prompted_agent
def test_a_profile_moves_its_account_directory(agent: Agent, start: Start, tmp_path: Path) -> None:
    """`~` is the runner's HOME, which need not be ours."""
    launch = agent.launch(replace(start, profile=Plain(home="~/.work")))
    assert launch.env[agent.home_variable] == f"{start.env['HOME']}/.work"


@prompted_agent
def test_a_profile_names_the_model(agent: Agent, start: Start) -> None:
    assert "the-model" in agent.launch(replace(start, profile=Plain(model="the-model"))).argv


@every_agent
def test_it_gives_a_runner_no_parent_marker(agent: Agent, start: Start) -> None:
    assert not PARENT_MARKERS & set(agent.launch(start).env)


@every_agent
def test_what_stood_after_the_dashes_is_passed_verbatim(agent: Agent, start: Start) -> None:
    extra = ("--option", "a b", "--tools=x y", "")
    argv = agent.launch(replace(start, extra=extra)).argv
    assert any(argv[i : i + len(extra)] == extra for i in range(len(argv)))


@prompted_agent
@pytest.mark.parametrize("prompt", ["fix it", "--not an option", "", 'with "quotes"\nand lines'])
def test_the_first_prompt_is_one_argument_or_one_file(agent: Agent, start: Start, prompt: str) -> None:
    for tty in (True, False):
        launch = agent.launch(replace(start, prompt=prompt, tty=tty, extra=("--last-option",)))
        places = [*launch.argv, *launch.files.values()]
        assert sum(place.partition("=")[2] == prompt or place == prompt for place in places) >= 1
        if prompt.startswith("-") and prompt in launch.argv:
            assert launch.argv[launch.argv.index(prompt) - 1] == "--"


@prompted_agent
def test_the_first_prompt_is_not_typed_into_a_restarted_terminal(agent: Agent, start: Start) -> None:
    launch = agent.launch(replace(start, prompt="only once", is_restart=True, prompt_taken=True))
    assert not any("only once" in argument for argument in launch.argv)


@prompted_agent
def test_without_a_terminal_it_needs_a_prompt(agent: Agent, start: Start) -> None:
    with pytest.raises(errors.Invalid, match="prompt"):
        agent.launch(replace(start, tty=False))


@prompted_agent
@pytest.mark.parametrize("prompt", ["x" * (LONGEST_ARGUMENT_BYTES + 1), "a\0b"], ids=["too long", "NUL"])
def test_a_prompt_that_no_argument_can_hold_is_refused(agent: Agent, start: Start, prompt: str) -> None:
    with pytest.raises(errors.Invalid):
        agent.launch(replace(start, prompt=prompt))


@every_agent
def test_its_files_stay_in_the_runners_directory(agent: Agent, start: Start) -> None:
    for name in agent.launch(replace(start, prompt="go" if agent.is_prompted else None)).files:
        assert Path(name).name == name


@every_agent
def test_a_conversation_that_was_never_begun_is_not_resumed(agent: Agent, start: Start) -> None:
    """A first start and one whose transcript is not there look alike."""
    session_id = agent.new_session_id() or "unheard-of"
    begun = replace(start, session_id=session_id)
    assert not agent.can_resume(begun)
    launch = agent.launch(replace(begun, is_restart=True))
    assert launch == agent.launch(begun)
    assert not {"resume", "--resume", "--session"} & set(launch.argv)
    assert launch.session_id == (session_id if agent.new_session_id() else None)


@every_agent
def test_nothing_is_known_of_a_run_that_left_no_traces(agent: Agent, start: Start) -> None:
    assert agent.live([(2**22 + 1, 1)], start) is None
    assert agent.find_session(start, Traces(since=0.0)) is None


@every_agent
@pytest.mark.parametrize("tty", [True, False])
def test_a_stop_signals_and_waits_as_long_as_the_grace(agent: Agent, *, tty: bool) -> None:
    steps = agent.stop_steps(("program",), tty=tty, grace_seconds=7.0)
    assert sum(step.wait_seconds for step in steps) == 7.0
    assert all(step.keys or step.signal for step in steps)
    assert signal.SIGKILL not in [step.signal for step in steps]


@every_agent
def test_an_exit_code_other_than_zero_is_no_success(agent: Agent) -> None:
    for tty in (True, False):
        assert agent.succeeded(0, tty=tty, output_tail="")
        assert not agent.succeeded(1, tty=tty, output_tail="")


@every_agent
def test_a_missing_program_is_found_missing(agent: Agent, start: Start) -> None:
    launch = agent.launch(replace(start, profile=Plain(argv=("no-such-program",))))
    assert find_program(start, launch) is None


@every_agent
def test_a_program_is_found_by_the_path_of_the_runner(agent: Agent, start: Start, tmp_path: Path) -> None:
    program = tmp_path / "bin" / "thing"
    program.parent.mkdir()
    program.write_text("#!/bin/sh\n")
    program.chmod(0o755)
    profile = Plain(argv=("thing",))
    assert find_program(start, agent.launch(replace(start, profile=profile))) == str(program)
    if agent.is_prompted:
        headless = agent.launch(replace(start, profile=profile, tty=False, prompt="go"))
        assert find_program(start, headless) == str(program)
