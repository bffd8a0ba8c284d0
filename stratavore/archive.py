"""Copies of transcripts, which outlive the agents' own clean-up: one compressed tar file for each session.

Rule 1: a copy is whole or absent: it is written beside its place, flushed, and renamed; it replaces no older one, which
goes only after the newer one was booked.
Rule 2: nothing that an agent has is ever overwritten: what is restored is linked into its place, or not at all.
Rule 3: only what a session's own files are is copied, opened so that no link leads elsewhere; what is restored lies
below the account directory, and is what was copied: the checksum is compared first.
Rule 4: all of this reads and writes files: it is called beside the loop.
"""

import hashlib
import io
import os
import subprocess
import tarfile
import tempfile
from collections.abc import Collection, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from datetime import datetime
from pathlib import Path, PurePosixPath
from typing import IO, NamedTuple

import zstandard

from stratavore import foreign
from stratavore.agents import AGENTS, RECORDS
from stratavore.agents.records import RecordDatabase
from stratavore.errors import NotFound, StorageFailed
from stratavore.writers import ERRAND

_LEVEL = 6
_CHUNK = 1 << 20
_EXPORT_SECONDS = 120.0
_UNFINISHED, _FINISHED = ".new", ".zst"
EXPORT = "export.json"
"""What an agent that keeps a database tells of one session, in its own form."""


class Copied(NamedTuple):
    """A copy: where, the checksum of what was compressed, and how large the transcript is."""

    path: Path
    sha256: str
    transcript_bytes: int


class Subject(NamedTuple):
    """The session that is copied or restored; `env` is what its agent's program is run with, in `cwd`."""

    agent: str
    id: str
    home: Path
    cwd: str | None
    env: Mapping[str, str]
    program: Sequence[str]


def place(directory: Path, agent: str, session_id: str, sha256: str) -> Path:
    """Where the copy of a session is: a newer one lies beside the older, which holds until the newer is booked."""
    return directory / f"{agent}-{session_id}.{sha256[:12]}.tar.zst"


def store(directory: Path, subject: Subject, *, at_least: int = 0) -> Copied | None:
    """Copy a session; None if there is nothing of it, or less than the `at_least` bytes that a copy has already.

    Raises:
        OSError: it could not be read or written.
    """
    if isinstance(RECORDS[subject.agent], RecordDatabase):
        told = _export(subject)
        members, size = [(EXPORT, told)], len(told or b"")
        if told is None or size < at_least:
            return None
        return _write(directory, subject, members, size)
    paths = _files(subject)
    size = _size(paths)
    if not paths or size < at_least:
        return None
    return _write(directory, subject, [(path, None) for path in paths], size)


def restore(copy: Path, sha256: str, subject: Subject) -> list[Path]:
    """Put back what has gone of a session; returns what was put back.

    Raises:
        StorageFailed: the copy is damaged, or has gone.
    """
    back = []
    with _opened(copy, sha256) as archive:
        for member in archive:
            content = archive.extractfile(member)
            if content is None:
                continue
            if member.name == EXPORT:
                back += _import(content.read(), subject)
            elif (path := _put_back(member, content, subject.home)) is not None:
                back.append(path)
    return back


@contextmanager
def opened_transcript(copy: Path, sha256: str, session_id: str) -> Iterator[IO[bytes]]:
    """The main file of a copy, or what its agent exported.

    Raises:
        StorageFailed, NotFound: the copy is damaged or has gone; it holds no such file.
    """
    with _opened(copy, sha256) as archive:
        names = archive.getnames()
        content = archive.extractfile(_main(names, session_id)) if names else None
        if content is None:
            raise NotFound(f"the copy of session {session_id} is empty")
        yield content


def remove(copy: Path) -> int:
    """Remove a copy; returns the bytes on disk that it held."""
    with suppress(OSError):
        held = copy.stat().st_blocks * 512
        copy.unlink()
        return held
    return 0


def sweep(directory: Path, kept: Collection[str], *, before: datetime) -> int:
    """Remove what crashes left of copies that were begun before that moment, and are not those that are kept.

    Returns the bytes on disk that it held.
    """
    left = [path for path in directory.glob("*") if path.suffix in (_UNFINISHED, _FINISHED) and str(path) not in kept]
    return sum(remove(path) for path in left if path.lstat().st_mtime < before.timestamp())


def _files(subject: Subject) -> list[Path]:
    """The transcript, and behind it those of its sub-agents."""
    records = RECORDS[subject.agent]
    assert not isinstance(records, RecordDatabase)
    found = sorted(records.list_files(subject.home, subject.id), key=lambda file: file.is_subagent)
    return [] if not found or found[0].is_subagent else [file.path for file in found]


def _size(paths: Sequence[Path]) -> int:
    """Of the first, which is the transcript itself."""
    return os.lstat(paths[0]).st_size if paths else 0


