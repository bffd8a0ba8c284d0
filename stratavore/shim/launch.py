"""From a spawn request to a process with its own session, its own terminal or pipe, and nothing else of ours.

Rule 1: working directory and umask are changed for the moment of the spawn; the helper thread uses neither.
Rule 2: a spawn that fails leaves nothing behind and names what was wrong.
"""

import errno
import fcntl
import os
import struct
import termios

from stratavore.shim.loop import RESETTABLE, Refusal
from stratavore.shim.wire import Json

_IUTF8 = 0x4000
_Streams = list[tuple[int, int, int] | tuple[int, int, str, int, int]]
_HINTS = {
    errno.EAGAIN: "no more processes for this user (RLIMIT_NPROC or pids.max)",
    errno.EMFILE: "too many open files in the shim (RLIMIT_NOFILE)",
    errno.ENFILE: "too many open files on this machine (fs.file-max)",
}


def spawn_failed(number: int, text: str) -> Refusal:
    return Refusal("spawn_failed", text, errno=number)


def launch(request: Json) -> tuple[int, int]:
    """Start the program: its pid, and the terminal's master or the reading end of its output pipe, never blocking.

    Raises:
        Refusal: `spawn_failed` with errno.
    """
    subject = request["cwd"]
    fd = other = -1
    try:
        os.chdir(subject)
        subject = request["argv"][0]
        program = _find(subject, request["env"].get("PATH", os.defpath))
        subject = "a pseudo-terminal" if request["tty"] else "an output pipe"
        fd, other = os.openpty() if request["tty"] else os.pipe()
        os.set_blocking(fd, False)
        streams = _terminal(other, request) if request["tty"] else _pipe(other)
        subject = program
        os.umask(request["umask"])
        argv, env = request["argv"], request["env"]
        pid = os.posix_spawn(program, argv, env, file_actions=streams, setsid=True, setsigmask=(), setsigdef=RESETTABLE)
    except (OSError, ValueError, TypeError) as problem:  # a NUL in an argument is a ValueError
        if fd >= 0:
            os.close(fd)
        number = getattr(problem, "errno", None) or errno.EINVAL
        raise spawn_failed(number, f"{subject}: {_HINTS.get(number) or os.strerror(number)}") from None
    finally:
        if other >= 0:
            os.close(other)
        os.umask(0o077)
        os.chdir("/")
    _prefer_as_victim(pid, request.get("oom_score_adj", 0))
    return pid, fd


def set_size(fd: int, rows: int, cols: int) -> None:
    """The size of a terminal; the kernel tells the foreground group if it changed."""
    fcntl.ioctl(fd, termios.TIOCSWINSZ, struct.pack("4H", rows, cols, 0, 0))


def _terminal(slave: int, request: Json) -> _Streams:
    set_size(slave, request["rows"], request["cols"])
    attributes = termios.tcgetattr(slave)
    attributes[0] |= _IUTF8
    termios.tcsetattr(slave, termios.TCSANOW, attributes)
    # Opened by its name in the new session, it becomes the controlling terminal.
    return [(os.POSIX_SPAWN_OPEN, 0, os.ttyname(slave), os.O_RDWR, 0), *_copies(0)]


def _pipe(writing: int) -> _Streams:
    return [(os.POSIX_SPAWN_OPEN, 0, os.devnull, os.O_RDONLY, 0), *_copies(writing)]


def _copies(fd: int) -> _Streams:
    return [(os.POSIX_SPAWN_DUP2, fd, 1), (os.POSIX_SPAWN_DUP2, fd, 2)]


def _find(program: str, path: str) -> str:
    """The file that a shell would run: a path as it is, a name from the runner's PATH."""
    if "/" in program:
        return program
    candidates = [f"{directory or '.'}/{program}" for directory in path.split(":")]
    for candidate in candidates:
        if os.access(candidate, os.X_OK) and os.path.isfile(candidate):
            return candidate
    problem = errno.EACCES if any(map(os.path.isfile, candidates)) else errno.ENOENT
    raise OSError(problem, os.strerror(problem))


def _prefer_as_victim(pid: int, score: int) -> None:
    """When memory runs out the kernel takes the runner before its holder. Best effort: the runner may be gone."""
    try:
        with open(f"/proc/{pid}/oom_score_adj", "wb", buffering=0) as file:
            file.write(b"%d" % score)
    except OSError:
        pass
