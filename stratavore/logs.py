"""The daemon's own log: lines on standard error, which whoever started it pointed at daemon.log or the journal.

Rule 1: a constant message, and facts as fields. A field cannot break a line: everything is escaped.
"""

import json
import logging
import sys
from typing import Any

from pythonjsonlogger.json import JsonFormatter

from stratavore.config import Daemon, LogFormat

_PLAIN = frozenset(logging.LogRecord("", 0, "", 0, "", None, None).__dict__) | {"message", "taskName"}


class ConsoleFormatter(logging.Formatter):
    """One line for people: time, level, message, then the facts as `name=value`."""

    def format(self, record: logging.LogRecord) -> str:
        facts = {name: value for name, value in record.__dict__.items() if name not in _PLAIN}
        said = " ".join(f"{name}={_quoted(value)}" for name, value in facts.items())
        at = self.formatTime(record, "%Y-%m-%dT%H:%M:%S")
        line = f"{at} {record.levelname.lower()} {record.name}: {record.getMessage()}{' ' + said if said else ''}"
        return line + ("\n" + self.formatException(record.exc_info) if record.exc_info else "")


def open_log(settings: Daemon) -> None:
    """Send the log of the whole process to standard error, as the configuration wants it."""
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(
        JsonFormatter("%(asctime)s %(levelname)s %(name)s %(message)s")
        if settings.log_format is LogFormat.JSON
        else ConsoleFormatter()
    )
    root = logging.getLogger()
    root.handlers = [handler]
    root.setLevel(settings.log_level.upper())


def _quoted(value: Any) -> str:
    text = str(value)
    return text if text.isprintable() and " " not in text and text else json.dumps(text)
