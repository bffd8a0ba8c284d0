"""`stratavore hook`: what an agent runs at its hooks. It leaves a line, pokes the daemon, and tells the verdict.

Rule 1: it never fails its agent: whatever goes wrong here, the exit code is 0, and no more is decided than the verdict.
Rule 2: nothing but the standard library is imported, and of that next to nothing: the agent waits for this at each turn
and each tool. It is run as a script, without `site`, and never reads what it passes on.
Rule 3: it asks nobody. The answer stands in a file; only a held permission request waits for the daemon, and what it
cannot learn in time the agent's own dialog decides.
Rule 4: it starts no daemon, which would descend from the runner; if there is none it asks the zygote to.

What it leaves: a line `<milliseconds> <event> <allow or block> <what the agent said>` in the spool of its runner. The
answers are those of Claude Code 2.1.330 (docs/permissions.md).
"""

import fcntl
import os
import sys
import time

TYPE_CHECKING = False
if TYPE_CHECKING:
    from _socket import socket
    from collections.abc import Callable

SPOOL = "spool"
DROPPED = "spool.dropped"
VERDICT = "verdict"
SOCKET = "hooks.sock"
FAIL_CLOSED = "fail-closed"
HOLD = "hold="

LARGEST_SPOOL = 4 << 20
LARGEST_LINE = 64 << 10
LARGEST_REQUEST = 512 << 10
_LARGEST_INPUT = 64 << 20
_LARGEST_VERDICT = 16 << 10
_NO_VERDICT = b'"Stratavore has no verdict on this runner (hooks.fail_closed)"'
_LOOK_SECONDS = 0.5
_ASKED_SECONDS = 20
_NO_ANSWER = 500
"""The least HTTP status that says nothing of what was asked."""
_APPENDING = os.O_WRONLY | os.O_CREAT | os.O_APPEND | os.O_NOFOLLOW | os.O_CLOEXEC
_BLOCKED = {
    b"UserPromptSubmit": b'{"decision":"block","reason":%s}\n',
    b"PreToolUse": b'{"continue":false,"stopReason":%s}\n',
}


def main(argv: list[str]) -> int:
    """`RUNNER_DIRECTORY EVENT [fail-closed] [hold=SECONDS]`; the agent's word comes on stdin, the answer on stdout."""
    try:
        directory, event, *options = argv
        answer = _serve(directory, os.fsencode(event), options)
        if answer:
            os.write(1, answer)
    except Exception:  # the border: a bug of ours is not the agent's trouble
        return 0
    return 0


def _serve(directory: str, event: bytes, options: list[str]) -> bytes:
    reason = _verdict(directory, FAIL_CLOSED in options)  # first: whatever fails after it, who is blocked stays so
    answer = _BLOCKED[event] % reason if reason and event in _BLOCKED else b""
    said = _pass_on(directory, event, b"block" if answer else b"allow")
    state = os.path.dirname(os.path.dirname(directory))
    hold = [float(option[len(HOLD) :]) for option in options if option.startswith(HOLD)]
    return answer or (_hold(state, directory, said, hold[0]) if hold and said else b"")


def _pass_on(directory: str, event: bytes, verdict: bytes) -> bytes:
    """Tell what the agent says, and return it."""
    said = b""
    try:
        said = _stdin()
        tell(directory, event, verdict, said)
    except Exception:  # the border: what cannot be told is no reason to keep the answer back
        return said
    return said


def tell(directory: str, event: bytes, verdict: bytes, said: bytes) -> None:
    """Leave a line in the spool of the runner, and see to it that a daemon reads it."""
    _leave(directory, b"%d %b %b " % (time.time() * 1000, event, verdict), said)
    state = os.path.dirname(os.path.dirname(directory))
    if not _poke(state, directory):
        _ask_zygote(state)


def _stdin() -> bytes:
    """What the agent says, on one line; nothing if it is too much to keep. It is read to the end, or the agent would
    find its pipe broken."""
    pieces, size = [], 0
    while size < _LARGEST_INPUT and (piece := os.read(0, 1 << 20)):
        size += len(piece)
        if size <= LARGEST_REQUEST:
            pieces.append(piece)
    return b"".join(pieces).replace(b"\r", b" ").replace(b"\n", b" ").strip() if size <= LARGEST_REQUEST else b""


def _verdict(directory: str, fail_closed: bool) -> bytes:
    """The reason for which the agent may not go on, as JSON; nothing if it may."""
    try:
        file = os.open(f"{directory}/{VERDICT}", os.O_RDONLY | os.O_CLOEXEC)
        try:
            found = os.read(file, _LARGEST_VERDICT)
        finally:
            os.close(file)
    except OSError:
        return _NO_VERDICT if fail_closed else b""
    if found.startswith(b'"') and found.endswith(b'"') and len(found) > 1:
        return found
    return _NO_VERDICT if fail_closed and found != b"null" else b""


