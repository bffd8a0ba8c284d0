"""The zygote of this build: found or started, and asked for new shims.

Rule 1: only a zygote of this very build is used, for what it forks is spoken to as this build speaks.
Rule 2: the one that is used is named in `zygote.current`; it alone starts the daemon again.
Rule 3: it begins as a clean interpreter: nothing of whoever called the daemon, nothing of the bundler.
Rule 4: one that died, or is silent, is replaced, however often that must be tried: without a zygote nobody would start
a dead daemon again. Meanwhile the daemon does what it can do without.
"""

import asyncio
import json
import logging
import os
import secrets
import shutil
import sys
import zlib
from collections.abc import Callable, Sequence
from pathlib import Path

from stratavore import __version__
from stratavore.model import ShimId
from stratavore.paths import Paths
from stratavore.shim import client
from stratavore.shim.client import Json, Refused
from stratavore.shims.link import Link
from stratavore.shims.requests import ShimGone, ZygoteFailed

_ROOT = Path(__file__).resolve().parent.parent.parent
_ANSWER_SECONDS = 5.0
_START_SECONDS = 10.0
_FIRST_PAUSE_SECONDS, _LONGEST_PAUSE_SECONDS = 1.0, 60.0
Launcher = Callable[[str], Sequence[str]]
"""What stands before the command of the zygote with that id."""
_log = logging.getLogger(__name__)


