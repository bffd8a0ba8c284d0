"""The zygote of this build: found or started, and asked for new shims.

Rule 1: only a zygote of this very build is used, for what it forks is spoken to as this build speaks.
Rule 2: the one that is used is named in `zygote.current`; it alone starts the daemon again.
Rule 3: it begins as a clean interpreter: nothing of whoever called the daemon, nothing of the bundler.
"""

import asyncio
import json
import logging
import os
import secrets
import shutil
import sys
import zlib
from collections.abc import Sequence
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
_log = logging.getLogger(__name__)


class Nursery:
    """Where new shims come from."""

    def __init__(self, paths: Paths, options: Json, launcher: Sequence[str]) -> None:
        self.build = build_id()
        self._paths = paths
        self._options = {**options, "build": self.build}
        self._launcher = tuple(launcher)
        self._zygote: Link | None = None
        self._finding = asyncio.Lock()
        self._replacing: asyncio.Task[None] | None = None

    async def open(self) -> None:
        """Have a zygote. Raises ZygoteFailed."""
        await self._find()

    async def close(self) -> None:
        """Disconnect."""
        if self._replacing is not None:
            self._replacing.cancel()
            await asyncio.gather(self._replacing, return_exceptions=True)
        if self._zygote is not None:
            self._zygote.close()

    async def fork(self) -> ShimId:
        """A new shim, which listens. Raises ZygoteFailed."""
        shim = ShimId(secrets.token_hex(4))
        try:
            zygote = self._zygote or await self._find()
            await zygote.ask({"op": "fork", "shim": shim})
        except (Refused, ShimGone) as problem:
            raise ZygoteFailed(f"cannot make a shim: {problem}") from None
        return shim

    async def _find(self) -> Link:
        """A zygote of this build, started if there is none, and named as the current one."""
        async with self._finding:
            if self._zygote is not None:
                return self._zygote
            for entry in sorted(self._paths.zygotes.iterdir()):
                if not client.is_locked(entry / "lock"):
                    await asyncio.to_thread(shutil.rmtree, entry, ignore_errors=True)
                elif entry.name.startswith(f"{self.build}-") and (link := await self._greet(entry)):
                    return self._adopt(entry.name, link)
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
        link.on_lost = self._lost
        self._zygote = link
        fresh = self._paths.current_zygote.with_suffix(".new")
        fresh.write_text(zygote + "\n")
        fresh.replace(self._paths.current_zygote)
        return link

    async def _start(self, zygote: str) -> None:
        """Run it until it says that it listens."""
        options = {name: value for name, value in self._options.items() if name != "start_env"}  # no secrets in argv
        argv = [*self._launcher, *_zygote_command(), str(self._paths.state), zygote, json.dumps(options)]
        null, pipe = asyncio.subprocess.DEVNULL, asyncio.subprocess.PIPE
        process = await asyncio.create_subprocess_exec(
            *argv, stdin=null, stdout=null, stderr=pipe, env=_clean_environment(), cwd="/"
        )
        _, text = await process.communicate()
        if process.returncode:
            reason = text.decode(errors="replace").strip() or f"exit code {process.returncode}"
            raise ZygoteFailed(f"the zygote cannot start: {reason}")

    def _lost(self) -> None:
        """Without a zygote nobody would start a dead daemon again, so have another soon."""
        self._zygote = None
        _log.warning("zygote gone")
        self._replacing = asyncio.get_running_loop().create_task(self._replace())

    async def _replace(self) -> None:
        try:
            await self._find()
        except ZygoteFailed as problem:
            _log.error("no zygote", extra={"reason": str(problem)})


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
