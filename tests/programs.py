"""The outside programs that some tests run: where they are, and how they are installed.

    python tests/programs.py install

installs what is missing and can be had: the agent CLIs and ccusage from npm, pinned by tests/npm/package-lock.json,
into STRATAVORE_TEST_CLIS (default .cache/clis), and Debian packages where we are root.

Rule 1: an agent is only ever the pinned one, never the one that a person has installed.
Rule 2: a test says `@needs("claude")`. Without the program it is skipped with the remedy; with CI=true it is run and
fails, if this machine can install the program.
"""

from __future__ import annotations

import fcntl
import os
import platform
import shutil
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import pytest

REPOSITORY = Path(__file__).resolve().parent.parent
CLIS = Path(os.environ.get("STRATAVORE_TEST_CLIS") or REPOSITORY / ".cache" / "clis")
PATH = f"{CLIS / 'bin'}:{os.environ.get('PATH', os.defpath)}"
"""A search path on which every program that was installed for the tests is found first."""

# Where npm puts the program itself: install scripts, which would put it in place, are not run.
FROM_NPM = {
    "ccusage": "@ccusage/ccusage-linux-*/bin/ccusage",
    "claude": "@anthropic-ai/claude-code-linux-*/claude",
    "codex": "@openai/codex/bin/codex.js",
    "gemini": "@google/gemini-cli/bundle/gemini.js",
    "opencode": "opencode-linux-*/bin/opencode",
}
PACKAGES = {"node": "nodejs", "npm": "npm", "tmux": "tmux", "strace": "strace", "fish": "fish", "zsh": "zsh"}
_ONLY_X86 = ("ccusage", "opencode")  # their versions for other machines are not released together


def find(program: str) -> str | None:
    """The program's path, None if it is not installed."""
    return shutil.which(program, path=str(CLIS / "bin") if program in FROM_NPM else PATH)


def path(program: str) -> str:
    """The program's path.

    Raises:
        FileNotFoundError: it is not installed.
    """
    found = find(program)
    if found is None:
        raise FileNotFoundError(f"{program} is not installed: python tests/programs.py install")
    return found


def needs(*programs: str) -> pytest.MarkDecorator:
    """Mark a test that runs these programs."""
    import pytest

    missing = [program for program in programs if find(program) is None]
    must_run = os.environ.get("CI") == "true" and all(map(_can_be_installed, missing))
    reason = f"{', '.join(missing)} not installed: python tests/programs.py install"
    return pytest.mark.skipif(bool(missing) and not must_run, reason=reason)


def once_more() -> pytest.MarkDecorator:
    """Mark a test of a real agent: on a crowded machine that draws and reads when it gets to it. A test that failed is
    tried once more, and the summary says so."""
    import pytest

    return pytest.mark.flaky(reruns=1)


def install() -> None:
    """Install what is missing and can be had.

    Raises:
        subprocess.CalledProcessError: a package manager failed; it has said why.
    """
    packages = [PACKAGES[program] for program in PACKAGES if find(program) is None]
    if packages and os.geteuid() == 0 and shutil.which("apt-get"):
        quiet = os.environ | {"DEBIAN_FRONTEND": "noninteractive"}
        subprocess.run(["apt-get", "update", "-qq"], check=True, env=quiet)
        subprocess.run(["apt-get", "install", "-y", "-qq", *packages], check=True, env=quiet)
    if find("npm") and find("node"):
        CLIS.mkdir(parents=True, exist_ok=True)
        (CLIS / ".gitignore").write_text("*\n")
        with (CLIS / "lock").open("w") as lock:
            fcntl.flock(lock, fcntl.LOCK_EX)
            _install_from_npm()


def _install_from_npm() -> None:
    wanted = (REPOSITORY / "tests/npm/package-lock.json").read_bytes()
    installed = CLIS / "installed.json"
    if installed.exists() and installed.read_bytes() == wanted:
        return
    installed.unlink(missing_ok=True)
    for name in ("package.json", "package-lock.json"):
        shutil.copy(REPOSITORY / "tests/npm" / name, CLIS)
    quiet = ["--no-audit", "--no-fund", "--no-update-notifier", "--loglevel=error"]
    subprocess.run(["npm", "ci", "--ignore-scripts", *quiet, "--prefix", str(CLIS)], check=True, cwd=CLIS)
    shutil.rmtree(CLIS / "bin", ignore_errors=True)
    (CLIS / "bin").mkdir()
    for name, pattern in FROM_NPM.items():
        found = sorted((CLIS / "node_modules").glob(pattern))
        if found:
            found[0].chmod(0o755)
            (CLIS / "bin" / name).symlink_to(found[0])
    installed.write_bytes(wanted)


def _can_be_installed(program: str) -> bool:
    if program in FROM_NPM:
        return program not in _ONLY_X86 or platform.machine() == "x86_64"
    return os.geteuid() == 0 and shutil.which("apt-get") is not None


if __name__ == "__main__":
    if sys.argv[1:] != ["install"]:
        sys.exit("usage: python tests/programs.py install")
    install()
