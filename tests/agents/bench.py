"""One real agent CLI on the bench: its scratch HOME, its project, its stand-in, and our launch plan for it."""

import json
import signal
import subprocess
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path
from typing import Any, NamedTuple

import msgspec

from stratavore import process
from stratavore.agents import AGENTS, Agent, Launch, Process, Start, Traces, find_program
from tests import programs
from tests.agents.homes import seeded_home
from tests.agents.terminal import Terminal
from tests.standins import chat, gemini, messages, responses
from tests.standins.server import Standin


class Kind(NamedTuple):
    """What a test must know of an agent: its stand-in, the words at its empty prompt, how it ends when stopped."""

    serve: Callable[[], AbstractContextManager[Standin]]
    prompt_words: str
    exits_when_stopped: tuple[int, ...]


KINDS: Mapping[str, Kind] = {
    "claude": Kind(messages.serve, "❯", (143,)),
    "codex": Kind(responses.serve, "Ask Codex to do anything", (143, -signal.SIGTERM)),
    "gemini": Kind(gemini.serve, "Type your message", (0,)),
    "opencode": Kind(chat.serve, "ctrl+p commands", (0,)),
}


class Bench:
    """One runner of one agent, run after run."""

    def __init__(self, name: str, tmp_path: Path, standin: Standin) -> None:
        programs.path(name)  # says so if it is missing, where the test may not be skipped
        self.agent: Agent = AGENTS[name]
        self.kind = KINDS[name]
        self.standin = standin
        self.began = time.time()
        directories = tmp_path / "home", tmp_path / "project", tmp_path / "runner"
        for directory in directories:
            directory.mkdir()
        home, cwd, runner_dir = directories
        self.start = Start(
            name="bench",
            cwd=str(cwd),
            runner_dir=runner_dir,
            env=seeded_home(name, home, cwd, standin.url),
            session_id=self.agent.new_session_id(),
        )

    def plan(self, **changes: Any) -> Launch:
        """The launch of the next run, its files written; `changes` are fields of Start."""
        self.start = msgspec.structs.replace(self.start, **changes)
        launch = self.agent.launch(self.start)
        for name, content in launch.files.items():
            (self.start.runner_dir / name).write_text(content)
        assert find_program(self.start, launch) is not None
        return launch

    @contextmanager
    def at_prompt(self, **changes: Any) -> Iterator[Terminal]:
        """The agent at its prompt, in a terminal that nobody watches."""
        launch = self.plan(**changes)
        with Terminal(launch.argv, {**self.start.env, **launch.env}, Path(self.start.cwd)) as terminal:
            terminal.until_shown(self.kind.prompt_words)
            terminal.until_quiet(0.5)
            yield terminal

    def headless(self, **changes: Any) -> "subprocess.CompletedProcess[str]":
        """The agent without a terminal, run to its end."""
        launch = self.plan(tty=False, **changes)
        return subprocess.run(
            launch.argv,
            env={**self.start.env, **launch.env},
            cwd=self.start.cwd,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            timeout=90,
            check=False,
        )

    def say(self, terminal: Terminal, text: str) -> None:
        """Type a prompt as `send` does, but see it in the box first: a busy machine reads late, and both at once."""
        typing = self.agent.typing
        terminal.type(typing.clear + text.encode())
        terminal.until_shown(text)
        terminal.until_quiet(typing.pause_seconds, seconds=typing.pause_seconds)
        terminal.type(typing.enter)

    def stop(self, terminal: Terminal) -> int:
        """Stop it politely; the exit code it ended with."""
        for step in self.agent.stop_steps(("agent",), tty=True, grace_seconds=15):
            if step.signal:
                terminal.signal(signal.Signals(step.signal), group=step.to_group)
            terminal.wait(seconds=step.wait_seconds)
        return terminal.wait()

    def find_session(self, terminal: Terminal) -> str | None:
        """The conversation of the run in this terminal."""
        processes = tree(terminal.pid) if terminal.exit is None else ()
        output = terminal.output.decode(errors="replace")
        traces = Traces(since=self.began, processes=processes, output_tail=output)
        return self.agent.find_session(self.start, traces)

    def heard(self, *prompts: str) -> bool:
        """Whether the stand-in was told all of these in one request: as one conversation."""
        bodies = (json.dumps(request.body) for request in self.standin.requests)
        return any(all(json.dumps(prompt)[1:-1] in body for prompt in prompts) for body in bodies)


def tree(pid: int) -> tuple[Process, ...]:
    """The processes of the session that `pid` leads, itself first."""
    every = (int(entry.name) for entry in Path("/proc").iterdir() if entry.name.isdecimal())
    stats = ((each, process.stat(each)) for each in sorted(every, key=lambda each: each != pid))
    return tuple((each, stat.start_time) for each, stat in stats if stat is not None and stat.session == pid)
