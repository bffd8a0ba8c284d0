"""What the rest of Stratavore needs of a shim: a connection to it, its records, the sidecar of a log.

Rule 1: standard library only and cheap to import, for `attach` and `logs` load it in a one-shot command.
Rule 2: one connection serves one thread; requests are answered in order, events may come between.
"""

import itertools
import json
import select
import socket
import zlib
from collections import deque
from pathlib import Path
from typing import Any, NamedTuple

from stratavore.shim.place import MARKER, is_locked, living, reach
from stratavore.shim.record import HEADER, ExitRecord
from stratavore.shim.wire import CONTROL, INPUT, MAX_FRAME, SPOKEN, Decoder, Json, WireError, control, frame

__all__ = [
    "CONTROL", "MARKER", "MAX_FRAME", "OBSERVER", "SPOKEN", "WRITER", "Connection", "Decoder", "ExitRecord", "Json",
    "Refused", "Sidecar", "WireError", "connect", "control", "frame", "is_locked", "living", "reach", "read_sidecar",
    "replay", "start_daemon",
]  # fmt: skip

WRITER = "writer"
OBSERVER = "observer"


class Refused(Exception):
    """The shim answered with an error.

    Codes: `version`, `invalid`, `not_found`, `ended`, `forbidden`, `busy` (detail: `pid` of the writer),
    `input_full`, `spawn_failed` (detail: `errno`), `internal`; of a zygote also `fork_failed` and `stopped`.
    """

    def __init__(self, error: Json) -> None:
        super().__init__(error.get("text", "refused"))
        self.code: str = error.get("code", "invalid")
        self.text: str = error.get("text", "refused")
        self.detail = error


class Sidecar(NamedTuple):
    """What the file `<key>.idx` beside a log tells about it. Offsets are offsets of the log file."""

    head: int
    """Where the kept bytes begin; everything before was punched out."""
    preamble: bytes
    """Escape sequences that put a fresh terminal into the modes in force at `head`."""
    marks: tuple[tuple[int, int], ...]
    """(UTC milliseconds, offset): at that time the log was that long."""
    gaps: tuple[tuple[int, int], ...]
    """(offset, bytes): here the disk refused that many bytes."""


def read_sidecar(log: Path) -> Sidecar:
    """The sidecar of the log file `log`; an empty one if there is none. A torn last line is ignored."""
    head, preamble, marks, gaps = 0, b"", [], []
    try:
        lines = log.with_name(log.name + ".idx").read_bytes().split(b"\n")[:-1]
    except FileNotFoundError:
        lines = []
    for line in lines:
        kind, millis, offset, *rest = line.split(b" ")
        if kind == b"mark":
            marks.append((int(millis), int(offset)))
        elif kind == b"gap":
            gaps.append((int(offset), int(rest[0])))
        elif kind == b"head":
            head, preamble = int(offset), b"".join(b"\x1b" + sequence for sequence in rest)
    return Sidecar(head, preamble, tuple(marks), tuple(gaps))


def replay(journal: Path) -> list[ExitRecord]:
    """The exits of a dead shim that nobody acknowledged, in their order; none if it never got as far as a journal."""
    try:
        data = journal.read_bytes()
    except (FileNotFoundError, NotADirectoryError):
        return []
    found, at, sequence = [], 0, None
    while at + HEADER.size <= len(data):
        length, checksum, is_acked = HEADER.unpack_from(data, at)
        payload = data[at + HEADER.size : at + HEADER.size + length]
        if not length or zlib.crc32(payload) != checksum:
            break
        written = json.loads(payload)
        if sequence is not None and written["n"] != sequence + 1:
            break
        sequence = written["n"]
        if not is_acked:
            found.append(ExitRecord.from_wire(written["record"]))
        at += HEADER.size + length
    return found


