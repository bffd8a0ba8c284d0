"""The verb `launch`: from a wish to rows that the supervisor will bring to life.

Rule 1: all that can be refused is refused before anything is stored; the quota is taken in the transaction that
inserts the runners, so no two launches can both get the last slot.
Rule 2: shims and environment files exist before the intent is committed; if it is refused they go again.
Rule 3: the environment is filtered here, once, whoever brought it.
"""

import asyncio
import os
from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import Any

from msgspec import structs

from stratavore import admission, runner_files, writers
from stratavore.admission import Wish
from stratavore.agents import RECORDS, Agent, Profile, Start, account_home, find_program, first_on_path, resolve
from stratavore.archiving import make_ready
from stratavore.clock import iso, new_runner_id
from stratavore.context import Asker, Context
from stratavore.environment import for_agent, masked, runner_environment
from stratavore.errors import BudgetExceeded, Conflict, Forbidden, RunnerFailed, StorageFailed, StratavoreError
from stratavore.failpoints import fp
from stratavore.model import BudgetPeriod, BudgetScope, Desired, Launched, LaunchPlan, OnExceeded, Project, ShimId
from stratavore.money import nano, usd_of
from stratavore.projects import usable_directory
from stratavore.protocol import Launch
from stratavore.resuming import Conversations, Source, choose
from stratavore.shims import ZygoteFailed
from stratavore.store import budgets, events, projects, reservations, runners, runs
from stratavore.store.allowances import Account
from stratavore.store.database import Tx
from stratavore.store.faults import explain
from stratavore.store.reservations import Estimate


async def launch(context: Context, asker: Asker, request: Launch) -> Launched | LaunchPlan:
    """Commit the wish for `count` runners; they are starting when this returns.

    Raises:
        NotFound, Invalid, Conflict: no such project or agent; a directory, name or combination that cannot be.
        RunnerFailed: the agent's program is not there.
        QuotaExceeded, BudgetExceeded: they do not fit, and `partial` was not said (or nothing fits).
    """
    project = projects.get_project(context.rows, request.project)
    environment = _environment(context, request)
    source, told = await choose(context, request, project, environment), list[str]()
    if source is None:
        cwd = usable_directory(project.path)
        name, agent, profile = _agent(context, request, project, environment)
    else:
        cwd, name = usable_directory(source.row.cwd or project.path), source.agent_name
        agent, profile = resolve(name, context.config.agents)
        environment |= source.env
        if not request.dry_run:
            told = await make_ready(context, source.row.agent, source.row.id, environment)
        request = structs.replace(request, argv=[*source.kept_argv, *request.argv])
    environment = for_agent(environment, agent.name, config=context.config.environment, explicit=request.env)
    start = _start(context, request, cwd, environment, agent, profile, source)
    plan = agent.launch(start)
    if find_program(start, plan) is None:
        program = plan.program or plan.argv[0]
        why = _why_missing(program, cwd)
        remedy = "name a program that can be executed" if "/" in program else agent.remedy
        raise RunnerFailed(f"the program {program!r} of agent {name} {why}", remedy=remedy)
    asked = _wish(context, asker, request, (name, agent, profile), environment)
    refusal = admission.find_refusal(context.rows, asked, now=context.clock.now())
    if request.dry_run:
        refused = _early_refusal(context, request, project) or refusal
        shown = masked({**environment, **plan.env})
        slots = max(0, project.max_runners - project.runners)
        expected = asked.expected or Estimate(0, 0)
        return LaunchPlan(
            argv=list(plan.argv),
            cwd=cwd,
            environment=shown,
            session_id=plan.session_id,
            goes_on_with=None if source is None else source.told(),
            slots_left=slots,
            budgets=budgets.list_bounding(context.rows, asked.project_id, now=context.clock.now()),
            estimate_tokens=expected.tokens,
            estimate_usd=usd_of(expected.nano_usd),
            budget_tokens=request.budget_tokens,
            budget_usd=request.budget_usd,
            max_turns=request.max_turns,
            refused=None if refused is None else refused.message,
            refused_code=None if refused is None else refused.code,
            refused_remedy=None if refused is None else refused.remedy,
            unmetered=asked.expected is None,
        )
    if (early := _early_refusal(context, request, project)) is not None:
        raise early
    ahead = Conversations.of(start, plan, agent, source)
    try:
        if refusal is not None:
            raise refusal
        launched = await _commit(context, asker, request, cwd, name, environment, asked, ahead)
    except BudgetExceeded as exceeded:
        await _tell_refusal(context, asker, request, exceeded)
        raise
    goes_on_with = None if source is None else source.told()
    return structs.replace(launched, warnings=[*told, *launched.warnings], goes_on_with=goes_on_with)


