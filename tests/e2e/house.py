"""One person's machine, in small: a HOME in which an agent is ready, a project, a model that answers, and Stratavore.

Everything is done through the command line, as a person does it; the daemon is a process of its own that the first
command starts. What the tests wait for they see from outside, too: in the agent's own files, in the log of the output,
in `/proc`.
"""

import json
import os
import re
import signal
import time
from collections.abc import Callable, Sequence
from contextlib import suppress
from pathlib import Path
from typing import TypeVar

from stratavore import control, process
from tests import programs
from tests.agents.bench import KINDS
from tests.agents.homes import seeded_home
from tests.cli.conftest import Cli, end_everything
from tests.standins.server import JSON, Standin

T = TypeVar("T")

PATIENCE_SECONDS = 90.0  # an agent that is a small browser needs half of it to begin on a busy machine
QUIET_SECONDS = 0.5

# So that a test need not wait a second for a restart.
_QUICK = {"STRATAVORE_RUNNERS_BACKOFF_FIRST": "200ms", "STRATAVORE_RUNNERS_BACKOFF_JITTER": "0"}


class House:
    """A project `demo` for one agent, and no daemon until the first command."""

    def __init__(self, agent: str, directory: Path, standin: Standin) -> None:
        programs.path(agent)  # says so if it is missing, where the test may not be skipped
        self.agent = agent
        self.standin = standin
        self.home = directory / "home"
        self.folder = directory / "project"
        self.folder.mkdir()
        self.seeds = seeded_home(agent, self.home, self.folder, standin.url)
        self.cli = Cli(directory / "state", {**self.seeds, **_QUICK, "TERM": "xterm-256color"})

    def launch(self, name: str, *argv: str) -> JSON:
        """A runner of the agent in the project; what of the environment no runner is given by itself, is named."""
        named = [word for key in self.seeds for word in ("--env", key)]
        launched = self.cli.json("launch", "demo", "--agent", self.agent, "--name", name, *named, *argv)
        [runner] = launched["runners"]
        return dict(runner)

    def at_prompt(self, name: str, *argv: str) -> JSON:
        """A runner that has come to its prompt, though nobody is attached."""
        runner = self.launch(name, *argv)
        self.until_prompt(runner)
        return runner

    def show(self, name: str) -> JSON:
        return dict(self.cli.json("show", name))

    def wait_for(self, name: str, is_so: Callable[[JSON], bool]) -> JSON:
        """The runner, as soon as this is true of it."""
        return until(lambda: [seen for seen in [self.show(name)] if is_so(seen)], f"{name} is so", look=0.1)[0]

    # What the agent shows and says

    def until_prompt(self, runner: JSON) -> None:
        """Return once it takes prompts: Claude says so in a file, the others show it."""
        if self.agent == "claude":
            self.until_status(runner, "idle")
            return
        self.until_on_screen(runner["name"], KINDS[self.agent].prompt_words)
        self._until_quiet(runner)

    def until_status(self, runner: JSON, *wanted: str) -> None:
        """Return once Claude's own state file says one of these."""
        until(lambda: self.said(runner).get("status") in wanted, f"claude is {' or '.join(wanted)}")

    def said(self, runner: JSON) -> JSON:
        """Claude's state file of the process; empty before it writes one."""
        with suppress(OSError, ValueError):
            return dict(json.loads((self.home / f".claude/sessions/{runner['pid']}.json").read_text()))
        return {}

    def screen(self, name: str) -> str:
        return self.cli("logs", "--screen", name).stdout

    def logs(self, name: str) -> str:
        return self.cli("logs", name).stdout

    def until_logged(self, name: str, words: str) -> str:
        """The readable log, once it has these words."""

        def look() -> list[str]:
            return [text for text in [self.logs(name)] if words in text]

        return until(look, f"{words!r} in logs", look=0.2, more=lambda: self.screen(name))[0]

    def ask(self, name: str, prompt: str, answer: str) -> None:
        """Send a prompt to an agent that does not tell whether it took it, and wait for the end of the answer.

        On a crowded machine Enter may come before it has drawn the paste, and is a line end to it then. So if the
        prompt stands there still, Enter is pressed again, as a person would.
        """
        assert self.cli.json("send", name, prompt)["taken"] is None
        with suppress(TimeoutError):
            until(lambda: answer in self.logs(name), "an answer at once", seconds=8, look=0.2)
            return
        if not self.heard_together(prompt):
            self.cli("send", name, "--key", "enter")
        self.until_logged(name, answer)

    def until_on_screen(self, name: str, words: str) -> None:
        until(
            lambda: words in self.screen(name),
            f"{words!r} on screen",
            look=0.7,
            more=lambda: self.screen(name),
        )

    def printed(self, runner: JSON) -> bytes:
        """The bytes that a run has printed so far."""
        return b"".join(path.read_bytes() for path in self._logs(runner))

    def until_printed(self, runner: JSON, word: str) -> None:
        until(lambda: word.encode() in self.printed(runner), f"{word!r} printed")

    def heard_together(self, *prompts: str) -> bool:
        """Whether the model was told all of these in one request: as one conversation."""
        bodies = [json.dumps(request.body) for request in self.standin.requests]
        return any(all(prompt in body for prompt in prompts) for body in bodies)

    # The daemon

    def kill_daemon(self) -> int:
        """SIGKILL; returns the pid that it had."""
        pid = int(self.cli.json("daemon", "status")["pid"])
        os.kill(pid, signal.SIGKILL)
        until(lambda: process.identify(pid) is None, "the daemon is dead")
        return pid

    def until_daemon(self, *, seconds: float = PATIENCE_SECONDS) -> int:
        """The pid of the daemon, once one answers; nothing here starts it."""
        until(lambda: control.daemon_version(self.cli.paths), "a daemon answers", seconds=seconds, look=0.05)
        return int(self.cli.json("daemon", "status")["pid"])

    def zygote(self) -> int:
        name = self.cli.paths.current_zygote.read_text().strip()
        return int((self.cli.paths.zygotes / name / "pid").read_text().split()[0])

    def close(self) -> None:
        """Leave no process behind, whatever the test did to the daemon."""
        end_everything(self.cli)
        mark = f"STRATAVORE_HOME={self.cli.home}".encode(), f"HOME={self.home}".encode()
        for entry in Path("/proc").iterdir():
            if entry.name.isdecimal() and int(entry.name) != os.getpid():
                with suppress(OSError):
                    if set(mark) & set((entry / "environ").read_bytes().split(b"\0")):
                        os.kill(int(entry.name), signal.SIGKILL)

    def _logs(self, runner: JSON) -> Sequence[Path]:
        return [path for path in self.cli.home.glob(f"logs/*/{runner['id']}.*") if path.suffix != ".idx"]

    def _until_quiet(self, runner: JSON) -> None:
        """What is typed while it still draws may be lost."""
        seen = (-1, 0.0)

        def is_quiet() -> bool:
            nonlocal seen
            size, now = len(self.printed(runner)), time.monotonic()
            if size != seen[0]:
                seen = (size, now)
            return now - seen[1] > QUIET_SECONDS

        with suppress(TimeoutError):  # Something always moves in some of them.
            until(is_quiet, "it draws no more", seconds=3)


def until(
    look_at: Callable[[], T],
    what: str,
    *,
    seconds: float = PATIENCE_SECONDS,
    look: float = 0.02,
    more: Callable[[], object] = str,
) -> T:
    """What `look_at` returned when that first was true; looked at every `look` seconds.

    Raises:
        TimeoutError: it did not come about in time; `more` tells what was there instead.
    """
    deadline = time.monotonic() + seconds
    while not (seen := look_at()):
        if time.monotonic() > deadline:
            raise TimeoutError(f"{what}: not within {seconds:.0f} s\n{more()}")
        time.sleep(look)
    return seen


def counted(text: str) -> list[int]:
    """The numbers of the words of `count to N` in a text, in order."""
    return [int(number) for number in re.findall(r"word-(\d+)", text)]
