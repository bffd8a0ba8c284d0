"""`stratavore hook status-line`: what Claude runs for its status line, where its profile says so.

It tells the daemon how much of the account's windows is used, and becomes the status line that the user has configured.

Rule 1: it never fails its agent, and takes nothing from the user: whatever goes wrong here, the user's own line is
shown.
Rule 2: as a hook, it is run as a script without `site`, and imports next to nothing.
Rule 3: the user's settings are read in Claude's order, and never written.
Rule 4: what was told is not told again: Claude shows what it heard with its last answer, and meanwhile others may have
used more of the same account.

What Claude Code 2.1.330 gives on stdin, and in which shell it runs the command, was seen; `rate_limits` is there for
subscribers alone, from the first answer on.
"""

import os
import sys

EVENT = "StatusLine"
TOLD = "rate-limits"

_LARGEST_INPUT = 64 << 20
_LARGEST_SETTINGS = 1 << 20
_WRITING = os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_NOFOLLOW | os.O_CLOEXEC


def main(argv: list[str]) -> int:
    """`RUNNER_DIRECTORY ACCOUNT_DIRECTORY`; returns only where the user has no status line."""
    try:
        directory, account = argv
        said = _stdin()
        facts = _object(said)
        try:
            _tell(directory, facts.get("rate_limits"))
        finally:
            if command := _own_command(account, facts):
                _become(command, said)
    except Exception:  # the border: a bug of ours is not the agent's trouble
        return 0
    return 0


def _stdin() -> bytes:
    pieces, size = [], 0
    while size < _LARGEST_INPUT and (piece := os.read(0, 1 << 20)):
        size += len(piece)
        pieces.append(piece)
    return b"".join(pieces)


def _object(text: bytes) -> "dict[str, object]":
    """The JSON object that stands there; an empty one if none does."""
    import json

    try:
        found = json.loads(text)
    except (ValueError, RecursionError):
        return {}
    return found if isinstance(found, dict) else {}


def _tell(directory: str, limits: object) -> None:
    """Tell of the windows, if they are others than were told."""
    import json

    from stratavore import hook

    if not isinstance(limits, dict) or not limits:
        return
    line = json.dumps({"rate_limits": limits}, separators=(",", ":")).encode()
    told = f"{directory}/{TOLD}"
    if _read(told) == line:
        return
    hook.tell(directory, EVENT.encode(), b"allow", line)
    file = os.open(told, _WRITING, 0o600)
    try:
        os.write(file, line)
    finally:
        os.close(file)


def _own_command(account: str, facts: "dict[str, object]") -> str:
    """The status line of the user: the project's settings count before those of the account."""
    workspace = facts.get("workspace")
    project = workspace.get("project_dir") if isinstance(workspace, dict) else None
    places = [f"{account}/settings.json"]
    if isinstance(project, str):
        places = [f"{project}/.claude/settings.local.json", f"{project}/.claude/settings.json", *places]
    for place in places:
        found = _object(_read(place)).get("statusLine")
        if isinstance(found, dict) and isinstance(command := found.get("command"), str):
            return command
    return ""


def _read(path: str) -> bytes:
    """What stands in a file, if it is one."""
    try:
        file = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
    except OSError:
        return b""
    try:
        return os.read(file, _LARGEST_SETTINGS)
    except OSError:
        return b""
    finally:
        os.close(file)


def _become(command: str, said: bytes) -> None:
    """Be the user's command, with the same input: what it prints and how it ends is as if we had not been."""
    file = os.memfd_create("status-line", 0)
    with open(file, "wb", closefd=False) as given:
        given.write(said)
    os.lseek(file, 0, os.SEEK_SET)
    os.dup2(file, 0)
    os.close(file)
    os.execv("/bin/sh", ["sh", "-c", command])


if __name__ == "__main__":
    sys.path.insert(0, os.path.dirname(os.path.dirname(os.path.abspath(__file__))))
    os._exit(main(sys.argv[1:]))  # nothing here needs to be torn down