async def _commit(
    context: Context,
    asker: Asker,
    request: Launch,
    cwd: str,
    agent_name: str,
    environment: dict[str, str],
    asked: Wish,
    ahead: Conversations,
) -> Launched:
    ids = sorted(new_runner_id() for _ in range(request.count))  # lists are in this order: that of their names
    shims = await _reserve(context, request.count)
    settings = context.config.runners
    now = context.clock.now()
    common: dict[str, Any] = {
        "agent": agent_name,
        "desired": Desired.RUNNING,
        "restart_policy": request.restart_policy or settings.restart,
        "max_restarts": settings.max_restarts if request.max_restarts is None else request.max_restarts,
        "tty": request.tty,
        "terminal_rows": request.rows,
        "terminal_columns": request.columns,
        "extra_argv": request.argv,
        "cwd": cwd,
        "umask": request.umask,
        "prompt": request.prompt,
        "stop_grace_seconds": settings.stop_grace if request.stop_grace_seconds is None else request.stop_grace_seconds,
        "max_seconds": request.max_seconds,
        "max_turns": request.max_turns,
        "on_exceeded": request.on_exceeded or OnExceeded.BLOCK,
        "allow_unpriced": int(request.allow_unpriced),
        "fork_of": ahead.fork_of,
        "alive": 1,
        "run": 1,
        "created_at": iso(now),
    }

    def insert(tx: Tx) -> list[str]:
        project_id = int(projects.get_row(tx, request.project)["id"])
        taken = projects.take_slots(tx, project_id, request.count, partial=request.partial)
        granted = admission.grant(
            tx, asked._replace(project_id=project_id), count=taken, partial=request.partial, now=now
        )
        projects.free_slots(tx, project_id, taken - granted.runs)
        taken = granted.runs
        names = _names(tx, request, project_id, taken)
        conversations = [ahead.next() for _ in names]
        rows = [
            {**common, "id": each, "name": name, "project_id": project_id, "session_id": found and found.id}
            for each, name, found in zip(ids, names, conversations, strict=False)
        ]
        runners.insert_all(tx, rows)
        whose = {"project": request.project, "agent": agent_name}
        intents = [
            runs.Intent(each, 1, shim_id, {"name": name, **whose})
            for each, name, shim_id in zip(ids, names, shims, strict=False)
        ]
        runs.insert_all(tx, intents, actor=str(asker), now=now)
        ahead.enter(tx, intents, conversations, project_id=project_id, cwd=cwd, now=now)
        reservations.give(tx, granted, [intent.key for intent in intents])
        _bound_each(tx, asker, request, intents, asked, now=now)
        return ids[:taken]

    try:
        runner_files.write_environment(context.paths, ids, environment)
        fp("launch.before_commit")
        launched = await context.write(insert)
    except (asyncio.CancelledError, StorageFailed):
        _release(context, shims)
        raise  # it may be stored all the same, and then needs its environment
    except OSError as problem:
        _discard(context, ids, shims)
        raise explain(problem, context.paths.database) from problem
    except BaseException:
        _discard(context, ids, shims)
        raise
    fp("launch.after_commit")
    _discard(context, ids[len(launched) :], shims[len(launched) :])
    await context.wake_and_begin(launched)
    rows = runners.list_runners(context.rows, ids=launched)
    warnings = await _company(context, agent_name, cwd, launched)
    return Launched(runners=rows, refused=request.count - len(launched), warnings=warnings)


async def _company(context: Context, agent_name: str, cwd: str, launched: list[str]) -> list[str]:
    """Who else writes in the directory: two agents may undo each other's work. Of mere commands nobody knows."""
    if resolve(agent_name, context.config.agents)[0].name == "shell":
        return []
    others = [
        f"{runner.name} ({runner.agent})"
        for runner in runners.list_in(context.rows, cwd)
        if runner.id not in launched[:1] and runner.agent != "shell"
    ]
    for found in await asyncio.to_thread(writers.inside, cwd):
        if found.cwd == cwd and writers.who(found.pid) is None:
            others.append(f"{found.kind} (pid {found.pid}, which Stratavore did not start)")
    return [f"{', '.join(others)} {'works' if len(others) == 1 else 'work'} in {cwd} too"] if others else []


def _wish(
    context: Context,
    asker: Asker,
    request: Launch,
    agent: tuple[str, Agent, Profile],
    environment: Mapping[str, str],
) -> Wish:
    if request.allow_unpriced and asker.runner is not None:
        raise Forbidden("a model without a price was allowed from inside a runner", remedy="ask from outside of it")
    own = Estimate(request.budget_tokens or 0, nano(request.budget_usd or 0))
    return admission.wish(
        context.rows,
        context.config,
        agent,
        context.price,
        project_id=int(projects.get_row(context.rows, request.project)["id"]),
        extra=request.argv,
        allow_unpriced=request.allow_unpriced,
        own=own,
        account=_account(agent, environment),
        now=context.clock.now(),
    )


