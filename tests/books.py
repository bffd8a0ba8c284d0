"""A database with the real schema, and runners in it that nobody runs: for tests of what is written down."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any, Self, TypeVar

from stratavore.booking import Moment
from stratavore.clock import iso
from stratavore.label import Label
from stratavore.lifecycle import FINAL, State
from stratavore.model import Desired, Event, OnQuota, RestartPolicy, Runner
from stratavore.store import events, installation, projects, runners, runs, supervision
from stratavore.store.database import Database, Reader, Tx
from stratavore.store.runs import RunRow
from stratavore.store.supervision import Recipe, Supervised

T = TypeVar("T")
NOW = datetime(2031, 5, 6, 7, 8, 9, tzinfo=UTC)
BOOT = "this-boot"
MOMENT = Moment(NOW, 1000.0, BOOT, 0.5)
ACTOR = "cli uid=7 pid=8"


def later(seconds: float) -> Moment:
    """The moment so long after MOMENT."""
    return MOMENT._replace(now=NOW + timedelta(seconds=seconds), boottime=MOMENT.boottime + seconds)


class Books:
    """The database, with one project `p`."""

    def __init__(self, database: Database) -> None:
        self.database = database
        self._launched = 0

    @classmethod
    @contextmanager
    def open(cls, path: Path) -> Iterator[Self]:
        database = Database.open(path)
        try:
            books = cls(database)
            books.do(lambda tx: installation.begin(tx, BOOT, now=NOW))
            books.project("p")
            yield books
        finally:
            database.close()

    @property
    def rows(self) -> Reader:
        return self.database.reader()

    def do(self, fn: Callable[[Tx], T]) -> T:
        """The result of one committed transaction."""
        return self.database.write_blocking(fn)

    def sql(self, statement: str, *values: Any) -> int:
        return self.do(lambda tx: tx.execute(statement, values))

    def project(self, name: str, **columns: Any) -> int:
        """A new project's number."""
        given = {"name": name, "path": f"/{name}", "max_runners": 5, "on_quota": OnQuota.WARN, **columns}
        self.do(lambda tx: projects.insert(tx, given, actor=ACTOR, now=NOW))
        return int(projects.get_row(self.rows, name)["id"])

    def runner(self, project: str = "p", **columns: Any) -> Supervised:
        """A runner whose first run is starting; it has taken a slot."""
        self._launched += 1
        runner_id = columns.pop("id", f"runner{self._launched:04}")
        row: dict[str, Any] = {
            "id": runner_id,
            "name": f"{project}-{self._launched}",
            "project_id": projects.get_row(self.rows, project)["id"],
            "agent": "shell",
            "desired": Desired.RUNNING,
            "restart_policy": RestartPolicy.NEVER,
            "max_restarts": 3,
            "tty": True,
            "terminal_rows": 24,
            "terminal_columns": 80,
            "extra_argv": ["true"],
            "cwd": "/",
            "stop_grace_seconds": 5.0,
            "alive": 1,
            "run": 1,
            "created_at": iso(NOW),
            **columns,
        }
        whose = {"name": row["name"], "project": project, "agent": row["agent"]}

        def launch(tx: Tx) -> None:
            projects.take_slots(tx, row["project_id"], 1, partial=False)
            runners.insert(tx, row)
            runs.insert(tx, runner_id, 1, "shim1", whose, actor=ACTOR, now=NOW)

        self.do(launch)
        return self.supervised(runner_id)

    def runner_in(self, state: State, **columns: Any) -> Supervised:
        """A runner whose run is in `state`, however it came there; an ended one still holds its slot."""
        row = self.runner(**columns)
        facts: dict[str, Any] = {"state": state.value}
        if state is not State.STARTING:
            facts |= {"pid": 4242, "start_time": 100, "boot_id": BOOT, "started_at": iso(NOW)}
        if state is State.STOPPING:
            facts |= {"stop_reason": "stopped", "stop_by": ACTOR}
        if state in FINAL:
            facts |= {"ended_at": iso(NOW), "end_reason": "exited"}
        changes = ", ".join(f"{name} = ?" for name in facts)
        self.sql(f"UPDATE runs SET {changes} WHERE key = ?", *facts.values(), row.key)
        return self.supervised(row.id)

    def supervised(self, runner_id: str) -> Supervised:
        return supervision.get_supervised(self.rows, runner_id)

    def recipe(self, runner_id: str) -> Recipe:
        return supervision.get_recipe(self.rows, runner_id)

    def label(self, row: Supervised) -> str:
        """What a shim keeps of its run."""
        return Label.of(self.recipe(row.id), row.shim, ["true", "argv"]).write()

    def shown(self, runner_id: str) -> Runner:
        """As people see it."""
        return runners.get_runner(self.rows, runner_id)

    def failures(self, runner_id: str) -> int:
        """Failures in a row."""
        return int(self.rows.scalar("SELECT failures FROM runners WHERE id = ?", (runner_id,)))

    def run(self, key: str) -> RunRow:
        return runs.get(self.rows, key)

    def slots(self, project: str = "p") -> int:
        """Slots that are taken."""
        return int(projects.get_row(self.rows, project)["runners"])

    def events(self) -> list[Event]:
        return events.list_events(self.rows)

    def told(self, aggregate_id: str) -> list[str]:
        """The types of the events about one thing."""
        return [event.type for event in self.events() if event.aggregate_id == aggregate_id]
