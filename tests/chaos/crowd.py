"""A crowd of runners whose every byte and exit code is known beforehand, and the judge of what became of them."""

import random
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass

from stratavore.errors import Conflict, DaemonUnreachable, NotFound
from stratavore.model import Runner
from tests.chaos.house import FINAL_STATES, House, until

STOPPED_CODE = 43
_ASKED_SECONDS = 300.0

COUNTING = """
RANDOM=$4
trap 'printf "%s was stopped\\n" "$1"; exit 43' TERM
for ((n = 1; n <= $2; n++)); do
    printf '%s says line %d\\n' "$1" "$n"
    read -r -t "0.$((RANDOM % 9))$((RANDOM % 10))"
done
exit "$3"
"""
"""bash: `name lines code seed`; waits between lines with a `read` from its own terminal, which forks nothing."""


@dataclass
class Fate:
    """One runner of the crowd: what it will do, and what was seen of it."""

    name: str
    lines: int
    code: int
    seed: int
    is_stopped: bool
    """Whether somebody will stop it before it is through."""
    id: str = ""
    pid: int = 0
    stop_accepted: bool = False

    @property
    def argv(self) -> list[str]:
        return ["bash", "-c", COUNTING, "bash", self.name, str(self.lines), str(self.code), str(self.seed)]

    def text(self, lines: int) -> bytes:
        """What it prints in so many lines, as a terminal delivers it."""
        return b"".join(b"%s says line %d\r\n" % (self.name.encode(), n) for n in range(1, lines + 1))


class Crowd:
    """Launches and stops runners from threads of its own, whatever happens to the daemon."""

    def __init__(self, house: House, chance: random.Random, *, size: int, lines: int, pace_seconds: float) -> None:
        """Each of two threads launches at `pace_seconds` on average."""
        self.house = house
        self._chance, self._pace_seconds = chance, pace_seconds
        self._never = threading.Event()
        self.wrong: list[str] = []
        self.fates = [
            Fate(
                name=f"c{number}",
                lines=10 * lines if number % 6 == 0 else chance.randint(lines // 2, lines),
                code=chance.randrange(256),
                seed=chance.randrange(32768),
                is_stopped=number % 6 == 0,
            )
            for number in range(size)
        ]
        doomed = [fate for fate in self.fates if fate.is_stopped]
        work = [(self._launch_all, self.fates[::2]), (self._launch_all, self.fates[1::2]), (self._stop_all, doomed)]
        self._threads = [threading.Thread(target=self._guarded, args=each) for each in work]

    def begin(self) -> None:
        for thread in self._threads:
            thread.start()

    @property
    def is_busy(self) -> bool:
        return any(thread.is_alive() for thread in self._threads)

    def join(self) -> None:
        for thread in self._threads:
            thread.join()

    def look(self) -> None:
        """Take note of pids: each runner has one, for ever."""
        by_name = {runner.name: runner for runner in self.house.runners()}
        for fate in self.fates:
            if (runner := by_name.get(fate.name)) is not None and runner.pid:
                if fate.pid and runner.pid != fate.pid:
                    self.wrong.append(f"{fate.name} was {fate.pid} and is {runner.pid}")
                fate.pid = runner.pid

    def ended(self, seconds: float) -> None:
        """Wait until all have ended."""

        def is_over() -> bool:
            found = self.house.runners()
            return len(found) == len(self.fates) and all(runner.state in FINAL_STATES for runner in found)

        until(is_over, seconds=seconds, why="the crowd to end")

    def judge(self) -> list[str]:
        """Everything that is not as it must be, now that all have ended."""
        by_name: dict[str, list[Runner]] = {}
        for runner in self.house.runners():
            by_name.setdefault(runner.name, []).append(runner)
        wrong = list(self.wrong)
        for fate in self.fates:
            match by_name.pop(fate.name, []):
                case [runner]:
                    wrong += self._judge(fate, runner)
                case found:
                    wrong.append(f"there are {len(found)} runners {fate.name}")
        return wrong + [f"nobody launched {name}" for name in by_name]

    def _judge(self, fate: Fate, runner: Runner) -> list[str]:
        wrong = []
        [run] = self.house.runs(runner.id)
        if fate.pid and run.pid != fate.pid:
            wrong.append(f"{fate.name} was {fate.pid} and is {run.pid}")
        output = self.house.output(runner.id)
        whole = fate.text(fate.lines)
        if fate.stop_accepted and runner.state == "terminated" and runner.end_reason == "stopped":
            # Asked to end anywhere: before its trap was set, at a line, or after the last one.
            said = f"{fate.name} was stopped\r\n".encode()
            good = (
                (runner.exit_code == STOPPED_CODE and output.endswith(said) and whole.startswith(output[: -len(said)]))
                or (runner.exit_code == fate.code and output == whole)
                or (runner.exit_signal == 15 and whole.startswith(output))
                or (run.pid is None and not output)
            )
            if not good:
                wrong.append(f"{fate.name} was stopped: {runner.exit_code=} {runner.exit_signal=} {output[-90:]!r}")
        else:
            if runner.exit_code != fate.code:
                wrong.append(f"{fate.name} ended with {fate.code}, told as {runner.exit_code} ({runner.state})")
            if output != whole:
                wrong.append(f"{fate.name} printed {len(whole)} bytes, the log has {len(output)}")
        if run.pid is not None and runner.output_bytes != len(output):
            wrong.append(f"{fate.name} has {len(output)} bytes of output, told as {runner.output_bytes}")
        return wrong

    # The threads

    def _guarded(self, work: Callable[[list[Fate]], None], fates: list[Fate]) -> None:
        try:
            work(fates)
        except BaseException as error:
            self.wrong.append(f"{work} failed: {error!r}")
            raise

    def _launch_all(self, fates: list[Fate]) -> None:
        for fate in fates:
            self._never.wait(self._chance.uniform(0, 2 * self._pace_seconds))
            deadline = time.monotonic() + _ASKED_SECONDS
            while not fate.id:
                assert time.monotonic() < deadline, f"{fate.name} could not be launched"
                try:
                    fate.id = self.house.launch(*fate.argv, name=fate.name, stop_grace_seconds=20).id
                except DaemonUnreachable:  # it may have been accepted all the same
                    known = [runner.id for runner in self.house.runners() if runner.name == fate.name]
                    fate.id = known[0] if known else ""
                except Conflict:
                    self.wrong.append(f"{fate.name} was not there, and then it was")
                    fate.id = self.house.runner(fate.name).id

    def _stop_all(self, fates: list[Fate]) -> None:
        for fate in fates:
            until(lambda fate=fate: fate.id, seconds=_ASKED_SECONDS, why=f"{fate.name} to be launched")  # type: ignore[misc]
            while not fate.stop_accepted:
                try:
                    self.house.client.stop_runners(fate.id)
                    fate.stop_accepted = True
                except DaemonUnreachable:  # it may have been accepted: then it is being stopped
                    fate.stop_accepted = self.house.runner(fate.id).desired == "stopped"
                except (Conflict, NotFound) as refusal:
                    self.wrong.append(f"{fate.name} could not be stopped: {refusal}")
                    return


def read_logs(house: House, fate: Fate) -> bytes:
    """The same output through the command line."""
    return house.cli("logs", fate.id, "--raw").stdout.encode()