class Connection:
    """A blocking connection to a shim (or zygote), made by `connect`."""

    def __init__(self, sock: socket.socket) -> None:
        self.sock = sock
        self.hello: Json = {}
        """What the other side said of itself: `version`, `pid`, `may_control`, of a shim also `boot_id`."""
        self._decoder = Decoder()
        self._events: deque[Json] = deque()
        self._numbers = itertools.count(1)

    def fileno(self) -> int:
        return self.sock.fileno()

    def request(self, op: str, **fields: Any) -> Json:
        """Ask and wait for the answer; entries, if the answer has any, are in `entries`.

        Raises:
            Refused: the shim said no.
            OSError: the shim is gone (ConnectionError) or did not answer in time (TimeoutError).
        """
        number = next(self._numbers)
        self.sock.sendall(control({"op": op, "id": number, **fields}))
        entries: list[Json] = []
        answer: Json | None = None
        while answer is None:
            for message in self._read():  # all of it: news may follow the answer
                if message.get("id") != number:
                    self._events.append(message)
                elif "entry" in message:
                    entries.append(message["entry"])
                else:
                    answer = message
        if "error" in answer:
            raise Refused(answer["error"])
        return {"entries": entries, **answer} if entries or op == "list" else answer

    def attach(self, key: str, *, role: str = OBSERVER, rows: int = 0, cols: int = 0, takeover: bool = False) -> Json:
        """Watch a run (OBSERVER), or also type into it and own its size (WRITER).

        Answers `size` (bytes in the log), `rows`, `cols`, `pid`, `ended` (the exit record, or None). From then on
        `receive` brings `grown`, `taken` (somebody else is the writer now; this one goes on watching), `exited`.

        Raises:
            Refused: `busy` if somebody else is the writer, with its pid in `detail`; `not_found`; `forbidden`.
        """
        return self.request("attach", key=key, role=role, rows=rows, cols=cols, takeover=takeover)

    def input(self, data: bytes) -> None:
        """Type into the run that this connection is the writer of. Waits while the program reads nothing."""
        self.sock.sendall(frame(INPUT, data))

    def resize(self, key: str, rows: int, cols: int) -> None:
        """Tell the new size; while there is a writer, only the writer's counts. Not answered."""
        self.sock.sendall(control({"op": "resize", "key": key, "rows": rows, "cols": cols}))

    def receive(self) -> list[Json]:
        """The events that have arrived; waits for one if there is none. Call it when `fileno` is readable, and after
        a request while `pending`. Each is `{"event": "grown", "key", "size"}`, `{"event": "taken", "key", "pid"}` or
        `{"event": "exited", "key", "record"}`. The next `grown` comes only after this one was received, and then
        tells the newest size.

        Raises:
            ConnectionError: the shim is gone.
        """
        while not self._events:
            self._events.extend(self._read())
        events = list(self._events)
        self._events.clear()
        for event in events:
            if event["event"] == "grown":
                self.sock.sendall(control({"op": "seen", "key": event["key"], "size": event["size"]}))
        return events

    def pending(self) -> bool:
        """Whether `receive` would return at once."""
        return self.has_queued or bool(select.select([self.sock], [], [], 0)[0])

    @property
    def has_queued(self) -> bool:
        """Whether events came together with an answer: `receive` has them, and `fileno` does not tell."""
        return bool(self._events)

    def close(self) -> None:
        self.sock.close()

    def _read(self) -> list[Json]:
        data = self.sock.recv(1 << 18)
        if not data:
            raise ConnectionResetError("the shim is gone")
        return [message for _, message in self._decoder.feed(data)]


def connect(directory: Path, *, timeout_seconds: float | None = 5.0) -> Connection:
    """A connection to the shim (or zygote) that lives in `directory`, after the exchange of versions.

    Raises:
        Refused: `version`: it is too old or too new for this program.
        OSError: nobody listens there.
    """
    connection = Connection(reach(directory, timeout_seconds=timeout_seconds))
    try:
        connection.hello = connection.request("hello", versions=SPOKEN)
    except BaseException:
        connection.close()
        raise
    return connection


def start_daemon(state: Path) -> bool:
    """Ask the current zygote of the state directory to start the daemon; False if it runs, or was just started.

    Raises:
        Refused: `stopped`: a person stopped it.
        OSError: there is no zygote.
    """
    zygote = (state / "zygote.current").read_text().strip()
    connection = connect(state / "zygotes" / zygote)
    try:
        return bool(connection.request("start_daemon")["started"])
    finally:
        connection.close()