def _write(directory: Path, subject: Subject, members: Sequence[tuple[Path | str, bytes | None]], size: int) -> Copied:
    directory.mkdir(mode=0o700, exist_ok=True)
    prefix = f"{subject.agent}-{subject.id}."
    fd, name = tempfile.mkstemp(prefix=prefix, suffix=_UNFINISHED, dir=directory)  # 0600, and nobody else's
    try:
        with open(fd, "wb") as file, zstandard.ZstdCompressor(level=_LEVEL).stream_writer(file, closefd=False) as out:
            counted = _Counted(out)
            with tarfile.open(fileobj=counted, mode="w|") as archive:  # type: ignore[call-overload]
                for member, content in members:
                    _add(archive, subject.home, member, content)
            out.flush(zstandard.FLUSH_FRAME)
            file.flush()
            os.fsync(file.fileno())
        target = place(directory, subject.agent, subject.id, counted.sha256.hexdigest())
        os.replace(name, target)
    except BaseException:
        os.unlink(name)
        raise
    _flush(directory)
    return Copied(target, counted.sha256.hexdigest(), size)


def _add(archive: tarfile.TarFile, home: Path, member: Path | str, content: bytes | None) -> None:
    if content is not None:
        entry = tarfile.TarInfo(str(member))
        entry.size = len(content)
        archive.addfile(entry, io.BytesIO(content))
        return
    try:
        fd = foreign.open_below(home, Path(member))
    except (FileNotFoundError, foreign.Refused):
        return
    with open(fd, "rb") as file:
        seen = os.fstat(fd)
        entry = tarfile.TarInfo(Path(member).relative_to(home).as_posix())
        entry.size, entry.mtime = seen.st_size, int(seen.st_mtime)
        archive.addfile(entry, file)


def _main(names: Sequence[str], session_id: str) -> str:
    """The transcript among the files of a copy: what is named after the session, or at least after its beginning."""
    for part in (EXPORT, session_id, session_id[:8]):
        if found := [name for name in names if part in PurePosixPath(name).name]:
            return found[0]
    return names[0]


class _Counted:
    """Passes on what is written, and adds up its checksum."""

    def __init__(self, out: IO[bytes]) -> None:
        self._out = out
        self.sha256 = hashlib.sha256()

    def write(self, data: bytes) -> int:
        self.sha256.update(data)
        return self._out.write(data)


@contextmanager
def _opened(copy: Path, sha256: str) -> Iterator[tarfile.TarFile]:
    """The copy, whose checksum is right."""
    with tempfile.TemporaryFile() as plain:
        damaged = f"the copy {copy} is damaged or has gone"
        try:
            found = _unpack(copy, plain)
        except (OSError, zstandard.ZstdError) as problem:
            raise StorageFailed(f"{damaged}: {problem}", remedy="look at the disk") from problem
        if found != sha256:
            raise StorageFailed(damaged, remedy="look at the disk; the session cannot be restored from it")
        plain.seek(0)
        with tarfile.open(fileobj=plain, mode="r:") as archive:
            yield archive


def _unpack(copy: Path, plain: IO[bytes]) -> str:
    """Write what the copy is a compression of; returns its checksum."""
    digest = hashlib.sha256()
    with open(copy, "rb") as file:
        for chunk in zstandard.ZstdDecompressor().read_to_iter(file, read_size=_CHUNK):
            digest.update(chunk)
            plain.write(chunk)
    return digest.hexdigest()


def _put_back(member: tarfile.TarInfo, content: IO[bytes], home: Path) -> Path | None:
    """The file, if there was none in its place."""
    path = home / PurePosixPath(member.name)
    if not member.isfile() or ".." in path.parts or not path.is_relative_to(home) or os.path.lexists(path):
        return None
    path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    fd, beside = tempfile.mkstemp(prefix=".stratavore-", dir=path.parent)  # 0600
    try:
        with open(fd, "wb") as file:
            while chunk := content.read(_CHUNK):
                file.write(chunk)
            file.flush()
            os.fsync(fd)
        os.utime(beside, (member.mtime, member.mtime))
        os.link(beside, path)  # fails where another was quicker
    except FileExistsError:
        return None
    finally:
        os.unlink(beside)
    return path


def _export(subject: Subject) -> bytes | None:
    """What the agent's own program tells of the session; None if there is nothing."""
    if AGENTS[subject.agent].transcript(subject.home, subject.id) is None:
        return None
    told = _run(subject, "export", subject.id)
    return told if told.lstrip().startswith(b"{") else None


def _import(told: bytes, subject: Subject) -> list[Path]:
    if AGENTS[subject.agent].transcript(subject.home, subject.id) is not None:
        return []
    with tempfile.NamedTemporaryFile(suffix=".json") as file:
        file.write(told)
        file.flush()
        _run(subject, "import", file.name)
    found = AGENTS[subject.agent].transcript(subject.home, subject.id)
    return [] if found is None else [found]


def _run(subject: Subject, *words: str) -> bytes:
    """Run the agent's own program. Raises OSError when it cannot, or fails."""
    cwd = subject.cwd if subject.cwd and os.path.isdir(subject.cwd) else "/"
    try:
        done = subprocess.run(
            [*subject.program, *words],
            env={**subject.env, ERRAND: words[0]},
            cwd=cwd,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            timeout=_EXPORT_SECONDS,
            check=True,
        )
    except subprocess.SubprocessError as problem:
        raise OSError(f"{subject.program[0]} {words[0]}: {problem}") from problem
    return done.stdout


def _flush(directory: Path) -> None:
    fd = os.open(directory, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(fd)
    finally:
        os.close(fd)
