"""Where a database may lie, how it is opened, and what is refused before anything is touched."""

import os
import sqlite3
from hashlib import sha256
from pathlib import Path

import apsw
import pytest

from stratavore.errors import DaemonUnreachable, Degraded, Misconfigured, NewerSchema, NotFound
from stratavore.store.connect import is_free_of_wal_reset_bug, sqlite_version
from stratavore.store.database import Database, Durability, open_readonly
from stratavore.store.place import file_system_of, prepare
from tests.store.conftest import Python


def test_the_linked_sqlite_is_free_of_the_wal_reset_bug() -> None:
    assert is_free_of_wal_reset_bug(sqlite_version())


@pytest.mark.parametrize(
    ("version", "is_free"),
    [
        ((3, 40, 1), False), ((3, 44, 5), False), ((3, 44, 6), True), ((3, 45, 0), False), ((3, 50, 6), False),
        ((3, 50, 7), True), ((3, 51, 0), False), ((3, 51, 2), False), ((3, 51, 3), True), ((3, 54, 1), True),
    ],
)  # fmt: skip
def test_the_versions_with_the_wal_reset_bug_are_known(version: tuple[int, ...], is_free: bool) -> None:
    assert is_free_of_wal_reset_bug(version) == is_free


@pytest.mark.parametrize(("durability", "synchronous"), [(Durability.FULL, 2), (Durability.NORMAL, 1)])
def test_every_pragma_sticks(path: Path, migrations: Path, durability: Durability, synchronous: int) -> None:
    database = Database.open(path, durability=durability, migrations=migrations)
    wanted = {
        "journal_mode": "wal", "synchronous": synchronous, "foreign_keys": 1, "recursive_triggers": 1, "mmap_size": 0,
        "trusted_schema": 0, "cell_size_check": 1, "temp_store": 2, "page_size": 4096, "auto_vacuum": 2,
        "application_id": 0x53545241, "user_version": 1, "wal_autocheckpoint": 0, "journal_size_limit": 67108864,
    }  # fmt: skip
    found = database.write_blocking(lambda tx: {name: tx.scalar(f"PRAGMA {name}") for name in wanted})
    assert found == wanted
    assert database.reader().scalar("PRAGMA query_only") == 1
    database.close()


def test_everything_is_private_from_the_beginning(path: Path, migrations: Path) -> None:
    before = os.umask(0)
    try:
        database = Database.open(path, migrations=migrations)
    finally:
        os.umask(before)
    modes = {file.name: file.stat().st_mode & 0o777 for file in path.parent.iterdir()}
    database.close()
    assert path.parent.stat().st_mode & 0o777 == 0o700
    assert modes == {"state.db": 0o600, "state.db-wal": 0o600, "state.db-shm": 0o600}


def test_a_directory_others_can_read_is_closed_to_them(path: Path, migrations: Path) -> None:
    path.parent.mkdir(mode=0o755)
    Database.open(path, migrations=migrations).close()
    assert path.parent.stat().st_mode & 0o777 == 0o700


def test_a_directory_others_can_write_is_refused(path: Path, migrations: Path) -> None:
    path.parent.mkdir()
    path.parent.chmod(0o777)
    with pytest.raises(Misconfigured, match="other users may write"):
        Database.open(path, migrations=migrations)
    assert list(path.parent.iterdir()) == []


def test_a_linked_directory_is_refused(path: Path, migrations: Path, tmp_path: Path) -> None:
    (tmp_path / "elsewhere").mkdir()
    path.parent.symlink_to(tmp_path / "elsewhere")
    with pytest.raises(Misconfigured, match="is not a directory"):
        Database.open(path, migrations=migrations)


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can give a directory away")
def test_a_foreign_directory_is_refused(path: Path, migrations: Path) -> None:
    path.parent.mkdir(mode=0o700)
    os.chown(path.parent, 65534, -1)
    with pytest.raises(Misconfigured, match="belongs to uid 65534"):
        Database.open(path, migrations=migrations)


@pytest.mark.parametrize("name", ["state.db", "state.db-wal", "state.db-journal"])
@pytest.mark.parametrize("kind", ["symlink", "hardlink"])
def test_a_planted_link_is_refused_and_its_target_untouched(
    path: Path, migrations: Path, tmp_path: Path, name: str, kind: str
) -> None:
    path.parent.mkdir(mode=0o700)
    canary = tmp_path / "canary"
    canary.write_text("sings")
    planted = path.parent / name
    if kind == "symlink":
        planted.symlink_to(canary)
    else:
        planted.hardlink_to(canary)
    with pytest.raises(Misconfigured, match="is a link"):
        Database.open(path, migrations=migrations)
    assert canary.read_text() == "sings"


def test_a_database_of_something_else_is_refused(path: Path, migrations: Path) -> None:
    path.parent.mkdir(mode=0o700)
    foreign = sqlite3.connect(path)
    foreign.execute("CREATE TABLE bookmarks (url)")
    foreign.commit()
    foreign.close()
    before = path.read_bytes()
    with pytest.raises(Misconfigured, match="not a database of Stratavore"):
        Database.open(path, migrations=migrations)
    assert path.read_bytes() == before


