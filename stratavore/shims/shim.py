"""One shim, as the daemon knows it."""

import time
from dataclasses import dataclass, field
from typing import Any

from stratavore.model import ShimId
from stratavore.shim.client import ExitRecord, Json
from stratavore.shims.link import Link
from stratavore.shims.requests import Holding, ShimGone

_LIST_SECONDS = 5.0


@dataclass(eq=False, slots=True)
class Shim:
    """What the daemon keeps about one shim."""

    id: ShimId
    link: Link | None = None
    build: str = ""
    boot_id: str = ""
    pid: int = 0
    keys: set[str] = field(default_factory=set)
    """Runs that occupy a place: live ones."""
    reserved: int = 0
    health: str = "ok"
    """`ok`, `unresponsive` or `incompatible`."""
    used_at: float = field(default_factory=time.monotonic)

    def linked(self) -> Link:
        """The connection to it. Raises ShimGone."""
        if self.link is None:
            raise ShimGone(f"shim {self.id} is not connected ({self.health})")
        return self.link

    async def list(self, **which: Any) -> dict[str, Holding | ExitRecord]:
        """What it holds, by key: of `which` `key`, without labels if `brief`. Raises ShimGone."""
        reply = await self.linked().ask({"op": "list", **which}, seconds=_LIST_SECONDS)
        return {entry["key"]: self._holding(entry) for entry in reply["entries"]}

    def _holding(self, entry: Json) -> Holding | ExitRecord:
        if record := entry.get("record"):
            return ExitRecord.from_wire(record)
        return Holding(shim=self.id, boot_id=self.boot_id, **entry)
