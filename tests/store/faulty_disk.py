"""A disk that obeys a test: SQLite's I/O goes through it and can be slowed, refused, or cut off by a power loss.

Rule 1: what is written is on the disk only once it was synced; until then any part of it may be there, in any order.
Rule 2: a sector of 512 bytes is written whole or not at all, and writing one does not hurt its neighbours. (SQLite is
built with the same assumption, SQLITE_IOCAP_POWERSAFE_OVERWRITE.)
Rule 3: making and deleting a file is durable at once; the shared memory file does not survive.
"""

import random
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import NamedTuple

import apsw

NAME = "faulty"
_SECTOR = 512


class Write(NamedTuple):
    """Bytes that were written and not synced; None truncates at `offset`."""

    offset: int
    data: bytes | None


class Platter:
    """One file as the disk has it: what is certain, and what is on its way."""

    def __init__(self) -> None:
        self.certain = bytearray()
        self.pending: list[Write] = []

    def sync(self) -> None:
        for write in self.pending:
            _apply(self.certain, write)
        self.pending.clear()

    def after_power_loss(self, rng: random.Random) -> bytes:
        """What is found when the power is back."""
        found = bytearray(self.certain)
        fate = rng.choice(("nothing", "all", "the first", "any sectors"))
        for write in self.pending[: rng.randrange(len(self.pending) + 1)] if fate == "the first" else self.pending:
            if fate in ("all", "the first"):
                _apply(found, write)
            elif fate == "any sectors":
                for part in _sectors(write):
                    if rng.random() < 0.5:
                        _apply(found, part)
        return bytes(found)


class Disk(apsw.VFS):
    """The default file system of SQLite while `inserted`; its hooks see every write and sync before they happen."""

    def __init__(self) -> None:
        super().__init__(NAME, "unix")
        self.platters: dict[str, Platter] = {}
        self.honours_sync = True
        self.before_write: Callable[[str], None] = lambda name: None
        self.before_sync: Callable[[str], None] = lambda name: None

    def xOpen(self, name: str | apsw.URIFilename | None, flags: list[int]) -> "_File":  # noqa: N802
        return _File(self, name, flags)

    def xDelete(self, filename: str, syncdir: bool) -> None:  # noqa: N802
        super().xDelete(filename, syncdir)
        self.platters.pop(filename, None)

    def write_remains(self, directory: Path, rng: random.Random) -> None:
        """Lay down in `directory` what a power loss at this moment leaves of every file."""
        for name, platter in self.platters.items():
            (directory / Path(name).name).write_bytes(platter.after_power_loss(rng))


@contextmanager
def inserted() -> Iterator[Disk]:
    """Everything that SQLite opens meanwhile in this process lies on the faulty disk."""
    disk, before = Disk(), apsw.vfs_names()[0]
    apsw.set_default_vfs(NAME)
    try:
        yield disk
    finally:
        apsw.set_default_vfs(before)
        disk.unregister()


class _File(apsw.VFSFile):
    def __init__(self, disk: Disk, name: str | apsw.URIFilename | None, flags: list[int]) -> None:
        super().__init__("unix", name, flags)
        self._disk = disk
        self._name = name.filename() if isinstance(name, apsw.URIFilename) else name or "temporary"
        self._platter = disk.platters.setdefault(self._name, Platter())

    def xWrite(self, data: bytes, offset: int) -> None:  # noqa: N802
        self._disk.before_write(self._name)
        self._platter.pending.append(Write(offset, bytes(data)))
        super().xWrite(data, offset)

    def xTruncate(self, newsize: int) -> None:  # noqa: N802
        self._disk.before_write(self._name)
        self._platter.pending.append(Write(newsize, None))
        super().xTruncate(newsize)

    def xSync(self, flags: int) -> None:  # noqa: N802
        self._disk.before_sync(self._name)
        if self._disk.honours_sync:
            self._platter.sync()


def _apply(content: bytearray, write: Write) -> None:
    if write.data is None:
        del content[write.offset :]
        return
    content.extend(bytes(max(0, write.offset - len(content))))
    content[write.offset : write.offset + len(write.data)] = write.data


def _sectors(write: Write) -> list[Write]:
    if write.data is None:
        return [write]
    offset, data, parts = write.offset, write.data, []
    while data:
        length = _SECTOR - offset % _SECTOR
        parts.append(Write(offset, data[:length]))
        offset, data = offset + length, data[length:]
    return parts