MOUNTINFO = r"""
22 1 254:0 / / rw,relatime - ext4 /dev/vda rw
30 22 0:40 / /home rw,relatime shared:1 - nfs4 server:/home rw
31 30 0:41 / /home/me/my\040disk rw,relatime shared:2 master:3 - ext4 /dev/vdb rw
32 22 0:42 / /tmp rw - tmpfs tmpfs rw
33 22 0:43 / /mnt/caf\303\251 rw - fuse.sshfs me@host: rw
34 22 0:44 / /mnt/twice rw - ext4 /dev/vdc rw
35 22 0:45 / /mnt/twice rw - cifs //host/share rw
"""


@pytest.mark.parametrize(
    ("directory", "kind"),
    [
        ("/srv/x", "ext4"), ("/home/me", "nfs4"), ("/home", "nfs4"), ("/homework", "ext4"),
        ("/home/me/my disk/state", "ext4"), ("/tmp/x", "tmpfs"), ("/mnt/café/x", "fuse.sshfs"), ("/mnt/twice", "cifs"),
    ],
)  # fmt: skip
def test_the_file_system_is_that_of_the_longest_mount_point(directory: str, kind: str) -> None:
    assert file_system_of(Path(directory), MOUNTINFO.strip()) == kind


def test_a_network_file_system_is_refused_before_anything_is_written(path: Path, tmp_path: Path) -> None:
    mountinfo = tmp_path / "mountinfo"
    mountinfo.write_text(f"22 1 0:40 / {tmp_path} rw,relatime - nfs4 server:/home rw\n")
    with pytest.raises(Misconfigured, match=r"network file system \(nfs4\)"):
        prepare(path, mountinfo=mountinfo)
    assert not path.exists()


def test_the_file_system_of_this_machine_is_found() -> None:
    assert file_system_of(Path("/proc"), Path("/proc/self/mountinfo").read_text()) == "proc"


def test_a_newer_schema_is_refused_and_not_a_byte_changes(path: Path, migrations: Path) -> None:
    """Also what only the WAL holds stays there: a newer program, killed a moment ago, will want it."""
    database = Database.open(path, migrations=migrations)
    database.write_blocking(lambda tx: tx.execute("PRAGMA user_version = 7"))
    held = {file: file.read_bytes() for file in path.parent.iterdir()}
    database.close()
    for file, content in held.items():
        file.write_bytes(content)
    for opening in (Database.open, open_readonly):
        with pytest.raises(NewerSchema, match="has schema 7, this program knows 1"):
            opening(path, migrations=migrations)
    for file, content in held.items():
        if not file.name.endswith("-shm"):
            assert sha256(file.read_bytes()).digest() == sha256(content).digest()


def test_a_readonly_file_system_is_degraded(small_disk: Path, migrations: Path) -> None:
    path = small_disk / "state" / "state.db"
    Database.open(path, migrations=migrations).close()
    assert os.system(f"mount -o remount,ro {small_disk}") == 0  # noqa: S605
    with pytest.raises(Degraded, match="read-only"):
        Database.open(path, migrations=migrations)
    with pytest.raises(Degraded, match="read-only"):
        open_readonly(path, migrations=migrations)


def test_reading_while_no_daemon_runs(path: Path, migrations: Path) -> None:
    with pytest.raises(NotFound):
        open_readonly(path, migrations=migrations)
    database = Database.open(path, migrations=migrations)
    database.write_blocking(lambda tx: tx.execute("INSERT INTO things (name, size) VALUES ('a', 1)"))
    database.close()
    with open_readonly(path, migrations=migrations) as rows:
        assert rows.one("SELECT name FROM things") == {"name": "a"}
        with pytest.raises(apsw.ReadOnlyError):
            rows.all("DELETE FROM things")


@pytest.mark.parametrize("index", ["kept", "gone"])
def test_reading_what_a_killed_daemon_left(path: Path, migrations: Path, python: Python, index: str) -> None:
    """The WAL holds all of it; a reader rebuilds its index by itself, without a writer and without the lock."""
    child = python(WRITES_AND_HANGS, path, migrations)
    assert child.stdout is not None
    assert child.stdout.readline() == "written\n"
    child.kill()
    child.wait()
    if index == "gone":
        path.with_name("state.db-shm").unlink()
    with open_readonly(path, migrations=migrations) as rows:
        assert rows.one("SELECT name FROM things") == {"name": "a"}


WRITES_AND_HANGS = """
import sys, time
from pathlib import Path
from stratavore.store.database import Database
database = Database.open(Path(sys.argv[1]), migrations=Path(sys.argv[2]))
database.write_blocking(lambda tx: tx.execute("INSERT INTO things (name, size) VALUES ('a', 1)"))
print("written", flush=True)
time.sleep(600)
"""


def test_reading_an_older_schema_waits_for_the_daemon(path: Path, migrations: Path) -> None:
    Database.open(path, migrations=migrations).close()
    (migrations / "0002_more.sql").write_text("CREATE TABLE more (id INTEGER PRIMARY KEY) STRICT;")
    with pytest.raises(DaemonUnreachable, match="has schema 1"):
        open_readonly(path, migrations=migrations)


def test_an_empty_file_is_a_database_that_was_never_written(path: Path, migrations: Path) -> None:
    """As a power loss in the first moments leaves it."""
    path.parent.mkdir(mode=0o700)
    path.touch(mode=0o600)
    with pytest.raises(NotFound, match="nothing was ever recorded"):
        open_readonly(path, migrations=migrations)
    Database.open(path, migrations=migrations, check=True).close()
