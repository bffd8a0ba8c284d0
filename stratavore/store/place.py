"""The place of the database: is it ours, private, local, and still the one we opened?

Rule 1: the directory is ours and 0700, the file ours and 0600; neither is a link.
Rule 2: network file systems are refused, with no override: their locks and flushes do not hold.
Rule 3: a file that another process opened is never opened here by hand: closing it would drop SQLite's own locks on it.
"""

import errno
import os
import stat
from contextlib import suppress
from pathlib import Path
from typing import NamedTuple

from stratavore.errors import Degraded, Misconfigured

NETWORK_FILE_SYSTEMS = frozenset(
    "nfs nfs4 cifs smb3 smbfs 9p ceph glusterfs afs lustre davfs"
    " fuse.sshfs fuse.glusterfs fuse.ceph fuse.davfs fuse.rclone".split()
)
MOUNTINFO = Path("/proc/self/mountinfo")
SIDE_FILES = ("-wal", "-shm", "-journal")


def side_file(path: Path, suffix: str) -> Path:
    """The file beside the database with this suffix, such as `-wal`."""
    return path.with_name(path.name + suffix)


def prepare(path: Path, *, mountinfo: Path = MOUNTINFO) -> None:
    """Make the directory and the empty file of the database if they are missing; check them if they are not.

    `mountinfo` says which file systems there are, see `file_system_of`.

    Raises:
        Misconfigured: rule 1 or 2 is broken, or they cannot be made.
        OSError: the disk is full or read-only.
    """
    try:
        _prepare_directory(path.parent)
        _refuse_network(path.parent, mountinfo.read_text())
        _prepare_file(path)
    except OSError as error:
        if error.errno in (errno.ENOSPC, errno.EDQUOT, errno.EROFS):
            raise
        raise Misconfigured(
            f"{error.filename or path}: {error.strerror}",
            remedy="name a directory of your own in STRATAVORE_HOME",
        ) from error


def file_system_of(directory: Path, mountinfo: str) -> str:
    """The type of the file system that holds `directory`, by the longest mount point in front of it.

    `mountinfo` is the text of /proc/self/mountinfo (see proc(5)); of equal mount points the last one is on top.
    """
    wanted, found, longest = str(directory.resolve()), "", -1
    for line in mountinfo.splitlines():
        left, _, right = line.partition(" - ")
        # The kernel writes space, tab, newline and backslash as three octal digits.
        escaped = left.split()[4].encode().decode("unicode_escape")
        point = escaped.encode("latin-1").decode(errors="surrogateescape")
        inside = point == "/" or wanted == point or wanted.startswith(point + "/")
        if inside and len(point) >= longest:
            longest, found = len(point), right.split()[0]
    return found


class _Inodes(NamedTuple):
    database: tuple[int, int] | None
    wal: tuple[int, int] | None


class Place:
    """Remembers which files were opened, to notice when someone moves, deletes or replaces them."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self._wal = side_file(path, "-wal")
        self._opened = self._now()

    def verify(self) -> None:
        """Two stats. Raises Degraded when the path no longer leads to what was opened."""
        now = self._now()
        if now == self._opened:
            return
        gone = now.database is None or (now.wal is None and now.database == self._opened.database)
        what = self.path if now.database != self._opened.database else self._wal
        raise Degraded(
            f"{what} was {'moved away or deleted' if gone else 'replaced'} while the daemon was running",
            remedy="put the files back as they were; or restart the daemon to go on with what lies there now",
        )

    def _now(self) -> _Inodes:
        return _Inodes(_inode(self.path), _inode(self._wal))


def _inode(path: Path) -> tuple[int, int] | None:
    try:
        found = os.stat(path)
    except FileNotFoundError:
        return None
    return found.st_dev, found.st_ino


def _prepare_directory(directory: Path) -> None:
    with suppress(FileExistsError):
        directory.mkdir(mode=0o700, parents=True)
    found = directory.lstat()
    if stat.S_ISLNK(found.st_mode) or not stat.S_ISDIR(found.st_mode):
        raise Misconfigured(f"{directory} is not a directory", remedy="name the directory itself in STRATAVORE_HOME")
    if found.st_uid != os.geteuid():
        raise Misconfigured(f"{directory} belongs to uid {found.st_uid}", remedy="use a directory of your own")
    if found.st_mode & 0o022:
        # Whoever could write here may have planted something: looking away would be worse than stopping.
        raise Misconfigured(
            f"other users may write to {directory}",
            remedy=f"look what lies in it, then `chmod 700 {directory}`",
        )
    if found.st_mode & 0o077:
        directory.chmod(0o700)


def _refuse_network(directory: Path, mountinfo: str) -> None:
    kind = file_system_of(directory, mountinfo)
    if kind in NETWORK_FILE_SYSTEMS:
        raise Misconfigured(
            f"{directory} is on a network file system ({kind}), where SQLite is not safe",
            remedy="set STRATAVORE_HOME to a directory on a local disk",
        )


def _prepare_file(path: Path) -> None:
    with suppress(FileExistsError):
        # Before SQLite sees it, so that it is never readable by others, not for a moment; -wal and -shm inherit.
        os.close(os.open(path, os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC | os.O_RDWR, 0o600))
    for each in (path, *(side_file(path, suffix) for suffix in SIDE_FILES)):
        _check_file(each, must_exist=each == path)


def _check_file(path: Path, *, must_exist: bool) -> None:
    try:
        found = path.lstat()
    except FileNotFoundError:
        if must_exist:
            raise
        return
    if not stat.S_ISREG(found.st_mode) or found.st_nlink != 1:
        raise Misconfigured(f"{path} is a link, or no plain file", remedy="look what it is, and move it away")
    if found.st_uid != os.geteuid():
        raise Misconfigured(f"{path} belongs to uid {found.st_uid}", remedy="move it away, or `chown` it")
    if found.st_mode & 0o077:
        path.chmod(0o600)
