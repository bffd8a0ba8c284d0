"""The daemon as a Python object.

Rule 1: every route of the protocol is a method of `Client` with its name; tests/test_client.py counts them.
Rule 2: importing this is cheap; msgspec and the Structs are loaded at the first answer. One-shot commands that need no
types use `control.ask` and never load them.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, cast

from stratavore.control import TIMEOUT_SECONDS, ask

if TYPE_CHECKING:
    from datetime import date, datetime
    from types import EllipsisType

    from stratavore import model
    from stratavore.paths import Paths


class Client:
    """Every route as a typed method: the path's parameter and the request's fields in, model.py's Structs out."""

    def __init__(self, paths: Paths | None = None, *, timeout: float = TIMEOUT_SECONDS) -> None:
        if paths is None:
            from stratavore.paths import locate

            paths = locate()
        self.paths = paths
        self.timeout = timeout

    def status(self) -> model.Status:
        return cast("model.Status", self._ask("status"))

    def daemon_status(self) -> model.DaemonStatus:
        return cast("model.DaemonStatus", self._ask("daemon_status"))

    def stop_daemon(self, *, runners: bool = False, restart: bool = False) -> model.Acknowledged:
        return cast("model.Acknowledged", self._ask("stop_daemon", runners=runners, restart=restart))

    def list_projects(self, *, status: model.ProjectStatus | None = None) -> list[model.Project]:
        return cast("list[model.Project]", self._ask("list_projects", status=status))

    def new_project(
        self,
        name: str,
        path: str,
        *,
        agent: str | None = None,
        description: str = "",
        tags: list[str] | tuple[()] = (),
        max_runners: int | None = None,
        max_memory_bytes: int | None = None,
        max_cpu_percent: float | None = None,
        on_quota: model.OnQuota | None = None,
    ) -> model.Project:
        answer = self._ask(
            "new_project",
            name=name,
            path=path,
            agent=agent,
            description=description,
            tags=list(tags),
            max_runners=max_runners,
            max_memory_bytes=max_memory_bytes,
            max_cpu_percent=max_cpu_percent,
            on_quota=on_quota,
        )
        return cast("model.Project", answer)

    def get_project(self, project: str) -> model.Project:
        return cast("model.Project", self._ask("get_project", project=project))

    def edit_project(
        self,
        project: str,
        *,
        name: str | EllipsisType = ...,
        archived: bool | EllipsisType = ...,
        path: str | EllipsisType = ...,
        agent: str | EllipsisType | None = ...,
        description: str | EllipsisType = ...,
        tags: list[str] | EllipsisType = ...,
        max_runners: int | EllipsisType = ...,
        max_memory_bytes: int | EllipsisType | None = ...,
        max_cpu_percent: float | EllipsisType | None = ...,
        on_quota: model.OnQuota | EllipsisType = ...,
    ) -> model.Project:
        """Change what is given; `...` leaves a field as it is, None clears it."""
        answer = self._ask(
            "edit_project",
            project=project,
            name=name,
            archived=archived,
            path=path,
            agent=agent,
            description=description,
            tags=tags,
            max_runners=max_runners,
            max_memory_bytes=max_memory_bytes,
            max_cpu_percent=max_cpu_percent,
            on_quota=on_quota,
        )
        return cast("model.Project", answer)

    def delete_project(self, project: str) -> model.Acknowledged:
        return cast("model.Acknowledged", self._ask("delete_project", project=project))

    def list_runners(
        self,
        *,
        runner: str | None = None,
        project: str | None = None,
        state: model.RunnerState | None = None,
        all: bool = False,
        waiting: bool = False,
        strict: bool = False,
        until: str | None = None,
        wait_seconds: float = 0,
        limit: int = 10_000,
        offset: int = 0,
    ) -> list[model.Runner]:
        answer = self._ask(
            "list_runners",
            runner=runner,
            project=project,
            state=state,
            all=all,
            waiting=waiting,
            strict=strict,
            until=until,
            wait_seconds=wait_seconds,
            limit=limit,
            offset=offset,
        )
        return cast("list[model.Runner]", answer)

    def launch(
        self,
        project: str,
        *,
        name: str | None = None,
        agent: str | None = None,
        restart_policy: model.RestartPolicy | None = None,
        max_restarts: int | None = None,
        count: int = 1,
        partial: bool = False,
        prompt: str | None = None,
        tty: bool = True,
        rows: int = 24,
        columns: int = 80,
        environment: Mapping[str, str] | None = None,
        env: Mapping[str, str] | tuple[()] = (),
        umask: int | None = None,
        stop_grace_seconds: float | None = None,
        max_seconds: float | None = None,
        budget_tokens: int | None = None,
        budget_usd: float | None = None,
        max_turns: int | None = None,
        on_exceeded: model.OnExceeded | None = None,
        allow_unpriced: bool = False,
        argv: list[str] | tuple[()] = (),
        dry_run: bool = False,
        resume: str | None = None,
        fork: str | None = None,
        continue_newest: bool = False,
    ) -> model.Launched | model.LaunchPlan:
        """A LaunchPlan if `dry_run`, else Launched."""
        answer = self._ask(
            "launch",
            project=project,
            name=name,
            agent=agent,
            restart_policy=restart_policy,
            max_restarts=max_restarts,
            count=count,
            partial=partial,
            prompt=prompt,
            tty=tty,
            rows=rows,
            columns=columns,
            environment=environment,
            env=dict(env),
            umask=umask,
            stop_grace_seconds=stop_grace_seconds,
            max_seconds=max_seconds,
            budget_tokens=budget_tokens,
            budget_usd=budget_usd,
            max_turns=max_turns,
            on_exceeded=on_exceeded,
            allow_unpriced=allow_unpriced,
            argv=list(argv),
            dry_run=dry_run,
            resume=resume,
            fork=fork,
            continue_newest=continue_newest,
        )
        return cast("model.Launched | model.LaunchPlan", answer)

    def get_runner(self, runner: str) -> model.Runner:
        return cast("model.Runner", self._ask("get_runner", runner=runner))

    def rename_runner(self, runner: str, *, name: str) -> model.Runner:
        return cast("model.Runner", self._ask("rename_runner", runner=runner, name=name))

    def remove_runners(self, runner: str, *, project: str | None = None) -> list[model.Runner]:
        return cast("list[model.Runner]", self._ask("remove_runners", runner=runner, project=project))

    def list_runs(self, runner: str) -> list[model.Run]:
        return cast("list[model.Run]", self._ask("list_runs", runner=runner))

    def explain_runner(self, runner: str) -> model.Explanation:
        return cast("model.Explanation", self._ask("explain_runner", runner=runner))

    def stop_runners(
        self, runner: str, *, project: str | None = None, grace_seconds: float | None = None
    ) -> list[model.Runner]:
        answer = self._ask("stop_runners", runner=runner, project=project, grace_seconds=grace_seconds)
        return cast("list[model.Runner]", answer)

    def kill_runners(self, runner: str, *, project: str | None = None) -> list[model.Runner]:
        return cast("list[model.Runner]", self._ask("kill_runners", runner=runner, project=project))

    def pause_runners(self, runner: str, *, project: str | None = None) -> list[model.Runner]:
        return cast("list[model.Runner]", self._ask("pause_runners", runner=runner, project=project))

    def unpause_runners(self, runner: str, *, project: str | None = None) -> list[model.Runner]:
        return cast("list[model.Runner]", self._ask("unpause_runners", runner=runner, project=project))

    def restart_runners(
        self,
        runner: str,
        *,
        project: str | None = None,
        grace_seconds: float | None = None,
        only_idle: bool = False,
    ) -> list[model.Runner]:
        fields = {"project": project, "grace_seconds": grace_seconds, "only_idle": only_idle}
        return cast("list[model.Runner]", self._ask("restart_runners", runner=runner, **fields))

    def send_input(
        self, runner: str, *, text: str | None = None, keys: list[str] | tuple[()] = (), submit: bool = True
    ) -> model.Sent:
        return cast("model.Sent", self._ask("send_input", runner=runner, text=text, keys=list(keys), submit=submit))

    def interrupt_runner(self, runner: str) -> model.Sent:
        return cast("model.Sent", self._ask("interrupt_runner", runner=runner))

    def list_budgets(self, *, all: bool = False) -> list[model.Budget]:
        return cast("list[model.Budget]", self._ask("list_budgets", all=all))

    def set_budget(
        self,
        scope: model.BudgetScope,
        period: model.BudgetPeriod,
        *,
        name: str | None = None,
        tokens: int | None = None,
        usd: float | None = None,
        percent: float | None = None,
        warn: list[int] | None = None,
        on_exceeded: model.OnExceeded | None = None,
    ) -> model.Budget:
        answer = self._ask(
            "set_budget",
            scope=scope,
            period=period,
            name=name,
            tokens=tokens,
            usd=usd,
            percent=percent,
            warn=warn,
            on_exceeded=on_exceeded,
        )
        return cast("model.Budget", answer)

    def get_budget(self, budget: int) -> model.BudgetInPeriods:
        return cast("model.BudgetInPeriods", self._ask("get_budget", budget=str(budget)))

    def list_budget_history(self, budget: int) -> list[model.BudgetHistory]:
        return cast("list[model.BudgetHistory]", self._ask("list_budget_history", budget=str(budget)))

    def extend_budget(
        self, budget: int, *, tokens: int | None = None, usd: float | None = None, percent: float | None = None
    ) -> model.Budget:
        answer = self._ask("extend_budget", budget=str(budget), tokens=tokens, usd=usd, percent=percent)
        return cast("model.Budget", answer)

    def remove_budget(self, budget: int, *, dry_run: bool = False) -> model.Acknowledged:
        return cast("model.Acknowledged", self._ask("remove_budget", budget=str(budget), dry_run=dry_run))

    def usage(
        self,
        *,
        by: model.UsageBy | str = "day",
        since: datetime | None = None,
        since_day: date | None = None,
        project: str | None = None,
    ) -> model.Usage:
        """What agents used since then, or since the beginning of that day by the clock of the budgets, added up."""
        moment = None if since is None else since.isoformat()
        day = None if since_day is None else since_day.isoformat()
        return cast("model.Usage", self._ask("usage", by=by, since=moment, since_day=day, project=project))

    def list_sessions(
        self,
        *,
        project: str | None = None,
        agent: str | None = None,
        since: datetime | None = None,
        foreign: bool = False,
        resumable: bool = False,
        limit: int = 1000,
        offset: int = 0,
    ) -> list[model.Session]:
        answer = self._ask(
            "list_sessions",
            project=project,
            agent=agent,
            since=None if since is None else since.isoformat(),
            foreign=foreign,
            resumable=resumable,
            limit=limit,
            offset=offset,
        )
        return cast("list[model.Session]", answer)

    def get_session(self, session: str) -> model.Session:
        return cast("model.Session", self._ask("get_session", session=session))

    def begin_import(
        self, *, agent: str | None = None, path: str | None = None, environment: Mapping[str, str] | tuple[()] = ()
    ) -> model.ImportProgress:
        answer = self._ask("begin_import", agent=agent, path=path, environment=dict(environment))
        return cast("model.ImportProgress", answer)

    def watch_import(self, *, wait_seconds: float = 0) -> model.ImportProgress:
        return cast("model.ImportProgress", self._ask("watch_import", wait_seconds=wait_seconds))

    def stop_import(self) -> model.ImportProgress:
        return cast("model.ImportProgress", self._ask("stop_import"))

    def archive_session(self, session: str) -> model.Session:
        return cast("model.Session", self._ask("archive_session", session=session))

    def read_transcript(self, session: str, *, after: str = "") -> model.Transcript:
        return cast("model.Transcript", self._ask("read_transcript", session=session, after=after))

    def list_approvals(self, *, all: bool = False) -> list[model.Approval]:
        return cast("list[model.Approval]", self._ask("list_approvals", all=all))

    def ask_approval(
        self, runner: str, *, id: str, said: Mapping[str, Any], expires_seconds: float, wait_seconds: float = 0
    ) -> model.Held:
        """What a hook of the runner asks for it."""
        fields = {"id": id, "said": said, "expires_seconds": expires_seconds, "wait_seconds": wait_seconds}
        return cast("model.Held", self._ask("ask_approval", runner=runner, **fields))

    def decide_approval(
        self, runner: str, *, allow: bool, for_session: bool = False, reason: str | None = None
    ) -> model.Approval:
        fields = {"allow": allow, "for_session": for_session, "reason": reason}
        return cast("model.Approval", self._ask("decide_approval", runner=runner, **fields))

    def list_events(
        self, *, since: int = 0, limit: int = 1000, wait_seconds: float = 0, newest: bool = False
    ) -> list[model.Event]:
        answer = self._ask("list_events", since=since, limit=limit, wait_seconds=wait_seconds, newest=newest)
        return cast("list[model.Event]", answer)

    def reconcile(self) -> model.Reconciled:
        return cast("model.Reconciled", self._ask("reconcile"))

    def disk_use(self) -> model.DiskUse:
        return cast("model.DiskUse", self._ask("disk_use"))

    def prune(self, *, older_than_seconds: float | None = None, dry_run: bool = False) -> model.Pruned:
        return cast("model.Pruned", self._ask("prune", older_than_seconds=older_than_seconds, dry_run=dry_run))

    def _ask(self, name: str, /, **fields: Any) -> Any:
        import msgspec

        from stratavore import model, protocol

        given = {key: value for key, value in fields.items() if value is not ...}
        answer: Any = protocol.BY_NAME[name].answer
        if name == "launch":  # msgspec does not tell two plain Structs apart; the request does
            answer = model.LaunchPlan if given["dry_run"] else model.Launched
        return msgspec.convert(ask(self.paths, name, timeout=self.timeout, **given), answer)
