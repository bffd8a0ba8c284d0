#!/usr/bin/env python3
"""Set-up in one command, with nothing but Linux and Python 3.11 or newer.

    python3 packaging/bootstrap.py up        make .venv, then `stratavore up` in the current folder
    python3 packaging/bootstrap.py test      make .venv-test, check the code, run the tests (arguments: pytest's)
    python3 packaging/bootstrap.py check     only check the code: ruff, mypy, deptry
    python3 packaging/bootstrap.py bench     run the benchmarks (arguments: theirs)
    python3 packaging/bootstrap.py lock      resolve the dependencies anew

Rule 1: this file can be read by Python 3.6, so that an old Python gets a sentence and not a syntax error.
Rule 2: what is installed is what the locks name, by hash, and the package is built with what they hold.
Rule 3: an environment is stamped after it was made; an unchanged one is used as it is, a half-made one is made again.
Rule 4: the environment of the caller is passed on, but for the variables that would make Python load other code.
"""

import fcntl
import hashlib
import os
import shutil
import subprocess
import sys
import tempfile
import time
from typing import Callable, Dict, List, Mapping

CLONE = os.path.dirname(os.path.dirname(os.path.abspath(__file__)))
PACKAGING = os.path.join(CLONE, "packaging")
OLDEST = (3, 11)

CHECKS = {
    "ruff": ["ruff", "check", "."],
    "mypy": ["mypy", "--strict"],
    "deptry": ["deptry", "."],
}
MISLEADING = ("PYTHONPATH", "PYTHONHOME", "PYTHONDONTWRITEBYTECODE", "PIP_TARGET", "PIP_PREFIX")
HELP = ("-h", "--help", "help")


class Stop(Exception):
    """What is missing, and what to do about it, in one line."""


def main(argv: List[str]) -> int:
    verb = argv[0] if argv else ""
    if verb not in VERBS:
        print(__doc__, file=sys.stdout if verb in HELP else sys.stderr)
        return 0 if verb in HELP else 2
    try:
        _require_platform()
        return VERBS[verb](argv[1:])
    except Stop as stop:
        _say(str(stop))
        return 1
    except KeyboardInterrupt:
        return 130


def up(arguments: List[str]) -> int:
    """Install, then become `stratavore up` in the current folder."""
    program = Environment(".venv", "requirements.lock", editable=False).make().program("stratavore")
    os.execv(program, [program, "up", *arguments])


def test(arguments: List[str]) -> int:
    """Everything that has to hold before a change is accepted. The tests come last and run whatever the checks say."""
    environment = _test_environment()
    if os.environ.get("CI") == "true":
        environment.run(["python", os.path.join("tests", "programs.py"), "install"])
    failed = _failed_checks(environment)
    tests = ["python", "-m", "pytest", "-n", "2", "-rsR", *arguments]
    _say(" ".join(tests))
    code = environment.call(tests)
    if failed:
        _say("{} failed, see above".format(" and ".join(failed)))
    return code or (1 if failed else 0)


def check(arguments: List[str]) -> int:
    """The checks alone."""
    if arguments:
        raise Stop("`check` takes no arguments")
    return 1 if _failed_checks(_test_environment()) else 0


def bench(arguments: List[str]) -> int:
    """The benchmarks, with the programs that they are measured against."""
    return _test_environment().call(["python", "-m", "benchmarks", *arguments])


def lock(arguments: List[str]) -> int:
    """Resolve pyproject.toml into both locks; arguments such as `--upgrade` go to uv."""
    environment = _test_environment()
    compile_ = "uv pip compile -q --universal --generate-hashes --no-header --no-annotate --python-version 3.11".split()
    inputs = ["pyproject.toml", "packaging/build.in"]
    shipped, dev = "packaging/requirements.lock", "packaging/requirements-dev.lock"
    environment.run(compile_ + arguments + inputs + ["-o", shipped])
    environment.run(compile_ + arguments + inputs + ["--all-extras", "-c", shipped, "-o", dev])
    return 0


VERBS = {"up": up, "test": test, "check": check, "bench": bench, "lock": lock}  # type: Dict[str, Callable[[List[str]], int]]


