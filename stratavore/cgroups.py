"""Hard limits: below the scope that systemd delegated to the shims, a cgroup for each project that has limits.

Rule 1: the holders sit in a leaf of their own, so that a project's limit never hits them.
Rule 2: a run is moved right after its spawn; what it started in that moment stays outside, and the sampler sees it.
Rule 3: without a delegated cgroup v2 there are only soft limits, and `daemon status` says so.

Source: Documentation/admin-guide/cgroup-v2.rst of the kernel; systemd's "Control Group APIs and Delegation".
"""

import logging
import os
import pwd
import re
import shutil
from collections.abc import Collection, Mapping
from pathlib import Path

log = logging.getLogger(__name__)

SCOPE_PREFIX = "stratavore-"
_ROOT = Path("/sys/fs/cgroup")
_PROC = Path("/proc")
_PERIOD_MICROSECONDS = 100_000
_LINGER = Path("/var/lib/systemd/linger")
_NOT_IN_UNITS = re.compile(r"[^A-Za-z0-9:_.-]")  # systemd.unit(5)


def scope_command(environ: Mapping[str, str], zygote: str, *, linger: Path = _LINGER) -> tuple[str, ...]:
    """What stands before the command of that zygote so that it lives in a scope of its own; empty where that cannot be.

    Only with linger on: without it a scope dies at logout, and a plain orphan does not.
    """
    runtime = environ.get("XDG_RUNTIME_DIR", "")
    manager = Path(runtime, "systemd", "private")
    program = shutil.which("systemd-run", path=environ.get("PATH"))
    if not (runtime and program and manager.exists() and _lingers(linger)):
        return ()
    # A unit of its own each: the scope of a dead zygote lives on with the shims that it forked.
    unit = SCOPE_PREFIX + _NOT_IN_UNITS.sub("_", zygote)
    options = ("--user", "--scope", "--quiet", "--collect", f"--unit={unit}", "-p", "Delegate=yes")
    return (program, *options, "--")


def _lingers(linger: Path) -> bool:
    try:
        return (linger / pwd.getpwuid(os.getuid()).pw_name).exists()
    except KeyError:  # a uid without a name, as containers have
        return False


class Limits:
    """The delegated cgroup of one generation of shims. Nothing is made in it before the first process is to be held."""

    def __init__(self, base: Path, controllers: Collection[str]) -> None:
        self._base = base
        self._controllers = [name for name in ("memory", "cpu") if name in controllers]
        self._is_ready = False

    @classmethod
    def around(cls, holder_pid: int, *, root: Path = _ROOT, proc: Path = _PROC) -> "Limits | None":
        """The limits that can be set where that holder lives; None if nothing was delegated to us there. Only looks."""
        try:
            lines = (proc / str(holder_pid) / "cgroup").read_text().splitlines()
            path = next((line.removeprefix("0::") for line in lines if line.startswith("0::")), "")
            return cls._below(root, path)
        except OSError:
            return None

    @classmethod
    def _below(cls, root: Path, path: str) -> "Limits | None":
        """The limits for a holder in the cgroup `path` of the hierarchy mounted at `root`."""
        parts = (part for part in path.split("/") if part.startswith(SCOPE_PREFIX) and part.endswith(".scope"))
        if (scope := next(parts, None)) is None:
            return None
        base = root / path[: path.index(scope) + len(scope)].lstrip("/")
        limits = cls(base, (base / "cgroup.controllers").read_text().split())
        return limits if "memory" in limits._controllers else None

    @property
    def holds_cpu(self) -> bool:
        """Whether CPU can be limited here too; memory always can."""
        return "cpu" in self._controllers

    def hold(self, project_id: int, pid: int, *, memory_bytes: int | None, cpu_percent: float | None) -> bool:
        """Put a process under its project's limits; whether all of them hold."""
        place = self._base / f"project-{project_id}"
        try:
            self._prepare()
            place.mkdir(exist_ok=True)
            (place / "memory.max").write_text("max" if memory_bytes is None else str(memory_bytes))
            if self.holds_cpu:
                (place / "cpu.max").write_text(f"{_quota_of(cpu_percent)} {_PERIOD_MICROSECONDS}")
            (place / "cgroup.procs").write_text(str(pid))
        except OSError as problem:
            log.warning("a hard limit could not be set", extra={"project": project_id, "why": str(problem)})
            return False
        return self.holds_cpu or cpu_percent is None

    def _prepare(self) -> None:
        """Move the holders into their leaf: only then the kernel lets this cgroup have limited ones below it."""
        if self._is_ready:
            return
        holders = self._base / "holders"
        holders.mkdir(exist_ok=True)
        for pid in (self._base / "cgroup.procs").read_text().split():
            (holders / "cgroup.procs").write_text(pid)
        (self._base / "cgroup.subtree_control").write_text(" ".join(f"+{name}" for name in self._controllers))
        self._is_ready = True


class LimitsByShim:
    """The limits around each shim. What was found stays; where none were found, it is looked again."""

    def __init__(self, *, root: Path = _ROOT, proc: Path = _PROC) -> None:
        self._root, self._proc = root, proc
        self._found: dict[str, Limits] = {}

    def around(self, shim: str, pid: int) -> Limits | None:
        """The limits that can be set where that shim lives, as `pid`; None if there are none."""
        if shim not in self._found:
            found = Limits.around(pid, root=self._root, proc=self._proc)
            if found is None:
                return None
            self._found[shim] = found
        return self._found[shim]


def _quota_of(cpu_percent: float | None) -> str:
    return "max" if cpu_percent is None else str(max(1000, int(cpu_percent / 100 * _PERIOD_MICROSECONDS)))
