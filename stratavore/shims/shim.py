"""One shim, as the daemon knows it."""

import time
from dataclasses import dataclass, field

from stratavore.model import ShimId
from stratavore.shim.client import ExitRecord, Json
from stratavore.shims.link import Link
from stratavore.shims.requests import Holding, ShimGone


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

    def holding(self, entry: Json) -> Holding | ExitRecord:
        """An entry of its list."""
        if record := entry.get("record"):
            return ExitRecord.from_wire(record)
        return Holding(shim=self.id, boot_id=self.boot_id, **entry)
