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
from collections.abc import Mapping
from pathlib import Path

log = logging.getLogger(__name__)

SCOPE_PREFIX = "stratavore-"
_ROOT = Path("/sys/fs/cgroup")
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
    """The delegated cgroup of one generation of shims."""

    def __init__(self, base: Path) -> None:
        self._base = base

    @classmethod
    def around(cls, holder_pid: int, *, root: Path = _ROOT) -> "Limits | None":
        """The limits that can be set where that holder lives; None if nothing was delegated to us there."""
        try:
            lines = Path(f"/proc/{holder_pid}/cgroup").read_text().splitlines()
        except OSError:
            return None
        path = next((line.removeprefix("0::") for line in lines if line.startswith("0::")), "")
        return cls.below(root, path)

    @classmethod
    def below(cls, root: Path, path: str) -> "Limits | None":
        """The limits for a holder in the cgroup `path` of the hierarchy mounted at `root`."""
        scope = next(
            (part for part in path.split("/") if part.startswith(SCOPE_PREFIX) and part.endswith(".scope")),
            None,
        )
        if scope is None:
            return None
        limits = cls(root / path[: path.index(scope) + len(scope)].lstrip("/"))
        return limits if limits._prepare() else None

    def hold(self, project_id: int, pid: int, *, memory_bytes: int | None, cpu_percent: float | None) -> bool:
        """Put a process under its project's limits; whether that worked."""
        place = self._base / f"project-{project_id}"
        cpu = "max" if cpu_percent is None else str(max(1000, int(cpu_percent / 100 * _PERIOD_MICROSECONDS)))
        try:
            place.mkdir(exist_ok=True)
            (place / "memory.max").write_text("max" if memory_bytes is None else str(memory_bytes))
            (place / "cpu.max").write_text(f"{cpu} {_PERIOD_MICROSECONDS}")
            (place / "cgroup.procs").write_text(str(pid))
        except OSError as problem:
            log.warning("a hard limit could not be set", extra={"project": project_id, "why": str(problem)})
            return False
        return True

    def _prepare(self) -> bool:
        try:
            controllers = (self._base / "cgroup.controllers").read_text().split()
            holders = self._base / "holders"
            holders.mkdir(exist_ok=True)
            for pid in (self._base / "cgroup.procs").read_text().split():
                (holders / "cgroup.procs").write_text(pid)
            wanted = " ".join(f"+{name}" for name in ("memory", "cpu") if name in controllers)
            (self._base / "cgroup.subtree_control").write_text(wanted)
        except OSError as problem:
            log.info("there are no hard limits", extra={"why": str(problem)})
            return False
        return "memory" in controllers