class Nursery:
    """Where new shims come from."""

    def __init__(self, paths: Paths, options: Json, launcher: Launcher) -> None:
        self.build = build_id()
        self.problem: str | None = None
        """Why there is no zygote, while there is none."""
        self._paths = paths
        self._options = {**options, "build": self.build}
        self._launcher = launcher
        self._zygote: Link | None = None
        self._finding = asyncio.Lock()
        self._replacing: asyncio.Task[None] | None = None

    async def open(self) -> None:
        """Have a zygote, or go on trying to have one."""
        try:
            await self._find()
        except ZygoteFailed:
            self._have_another()

    async def close(self) -> None:
        """Disconnect."""
        if self._replacing is not None:
            self._replacing.cancel()
            await asyncio.gather(self._replacing, return_exceptions=True)
        if self._zygote is not None:
            self._zygote.close()

    async def fork(self) -> ShimId:
        """A new shim, which listens. Raises ZygoteFailed."""
        try:
            return await self._fork()
        except ShimGone:  # it has just died, or is silent: there will be another
            try:
                return await self._fork()
            except ShimGone as problem:
                raise ZygoteFailed(f"cannot make a shim: {problem}") from None

    async def _fork(self) -> ShimId:
        shim = ShimId(secrets.token_hex(4))  # of its own at each try: a silent zygote may wake up and do it yet
        zygote = self._zygote or await self._find()
        try:
            await zygote.ask({"op": "fork", "shim": shim})
        except Refused as problem:
            raise ZygoteFailed(f"cannot make a shim: {problem}") from None
        except ShimGone:
            if self._zygote is zygote:
                zygote.close()
                self._lost()
            raise
        return shim

    async def _find(self) -> Link:
        """A zygote of this build, started if there is none, and named as the current one."""
        async with self._finding:
            if self._zygote is not None:
                return self._zygote
            try:
                self._zygote = await self._found() or await self._started()
            except (OSError, ZygoteFailed) as problem:
                self.problem = str(problem)
                _log.error("no zygote", extra={"reason": self.problem})
                raise ZygoteFailed(self.problem) from None
            self.problem = None
            return self._zygote

    async def _found(self) -> Link | None:
        for entry in sorted(self._paths.zygotes.iterdir()):
            if not client.is_locked(entry / "lock"):
                await asyncio.to_thread(shutil.rmtree, entry, ignore_errors=True)
            elif entry.name.startswith(f"{self.build}-") and (link := await self._greet(entry)):
                return self._adopt(entry.name, link)
        return None

    async def _started(self) -> Link:
        zygote = f"{self.build}-{secrets.token_hex(4)}"
        await self._start(zygote)
        if link := await self._greet(self._paths.zygotes / zygote):
            return self._adopt(zygote, link)
        raise ZygoteFailed("the new zygote does not answer")

    async def _greet(self, directory: Path) -> Link | None:
        link = None
        try:
            async with asyncio.timeout(_ANSWER_SECONDS):
                link = await Link.to(directory)
                await link.ask({"op": "hello", "versions": client.SPOKEN})
                await link.ask({"op": "configure", "options": self._options})
        except (OSError, ShimGone, TimeoutError, Refused) as problem:
            _log.warning("zygote unusable", extra={"zygote": directory.name, "reason": str(problem)})
            if link is not None:
                link.close()
            return None
        return link

    def _adopt(self, zygote: str, link: Link) -> Link:
        try:
            self._name(zygote)
        except OSError:
            link.close()
            raise
        link.on_lost = self._lost
        return link

    def _name(self, zygote: str) -> None:
        current = self._paths.current_zygote
        if not current.exists() or current.read_text().strip() != zygote:  # on a full disk nothing can be written
            fresh = current.with_suffix(".new")
            fresh.write_text(zygote + "\n")
            fresh.replace(current)

    async def _start(self, zygote: str) -> None:
        """Run it until it says that it listens."""
        options = {name: value for name, value in self._options.items() if name != "start_env"}  # no secrets in argv
        argv = [
            *self._launcher(zygote),
            *_zygote_command(),
            str(self._paths.state),
            zygote,
            json.dumps(options),
        ]
        null, pipe = asyncio.subprocess.DEVNULL, asyncio.subprocess.PIPE
        process = await asyncio.create_subprocess_exec(
            *argv, stdin=null, stdout=null, stderr=pipe, env=_clean_environment(), cwd="/"
        )
        try:
            async with asyncio.timeout(_START_SECONDS):
                _, text = await process.communicate()
        except TimeoutError:
            process.kill()
            await process.wait()
            raise ZygoteFailed(f"the zygote did not start within {_START_SECONDS:.0f} s") from None
        if process.returncode:
            reason = text.decode(errors="replace").strip() or f"exit code {process.returncode}"
            raise ZygoteFailed(f"the zygote cannot start: {reason}")

    def _lost(self) -> None:
        self._zygote = None
        _log.warning("zygote gone")
        self._have_another()

    def _have_another(self) -> None:
        if self._replacing is None or self._replacing.done():
            self._replacing = asyncio.get_running_loop().create_task(self._replace())

    async def _replace(self) -> None:
        pause = _FIRST_PAUSE_SECONDS
        while self._zygote is None:
            try:
                await self._find()
            except ZygoteFailed:
                await asyncio.sleep(pause)
                pause = min(2 * pause, _LONGEST_PAUSE_SECONDS)


def build_id() -> str:
    """The version, and a checksum of the shim's sources: zygotes of another build are not used."""
    checksum = 0
    for source in sorted((_ROOT / "stratavore" / "shim").glob("*.py")):
        checksum = zlib.crc32(source.read_bytes(), checksum)
    return f"{__version__}-{checksum:08x}"


def _zygote_command() -> list[str]:
    """A clean interpreter: no site, no environment, nothing that was imported here."""
    if getattr(sys, "frozen", False):
        return [sys.executable, "_zygote"]
    code = f"import sys; sys.path.insert(0, {str(_ROOT)!r}); from stratavore.shim.zygote import main; main()"
    return [sys.executable, "-I", "-S", "-c", code, "stratavore-zygote"]


def _clean_environment() -> dict[str, str]:
    """Nothing of the bundler, nothing of whoever called the daemon."""
    kept = {name: os.environ[name] for name in ("PATH", "HOME", "LANG") if name in os.environ}
    return {**kept, "PYINSTALLER_RESET_ENVIRONMENT": "1"} if getattr(sys, "frozen", False) else kept
