"""Something that passes for Claude: a process that does nothing, its state file and its hooks written by the test."""

import asyncio
import json
import subprocess
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

from stratavore import process
from stratavore.config import Config
from stratavore.executable import hook_command
from stratavore.model import Runner
from tests.house import House, living, quick

SLEEPS = ("sh", "-c", "exec sleep 1000")


def config(account: Path, argv: Sequence[str] = SLEEPS, **sections: Any) -> Config:
    """The agent `still` is such a one; what Claude keeps of itself is below `account`."""
    profile = {"agent": "claude", "argv": argv, "home": str(account)}
    return quick(agents={"still": profile}, **sections)


@asynccontextmanager
async def living_with_claudes(directory: Path, **sections: Any) -> AsyncIterator[House]:
    """A daemon with a project `p` in which agents are such."""
    async with living(directory / "state", config(directory / "account", **sections)) as house:
        await house.project("p", agent="still", max_runners=100)
        yield house


class Claude:
    """One of them."""

    def __init__(self, house: House, runner: Runner) -> None:
        self.house, self.runner = house, runner
        assert runner.pid is not None
        self._account = Path(house.config.agents["still"].home)
        found = process.stat(runner.pid)
        assert found is not None
        self._start_time = found.start_time

    @classmethod
    async def launch(cls, house: House, **fields: Any) -> "Claude":
        return cls(house, await house.running("p", argv=[], **fields))

    def is_now(
        self, status: str, waiting_for: str = "", at: float | None = None, *, session_id: str | None = None
    ) -> None:
        """Its state file says so."""
        state: dict[str, Any] = {"pid": self.runner.pid, "procStart": str(self._start_time), "status": status}
        state |= {"waitingFor": waiting_for} if waiting_for else {}
        state |= {"statusUpdatedAt": at * 1000} if at else {}
        state |= {"sessionId": session_id} if session_id else {}
        file = self._account / "sessions" / f"{self.runner.pid}.json"
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(json.dumps(state))

    async def hook(self, event: str, *options: str, **said: Any) -> Any:
        """It runs a hook; what that answers."""
        command = [*hook_command(), str(self.house.paths.runner(self.runner.id)), event, *options]
        text = json.dumps({"session_id": self.runner.session_id, "hook_event_name": event, **said}).encode()
        done = await asyncio.to_thread(subprocess.run, command, input=text, capture_output=True, check=True)
        return json.loads(done.stdout) if done.stdout else None

    async def becomes(self, activity: str) -> Runner:
        """The runner as soon as this is believed of it."""
        return await becomes(self.house, self.runner.id, activity)


async def becomes(house: House, runner_id: str, activity: str) -> Runner:
    """The runner as soon as this is stored of it."""
    for _ in range(400):
        found = await house.get(runner_id)
        if found.activity == activity:
            return found
        await asyncio.sleep(0.01)
    raise TimeoutError(f"it is not {activity}: {house.context.activity.of(runner_id)}")