class Environment:
    """One virtual environment inside the clone, made from one lock."""

    def __init__(self, name: str, lock_name: str, editable: bool) -> None:
        self.directory = os.path.join(CLONE, name)
        self.lock = os.path.join(PACKAGING, lock_name)
        self.editable = editable
        self.variables = _clean(os.environ)
        self.variables["PIP_USER"] = "0"  # a pip.conf that says otherwise would install beside the environment
        self.variables["VIRTUAL_ENV"] = self.directory
        self.variables["PATH"] = self.program("") + os.pathsep + os.environ.get("PATH", os.defpath)

    def make(self) -> "Environment":
        """Bring it up to date, one process at a time."""
        holder = os.open(PACKAGING, os.O_RDONLY)
        try:
            fcntl.flock(holder, fcntl.LOCK_EX)
            if not self._works():
                self._create()
            self._step("packages", _digest(_read(self.lock)), self._install_packages)
            self._step("stratavore", self._source_digest(), self._install_stratavore)
        finally:
            os.close(holder)
        return self

    def program(self, name: str) -> str:
        return os.path.join(self.directory, "bin", name)

    def call(self, command: List[str]) -> int:
        """Run a program of the environment in the clone; its exit code."""
        return subprocess.call([self.program(command[0]), *command[1:]], cwd=CLONE, env=self.variables)

    def run(self, command: List[str]) -> None:
        """The same, where a failure ends everything."""
        if self.call(command) != 0:
            raise Stop("`{}` failed, see above".format(" ".join(command)))

    def _step(self, name: str, digest: str, act: Callable[[], None]) -> None:
        """Do it unless its stamp says that it is done."""
        if self._stamped(name) == digest:
            return
        act()
        self._stamp(name, digest)

    def _stamped(self, name: str) -> str:
        try:
            return _read(os.path.join(self.directory, "stamp-" + name)).decode()
        except OSError:
            return ""

    def _stamp(self, name: str, text: str) -> None:
        with open(os.path.join(self.directory, "stamp-" + name), "w") as file:
            file.write(text)

    def _works(self) -> bool:
        """Is it where it was made, with a Python that still finds its packages? A newer system Python breaks it."""
        probe = "from importlib.util import find_spec as found; import sys; sys.exit(found('pip') is None)"
        return self._stamped("place") == CLONE and _succeeds([self.program("python"), "-I", "-c", probe])

    def _create(self) -> None:
        """Make it from nothing; the stamps of what was in it go with it."""
        python = getattr(sys, "_base_executable", sys.executable)  # not this environment's own, which is cleared
        self._narrate("making {}".format(self.directory), [python, "-m", "venv", "--clear", self.directory])
        self._stamp("place", CLONE)

    def _install_packages(self) -> None:
        name = os.path.basename(self.lock)
        self._pip("installing what {} names".format(name), ["--require-hashes", "--no-deps", "-r", self.lock])

    def _install_stratavore(self) -> None:
        where = ["--editable", CLONE] if self.editable else ["--force-reinstall", CLONE]
        self._pip("installing stratavore", ["--no-deps", "--no-index", "--no-build-isolation", *where])
        if self.editable:
            subprocess.call([self.program("python"), "-m", "compileall", "-q", os.path.join(CLONE, "stratavore")])

    def _pip(self, what: str, arguments: List[str]) -> None:
        # --compile: a start without .pyc files takes four times as long, and PYTHONDONTWRITEBYTECODE is common.
        options = "--compile --no-input --progress-bar off --disable-pip-version-check".split()
        self._narrate(what, [self.program("python"), "-I", "-m", "pip", "install", *options, *arguments])

    def _narrate(self, what: str, command: List[str]) -> None:
        """Run a long command out of sight, say now and then that it goes on, and show what it said if it fails."""
        _say("{} …".format(what))
        with tempfile.TemporaryFile() as output:
            process = subprocess.Popen(
                command, env=self.variables, stdin=subprocess.DEVNULL, stdout=output, stderr=output
            )
            if _wait_aloud(process) != 0:
                output.seek(0)
                sys.stderr.write(output.read().decode(errors="replace"))
                raise Stop("{} failed, see above".format(what))

    def _source_digest(self) -> str:
        """What the installed package depends on: for an editable one only how it is built, else every file of it."""
        files = [os.path.join(CLONE, "pyproject.toml")]
        if not self.editable:
            for folder, _, names in sorted(os.walk(os.path.join(CLONE, "stratavore"))):
                files += [os.path.join(folder, name) for name in sorted(names) if not name.endswith(".pyc")]
        return _digest(*[part for file in files for part in (file.encode(), _read(file))])


def _test_environment() -> Environment:
    return Environment(".venv-test", "requirements-dev.lock", editable=True).make()


def _clean(environ: Mapping[str, str]) -> Dict[str, str]:
    return {name: value for name, value in environ.items() if name not in MISLEADING}


def _read(path: str) -> bytes:
    with open(path, "rb") as file:
        return file.read()


def _digest(*parts: bytes) -> str:
    digest = hashlib.sha256()
    for part in parts:
        digest.update(b"%d:" % len(part) + part)
    return digest.hexdigest()


def _say(text: str) -> None:
    print("bootstrap: {}".format(text), file=sys.stderr, flush=True)


def _wait_aloud(process: "subprocess.Popen[bytes]") -> int:
    begun = time.monotonic()
    while True:
        try:
            return process.wait(timeout=10)
        except subprocess.TimeoutExpired:
            _say("  {:.0f} s".format(time.monotonic() - begun))


def _failed_checks(environment: Environment) -> List[str]:
    """The names of the checks that failed, all of which were run."""
    failed = []
    for name, command in CHECKS.items():
        _say(" ".join(command))
        if environment.call(command) != 0:
            failed.append(name)
    return failed


def _require_platform() -> None:
    if not sys.platform.startswith("linux"):
        raise Stop("Stratavore runs on Linux; this is {}".format(sys.platform))
    if sys.version_info < OLDEST:
        found = "{}.{}".format(*sys.version_info)
        newer = [name for name in ("python3.14", "python3.13", "python3.12", "python3.11") if shutil.which(name)]
        remedy = "run it with `{}`".format(newer[0]) if newer else "install a newer one and run it with that"
        raise Stop("Stratavore needs Python 3.11 or newer, and this is {}: {}".format(found, remedy))
    try:
        import ensurepip
        import venv
    except ImportError:
        raise Stop("this Python lacks venv: `apt install python3-venv` (Debian, Ubuntu), then try again") from None
    del ensurepip, venv


def _is_there(python: str) -> bool:
    return shutil.which(python) is not None and _succeeds([python, "-c", ""])


def _succeeds(command: List[str]) -> bool:
    try:
        return subprocess.call(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL) == 0
    except OSError:
        return False


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
