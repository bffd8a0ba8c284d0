"""What the disk did, said to a person: SQLite's error codes become errors of ours.

Rule 1: a fault that passes (no room, locked, read-only) is Degraded; one that may have lost something is StorageFailed.
Rule 2: a reason names what is wrong and where: free bytes, the limit, the process that holds the lock.
Rule 3: a write error that no known limit explains counts as loss, never as "try again".
"""

import errno
import os
import resource
import tempfile
from pathlib import Path
from typing import TypeGuard

import apsw

from stratavore.errors import Corrupt, Degraded, StorageFailed, StratavoreError
from stratavore.store.place import side_file

ROOM_BYTES = 1024 * 1024  # Less than this free counts as full, and as much must be there to begin again.

_RESULTS_OF_STORAGE = frozenset({
    apsw.SQLITE_BUSY, apsw.SQLITE_LOCKED, apsw.SQLITE_FULL, apsw.SQLITE_IOERR, apsw.SQLITE_READONLY,
    apsw.SQLITE_CANTOPEN, apsw.SQLITE_CORRUPT, apsw.SQLITE_NOTADB, apsw.SQLITE_PROTOCOL,
})  # fmt: skip
_RESULTS_OF_DAMAGE = frozenset({apsw.SQLITE_CORRUPT, apsw.SQLITE_NOTADB})
_ERRNOS_THAT_PASS = frozenset({errno.ENOSPC, errno.EDQUOT, errno.EFBIG, errno.EROFS, errno.EMFILE, errno.ENFILE})
_FLUSHES = frozenset({apsw.SQLITE_IOERR_FSYNC, apsw.SQLITE_IOERR_DIR_FSYNC})
# The file ends too early, or the file system itself says that its content is wrong.
_IO_OF_DAMAGE = frozenset({apsw.SQLITE_IOERR_SHORT_READ, apsw.SQLITE_IOERR_CORRUPTFS, apsw.SQLITE_IOERR_DATA})
_WRITE_LOCK_BYTE = 120  # Where the WAL's writer locks the -shm file: WAL_WRITE_LOCK, https://sqlite.org/walformat.html


def is_of_storage(error: BaseException) -> TypeGuard[apsw.Error]:
    """Whether `error` tells of the disk or the file, and not of the statement that met it."""
    return isinstance(error, apsw.Error) and _result(error) in _RESULTS_OF_STORAGE


def is_damage(error: apsw.Error) -> bool:
    """Whether `error` tells that the content of the file is wrong."""
    return _result(error) in _RESULTS_OF_DAMAGE or getattr(error, "extendedresult", 0) in _IO_OF_DAMAGE


def explain(error: Exception, path: Path, *, system_errno: int = 0) -> StratavoreError:
    """What `error`, met at the database `path`, means for a user.

    `system_errno` is the errno of the connection's last failed call (`Connection.system_errno`), 0 if there is none.
    """
    if isinstance(error, StratavoreError):
        return error
    if isinstance(error, OSError):
        return _explain_io(path, str(error), error.errno or 0)
    if not is_of_storage(error):
        return StorageFailed(f"the database could not be written: {error}")
    if is_damage(error):
        return Corrupt(f"{path} is damaged: {error}")
    match _result(error):
        case apsw.SQLITE_BUSY | apsw.SQLITE_LOCKED | apsw.SQLITE_PROTOCOL:
            return Degraded(
                f"{path} is locked by {lock_holder(path) or 'another process'}",
                remedy="end that process, or let it finish; the daemon looks again every few seconds",
            )
        case apsw.SQLITE_FULL:
            return Degraded(no_room(path) or f"the disk of {path.parent} is full")
        case apsw.SQLITE_READONLY:
            return Degraded(
                f"{path} cannot be written: {_read_only(path) or 'permission denied'}",
                remedy="make it writable again; the daemon looks again every few seconds",
            )
        case _:
            if getattr(error, "extendedresult", 0) in _FLUSHES:
                return StorageFailed(f"the disk did not keep what was written to {path}: {error}")
            return _explain_io(path, str(error), system_errno)


def no_room(path: Path) -> str | None:
    """Why a file beside `path` cannot grow: the disk, its inodes, or a limit of this process; None if it can."""
    space = os.statvfs(path.parent)
    if (free := space.f_bavail * space.f_frsize) < ROOM_BYTES:
        return f"the disk of {path.parent} is full ({free // 1024} KiB free)"
    if space.f_files and not space.f_favail:
        return f"the disk of {path.parent} has no inode free"
    limit, _ = resource.getrlimit(resource.RLIMIT_FSIZE)
    if limit != resource.RLIM_INFINITY and max(_sizes(path)) + ROOM_BYTES > limit:
        return f"no file may grow over {limit // 1024} KiB here (`ulimit -f`)"
    return None


def prove_room(path: Path) -> None:
    """Look for room, then take ROOM_BYTES beside `path` and give them back: a quota shows only so.

    Raises:
        Degraded, OSError: there is none.
    """
    if reason := no_room(path):
        raise Degraded(reason)
    with tempfile.TemporaryFile(dir=path.parent) as file:
        os.posix_fallocate(file.fileno(), 0, ROOM_BYTES)


def lock_holder(path: Path, locks: str | None = None) -> str | None:
    """Who holds the write lock of the database `path`, as `pid N (name)`; None when nobody is seen.

    `locks` is the text of /proc/locks (see proc(5)).
    """
    wanted = {_inode_of(side_file(path, "-shm")), _inode_of(path)}
    own, seen = os.getpid(), None
    for line in (Path("/proc/locks").read_text() if locks is None else locks).splitlines():
        fields = [field for field in line.split() if field != "->"]
        if len(fields) < 8 or fields[1] not in ("POSIX", "OFDLCK") or fields[3] != "WRITE":
            continue
        pid, inode = int(fields[4]), int(fields[5].rpartition(":")[2])
        if inode in wanted and pid != own:
            seen = pid
            if int(fields[6]) == _WRITE_LOCK_BYTE:
                break
    return f"pid {seen} ({_name_of(seen)})" if seen is not None else None


def _explain_io(path: Path, text: str, number: int) -> StratavoreError:
    reason = _read_only(path) or no_room(path)
    if reason is None and number in _ERRNOS_THAT_PASS:
        reason = f"{path} cannot be written: {os.strerror(number)}"
    if reason is not None:
        return Degraded(reason)
    why = f" ({os.strerror(number)})" if number else ""
    return StorageFailed(f"the disk failed at {path}: {text}{why}")


def _read_only(path: Path) -> str | None:
    if os.statvfs(path.parent).f_flag & os.ST_RDONLY:
        return f"the file system of {path.parent} is read-only"
    return None


def _result(error: apsw.Error) -> int:
    # An error that a callback raised carries no code.
    return getattr(error, "result", apsw.SQLITE_ERROR)


def _sizes(path: Path) -> list[int]:
    files = (path, side_file(path, "-wal"))
    return [file.stat().st_size for file in files if file.exists()] or [0]


def _inode_of(path: Path) -> int:
    try:
        return path.stat().st_ino
    except OSError:
        return -1


def _name_of(pid: int) -> str:
    try:
        return Path(f"/proc/{pid}/comm").read_text().strip()
    except OSError:
        return "ended"
