"""Who may send usage, and where to: the port of the receiver, and a bearer for each runner.

Rule 1: port and secret are made once and kept in a 0600 file: what a runner was given at its start holds as long as it
lives, whatever becomes of the daemon.
Rule 2: a bearer names one runner, and nothing else can be done with it than to add to that runner's usage.
"""

import hmac
import logging
import os
import secrets
from hashlib import sha256
from pathlib import Path

import msgspec

log = logging.getLogger(__name__)

_MAC_CHARACTERS = 32
_PREFIX = "Bearer "


class _Kept(msgspec.Struct, frozen=True):
    port: int
    secret: str

    def __repr__(self) -> str:
        return f"_Kept(port={self.port}, secret='***')"


class Bearers:
    """The port, and the bearers of all runners."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._kept = _read(path) or _made(path)

    @property
    def port(self) -> int:
        """0 until one was kept."""
        return self._kept.port

    def keep(self, port: int) -> None:
        """Remember the port for the next time; raises OSError."""
        self._kept = _Kept(port, self._kept.secret)
        beside = self._path.with_name(f"{self._path.name}.new")
        beside.unlink(missing_ok=True)
        fd = os.open(beside, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC, 0o600)
        with open(fd, "wb") as file:
            file.write(msgspec.json.encode(self._kept))
            file.flush()
            os.fsync(fd)  # what lives after a power loss was given this secret: an empty file would shut it out
        beside.replace(self._path)

    def of_runner(self, runner_id: str) -> str:
        """What that runner's agent sends in its header `Authorization`, behind `Bearer`."""
        return f"{runner_id}.{self._mac(runner_id)}"

    def runner_of(self, authorization: str) -> str | None:
        """The runner whose bearer such a header holds; None if it is nobody's."""
        if not authorization.startswith(_PREFIX) or not authorization.isascii():
            return None
        runner_id, _, mac = authorization.removeprefix(_PREFIX).partition(".")
        return runner_id if hmac.compare_digest(mac.encode(), self._mac(runner_id).encode()) else None

    def _mac(self, runner_id: str) -> str:
        return hmac.new(self._kept.secret.encode(), runner_id.encode(), sha256).hexdigest()[:_MAC_CHARACTERS]


def _made(path: Path) -> _Kept:
    """A new secret, with no port yet."""
    if os.path.lexists(path):
        log.warning(
            "a new secret is made: what lives now cannot export until it is restarted", extra={"was": str(path)}
        )
    return _Kept(0, secrets.token_hex(32))


def _read(path: Path) -> _Kept | None:
    """What was kept; a file that others may read or write is no secret any more, and is made anew."""
    try:
        fd = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC)
        with open(fd, "rb") as file:
            seen = os.fstat(file.fileno())
            if seen.st_uid != os.geteuid() or seen.st_mode & 0o077:
                return None
            return msgspec.json.decode(file.read(4096), type=_Kept)
    except (OSError, msgspec.MsgspecError):
        return None