def _account(agent: tuple[str, Agent, Profile], environment: Mapping[str, str]) -> Account | None:
    _, kind, profile = agent
    return (kind.name, str(account_home(kind.name, environment, profile))) if kind.name in RECORDS else None


def _bound_each(
    tx: Tx, asker: Asker, request: Launch, intents: Sequence[runs.Intent], asked: Wish, *, now: datetime
) -> None:
    """Give each of the new runners the budget for one run that was said, if any was."""
    said = {"limit_tokens": request.budget_tokens, "limit_nano_usd": request.budget_usd}
    for limit, figure in said.items():
        if figure is None:
            continue
        columns = {
            "scope": BudgetScope.RUNNER,
            "project_id": None,
            "period": BudgetPeriod.RUN,
            **dict.fromkeys(("limit_tokens", "limit_nano_usd", "limit_percent")),
            limit: int(figure) if limit == "limit_tokens" else nano(figure),
            "on_exceeded": request.on_exceeded or OnExceeded.BLOCK,
        }
        for intent in intents:
            number = budgets.put(tx, {**columns, "runner_id": intent.runner_id}, actor=str(asker), now=now)
            held = reservations.admit(tx, [budgets.get(tx, number)], asked.expected or Estimate(0, 0), now=now)
            reservations.give(tx, held, [intent.key])


async def _tell_refusal(context: Context, asker: Asker, request: Launch, refusal: BudgetExceeded) -> None:
    now = context.clock.now()
    told = {"code": refusal.code, "why": refusal.message, "budget": refusal.budget, "resets_at": refusal.resets_at}
    fact = events.Fact("project.launch_refused", request.project, told, str(asker))
    await context.write(lambda tx: events.append_all(tx, [fact], now=now))


async def _reserve(context: Context, count: int) -> list[ShimId]:
    try:
        return await context.shims.reserve(count)
    except ZygoteFailed as failure:
        remedy = "daemon.log says more; `ulimit -a` shows whether processes or open files are at their limit"
        raise RunnerFailed(f"nothing can be made to hold it: {failure}", remedy=remedy) from failure


def _why_missing(program: str, cwd: str) -> str:
    """Why it was not found, as what is said of it."""
    if "/" not in program:
        return "is not on the PATH"
    return "is no program that may be executed" if os.path.exists(os.path.join(cwd, program)) else "is not there"


def _environment(context: Context, request: Launch) -> dict[str, str]:
    return runner_environment(
        caller=request.environment,
        daemon=os.environ,
        config=context.config.environment,
        explicit=request.env,
    )


def _agent(
    context: Context, request: Launch, project: Project, environment: dict[str, str]
) -> tuple[str, Agent, Profile]:
    name = request.agent or project.agent or context.config.runners.default_agent or first_on_path(environment)
    return name, *resolve(name, context.config.agents)


def _start(
    context: Context,
    request: Launch,
    cwd: str,
    environment: dict[str, str],
    agent: Agent,
    profile: Profile,
    source: Source | None,
) -> Start:
    return Start(
        name=request.name or request.project,
        cwd=cwd,
        runner_dir=context.paths.runner("RUNNER"),
        env=environment,
        tty=request.tty,
        prompt=request.prompt,
        extra=tuple(request.argv),
        session_id=agent.new_session_id() if source is None or source.is_fork else source.row.id,
        fork_of=source.row.id if source is not None and source.is_fork else None,
        profile=profile,
    )


def _early_refusal(context: Context, request: Launch, project: Project) -> StratavoreError | None:
    """What the transaction would refuse anyway, to spare the shims that; the transaction decides."""
    if request.name is not None and request.count == 1 and runners.is_living_name(context.rows, request.name):
        return Conflict(
            f"a runner called {request.name} lives",
            remedy=f"`stratavore attach {request.name}`, or another --name",
        )
    needed = 1 if request.partial else request.count
    if project.runners + needed > project.max_runners:
        return projects.quota_exceeded(project.name, project.max_runners, project.runners, request.count)
    return None


def _names(tx: Tx, request: Launch, project_id: int, count: int) -> list[str]:
    if request.name is None:
        return runners.free_names(tx, project_id, count)
    if count == 1 and request.count == 1:
        return [request.name]
    return [f"{request.name[:58]}-{number}" for number in range(1, count + 1)]


def _discard(context: Context, runner_ids: list[str], shim_ids: list[ShimId]) -> None:
    for runner_id in runner_ids:
        runner_files.remove(context.paths, runner_id)
    _release(context, shim_ids)


def _release(context: Context, shim_ids: list[ShimId]) -> None:
    for shim_id in shim_ids:
        context.shims.release(shim_id)