def _leave(directory: str, head: bytes, said: bytes) -> None:
    """Append one line to the spool, in one write, if the disk takes it; what is more than it holds is counted."""
    try:
        spool = os.open(f"{directory}/{SPOOL}", _APPENDING, 0o600)
    except OSError:
        return
    try:
        _share(spool)
        if os.fstat(spool).st_size > LARGEST_SPOOL:
            _count_dropped(directory)
            return
        os.write(spool, head + (said if len(said) <= LARGEST_LINE else b"") + b"\n")
    except OSError:
        return
    finally:
        os.close(spool)


def _share(spool: int) -> None:
    """Wait until the daemon does not just empty the file; not for one that was stopped in the middle of that."""
    for _ in range(50):
        try:
            fcntl.flock(spool, fcntl.LOCK_SH | fcntl.LOCK_NB)
        except OSError:
            time.sleep(0.0002)
        else:
            return


def _count_dropped(directory: str) -> None:
    """A byte for each lost line."""
    file = os.open(f"{directory}/{DROPPED}", _APPENDING, 0o600)
    os.write(file, b".")
    os.close(file)


def _poke(state: str, directory: str) -> bool:
    """Tell the daemon where to look; whether there is one."""
    import _socket

    sock = _socket.socket(_socket.AF_UNIX, _socket.SOCK_DGRAM | _socket.SOCK_NONBLOCK | _socket.SOCK_CLOEXEC)
    try:
        name = os.fsencode(os.path.basename(directory))
        _at_address(state, SOCKET, lambda address: sock.sendto(name, address))
    except BlockingIOError:
        return True  # it has pokes enough
    except OSError:
        return False
    finally:
        sock.close()
    return True


def _ask_zygote(state: str) -> None:
    """Two frames of the holder's protocol, and no wait for the answer (shim/wire.py)."""
    try:
        with open(f"{state}/zygote.current") as file:
            zygote = file.read(100).strip()
        sock = _connected(f"{state}/zygotes/{zygote}", "sock", 0.2)
    except OSError:
        return
    requests = (b'{"op":"hello","id":1,"versions":[1]}', b'{"op":"start_daemon","id":2}')
    try:
        sock.send(b"".join(len(request).to_bytes(4, "big") + b"J" + request for request in requests))
        sock.recv(4096)
    except OSError:
        pass
    sock.close()


def _connected(directory: str, name: str, seconds: float) -> "socket":
    import _socket

    sock = _socket.socket(_socket.AF_UNIX, _socket.SOCK_STREAM | _socket.SOCK_CLOEXEC)
    sock.settimeout(seconds)
    try:
        _at_address(directory, name, sock.connect)
    except OSError:
        sock.close()
        raise
    return sock


def _at_address(directory: str, name: str, act: "Callable[[str], object]") -> None:
    """Socket addresses end at 107 bytes; through a descriptor of the directory every path is short."""
    at = os.open(directory, os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        act(f"/proc/self/fd/{at}/{name}")
    finally:
        os.close(at)


def _hold(state: str, directory: str, said: bytes, seconds: float) -> bytes:
    """Ask until there is a decision, under one id whatever daemons come and go; nothing if there is none in time."""
    runner, until = os.path.basename(directory), time.monotonic() + seconds
    body = b'{"id":"%b","expires_seconds":%.1f,"wait_seconds":%.1f,"said":%b}'
    own_id = os.urandom(8).hex().encode()
    while (left := until - time.monotonic()) > 0:
        asked = body % (own_id, left, min(left, _ASKED_SECONDS), said)
        try:
            status, reply = _post(state, f"/api/v1/runners/{runner}/approvals", asked, left)
        except OSError:
            _ask_zygote(state)
            status, reply = _NO_ANSWER, b""
        if status >= _NO_ANSWER:  # also a daemon whose disk is full, or that has a bug
            time.sleep(min(left, _LOOK_SECONDS))
            continue
        if status == 200 and reply.startswith(b'{"answer":null'):
            time.sleep(0.05)
            continue  # it is open still
        return _printed(reply) if status == 200 else b""
    return b""


def _printed(reply: bytes) -> bytes:
    """What the daemon wants the agent to be told."""
    import json

    answer = json.loads(reply)["answer"]
    return os.fsencode(answer + "\n") if answer else b""


def _post(state: str, path: str, body: bytes, seconds: float) -> tuple[int, bytes]:
    """One request over the control socket: status and body. Raises OSError, also for an answer that is none."""
    head = f"POST {path} HTTP/1.1\r\nHost: stratavore\r\nConnection: close\r\nContent-Length: {len(body)}\r\n\r\n"
    sock = _connected(state, "control.sock", min(seconds, _ASKED_SECONDS) + 5)
    try:
        sock.sendall(head.encode() + body)
        pieces = []
        while piece := sock.recv(1 << 16):
            pieces.append(piece)
    finally:
        sock.close()
    top, found, answer = b"".join(pieces).partition(b"\r\n\r\n")
    words = top.split(b" ", 2)
    if not found or len(words) < 3 or not words[1].isdigit():
        raise OSError("the daemon went away")
    return int(words[1]), answer


if __name__ == "__main__":
    os._exit(main(sys.argv[1:]))  # nothing here needs to be torn down
