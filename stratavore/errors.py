"""What may go wrong for a user.

Rule 1: everything a user can meet is a class of this tree; anything else that is raised is a bug.
Rule 2: a class's `code` and `exit_code` never change meaning once released. The table in the README is made from here.
Rule 3: the message says what is wrong with what, the remedy says what to do next; both are one line.

This module imports nothing, so that the one-shot commands may load it.
"""


class StratavoreError(Exception):
    """Something went wrong inside Stratavore; the log has the details."""

    code = "internal"
    http_status = 500
    exit_code = 1
    remedy = "see daemon.log in the state directory"

    def __init__(self, message: str, *, remedy: str | None = None) -> None:
        super().__init__(message)
        self.message = message
        if remedy is not None:
            self.remedy = remedy

    def as_dict(self) -> dict[str, str]:
        """The error as it travels in a reply: `code`, `message`, `remedy`."""
        return {"code": self.code, "message": self.message, "remedy": self.remedy}


class Invalid(StratavoreError):
    """The request itself is wrong: a bad name, an unreadable directory, an impossible combination."""

    code = "invalid"
    http_status = 400
    exit_code = 2
    remedy = "see `stratavore --help`"


class NotFound(StratavoreError):
    """No project, runner, agent or session answers to that name."""

    code = "not_found"
    http_status = 404
    exit_code = 3
    remedy = "`stratavore projects` and `stratavore runners --all` list what there is"


class Conflict(StratavoreError):
    """The thing is not in a state in which this can be done, or the name is taken."""

    code = "conflict"
    http_status = 409
    exit_code = 4
    remedy = "look with `stratavore show` and try again"


class Ambiguous(Conflict):
    """A name or a prefix fits several runners or sessions."""

    code = "ambiguous"
    remedy = "give more letters, or the full id"


class QuotaExceeded(StratavoreError):
    """The project's quota has no room for it."""

    code = "quota"
    http_status = 429
    exit_code = 5
    remedy = "stop a runner, or raise the quota with `stratavore projects set`"


class DaemonUnreachable(StratavoreError):
    """No daemon answers on the control socket."""

    code = "unreachable"
    http_status = 503
    exit_code = 6
    remedy = "`stratavore daemon start`"


class RunnerFailed(StratavoreError):
    """The runner could not start, or ended by itself otherwise than well."""

    code = "runner_failed"
    http_status = 422
    exit_code = 7
    remedy = "`stratavore logs` shows its output, `stratavore explain` says why"


class Forbidden(StratavoreError):
    """The asker may not do this, for instance because it runs inside a runner."""

    code = "forbidden"
    http_status = 403
    exit_code = 8
    remedy = "ask from outside the runner, or set `runners_may_control` in the configuration"


class TimedOut(StratavoreError):
    """What was waited for did not come in time; nothing was undone."""

    code = "timeout"
    http_status = 504
    exit_code = 9
    remedy = "wait longer with `--timeout`"


class BudgetExceeded(StratavoreError):
    """A budget has no room for what it would probably use."""

    code = "budget_exceeded"
    http_status = 429
    exit_code = 10
    remedy = "wait until it resets, or `stratavore budget extend`; `stratavore budget list` shows them"
    budget: int | None = None
    """Its number, for whoever acts on it; it does not travel, for the message names the budget."""
    resets_at: str | None = None


class UnpricedModel(BudgetExceeded):
    """The model has no price, so a budget of money cannot bound it."""

    code = "unpriced_model"
    remedy = "give it a price in [prices] of the configuration, or say --allow-unpriced"


class StorageFailed(StratavoreError):
    """The disk refused to keep what was written; the daemon restarts and checks the database."""

    code = "storage_failed"
    http_status = 503
    exit_code = 74
    remedy = "look at the disk, then `stratavore daemon status`"


class Degraded(StratavoreError):
    """Nothing new can be stored now (disk full, read-only, locked); what runs goes on running."""

    code = "degraded"
    http_status = 503
    exit_code = 75
    remedy = "make room on the disk; the daemon looks again every few seconds"


class AlreadyRunning(StratavoreError):
    """Another daemon of this user holds the state directory."""

    code = "already_running"
    http_status = 409
    exit_code = 75
    remedy = "`stratavore daemon status` shows it"


class Corrupt(StratavoreError):
    """The database is damaged; a copy is in quarantine and the runners can still be listed and stopped."""

    code = "corrupt"
    http_status = 503
    exit_code = 76
    remedy = "`stratavore rescue list` shows what runs; then move the database away to begin a new one"


class Misconfigured(StratavoreError):
    """The configuration, or a directory that Stratavore needs, cannot be used as it is."""

    code = "misconfigured"
    http_status = 500
    exit_code = 78
    remedy = "`stratavore config validate`"


class NewerSchema(Misconfigured):
    """The database was written by a newer Stratavore."""

    code = "newer_schema"
    remedy = "upgrade this program; the database was not touched"


def classes() -> list[type[StratavoreError]]:
    """Every error class, parents before children."""
    found, queue = [], [StratavoreError]
    while queue:
        cls = queue.pop(0)
        found.append(cls)
        queue.extend(cls.__subclasses__())
    return found


def from_dict(raw: dict[str, str]) -> StratavoreError:
    """The error that `as_dict` described, as an instance of its own class."""
    by_code = {cls.code: cls for cls in classes()}
    return by_code.get(raw.get("code", ""), StratavoreError)(raw.get("message", ""), remedy=raw.get("remedy"))
